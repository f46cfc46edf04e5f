import ElideEvents
import ElideIO
import ElideProjections

// directory, key (durable) ─▶ volume.toml ─▶ the name's entry ─▶ journal genesis ─▶ first page
//
// Before the entry everything can be given back, after it nothing: what a crash leaves is found by the `Making` row. While it is
// not known whether the entry is in the log, all is kept.

extension Lifecycle {
  /// An empty volume.
  func create(_ name: String, _ size: UInt64, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    guard size >= 512, size % 512 == 0, size <= 1 << 50 else {
      throw ElideError(.usage, "\(size) bytes is not a size: a multiple of 512, at most 2^50")
    }
    let log = try names.log(name)
    let planned = try plan(.create(placeholder(size)), log, context)
    if context.isDryRun { return planned }
    let prepared = try engine.prepareVolume(name, .created)
    let facts = NewVolumeFacts(volume: prepared.volume, key: prepared.key.publicKey, size: size)
    return try grant(prepared, log, context) { (log) throws(ElideError) in
      try engine.publishDocument(prepared, size: size, lineage: nil)
      return try log.perform(.create(facts), request: context.request, context: AppendContext(context))
    } begin: { () throws(ElideError) in
      try prepared.begin { key in .created(Genesis(size: size, key: key)) }
    }
  }

  /// A writable child of a published cut. The source is a name on any host, or a ULID; what this host holds of it and serves or
  /// owns is published first.
  ///
  /// - Parameter cutServed: has whoever serves the source publish what it holds; nil: the servant.
  func fork(
    _ name: String, _ source: VolumeSource, _ context: CommandContext, _ cutServed: ((ULID) throws(ElideError) -> Void)? = nil
  ) throws(ElideError) -> LifecycleReport {
    let log = try names.log(name)
    let precheck = try plan(.create(placeholder(512)), log, context)
    let parent = try engine.find(source.base, fresh: true)
    let servant = servant
    let published = try engine.publishedPoint(parent, source) { (volume) throws(ElideError) in
      if let cutServed { try cutServed(volume) } else { _ = try servant.cut(volume) }
    }
    let state = published.tables.state
    let cut = Cut(volume: parent.volume, seq: published.point, page: published.page, pageHash: published.pageHash)
    if context.isDryRun {
      var planned = precheck
      (planned.size, planned.cut, planned.entry) = (state.size, CutReport(cut), nil)
      planned.message = "'\(name)' would be forked from \(source) at entry \(cut.seq)"
      return planned
    }
    let lineage = Lineage(
      parent: parent.volume, seq: published.point, page: published.page, pageHash: published.pageHash,
      parentKey: published.key, firstSegment: state.nextSegment)
    // Before anything is made: this may fail.
    let granted = try grantedName(parent, state.boundName)
    let prepared = try engine.prepareVolume(name, .forked)
    let facts = NewVolumeFacts(volume: prepared.volume, key: prepared.key.publicKey, size: state.size)
    let begin = { () throws(ElideError) -> NewVolume in
      try prepared.begin(
        inherited: published.tables.inheritance, checkpoint: published.isAtCheckpoint ? published.checkpoint : nil
      ) { key in .forked(Genesis(size: state.size, key: key), from: lineage) }
    }
    guard let from = granted else {
      return try forkUnnamed(prepared, facts, log, context, begin)
    }
    let request = context.request ?? "fork-\(prepared.volume)"
    return try grant(prepared, log, context) { (log) throws(ElideError) in
      try engine.publishDocument(prepared, size: state.size, lineage: lineage)
      let outcome = try twoLogs.fork(
        name, from: from.name, at: cut, facts, request: request, context: AppendContext(context))
      // What is committed stays so, whether or not it can be read at once.
      try? log.refresh()
      return outcome
    } begin: { () throws(ElideError) in
      try begin()
    }
  }

  /// The name whose log granted a volume: known here, the one that the volume's own history says it served under, or any.
  private func grantedName(_ found: FoundVolume, _ bound: String?) throws(ElideError) -> NameState? {
    func grants(_ state: NameState) -> Bool { state.holdings.episodes.contains { $0.volume == found.volume } }
    if let name = found.name, grants(name) { return name }
    if let bound, VolumeName.fault(bound) == nil {
      let log = try names.log(bound)
      try log.refresh()
      if log.state.phase == .renamed, let new = log.state.renamedTo {
        let later = try names.log(new)
        try later.refresh()
        if grants(later.state) { return later.state }
      }
      if grants(log.state) { return log.state }
    }
    // An image never served, or a name that this host has not heard of: without a pin it could be purged under the fork.
    for name in try names.inStore() where VolumeName.fault(name) == nil {
      let log = try names.log(name)
      try log.refresh()
      if log.state.phase != .renamed, grants(log.state) { return log.state }
    }
    return nil
  }

  /// Of a volume that no name's log knows, so that nothing can be pinned; nothing of it is ever deleted either. The entry does
  /// not say what it began with: its first page does, and comes before.
  private func forkUnnamed(
    _ prepared: PreparedVolume, _ facts: NewVolumeFacts, _ log: NameLog, _ context: CommandContext,
    _ begin: () throws(ElideError) -> NewVolume
  ) throws(ElideError) -> LifecycleReport {
    do throws(ElideError) {
      let made = try begin()
      defer { made.close() }
      _ = try made.publish()
    } catch {
      prepared.discard()
      throw error
    }
    return try grant(prepared, log, context) { (log) throws(ElideError) in
      try log.perform(.create(facts), request: context.request, context: AppendContext(context))
    } begin: {
      nil
    }
  }

  private func placeholder(_ size: UInt64) -> NewVolumeFacts {
    NewVolumeFacts(
      volume: ULID(clock: engine.world.clock, random: engine.world.random), key: [UInt8](repeating: 0, count: 32), size: size)
  }

  /// Appends the entry that grants a prepared volume, then begins and publishes it. `begin` nil: it is published already.
  func grant(
    _ prepared: PreparedVolume, _ log: NameLog, _ context: CommandContext,
    _ enter: (NameLog) throws(ElideError) -> NameOutcome, begin: () throws(ElideError) -> NewVolume?
  ) throws(ElideError) -> LifecycleReport {
    let outcome = try promise(prepared, log, enter)
    guard outcome.isInLog else { return try report(outcome, log, "") }
    guard log.state.holdings.episodes.contains(where: { $0.volume == prepared.volume }) else {
      // The answer of an earlier attempt of this request, with another volume; or the log could not be read again. What is to be
      // kept is found out at the next use of the name.
      prepared.leave()
      return try report(outcome, log, "this request was answered before")
    }
    do throws(ElideError) {
      if let made = try begin() {
        defer { made.close() }
        _ = try made.publish()
      }
    } catch {
      prepared.leave()
      throw ElideError(
        error.kind, "'\(log.name)' is made, and its first page is not in the store yet; the next use of it goes on: \(error)")
    }
    prepared.leave()
    try names.end(prepared.making)
    return try report(outcome, log, "volume \(prepared.volume)")
  }

  /// Appends the entry that promises or grants a prepared volume. Unless it is in the log, the volume is let go of: kept while
  /// the outcome is not known, else given back.
  func promise(
    _ prepared: PreparedVolume, _ log: NameLog, _ enter: (NameLog) throws(ElideError) -> NameOutcome
  ) throws(ElideError) -> NameOutcome {
    let outcome: NameOutcome
    do throws(ElideError) { outcome = try enter(log) } catch {
      // Nothing was sent by the call that threw; an earlier one of the same command may be open, and that the rows say.
      try giveUp(prepared, log)
      throw error
    }
    switch outcome {
    case .committed, .done: break
    case .unknown: prepared.leave()
    case .refused, .cancelled: try giveUp(prepared, log)
    }
    return outcome
  }

  /// Gives a prepared volume back, if no attempt that would grant it is open.
  private func giveUp(_ prepared: PreparedVolume, _ log: NameLog) throws(ElideError) {
    if try isOpen(prepared.volume, log) { return prepared.leave() }
    prepared.discard()
  }

  /// Whether an attempt is open that would give `volume` to the name.
  func isOpen(_ volume: ULID, _ log: NameLog) throws(ElideError) -> Bool {
    for intent in try log.open() {
      guard let entry = try? NameEntryCodec.decode(intent.raw, of: log.name, at: intent.seq), let event = entry.event else {
        return true
      }
      if event.grants == volume { return true }
    }
    return false
  }
}

extension NameEvent {
  /// The new volume that this entry promises or gives to its name.
  package var grants: ULID? {
    switch self {
    case .created(let v), .forked(let v, _, _): v.volume
    case .importStarted(let volume, _, _), .claimed(let volume, _, _, _): volume
    case .fenced(let f): f.volume
    default: nil
    }
  }
}
