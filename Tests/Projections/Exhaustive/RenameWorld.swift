import ElideEvents
import ElideIO
import ElideProjections

/// A rename over two logs: host 0 renames and may die for ever, host 2 finishes or undoes what it finds, host 1 creates the new
/// name, and somebody's note or force contends for the slot of the commit. The name has a pin.
struct RenameWorld: World {
  enum Renamer: Hashable { case idle, reserving(Int32), reserved(UInt64), committing(UInt64, Int32), done, failed, dead }
  struct State: Hashable {
    var old: Int32
    var new: Int32 = 0
    var toOld: Set<Int32> = []
    var toNew: Set<Int32> = []
    var renamer = Renamer.idle
    var tries = 2
    var crashes = 1
    var creates = 1
    var contends = 1
  }

  let abortsOnAbsence: Bool
  let old = LogTree("db")
  let new = LogTree("db2")
  private let root: Int32

  init(abortsOnAbsence: Bool = false) {
    self.abortsOnAbsence = abortsOnAbsence
    let facts = NewVolumeFacts(volume: WorldFacts.volume(1), key: WorldFacts.key(1), size: 1 << 20)
    let live = old.child(old.child(0, .created(facts), 0, 0), .started, 0, 0)
    let stopped = old.child(live, .stopped(cut: WorldFacts.cut(1, 1)), 0, 0)
    root = old.child(stopped, .pinned(cut: WorldFacts.cut(1, 0), by: "vm", hold: .fork(slot: 0)), 1, 0)
  }

  func begin() -> [State] { [State(old: root)] }

  private typealias Step = (String, (inout State) -> Void) -> Void

  func steps(_ g: State) -> [(String, State)] {
    var out: [(String, State)] = []
    func step(_ label: String, _ change: (inout State) -> Void) {
      var next = g
      change(&next)
      next.toOld = next.toOld.filter { old.depth($0) > old.depth(next.old) }
      next.toNew = next.toNew.filter { new.depth($0) > new.depth(next.new) }
      if next != g { out.append((label, next)) }
    }
    for entry in g.toOld.sorted() {
      step("entry lands in old") {
        $0.toOld.remove(entry)
        if old.parent(entry) == g.old { $0.old = entry }
      }
    }
    for entry in g.toNew.sorted() {
      step("entry lands in new") {
        $0.toNew.remove(entry)
        if new.parent(entry) == g.new { $0.new = entry }
      }
    }
    renamer(g, step)
    finish(g, 2, step)
    if case .committing = g.renamer { finish(g, 0, step) }
    let facts = NewVolumeFacts(volume: WorldFacts.volume(9), key: WorldFacts.key(9), size: 512)
    if g.creates > 0, let entry = new.decide(.create(facts), g.new, 1, 0) {
      step("create") {
        $0.creates = 0
        $0.toNew.insert(entry)
      }
    }
    let force = Force(expectOwner: nil, expectEpoch: nil, volume: WorldFacts.volume(8), key: WorldFacts.key(8))
    for command in [NameCommand.note(text: "x"), .force(force)] where g.contends > 0 && old.state(g.old).phase != .renamed {
      if let entry = old.decide(command, g.old, 1, 0) {
        step("contend") {
          $0.contends = 0
          $0.toOld.insert(entry)
        }
      }
    }
    return out
  }

  private func renamer(_ g: State, _ step: Step) {
    if g.crashes > 0, ![.idle, .done, .failed, .dead].contains(g.renamer) {
      step("die") {
        $0.crashes -= 1
        $0.renamer = .dead
      }
    }
    switch g.renamer {
    case .idle:
      let slot = UInt64(old.depth(g.old))
      guard g.tries > 0, old.state(g.old).isOwned(by: LogTree.author(old.state(g.old), 0, 0)) else { break }
      if let entry = new.decide(.renameReserve(old: "db", slot: slot), g.new, 0, 0) {
        step("reserve") {
          $0.tries -= 1
          $0.toNew.insert(entry)
          $0.renamer = .reserving(entry)
        }
      }
    case .reserving(let entry):
      guard new.depth(g.new) >= new.depth(entry) else { break }
      let isMine = new.ancestor(g.new, new.depth(entry)) == entry
      step(isMine ? "reserved" : "reservation lost") { $0.renamer = isMine ? .reserved(UInt64(new.depth(entry)) - 1) : .idle }
    case .reserved(let reserved):
      guard case .renameReserved(_, let slot)? = new.nodes[Int(new.ancestor(g.new, Int(reserved) + 1))].event,
        let entry = old.decide(.renameCommit(new: "db2", reserved: reserved, slot: slot), g.old, 0, 0)
      else {
        step("commit refused") { $0.renamer = .failed }
        break
      }
      step("commit") {
        $0.toOld.insert(entry)
        $0.renamer = .committing(reserved, entry)
      }
    case .committing(_, let entry):
      guard old.depth(g.old) >= old.depth(entry) else { break }
      let isMine = old.ancestor(g.old, old.depth(entry)) == entry
      step(isMine ? "renamed" : "commit lost") { $0.renamer = isMine ? .done : .idle }
    case .done, .failed, .dead: break
    }
  }

  /// Whoever finds a reservation looks at the slot it names.
  private func finish(_ g: State, _ host: Int, _ step: Step) {
    guard let reservation = new.state(g.new).reservation, new.state(g.new).phase == .reserved else { return }
    let slot = Int(reservation.slot)
    guard old.depth(g.old) > slot else {
      if abortsOnAbsence {
        if let entry = new.decide(.renameAbort(.other(WorldFacts.list)), g.new, host, 0) {
          step("abort on absence") { $0.toNew.insert(entry) }
        }
      } else if old.depth(g.old) == slot, let void = old.decide(.void(id: WorldFacts.volume(77)), g.old, host, 0) {
        step("void") { $0.toOld.insert(void) }
      }
      return
    }
    let found = old.ancestor(g.old, slot + 1)
    let node = old.nodes[Int(found)]
    if case .renamedTo("db2", reservation.seq, _)? = node.event, node.isLegal {
      guard let carried = old.state(found).carried(before: old.state(node.parent), slot: reservation.slot) else { return }
      if let entry = new.decide(.renameFinish(carried), g.new, host, 0) { step("finish") { $0.toNew.insert(entry) } }
    } else if let entry = new.decide(.renameAbort(.other(node.fold.head?.hash ?? WorldFacts.list)), g.new, host, 0) {
      step("abort") { $0.toNew.insert(entry) }
    }
  }

  func fault(_ g: State) -> String? {
    if let trouble = old.trouble ?? new.trouble { return trouble }
    let isRenamed = old.state(g.old).phase == .renamed
    let target = new.state(g.new)
    let hasCome = target.origin != nil
    if isRenamed, target.volume == WorldFacts.volume(9) { return "I2: renamed to a name that is somebody else's" }
    if isRenamed, target.isFree { return "I2: renamed to a name that is free" }
    if !isRenamed, hasCome { return "I1: one volume lives under two names" }
    if g.renamer == .failed, isRenamed { return "I4: the rename was reported failed and took effect" }
    if hasCome {
      // The pin came along, so that nothing is purged under the new name.
      if (try? target.decide(.purge, by: LogTree.author(target, 0, 0))) != nil { return "I3: the pin was left behind" }
      if target.owner != LogTree.hosts[0] { return "I1: the owner was left behind" }
    }
    return nil
  }

  func isGoal(_ g: State) -> Bool {
    let target = new.state(g.new)
    if old.state(g.old).phase == .renamed { return target.origin != nil }
    return target.isFree || target.volume == WorldFacts.volume(9)
  }
}
