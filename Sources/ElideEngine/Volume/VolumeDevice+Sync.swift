import ElideIO
import Glibc

extension VolumeDevice {
  /// A flush covers every write that was acknowledged before it, on whatever connection.
  func submitFlush(_ request: BlockRequest) -> Submission {
    counters.flushes &+= 1
    if failure != 0 { return .done(EIO) }
    // Nothing acknowledged is unsynced.
    if !isRoundRunning && !hasDirty && appender.gatheredCount == 0 { return .done(0) }
    slab.append(slab.take(PendingRequest(request)), to: &unsyncedWaiters)
    return .queued
  }

  var hasDirty: Bool {
    var i = wals.count &- 1
    while i >= 0 {
      if wals[i].pointee.isDirty { return true }
      i &-= 1
    }
    return false
  }

  /// Starts a round if somebody waits for one, or a closed file is not durable yet. One runs at a time: who comes while
  /// it runs is in the next. `mayWait`: a short one runs here.
  func startRound(mayWait: Bool) {
    guard !isRoundRunning, failure == 0 else { return }
    var wanted = !unsyncedWaiters.isEmpty
    var dirty = false
    for i in 0..<wals.count where wals[i].pointee.isDirty {
      dirty = true
      if wals[i].pointee.closed { wanted = true }
    }
    guard wanted else { return }
    if !dirty {
      // What they wait for became durable with an earlier round.
      completeAll(&unsyncedWaiters, 0)
      return
    }
    // A header that is about to be synced is not touched again.
    appender.closeFrame()
    round.begin()
    var all = true
    for i in 0..<wals.count where wals[i].pointee.isDirty {
      let wal = wals[i]
      if !round.add(.init(number: wal.pointee.number, file: wal.pointee.file, frame: wal.pointee.end.frame)) {
        all = false
        break
      }
    }
    if all {
      roundWaiters = unsyncedWaiters
      unsyncedWaiters = RequestList()
    }
    isRoundRunning = true
    counters.syncRounds &+= 1
    roundStart = stages.now()
    roundBytes = counters.bytesAppended
    guard mayWait, all, roundBytes &- syncedBytes <= Self.shortRound else { return round.submit(to: executor) }
    round.runHere()
    finishRound()
    // A file that is durable now may have to be announced.
    if wals.count > 1 { wake.signal() }
  }

  /// Bytes that the disk takes in well under a millisecond.
  private static let shortRound: UInt64 = 1 << 20

  /// Takes in the round that has ended.
  func finishRound() {
    guard isRoundRunning, round.isFinished else { return }
    isRoundRunning = false
    stages.add(.sync, bytes: Int(roundBytes &- syncedBytes), since: roundStart)
    syncedBytes = roundBytes
    let good = round.error == 0 ? round.count : round.failedAt
    for k in 0..<good {
      let item = round.items[k]
      guard let wal = wals.find(item.number) else { continue }
      wal.pointee.synced = max(wal.pointee.synced, item.frame)
      durable = max(durable, item.frame)
    }
    if round.error != 0 {
      completeAll(&roundWaiters, EIO)
      fail(round.error, wal: round.items[round.failedAt].number)
      return
    }
    completeAll(&roundWaiters, isFenced ? EIO : 0)
  }
}
