import ElideEvents
import ElideIO
import ElideProjections

// What earlier processes left of a name, before anything else is done with it: attempts whose outcome nobody knows, volumes that
// were granted and have no page yet, volumes that were never granted, imports whose process is gone. Each step may be cut short
// and done again.

extension Lifecycle {
  /// Settles what was left of `name`. Asks the store only when something was. What living processes are at is theirs.
  package func settle(_ name: String) throws(ElideError) {
    try migrate(name)
    let makings = try names.makings(name)
    let log = try names.log(name)
    if makings.isEmpty {
      if try !log.open().isEmpty { _ = try log.resolve() }
      return
    }
    for making in makings { try settle(making, log) }
  }

  /// The same for all names of this host; the first error is thrown after all were tried.
  package func settleAll() throws(ElideError) {
    var pending = Set(try names.makings().map(\.name))
    pending.formUnion(try names.openAttempts().map(\.name))
    pending.formUnion(try (names.old?.list() ?? []).map(\.name))
    var failure: ElideError?
    for name in pending.sorted() {
      do throws(ElideError) { try settle(name) } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
  }

  private func settle(_ making: Making, _ log: NameLog) throws(ElideError) {
    let prepared: PreparedVolume
    do throws(ElideError) {
      guard let left = try engine.takeOver(making) else {
        // It was given back, but for the row.
        try names.end(making)
        return
      }
      prepared = left
    } catch {
      // Its maker lives.
      if error.kind == .owned { return }
      throw error
    }
    do throws(ElideError) {
      _ = try log.resolve()
      if try isOpen(making.volume, log) { return prepared.leave() }
      try log.refresh()
      try settle(prepared, log)
    } catch {
      prepared.leave()
      throw error
    }
  }

  private func settle(_ prepared: PreparedVolume, _ log: NameLog) throws(ElideError) {
    let volume = prepared.volume
    if prepared.making.kind == .continued, log.state.pending?.volume == volume || log.state.volume == volume {
      return try settleContinued(prepared, log)
    }
    if let episode = log.state.holdings.episodes.first(where: { $0.volume == volume }) {
      try goOn(prepared, episode, log)
    } else if log.state.pending?.volume == volume {
      switch prepared.making.kind {
      case .imported:
        // The process that read the image is gone. Any host may say so, and this one knows.
        switch try log.perform(.importAbort) {
        case .committed, .done: prepared.discard()
        default: prepared.leave()
        }
      default: prepared.leave()
      }
    } else {
      // Every attempt that named it is decided, and its slot holds other bytes; or none was ever frozen.
      prepared.discard()
    }
  }

  /// The volume was granted: it gets what it lacks, up to its first page.
  private func goOn(_ prepared: PreparedVolume, _ episode: Episode, _ log: NameLog) throws(ElideError) {
    let making = prepared.making
    guard log.state.volume == prepared.volume, log.state.owner == names.author.id || log.state.phase == .readonly else {
      // Somebody has taken the name since: nothing more is published of it.
      prepared.leave()
      return try names.end(making)
    }
    if try hasJournal(prepared.volume) {
      prepared.leave()
      try engine.publishClosed(prepared.volume, milliseconds: 120_000)
    } else {
      let made = try begin(prepared, episode, log)
      defer { made.close() }
      _ = try made.publish()
      prepared.leave()
    }
    try names.end(making)
  }

  func hasJournal(_ volume: ULID) throws(ElideError) -> Bool {
    let journal: any JournalStore
    do throws(JournalError) { journal = try engine.journals.open(engine.directory.volume(volume), write: true) } catch {
      throw ElideError(error, volume)
    }
    defer { journal.close() }
    return journal.head != nil
  }

  private func begin(_ prepared: PreparedVolume, _ episode: Episode, _ log: NameLog) throws(ElideError) -> NewVolume {
    let granted = try entry(of: episode, log)
    switch granted {
    case .created(let v): return try prepared.begin { key in .created(Genesis(size: v.size, key: key)) }
    case .forked(let v, let from, _):
      let source = try names.log(from.name)
      try source.refresh()
      let key = source.state.holdings.episodes.first { $0.volume == from.cut.volume }?.key
      let published = try engine.publishedReader.open(from.cut.volume, at: from.cut.seq, key: key)
      let lineage = Lineage(
        parent: from.cut.volume, seq: published.point, page: published.page, pageHash: published.pageHash,
        parentKey: published.key, firstSegment: published.tables.state.nextSegment)
      return try prepared.begin(
        inherited: published.tables.inheritance, checkpoint: published.isAtCheckpoint ? published.checkpoint : nil
      ) { key in .forked(Genesis(size: v.size, key: key), from: lineage) }
    default: throw ElideError(.fault, "'\(log.name)': entry \(episode.granted) did not grant volume \(prepared.volume)")
    }
  }

  /// The entry that granted an episode under this name.
  func entry(of episode: Episode, _ log: NameLog) throws(ElideError) -> NameEvent? {
    var raw = try names.rows.get(.entries, NameRowKey.entry(log.name, episode.granted))
    if raw == nil { raw = try log.slot(episode.granted) }
    return raw.flatMap { try? NameEntryCodec.decode($0, of: log.name, at: episode.granted) }?.event
  }
}
