import ElideEvents
import ElideIO
import ElideProjections

// A volume that continues another at a cut: of a claim, of a recovery.
//
//   directory, key (durable) ─▶ `claimed` or `fenced` ─▶ the old page log is ended ─▶ volume.toml, journal genesis
//     ─▶ first page ─▶ (a recovery) `recovered`
//
// Each step can be cut short and is found again: the `Making` row says that there is something to do, the name's log how far the
// name is, the terminal page what is continued, the journal and its frozen page how far the new volume is.

extension Lifecycle {
  /// Ends the page log of the volume from which entry `seq` took the name.
  func end(_ old: Episode, _ log: NameLog, seq: UInt64) throws(ElideError) -> EndedPageLog {
    try pageLogEnd(old).end(name: log.name, seq: seq, by: names.author, clock: engine.world.clock)
  }

  func pageLogEnd(_ old: Episode) -> PageLogEnd {
    let names = names
    return PageLogEnd(
      store: engine.store, volume: old.volume, key: old.key,
      judge: EndJudge { (name) throws(ElideError) in try names.log(name) })
  }

  /// Gives a prepared volume its history, up to its first page in the store. What a crash left of an earlier attempt is gone on
  /// with. `size`: bytes, at least.
  func publishContinued(
    _ prepared: PreparedVolume, _ basis: Basis, _ published: PublishedVolume?, size: UInt64
  ) throws(ElideError) {
    let volume = prepared.volume
    if try hasJournal(volume) {
      // The genesis says what it continues; the document may not have been put.
      if let state = try engine.localState(volume) {
        try engine.publishDocument(prepared, size: state.size, lineage: state.lineage)
      }
      prepared.leave()
      return try engine.publishClosed(volume, milliseconds: 120_000)
    }
    let made: NewVolume
    if case .cut(let cut) = basis {
      guard let published else { throw ElideError(.failed, "volume \(cut.volume) was not read") }
      let state = published.tables.state
      let lineage = lineage(cut, published)
      let bytes = max(size, state.size)
      made = try prepared.begin(
        inherited: published.tables.inheritance, checkpoint: published.isAtCheckpoint ? published.checkpoint : nil
      ) { key in .continued(Genesis(size: bytes, key: key), from: lineage) }
    } else {
      made = try prepared.begin { key in .created(Genesis(size: size, key: key)) }
    }
    defer { made.close() }
    _ = try made.publish()
  }

  func lineage(_ cut: Cut, _ published: PublishedVolume) -> Lineage {
    Lineage(
      parent: cut.volume, seq: cut.seq, page: cut.page, pageHash: cut.pageHash, parentKey: published.key,
      firstSegment: published.tables.state.nextSegment)
  }

  /// What the journal of a volume that was begun says it continues; nil when it has none yet.
  func begunBasis(_ volume: ULID, _ displaced: Episode) throws(ElideError) -> Basis? {
    guard try hasJournal(volume), let state = try engine.localState(volume) else { return nil }
    guard let l = state.lineage else { return .empty(displaced.volume) }
    return .cut(Cut(volume: l.parent, seq: l.seq, page: l.page, pageHash: l.pageHash))
  }

  /// What a crash left of a hand-over to this host. Takes `prepared` over: it is let go, or given back, when this returns.
  func settleContinued(_ prepared: PreparedVolume, _ log: NameLog) throws(ElideError) {
    let volume = prepared.volume
    let state = log.state
    if let i = state.holdings.episodes.lastIndex(where: { $0.volume == volume }) {
      // Granted. If somebody has taken the name since, nothing more is published of it.
      if state.volume == volume, state.owner == me, case .claimed = try entry(of: state.holdings.episodes[i], log) {
        try finishClaim(prepared, i, log)
      }
      prepared.leave()
      return try names.end(prepared.making)
    }
    guard state.pending?.volume == volume, state.phase == .recovering, state.owner == me else { return prepared.leave() }
    do throws(ElideError) {
      _ = try recover(prepared, log, acceptsLoss: false, CommandContext())
    } catch {
      // The name stays in recovery, for a command that says how to go on; a store that is away says so itself.
      prepared.leave()
      if error.kind == .tryLater || error.kind == .unknown { throw error }
    }
  }
}
