import ElideEvents
import ElideIO
import ElideProjections

extension Engine {
  /// Makes a writable child of a published cut: of a local volume (what it holds now is published first), of a snapshot, or of
  /// any volume in the store by its name or ULID.
  ///
  /// - Parameter cutServed: asks the process that serves a local volume to publish what it holds. Without it a volume that is
  ///   being served cannot be forked at its newest state.
  package func createFork(
    name: String, from source: VolumeSource, cutServed: ((ULID) throws(ElideError) -> Void)? = nil
  ) throws(ElideError) -> VolumeSummary {
    let report = try Lifecycle(self).fork(name, source, CommandContext(), cutServed)
    return try made(report)
  }

  /// Reads a published point of a volume; publishes first what only this host has.
  func publishedPoint(
    _ found: FoundVolume, _ source: VolumeSource, _ cutServed: ((ULID) throws(ElideError) -> Void)?
  ) throws(ElideError) -> PublishedVolume {
    let volume = found.volume
    let isLocal = mayWrite(found)
    let reader = publishedReader
    switch source.point {
    case .seq(let seq): return try reader.open(volume, at: seq, key: found.key)
    case .newest:
      if isLocal { try publishLocal(volume, cutServed) }
      return try reader.open(volume, key: found.key)
    case .snapshot(let label):
      if isLocal, let state = try localState(volume) {
        guard let snapshot = state.snapshots.first(where: { $0.label == label }) else { throw noSnapshot(label, volume) }
        let cut = try closedStatus(volume).cut
        if let point = snapshot.point, let cut, point <= cut {} else { try publishLocal(volume, cutServed) }
      }
      let newest = try reader.open(volume, key: found.key)
      guard let point = newest.tables.state.snapshots.first(where: { $0.label == label })?.point else {
        throw noSnapshot(label, volume)
      }
      return point == newest.point ? newest : try reader.open(volume, at: point, key: found.key)
    }
  }

  private func noSnapshot(_ label: String, _ volume: ULID) -> ElideError {
    ElideError(.notFound, "volume \(volume) has no snapshot '\(label)'")
  }

  /// Reads published volumes; checkpoints that lie in this data directory are not fetched.
  package var publishedReader: PublishedReader {
    let (files, directory) = (world.files, directory)
    return PublishedReader(store: store) { locator in
      let name = String(locator.key.split(separator: "/").last ?? "")
      return try? files.readFile("\(directory.volume(locator.volume).maps)/\(name)")
    }
  }

  private func publishLocal(_ volume: ULID, _ cutServed: ((ULID) throws(ElideError) -> Void)?) throws(ElideError) {
    do throws(ElideError) { try publishClosed(volume, milliseconds: 300_000) } catch {
      guard error.kind == .owned, let cutServed else { throw error }
      try cutServed(volume)
    }
  }

  /// Ships and publishes whatever a volume that nobody serves holds: its write-ahead files are recovered and sealed, bodies
  /// uploaded, a checkpoint and a page written. Does nothing when all is in the store.
  package func publishClosed(_ volume: ULID, milliseconds: UInt64 = .max) throws(ElideError) {
    let opening = try LocalOpening.open(self, volume)
    defer { opening.close() }
    let isComplete =
      opening.tables.state.openWALs.isEmpty && opening.recovered.intent == nil && opening.recovered.wals.isEmpty
      && opening.journal.head.map { $0.seq < opening.recovered.pageLog.nextSeq } ?? true
    if isComplete { return }
    try opening.requireUnfenced()
    if !opening.tables.state.openWALs.isEmpty { try opening.commitOpened() }
    let wake = try waiter.makeWake()
    let keeper = opening.keeper(front: Mailbox(capacity: 4096), isServed: false) { wake.signal() }
    // A crash came before the fork's first page could name one.
    if opening.tables.state.lineage != nil, keeper.pageLog.checkpoint == nil, keeper.checkpoint == nil {
      keeper.wantsCheckpoint = true
    }
    defer { keeper.closeFiles() }
    let reply = Reply<Void>()
    _ = keeper.requests.send(.finish(ship: true, reply))
    try drive(keeper, wake, milliseconds: milliseconds) { reply.poll() != nil }
    if case .failure(let error) = reply.poll() { throw error }
  }
}

extension LocalOpening {
  /// A volume whose name is another host's writes nothing more, until an entry gives it a right anew.
  package func requireUnfenced() throws(ElideError) {
    guard tables.state.isFenced else { return }
    let name = tables.state.boundName ?? ""
    throw ElideError(
      .fenced, "volume \(tables.volume) was fenced: '\(name)' is another host's; what it held is kept, see 'elide volume status'")
  }

  /// The keeper of the opened volume. One per opening.
  package func keeper(
    front: Mailbox<FrontMessage>, isServed: Bool, wake: @escaping @Sendable () -> Void
  ) -> VolumeKeeper {
    var handed = recovered
    handed.isServed = isServed
    let keeper = VolumeKeeper(
      context: context, journal: journal, tables: tables, segments: segments, encodings: encodings, recovered: handed,
      front: front, wake: wake)
    keeper.dedup = dedup
    return keeper
  }
}
