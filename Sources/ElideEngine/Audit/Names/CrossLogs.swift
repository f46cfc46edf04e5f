import ElideEvents
import ElideIO
import ElideProjections

/// What a name's entries say of other names' logs: a fold of one log cannot know, an audit looks. Where the other log is not in
/// this copy, that is noted.
///
/// `note` gathers the questions while the log is read; `check` asks them.
struct CrossLogs {
  let name: String
  let store: any Store
  private var questions: [(key: String, name: String, ask: Question)] = []

  private enum Question {
    /// These bytes stand in a slot.
    case holds(slot: UInt64, Digest)
    case pin(ForkSource, slot: UInt64)
    case reservation(seq: UInt64, slot: UInt64)
    case renamed(Renamed)
  }

  init(_ name: String, store: any Store) {
    self.name = name
    self.store = store
  }

  mutating func note(_ slot: NameSlot, before: NameState) {
    guard let event = slot.event else { return }
    switch event {
    case .forked(_, let from, let k): questions.append((slot.key, from.name, .pin(from, slot: k)))
    case .unpinned(let id, .orphan(let found)):
      guard let pin = before.holdings.pins.first(where: { $0.id == id }), case .fork(let k) = pin.hold else { return }
      questions.append((slot.key, pin.by, .holds(slot: k, found)))
    case .renameAborted(let found):
      guard let r = before.reservation else { return }
      questions.append((slot.key, r.old, .holds(slot: r.slot, found)))
    case .renamedTo(let new, let reserved, let k): questions.append((slot.key, new, .reservation(seq: reserved, slot: k)))
    case .renamedFrom(let r): questions.append((slot.key, r.old, .renamed(r)))
    default: return
    }
  }

  func check(_ report: inout NameReport) throws(ElideError) {
    var other: NameHistory?
    for q in questions {
      if other?.name != q.name { other = try NameHistory(q.name, store: store) }
      guard let other else { continue }
      if other.isEmpty {
        report.notes.append("\(q.key): the log of '\(q.name)' is not in this copy")
      } else if let fault = answer(q.ask, other) {
        report.add("other log", at: q.key, fault)
      } else {
        report.crossings += 1
      }
    }
  }

  private func answer(_ question: Question, _ other: NameHistory) -> String? {
    switch question {
    case .holds(let slot, let hash):
      guard slot < UInt64(other.slots.count) else { return "'\(other.name)' has no entry \(slot)" }
      return other.slots[Int(slot)].hash == hash ? nil : "entry \(slot) of '\(other.name)' is another than it says"
    case .pin(let from, let slot):
      let pin = other.slots.first { $0.entry?.envelope.id == from.pin }
      guard case .pinned(let cut, let by, .fork(let k))? = pin?.event, cut == from.cut, by == name, k == slot else {
        return "'\(other.name)' has no pin \(from.pin) for this fork"
      }
      return nil
    case .reservation(let seq, let slot):
      guard seq < UInt64(other.slots.count), case .renameReserved(let old, let k)? = other.slots[Int(seq)].event, old == name,
        k == slot
      else { return "entry \(seq) of '\(other.name)' does not reserve it for this rename" }
      return nil
    case .renamed(let r):
      guard r.slot > 0, r.slot < UInt64(other.slots.count),
        case .renamedTo(let to, _, _)? = other.slots[Int(r.slot)].event, to == name
      else { return "entry \(r.slot) of '\(r.old)' does not rename it to '\(name)'" }
      var fold = other.fold(through: r.slot - 1)
      let before = fold.state
      fold.next(other.slots[Int(r.slot)].raw, areVerified: true)
      return fold.state.carried(before: before, slot: r.slot) == r ? nil : "it does not carry what '\(r.old)' held"
    }
  }
}
