import ElideEvents
import ElideIO
import ElideProjections

extension Lifecycle {
  /// A new volume that continues what was released. When this returns with the entry committed, its first page is in the store
  /// and the page log of the released volume has its end.
  func claimNew(_ log: NameLog, serve: Bool, _ context: CommandContext) throws(ElideError) -> NameOutcome {
    for _ in 0..<8 {
      if let outcome = try claimOnce(log, serve: serve, context) { return outcome }
      try log.refresh()
    }
    throw ElideError(.tryLater, "'\(log.name)': other hosts were faster; try again")
  }

  /// nil: another entry was faster, and the name is read again.
  private func claimOnce(_ log: NameLog, serve: Bool, _ context: CommandContext) throws(ElideError) -> NameOutcome? {
    let appending = AppendContext(context)
    guard log.state.phase == .released, let cut = log.state.cut else {
      // Refused, in the state's own words.
      let any = ULID(clock: engine.world.clock, random: engine.world.random)
      return try log.perform(
        .claim(volume: any, key: engine.host.key.publicKey, serve: serve), request: context.request, at: log.state.nextSeq,
        context: appending)
    }
    let slot = log.state.nextSeq
    // Read before anything is appended: a name whose volume cannot be read is not taken.
    let published = try continued(cut, log.state)
    let prepared = try engine.prepareVolume(log.name, .continued)
    let outcome = try promise(prepared, log) { (log) throws(ElideError) in
      try engine.publishDocument(
        prepared, size: max(log.state.size, published.tables.state.size), lineage: lineage(cut, published))
      // In this slot or not at all: the document says which cut is continued.
      return try log.perform(
        .claim(volume: prepared.volume, key: prepared.key.publicKey, serve: serve), request: context.request, at: slot,
        context: appending)
    }
    if case .refused(let refusal) = outcome, refusal.instead == .again { return nil }
    guard outcome.isInLog else { return outcome }
    guard let i = log.state.holdings.episodes.lastIndex(where: { $0.volume == prepared.volume }) else {
      // The answer of an earlier attempt of this request, with another volume; or the log could not be read again. What is to be
      // kept is found out at the next use of the name.
      prepared.leave()
      return outcome
    }
    do throws(ElideError) { try finishClaim(prepared, i, log) } catch {
      prepared.leave()
      throw ElideError(
        error.kind, "'\(log.name)' is claimed, and its first page is not in the store yet; the next use of it goes on: \(error)")
    }
    prepared.leave()
    try names.end(prepared.making)
    return outcome
  }

  /// What follows a committed `claimed`, which granted episode `i`.
  func finishClaim(_ prepared: PreparedVolume, _ i: Int, _ log: NameLog) throws(ElideError) {
    let episodes = log.state.holdings.episodes
    guard i > 0, let cut = episodes[i].basis else {
      throw ElideError(.fault, "'\(log.name)': the claim of volume \(prepared.volume) continues nothing")
    }
    _ = try end(episodes[i - 1], log, seq: episodes[i].granted)
    let isBegun = try hasJournal(prepared.volume)
    try publishContinued(
      prepared, .cut(cut), isBegun ? nil : try continued(cut, log.state), size: log.state.size)
  }

  /// The volume of a cut that the name's log names.
  private func continued(_ cut: Cut, _ state: NameState) throws(ElideError) -> PublishedVolume {
    let known = state.holdings.episodes.last { $0.volume == cut.volume }
    return try engine.publishedReader.open(cut, key: known?.key)
  }
}
