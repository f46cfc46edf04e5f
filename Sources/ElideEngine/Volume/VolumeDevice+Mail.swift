import ElideIO
import Glibc

extension VolumeDevice {
  func take(_ message: FrontMessage) {
    switch message {
    case .walReady(let number, let file):
      ready.append((number, file))
      credit.noFile = 0
      _ = openNext()
    case .segmentFolded(let number, _):
      // Its blocks are in the base now: of the overlay they are gone at once, and out of its memory in slices.
      overlay.fold(through: number)
      if let wal = wals.find(number) {
        wal.pointee.dropping = true
      } else {
        dropped(number)
      }
    case .fetched(let segment, let r, let count, let error, let bytes):
      fetchesUnderWay = max(0, fetchesUnderWay - 1)
      blocksUnderWay -= min(blocksUnderWay, count)
      if !bytes.isEmpty { lent.append(LentBlocks(segment: segment, r: r, bytes: bytes)) }
      answer(&missing, segment, r, count, error)
      answer(&gated, segment, r, count, error)
      if error == 0 { storeAnswered() }
    case .aheadDone(let outcome): aheadDone(outcome)
    case .barrier(let token): barrier(token)
    case .allowance(let allowance): take(allowance)
    case .noFile(let error): takeNoFile(error)
    case .resized(let size):
      self.size = max(self.size, size)
      overlay.grow(blocks: (self.size + 4095) / 4096)
    case .halted: halt()
    case .fenced: fence()
    }
  }

  private func answer(_ list: inout RequestList, _ segment: UInt64, _ r: UInt32, _ count: UInt32, _ error: Int32) {
    var i = list.head
    while i >= 0 {
      let item = slab[i]
      if item.pointee.isMissing, item.pointee.missing.segment == segment, item.pointee.missing.r >= r,
        item.pointee.missing.r - r < count
      {
        item.pointee.answered = true
        item.pointee.fetchError = error
      }
      i = item.pointee.next
    }
  }

  /// Everything acknowledged until now goes into files that are closed and durable, and then the keeper hears so.
  private func barrier(_ token: UInt64) {
    guard failure == 0, appendGathered() else { return }
    if appender.isOpen, appender.records > 0 { closeFile() }
    var after = wals.last.map { $0.pointee.closed ? $0.pointee.number : $0.pointee.number - 1 } ?? 0
    // Files that were sealed and dropped long ago are behind it all the same.
    if wals.count == 0, let next = ready.first { after = next.number - 1 }
    if wals.count == 0, ready.isEmpty { after = appender.wal }
    barriers.append((token, after))
  }

  /// What can be said now that could not before: files closed and durable, barriers reached, a failure, requests that go on.
  func settle() {
    if failure != 0, !failureSaid { failureSaid = toKeeper.send(.failed(number: failedWAL, error: failure)) }
    for i in 0..<wals.count {
      let wal = wals[i]
      sayBegun(wal)
      if !wal.pointee.halfSaid,
        wal.pointee.closed || (appender.isOpen && wal.pointee.number == appender.wal && appender.isHalfFull)
      {
        wal.pointee.halfSaid = toKeeper.send(.walHalfFull(number: wal.pointee.number))
      }
      // In order: a file is announced only after all before it.
      guard wal.pointee.closed, !wal.pointee.isDirty else { break }
      if wal.pointee.announced { continue }
      let end = wal.pointee.end
      guard
        toKeeper.send(
          .walClosed(number: wal.pointee.number, lastFrame: end.frame, lastHeaderCRC: end.crc, bytes: wal.pointee.bytes))
      else { break }
      openBytes.take(wal.pointee.bytes)
      wal.pointee.announced = true
    }
    while let (token, after) = barriers.first, isAnnounced(through: after) {
      guard toKeeper.send(.barrierReached(token: token, after: after)) else { break }
      barriers.removeFirst()
    }
    retryWrites()
    retryMissing()
    // Whoever waited for them has them.
    if !lent.isEmpty { lent.removeAll() }
  }

  private func isAnnounced(through after: UInt64) -> Bool {
    for i in 0..<wals.count where wals[i].pointee.number <= after && !wals[i].pointee.announced { return false }
    return true
  }

  /// Removes some overlay entries of files whose segments are in the base. A slice at a time: the guest goes on between.
  func dropSome() {
    var budget = 2048
    for i in 0..<wals.count where wals[i].pointee.dropping {
      let wal = wals[i]
      while wal.pointee.dropCursor < wal.pointee.rangeCount, budget > 0 {
        let range = wal.pointee.ranges[wal.pointee.dropCursor]
        for lba in range.lba..<range.lba + range.count { overlay.remove(lba, wal: wal.pointee.number) }
        budget -= Int(min(range.count, 4096))
        wal.pointee.dropCursor += 1
      }
      if wal.pointee.dropCursor < wal.pointee.rangeCount {
        wake.signal()
        return
      }
      if wal.pointee.hasLongRuns { overlay.removeRuns(wal: wal.pointee.number) }
      let number = wal.pointee.number
      guard toKeeper.send(.dropped(number: number)) else {
        wake.signal()
        return
      }
      wals.remove(number)
      wake.signal()
      return
    }
  }

  private func dropped(_ number: UInt64) {
    // Without room in the box nothing is lost: the keeper asks nothing more of this file than its name.
    if !toKeeper.send(.dropped(number: number)) { pendingDropped.append(number) }
  }
}
