import ElideEvents
import ElideIO
import ElideProjections

/// Operations over the logs of two names. Neither log alone says that they happened: one entry, in a slot that was named
/// beforehand in the other log, decides, and whoever comes by can finish or undo what somebody left. An empty slot decides
/// nothing; it is raced with a `void`.
///
/// Owned by one thread, like the logs it uses.
package struct TwoLogs {
  /// Opens the log of a name as this process.
  private let log: (String) throws(ElideError) -> NameLog

  package init(_ log: @escaping (String) throws(ElideError) -> NameLog) { self.log = log }

  /// Attempts after which a step that others keep disturbing is given up.
  private static let rounds = 8

  // MARK: Fork

  /// Pins `cut` of `source` for the slot in which the fork will stand, then puts `forked` there. What is left of an attempt that
  /// others cut across is cleared.
  ///
  /// `request` is that of the fork's entry; the same request has the same answer.
  package func fork(
    _ new: String, from source: String, at cut: Cut, _ facts: NewVolumeFacts, request: String,
    context: AppendContext = AppendContext()
  ) throws(ElideError) -> NameOutcome {
    let (from, to) = (try log(source), try log(new))
    if let known = try to.answered(request) { return known }
    for _ in 0..<Self.rounds {
      try to.refresh()
      if !to.state.isFree, to.state.volume != facts.volume {
        // Refused by the state, in its words; without appending, since the name may be free by then.
        do throws(Refusal) { _ = try to.state.decide(.create(facts), by: to.me) } catch { return .refused(error) }
        continue
      }
      if to.state.volume == facts.volume { return .done }
      let hold = PinHold.fork(slot: to.state.nextSeq)
      let pinned = try from.perform(.pin(cut: cut, by: new, hold: hold), context: context.untied)
      switch pinned {
      case .committed, .done: break
      default: return pinned
      }
      guard
        let pin = from.state.holdings.pins.first(where: {
          $0.by == new && $0.hold == hold && $0.cut == cut && $0.host == from.author.id
        })
      else { continue }
      let origin = ForkSource(name: source, pin: pin.id, cut: cut)
      guard case .fork(let slot) = hold else { continue }
      let outcome = try to.perform(.fork(facts, from: origin, slot: slot), request: request, context: context)
      guard case .refused(let refusal) = outcome else { return outcome }
      _ = try clear(pin, of: from)
      if refusal.instead != .again { return outcome }
    }
    return .refused(Refusal(.tryLater, .again, "'\(new)': other hosts were faster; try again"))
  }

  /// Removes the pins of forks that never came to be. Anybody may. Returns how many went.
  package func clearOrphans(_ source: String) throws(ElideError) -> Int {
    let from = try log(source)
    try from.refresh()
    var cleared = 0
    for pin in from.state.holdings.pins where try clear(pin, of: from) { cleared += 1 }
    return cleared
  }

  private func clear(_ pin: Pin, of from: NameLog) throws(ElideError) -> Bool {
    guard case .fork(let slot) = pin.hold else { return false }
    let to = try log(pin.by)
    // By the pin alone: its source may have been renamed since.
    let fact = try decided(slot, of: to) { event in
      if case .forked(_, let origin, _) = event { return origin.pin == pin.id }
      return false
    }
    guard case .other = fact else { return false }
    if case .committed = try from.perform(.unpin(pin: pin.id, because: .orphan(fact))) { return true }
    return false
  }

  // MARK: Rename

  /// Gives `old`'s volume the name `new`. The entry in the reserved slot of the old log is the commit.
  package func rename(
    _ old: String, to new: String, request: String, context: AppendContext = AppendContext()
  ) throws(ElideError) -> NameOutcome {
    let (from, to) = (try log(old), try log(new))
    if let known = try from.answered(request) { return finished(known, new) }
    for _ in 0..<Self.rounds {
      try from.refresh()
      if from.state.phase == .renamed, from.state.renamedTo == new {
        _ = try finishRename(new)
        return .done
      }
      let reserved = try to.perform(.renameReserve(old: old, slot: from.state.nextSeq), context: context.untied)
      switch reserved {
      case .committed, .done: break
      case .refused(let refusal) where refusal.instead == .finishRename:
        // Somebody's rename to this name was left half done.
        _ = try finishRename(new)
        continue
      default: return reserved
      }
      guard let reservation = to.state.reservation, reservation.old == old else { continue }
      let outcome = try from.perform(
        .renameCommit(new: new, reserved: reservation.seq, slot: reservation.slot), request: request, context: context)
      if case .unknown = outcome { return outcome }
      if case .committed = outcome { return finished(outcome, new) }
      _ = try finishRename(new)
      guard case .refused(let refusal) = outcome, refusal.instead == .again else { return outcome }
    }
    return .refused(Refusal(.tryLater, .again, "'\(old)': other hosts were faster; try again"))
  }

  /// The answer of a rename that is in the old name's log, once the new one has it too. It has taken place, whatever becomes of
  /// that: where the new log cannot be reached, the request is to be asked again.
  private func finished(_ outcome: NameOutcome, _ new: String) -> NameOutcome {
    guard case .committed(_, let id) = outcome else {
      _ = try? finishRename(new)
      return outcome
    }
    if (try? finishRename(new)) == true { return outcome }
    return .unknown(id: id, detail: "it is renamed, and the log of '\(new)' does not say so yet")
  }

  /// Finishes or undoes the rename that reserves `new`, whoever began it; true when the name is reserved no more.
  package func finishRename(_ new: String) throws(ElideError) -> Bool {
    let to = try log(new)
    try to.refresh()
    guard to.state.phase == .reserved, let r = to.state.reservation else { return true }
    let from = try log(r.old)
    let fact = try decided(r.slot, of: from) { event in
      if case .renamedTo(let name, let reserved, _) = event { return name == new && reserved == r.seq }
      return false
    }
    let command: NameCommand
    switch fact {
    case .empty: return false
    case .other: command = .renameAbort(fact)
    case .match:
      let before = try from.fold(before: r.slot)
      var after = before
      if let raw = try from.slot(r.slot) { after.next(raw) }
      guard let carried = after.state.carried(before: before.state, slot: r.slot) else {
        throw ElideError(.fault, "entry \(r.slot) of '\(r.old)' renames it and leaves nothing to carry")
      }
      command = .renameFinish(carried)
    }
    switch try to.perform(command) {
    case .committed, .done: return true
    default: return false
    }
  }

  // MARK: A slot that decides

  /// What stands in the slot; when it is free, a `void` is put there first, and whatever stands there then counts.
  private func decided(
    _ slot: UInt64, of log: NameLog, _ matches: (NameEvent) -> Bool
  ) throws(ElideError) -> SlotFact {
    for _ in 0..<Self.rounds {
      if let raw = try log.slot(slot) {
        // An entry counts when it is legal where it stands, as every reader folds it.
        var fold = try log.fold(before: slot)
        if case (.event(let committed), nil) = fold.step(raw), matches(committed.event) { return .match }
        return .other(Digest.sha256(raw))
      }
      try log.refresh()
      guard log.state.nextSeq == slot else { continue }
      // It takes the place of whatever may still be on its way to the slot, whosever it is.
      if case .unknown = try log.perform(.void(id: ULID(high: 0, low: 0)), at: slot) { return .empty }
    }
    return .empty
  }
}

extension AppendContext {
  /// Of a step on the way: a request is one entry in all logs.
  fileprivate var untied: AppendContext { AppendContext(operator: self.operator, reason: reason) }
}
