import ElideEvents
import ElideIO
import ElideProjections

/// What a name's entries say of other names' logs: a fold of one log cannot know, an audit looks. Where the other log is not in
/// this copy, that is noted.
struct CrossLogs {
  let store: any Store
  let history: NameHistory

  func check(_ report: inout NameReport) throws(ElideError) {
    for (i, slot) in history.slots.enumerated() {
      guard let event = slot.event else { continue }
      let before = i > 0 ? history.slots[i - 1].state : NameState(name: history.name)
      guard let question = question(event, before) else { continue }
      let other = try NameHistory(question.name, store: store)
      if other.isEmpty {
        report.notes.append("\(slot.key): the log of '\(question.name)' is not in this copy")
      } else if let fault = question.fault(other) {
        report.add("other log", at: slot.key, fault)
      } else {
        report.crossings += 1
      }
    }
  }

  private struct Question {
    var name: String
    var fault: (NameHistory) -> String?
  }

  private func question(_ event: NameEvent, _ before: NameState?) -> Question? {
    let name = history.name
    switch event {
    case .forked(_, let from, let slot):
      return Question(name: from.name) { other in
        let pin = other.slots.first { $0.entry?.envelope.id == from.pin }
        guard case .pinned(let cut, let by, .fork(let k))? = pin?.event, cut == from.cut, by == name, k == slot else {
          return "'\(from.name)' has no pin \(from.pin) for this fork"
        }
        return nil
      }
    case .unpinned(let id, .orphan(let found)):
      guard let pin = before?.holdings.pins.first(where: { $0.id == id }), case .fork(let slot) = pin.hold else { return nil }
      return Question(name: pin.by) { Self.holds($0, slot, found) }
    case .renameAborted(let found):
      guard let reservation = before?.reservation else { return nil }
      return Question(name: reservation.old) { Self.holds($0, reservation.slot, found) }
    case .renamedTo(let new, let reserved, let slot):
      return Question(name: new) { other in
        guard reserved < UInt64(other.slots.count),
          case .renameReserved(let old, let k)? = other.slots[Int(reserved)].event, old == name, k == slot
        else { return "entry \(reserved) of '\(new)' does not reserve it for this rename" }
        return nil
      }
    case .renamedFrom(let r):
      return Question(name: r.old) { other in
        guard r.slot < UInt64(other.slots.count), r.slot > 0, let state = other.slots[Int(r.slot)].state,
          let earlier = other.slots[Int(r.slot) - 1].state, case .renamedTo(let to, _, _)? = other.slots[Int(r.slot)].event,
          to == name
        else { return "entry \(r.slot) of '\(r.old)' does not rename it to '\(name)'" }
        return state.carried(before: earlier, slot: r.slot) == r ? nil : "it does not carry what '\(r.old)' held"
      }
    default: return nil
    }
  }

  private static func holds(_ other: NameHistory, _ slot: UInt64, _ hash: Digest) -> String? {
    guard slot < UInt64(other.slots.count) else { return "'\(other.name)' has no entry \(slot)" }
    return other.slots[Int(slot)].hash == hash ? nil : "entry \(slot) of '\(other.name)' is another than it says"
  }
}
