import ElideEvents
import ElideIO
import ElideProjections

/// A fork's pin against reaps, purge and the clearing of orphans, over the logs of the source and of the new name.
///
/// Host 0 owns the source: volume 1 with cuts 0 and 1, whose segments are 0 and 1. Host 1 forks cut 0 and may die anywhere.
/// Host 2 clears orphaned pins, and somebody creates the new name.
struct ForkWorld: World {
  enum Forker: Hashable { case begin, pinning(Int32), pinned(UInt64), forking(Int32), done, failed, dead }
  enum Owner: Hashable { case idle, reaping(Int32), purging(Int32) }
  struct State: Hashable {
    var source: Int32
    var new: Int32 = 0
    var toSource: Set<Int32> = []
    var toNew: Set<Int32> = []
    var deletes: Set<Int> = []
    var gone: Set<Int> = []
    var forker = Forker.begin
    var owner = Owner.idle
    var clearing: Int32 = -1
    var creates = 1
    var crashes = 1
  }

  /// The pin is cleared because nothing stands in its slot yet, which proves nothing.
  let clearsOnAbsence: Bool
  let source = LogTree("image")
  let new = LogTree("vm")
  private let root: Int32

  init(clearsOnAbsence: Bool = false) {
    self.clearsOnAbsence = clearsOnAbsence
    let facts = NewVolumeFacts(volume: WorldFacts.volume(1), key: WorldFacts.key(1), size: 1 << 20)
    let live = source.child(source.child(0, .created(facts), 0, 0), .started, 0, 0)
    root = source.child(live, .stopped(cut: WorldFacts.cut(1, 1)), 0, 0)
  }

  func begin() -> [State] { [State(source: root)] }

  func steps(_ g: State) -> [(String, State)] {
    var out: [(String, State)] = []
    func step(_ label: String, _ change: (inout State) -> Void) {
      var next = g
      change(&next)
      next.toSource = next.toSource.filter { source.depth($0) > source.depth(next.source) }
      next.toNew = next.toNew.filter { new.depth($0) > new.depth(next.new) }
      out.append((label, next))
    }
    for entry in g.toSource.sorted() {
      step("entry lands in source") {
        $0.toSource.remove(entry)
        if source.parent(entry) == g.source { $0.source = entry }
      }
    }
    for entry in g.toNew.sorted() {
      step("entry lands in new") {
        $0.toNew.remove(entry)
        if new.parent(entry) == g.new { $0.new = entry }
      }
    }
    for segment in g.deletes {
      step("delete lands") {
        $0.deletes.remove(segment)
        $0.gone.insert(segment)
      }
    }
    forker(g, step)
    owner(g, step)
    janitor(g, step)
    let facts = NewVolumeFacts(volume: WorldFacts.volume(9), key: WorldFacts.key(9), size: 512)
    if g.creates > 0, let entry = new.decide(.create(facts), g.new, 2, 0) {
      step("create") {
        $0.creates = 0
        $0.toNew.insert(entry)
      }
    }
    return out
  }

  private typealias Step = (String, (inout State) -> Void) -> Void

  private func forker(_ g: State, _ step: Step) {
    if g.crashes > 0, ![.done, .failed, .dead].contains(g.forker) {
      step("die") {
        $0.crashes -= 1
        $0.forker = .dead
      }
    }
    switch g.forker {
    case .begin:
      let hold = PinHold.fork(slot: UInt64(new.depth(g.new)))
      if let entry = source.decide(.pin(cut: WorldFacts.cut(1, 0), by: "vm", hold: hold), g.source, 1, 0) {
        step("pin") {
          $0.toSource.insert(entry)
          $0.forker = .pinning(entry)
        }
      } else {
        step("pin refused") { $0.forker = .failed }
      }
    case .pinning(let entry):
      guard source.depth(g.source) >= source.depth(entry) else { break }
      let isMine = source.ancestor(g.source, source.depth(entry)) == entry
      step(isMine ? "pin committed" : "pin lost") { $0.forker = isMine ? .pinned(slot(entry)) : .begin }
    case .pinned(let slot):
      guard let pin = pin(g), let entry = new.decide(fork(pin, slot), g.new, 1, 0) else {
        step("fork refused") { $0.forker = .failed }
        break
      }
      step("fork") {
        $0.toNew.insert(entry)
        $0.forker = .forking(entry)
      }
    case .forking(let entry):
      guard new.depth(g.new) >= new.depth(entry) else { break }
      let isMine = new.ancestor(g.new, new.depth(entry)) == entry
      step(isMine ? "forked" : "fork lost") { $0.forker = isMine ? .done : .failed }
    case .done, .failed, .dead: break
    }
  }

  private func slot(_ pinned: Int32) -> UInt64 {
    if case .pinned(_, _, .fork(let slot))? = source.nodes[Int(pinned)].event { return slot }
    return 0
  }
  private func pin(_ g: State) -> Pin? { source.state(g.source).holdings.pins.first }
  private func fork(_ pin: Pin, _ slot: UInt64) -> NameCommand {
    .fork(
      NewVolumeFacts(volume: WorldFacts.volume(5), key: WorldFacts.key(5), size: 1 << 20),
      from: ForkSource(name: "image", pin: pin.id, cut: pin.cut), slot: slot)
  }

  private func owner(_ g: State, _ step: Step) {
    let state = source.state(g.source)
    switch g.owner {
    case .idle:
      let isPinned = !state.holdings.pins.isEmpty
      let reap = Reap(
        volume: WorldFacts.volume(1), cut: WorldFacts.cut(1, 1), floor: 1, kept: isPinned ? [0] : [], list: WorldFacts.list,
        count: 1)
      if !isPinned, state.floor(of: WorldFacts.volume(1)) == nil, let entry = source.decide(.reap(reap), g.source, 0, 0) {
        step("reap") {
          $0.toSource.insert(entry)
          $0.owner = .reaping(entry)
        }
      }
      if state.phase == .stopped, let entry = source.decide(.purge, g.source, 0, 0) {
        step("purge") {
          $0.toSource.insert(entry)
          $0.owner = .purging(entry)
        }
      }
    case .reaping(let entry):
      settle(g, entry, [0], step)
    case .purging(let entry):
      settle(g, entry, [0, 1], step)
    }
  }

  private func settle(_ g: State, _ entry: Int32, _ list: Set<Int>, _ step: Step) {
    guard source.depth(g.source) >= source.depth(entry) else { return }
    let isMine = source.ancestor(g.source, source.depth(entry)) == entry
    step(isMine ? "delete" : "lost") {
      $0.owner = .idle
      if isMine { $0.deletes = $0.deletes.union(list).subtracting($0.gone) }
    }
  }

  private func janitor(_ g: State, _ step: Step) {
    if g.clearing >= 0 {
      if source.depth(g.source) >= source.depth(g.clearing) { step("cleared") { $0.clearing = -1 } }
      return
    }
    guard let pin = pin(g), case .fork(let slot) = pin.hold else { return }
    let fact = fact(g, pin, slot)
    if fact == .empty, !clearsOnAbsence {
      if UInt64(new.depth(g.new)) == slot, let void = new.decide(.void(id: pin.id), g.new, 2, 0), !g.toNew.contains(void) {
        step("void") { $0.toNew.insert(void) }
      }
      return
    }
    let told: SlotFact = fact == .empty ? .other(WorldFacts.list) : fact
    if let entry = source.decide(.unpin(pin: pin.id, because: .orphan(told)), g.source, 2, 0) {
      step("unpin") {
        $0.toSource.insert(entry)
        $0.clearing = entry
      }
    }
  }

  private func fact(_ g: State, _ pin: Pin, _ slot: UInt64) -> SlotFact {
    guard UInt64(new.depth(g.new)) > slot else { return .empty }
    let node = new.nodes[Int(new.ancestor(g.new, Int(slot) + 1))]
    if case .forked(_, let from, _)? = node.event, from.pin == pin.id, node.isLegal { return .match }
    return .other(node.fold.head?.hash ?? WorldFacts.list)
  }

  func fault(_ g: State) -> String? {
    if let trouble = source.trouble ?? new.trouble { return trouble }
    let isForked = new.state(g.new).volume == WorldFacts.volume(5)
    if isForked, g.gone.contains(0) { return "I3: a committed fork's segment was deleted" }
    if isForked, g.forker == .failed { return "I4: the fork was reported failed and took effect" }
    if isForked, pin(g) == nil { return "I3: a committed fork without its pin" }
    return nil
  }

  func isGoal(_ g: State) -> Bool {
    switch g.forker {
    case .done: true
    case .failed, .dead: pin(g) == nil || new.state(g.new).volume == WorldFacts.volume(5)
    default: false
    }
  }
}
