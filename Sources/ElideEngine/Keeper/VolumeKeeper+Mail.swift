import ElideIO
import ElideProjections

extension VolumeKeeper {
  /// Sends what the front's box had no room for.
  func flushOutbox() -> Bool {
    guard !outbox.isEmpty else { return false }
    var sent = 0
    while sent < outbox.count, front.send(outbox[sent]) { sent += 1 }
    outbox.removeFirst(sent)
    return sent > 0
  }

  func tell(_ message: FrontMessage) {
    if !outbox.isEmpty || !front.send(message) { outbox.append(message) }
  }

  /// Takes one message of the front.
  func takeMail() throws(KeeperHalt) -> Bool {
    guard let message = inbox.receive() else { return false }
    switch message {
    case .walHalfFull: wantsWal = true
    case .walBegun(let number): exposure.begin(number, at: context.now)
    case .walClosed(let number, let lastFrame, let crc, let bytes):
      try closed(number, WALChain(frame: lastFrame, crc: crc))
      wals[number]?.bytes = bytes
    case .dropped(let number): wals[number]?.isDropped = true
    case .barrierReached(let token, let after): try barrierReached(token, after: after)
    case .wanted(let segment, let r, let count): fetch(segment, r, count)
    case .ahead(let segment, let r, let count): fetches.ahead(segment, r, count)
    case .creditWanted(let bytes): writes.wanted = max(writes.wanted, bytes)
    case .failed(let number, let error):
      throw KeeperHalt(.failed, "write-ahead file \(number): \(Errno(error)); nothing from it on is sealed")
    }
    return true
  }

  /// Takes what one job came back with.
  func takeResult() throws(KeeperHalt) -> Bool {
    guard let result = results.receive() else { return false }
    switch result {
    case .judged(let result): try judged(result)
    case .encoded(let segment, let body): try encoded(segment, body)
    case .uploaded(let segment, let hash, let error): try uploaded(segment, hash, error)
    case .pagePut(let page, let outcome, let owner): try pagePut(page, outcome, owner)
    case .ownerRead(let answer): try ownerRead(answer)
    case .checkpointPut(let key, let error): try checkpointPut(key, error)
    case .hintPut(let error): hintPut(error)
    }
    return true
  }

  /// Takes one request of another thread.
  func takeRequest() throws(KeeperHalt) -> Bool {
    guard let request = requests.receive() else { return false }
    if ending != nil {
      if case .finish(let ship, let reply) = request {
        // Who waited for the store in vain may still end without it.
        ending?.replies.append(reply)
        if !ship { ending?.ship = false }
        if ending?.phase == .done { reply.answer(.success(())) }
        return true
      }
      refuse(request, ElideError(.tryLater, "volume \(context.volume) is being closed"))
      return true
    }
    switch request {
    case .cut: waiting.append(request)
    case .snapshot(let label, _, let reply):
      if let fault = SnapshotLabel.fault(label) {
        reply.answer(.failure(ElideError(.usage, "the label '\(label)' \(fault)")))
      } else if tables.state.snapshots.contains(where: { $0.label == label }) || waits(for: label) {
        reply.answer(.failure(ElideError(.usage, "volume \(context.volume) has a snapshot '\(label)' already")))
      } else {
        waiting.append(request)
      }
    case .resize(let size, let reply):
      if let fault = resizeFault(size) { reply.answer(.failure(fault)) } else { waiting.append(request) }
    case .finish(let ship, let reply): ending = Ending(ship: ship, reply: reply)
    }
    return true
  }

  private func waits(for label: String) -> Bool {
    let asked = waiting + (round?.requests ?? [])
    return asked.contains { if case .snapshot(label, _, _) = $0 { true } else { false } }
  }

  private func resizeFault(_ size: UInt64) -> ElideError? {
    let now = tables.state.deviceSize
    if size < now { return ElideError(.usage, "volume \(context.volume) has \(now) bytes and cannot shrink to \(size)") }
    if size % 512 != 0 || size > 1 << 50 {
      return ElideError(.usage, "\(size) bytes is not a size: a multiple of 512, at most 2^50")
    }
    return nil
  }

  // MARK: Reads from the store

  /// Brings blocks that a read waits for into the cache; the answer goes straight to the front.
  func fetch(_ segment: UInt64, _ r: UInt32, _ count: UInt32) {
    counters.fetches += 1
    fetches.want(segment, r, count)
  }

  func makeStatus() -> VolumeStatus {
    var s = VolumeStatus(volume: context.volume)
    s.state = serviceState
    s.reason = haltReason?.detail
    s.size = tables.state.deviceSize
    s.head = journal.head?.seq ?? 0
    addPublished(to: &s)
    s.unsealedWals = tables.state.openWALs.count
    s.unsentBytes = unsentBytes
    for wal in wals.values where wal.isClosed && !wal.isSealed { s.unsealedBytes += wal.bytes }
    s.exposedSince = exposure.since
    s.waitingFetches = fetches.waiting
    s.writing = isFullSaid ? .full : writes.writing
    s.segments = tables.state.segments.count
    for snapshot in tables.state.snapshots { s.snapshots.append(snapshotInfo(snapshot)) }
    s.counters = counters
    s.stages = context.stages.all
    s.lastError = lastError
    return s
  }

  private var serviceState: VolumeStatus.State {
    if let haltReason { return haltReason.kind == .fenced ? .fenced : .halted }
    guard let phase = ending?.phase else { return .serving }
    return phase == .done ? .stopped : .draining
  }

  private func addPublished(to s: inout VolumeStatus) {
    s.cut = pageLog.cut
    s.checkpoint = pageLog.checkpoint?.seq
    guard let last = pageLog.last else { return }
    s.page = last.page
    s.cutMilliseconds = last.at
  }

  func snapshotInfo(_ snapshot: Snapshot) -> SnapshotInfo {
    let isPublished = pageLog.publishes(snapshot)
    return SnapshotInfo(
      snapshot: snapshot.id, label: snapshot.label, point: snapshot.point, size: size(of: snapshot), isPublished: isPublished)
  }

  /// Of the device as of a snapshot. What the journal does not tell, for whatever reason, is as it is now.
  private func size(of snapshot: Snapshot) -> UInt64 {
    if snapshot.point == nil { return tables.state.deviceSize }
    if snapshotSizes[snapshot.id] == nil, let sizes = try? JournalLook(journal).sizes(of: tables.state) {
      snapshotSizes = sizes
    }
    return snapshotSizes[snapshot.id] ?? tables.state.deviceSize
  }

  /// At opening: what is not covered was written at some time after the oldest file of it was made.
  func inheritExposure() {
    let files = wals.values.filter { !$0.isSealed && $0.bytes > 0 }.map(\.number)
    let segments = tables.state.segments.values.filter { !$0.isCovered(pageLog.cut) }
    guard let oldest = (files + segments.map(\.number)).min() else { return }
    var since = context.now
    if let began = try? JournalLook(journal).began(oldest) {
      let wall = context.world.clock.wallMilliseconds()
      since -= min(since, (wall - min(wall, began)) * 1_000_000)
    }
    for number in files { exposure.begin(number, at: since) }
    for segment in segments { exposure.inherit(seq: segment.sealedSeq, since: since) }
  }
}
