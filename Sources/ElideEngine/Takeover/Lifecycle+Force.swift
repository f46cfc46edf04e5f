import ElideEvents
import ElideIO
import ElideProjections

extension Lifecycle {
  /// Takes a name from its owner, whoever and wherever that is, and goes on from the last cut of its volume. `expect` is
  /// `HOST[@EPOCH]`; a host may be shortened to eight digits.
  func forceRelease(
    _ name: String, _ expect: String?, isSelf: Bool, acceptsLoss: Bool, _ context: CommandContext
  ) throws(ElideError) -> LifecycleReport {
    let log = try names.log(name)
    try log.refresh()
    let (host, epoch) = try expectation(expect, log.state)
    func command(_ volume: ULID, _ key: [UInt8]) -> NameCommand {
      .force(Force(expectOwner: host, expectEpoch: epoch, volume: volume, key: key, isSelf: isSelf))
    }
    if log.state.owner == me, !isSelf {
      if log.state.phase == .recovering, let going = try goOn(log, acceptsLoss: acceptsLoss, context) { return going }
      // A recovery that was finished just now, or by an earlier try of this command.
      if expect == nil, log.state.phase != .recovering, try isRecovered(log) {
        return report(.done, log.state, "this host owns it already: it was recovered into volume \(log.state.volume!)")
      }
    }
    let any = ULID(clock: engine.world.clock, random: engine.world.random)
    var planned = try plan(command(any, [UInt8](repeating: 0, count: 32)), log, context)
    if context.isDryRun { return try forcePlan(&planned, log, acceptsLoss: acceptsLoss) }
    let prepared = try engine.prepareVolume(name, .continued)
    let outcome = try promise(prepared, log) { (log) throws(ElideError) in
      try log.perform(
        command(prepared.volume, prepared.key.publicKey), request: context.request, context: AppendContext(context))
    }
    guard outcome.isInLog else { return try report(outcome, log, "") }
    guard log.state.pending?.volume == prepared.volume else {
      // As with a claim: what is to be kept is found out at the next use of the name.
      prepared.leave()
      return try report(outcome, log, "this request was answered before")
    }
    return try recovered(prepared, log, acceptsLoss: acceptsLoss, context, outcome)
  }

  /// Goes on with a recovery that this host began and whose new volume is here; nil when it is not.
  private func goOn(
    _ log: NameLog, acceptsLoss: Bool, _ context: CommandContext
  ) throws(ElideError) -> LifecycleReport? {
    guard let making = try names.makings(log.name).first(where: { $0.volume == log.state.pending?.volume }) else { return nil }
    if context.isDryRun {
      var planned = report(.planned, log.state, "the recovery that this host began would be finished")
      return try forcePlan(&planned, log, acceptsLoss: acceptsLoss)
    }
    guard let prepared = try engine.takeOver(making) else { return nil }
    return try recovered(prepared, log, acceptsLoss: acceptsLoss, context, nil)
  }

  /// From `fenced` to `recovered`, and what is said of it.
  private func recovered(
    _ prepared: PreparedVolume, _ log: NameLog, acceptsLoss: Bool, _ context: CommandContext, _ fenced: NameOutcome?
  ) throws(ElideError) -> LifecycleReport {
    let done: (outcome: NameOutcome, lost: String)
    do throws(ElideError) { done = try recover(prepared, log, acceptsLoss: acceptsLoss, context) } catch {
      prepared.leave()
      throw error
    }
    var basis = "an empty volume"
    if let cut = log.state.cut { basis = "cut \(cut)" }
    var said = try report(done.outcome, log, "recovered into volume \(prepared.volume), from \(basis)")
    // The request's answer is the fence, the first time as later.
    if said.outcome != .unknown, let fenced, case .committed(let seq, let id) = fenced {
      (said.outcome, said.seq, said.entryID) = (.committed, seq, id.description)
    }
    if !done.lost.isEmpty { said.lost = done.lost }
    return said
  }

  /// Whether the newest volume of the name came to this host by a recovery, and is here.
  private func isRecovered(_ log: NameLog) throws(ElideError) -> Bool {
    guard let episode = log.state.holdings.episodes.last, log.state.origin == nil,
      engine.world.files.exists(engine.directory.volume(episode.volume).key)
    else { return false }
    if case .recovered = try entry(of: episode, log) { return true }
    return false
  }

  /// Finishes a recovery whose `fenced` is in the log. Leaves `prepared`, unless it throws.
  func recover(
    _ prepared: PreparedVolume, _ log: NameLog, acceptsLoss: Bool, _ context: CommandContext
  ) throws(ElideError) -> (outcome: NameOutcome, lost: String) {
    if log.state.owner == me, log.state.incarnation != names.author.incarnation {
      try require(try log.perform(.adopt, context: AppendContext(context)))
    }
    let state = log.state
    guard state.phase == .recovering, state.owner == me, state.pending?.volume == prepared.volume,
      let displaced = state.holdings.episodes.last
    else { throw ElideError(.fenced, "\(state.sentence): the recovery was taken over") }
    // The phase began with this host's own `fenced`.
    let ended = try end(displaced, log, seq: state.since)
    try endBefore(state.holdings.episodes.dropLast(), ended, log, seq: state.since)
    let found: FoundBasis
    if let begun = try begunBasis(prepared.volume, displaced) {
      found = FoundBasis(basis: begun, lost: BasisFinder.lost(by: begun, ended.newest, state), published: nil)
    } else {
      found = try BasisFinder(state, reader: engine.publishedReader).find(ended.newest, acceptsLoss: acceptsLoss)
    }
    try publishContinued(prepared, found.basis, found.published, size: state.size)
    let outcome = try log.perform(
      .recover(volume: prepared.volume, basis: found.basis, lost: found.lost), context: AppendContext(context))
    prepared.leave()
    switch outcome {
    case .committed, .done: try names.end(prepared.making)
    default: break
    }
    return (outcome, found.lost)
  }

  /// A claimant that died before its first page may not have ended the log that it continued either.
  private func endBefore(
    _ earlier: ArraySlice<Episode>, _ ended: EndedPageLog, _ log: NameLog, seq: UInt64
  ) throws(ElideError) {
    guard ended.newest == .none, let old = earlier.last else { return }
    try endBefore(earlier.dropLast(), try end(old, log, seq: seq), log, seq: seq)
  }

  // MARK: Before it

  private func expectation(_ text: String?, _ state: NameState) throws(ElideError) -> (host: String?, epoch: UInt64?) {
    guard let text else { return (nil, nil) }
    let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
    var host = String(parts[0])
    guard host.utf8.count >= 8, host.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }) else {
      throw ElideError(.usage, "'\(text)' is not HOST[@EPOCH]: a host's id has 64 digits, of which 8 are enough")
    }
    if let owner = state.owner, owner.hasPrefix(host) { host = owner }
    guard parts.count == 2 else { return (host, nil) }
    guard let epoch = UInt64(parts[1]) else { throw ElideError(.usage, "'\(parts[1])' is no epoch") }
    return (host, epoch)
  }

  /// What a force would continue: the last sign of life, the cut, what is left out.
  private func forcePlan(
    _ planned: inout LifecycleReport, _ log: NameLog, acceptsLoss: Bool
  ) throws(ElideError) -> LifecycleReport {
    guard let displaced = log.state.holdings.episodes.last else { return planned }
    let look = try pageLogEnd(displaced).look()
    var words = ["\(log.state.sentence)"]
    if case .page(let page) = look.newest {
      words.append("its last page is of \(Timestamp.text(milliseconds: page.header.at))")
    }
    do throws(ElideError) {
      let found = try BasisFinder(log.state, reader: engine.publishedReader).find(look.newest, acceptsLoss: acceptsLoss)
      if case .cut(let cut) = found.basis {
        planned.cut = CutReport(cut)
        words.append("it would go on from cut \(cut); what was written after it stays with its owner")
      } else {
        planned.cut = nil
        words.append("it never had a page: it would begin empty")
      }
      if !found.lost.isEmpty { planned.lost = found.lost }
    } catch {
      if error.kind == .tryLater { throw error }
      words.append(error.message)
    }
    planned.message = words.joined(separator: "; ")
    return planned
  }
}
