import ElideEvents
import ElideIO
import ElideProjections

extension Lifecycle {
  // MARK: Release

  /// Gives the name up at a cut that holds everything: anyone may go on from there.
  func release(_ name: String, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    let log = try owned(name, context)
    guard let volume = log.state.volume, log.state.owner == me, log.state.phase == .stopped else {
      // Done already, or refused in the state's own words.
      return try one(.release(cut: log.state.cut ?? Self.noCut), log, context, "released")
    }
    guard engine.world.files.exists(engine.directory.volume(volume).key) else {
      throw ElideError(
        .failed,
        "\(log.state.sentence): its volume \(volume) is not in \(engine.directory.root); "
          + Refusal.Instead.forceSelf.advice(name, log.state))
    }
    if !context.isDryRun { try engine.publishClosed(volume, milliseconds: 300_000) }
    guard let cut = try engine.publishedCut(volume) else {
      throw ElideError(.tryLater, "'\(name)': nothing of volume \(volume) is published yet")
    }
    return try one(.release(cut: cut), log, context, "released at cut \(cut)")
  }

  /// Stands for a cut where the command is refused, or done, before it is looked at.
  private static let noCut = Cut(volume: ULID(high: 0, low: 0), seq: 0, page: 0, pageHash: Digest.sha256([UInt8]()))

  /// One entry on a log that is read already.
  func one(
    _ command: NameCommand, _ log: NameLog, _ context: CommandContext, _ message: String
  ) throws(ElideError) -> LifecycleReport {
    if context.isDryRun { return try plan(command, log, context) }
    return try report(try log.perform(command, request: context.request, context: AppendContext(context)), log, message)
  }

  // MARK: Claim

  func claim(_ name: String, serve: Bool, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    let log = try names.log(name)
    try log.refresh()
    if context.isDryRun { return try claimPlan(log, serve: serve, context) }
    if log.state.owner == me, [.live, .stopped].contains(log.state.phase) {
      return report(.done, log.state, "this host owns it already")
    }
    let outcome = try claimed(log, serve: serve, context)
    let done = try report(outcome, log, "claimed: volume \(log.state.volume?.description ?? "")")
    if serve, done.outcome != .unknown, let volume = log.state.volume { try servant.launch(name, volume) }
    return done
  }

  func claimPlan(_ log: NameLog, serve: Bool, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    if let local = try reclaimable(log.state) { return try plan(.reclaim(local: local, serve: serve), log, context) }
    let any = ULID(clock: engine.world.clock, random: engine.world.random)
    return try plan(.claim(volume: any, key: [UInt8](repeating: 0, count: 32), serve: serve), log, context)
  }

  /// Goes on in place when this host's copy stands exactly at what was released; else with a new volume.
  func claimed(_ log: NameLog, serve: Bool, _ context: CommandContext) throws(ElideError) -> NameOutcome {
    if let local = try reclaimable(log.state) {
      return try log.perform(
        .reclaim(local: local, serve: serve), request: context.request, context: AppendContext(context))
    }
    return try claimNew(log, serve: serve, context)
  }

  /// The cut at which this host's copy of the released volume stands, if it may go on with it.
  private func reclaimable(_ state: NameState) throws(ElideError) -> Cut? {
    guard state.phase == .released, state.releasedBy == me, let cut = state.cut, let volume = state.volume,
      engine.world.files.exists(engine.directory.volume(volume).key), try !engine.isInUse(volume),
      try engine.publishedCut(volume) == cut, let local = try engine.localState(volume), !local.isFenced,
      try isWhollyPublished(volume)
    else { return nil }
    return cut
  }

  /// Nothing is here that the store has not.
  func isWhollyPublished(_ volume: ULID) throws(ElideError) -> Bool {
    let status = try engine.closedStatus(volume)
    guard status.unsentBytes == 0, status.unsealedBytes == 0, status.unsealedWals == 0 else { return false }
    let journal: any JournalStore
    do throws(JournalError) { journal = try engine.journals.open(engine.directory.volume(volume), write: false) } catch {
      throw ElideError(error, volume)
    }
    defer { journal.close() }
    let kept = try KeptRows(journal, volume).read()
    guard kept.intent == nil, let head = journal.head else { return false }
    return head.seq < kept.pageLog.nextSeq
  }
}
