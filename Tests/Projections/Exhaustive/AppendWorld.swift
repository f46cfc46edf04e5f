import ElideEvents
import ElideIO
import ElideProjections

/// One contested log: frozen intents, void, crashes, a competitor, a clone of the directory with its open intent.
///
/// Host 0 has a command, host 1 competes with a note or a force; the twin is host 0's directory, copied, in another
/// incarnation. An attempt is the node that its request makes, so it has its slot and its id.
struct AppendWorld: World {
  enum Phase: Hashable { case idle, waiting, done, failed, absent }
  struct Process: Hashable {
    var phase = Phase.idle
    var incarnation = 0
    /// The attempt in flight, and the void that is to take its place.
    var attempt: Int32 = -1
    var void: Int32 = -1
    /// Found when the process began: it may be resolved, not decided again.
    var isInherited = false
  }
  struct State: Hashable {
    var log: Int32
    var net: Set<Int32> = []
    var a = Process()
    var twin = Process(phase: .absent)
    var competitor = 1
    var crashes: Int
    /// Attempts that were reported, and how.
    var succeeded: Set<Int32> = []
    var failed: Set<Int32> = []
  }

  /// Deliberate breaks that the run must notice.
  enum Break { case none, giveUp, voidElsewhere, decideAgain, sameAttempt }
  let broken: Break
  let tree = LogTree("db")
  private let root: Int32
  /// Nothing in the state makes it done already: only the protocol keeps it from being there twice.
  private let command = NameCommand.note(text: "x")

  init(_ broken: Break = .none) {
    self.broken = broken
    let facts = NewVolumeFacts(volume: WorldFacts.volume(1), key: WorldFacts.key(1), size: 1 << 20)
    root = tree.child(0, .created(facts), 0, 0)
  }

  func begin() -> [State] { [State(log: root, crashes: 2)] }

  func steps(_ g: State) -> [(String, State)] {
    var out: [(String, State)] = []
    for request in g.net.sorted() {
      var next = g
      next.net.remove(request)
      if tree.parent(request) == g.log { next.log = request }
      out.append(("net lands \(request)", tidied(next)))
    }
    out += process(g, \.a, "A") + process(g, \.twin, "T")
    if g.competitor > 0, tree.depth(g.log) < 4 {
      for command in [NameCommand.note(text: "y"), force] {
        guard let node = tree.decide(command, g.log, 1, 0) else { continue }
        var next = g
        next.competitor -= 1
        next.net.insert(node)
        out.append(("compete", next))
      }
    }
    return out
  }

  private let force = NameCommand.force(
    Force(expectOwner: nil, expectEpoch: nil, volume: WorldFacts.volume(2), key: WorldFacts.key(2)))

  /// Requests whose slot is taken do nothing any more.
  private func tidied(_ g: State) -> State {
    var next = g
    next.net = g.net.filter { tree.depth($0) > tree.depth(g.log) }
    return next
  }

  private func process(_ g: State, _ path: WritableKeyPath<State, Process>, _ who: String) -> [(String, State)] {
    let p = g[keyPath: path]
    var out: [(String, State)] = []
    func step(_ label: String, _ change: (inout State, inout Process) -> Void) {
      var next = g
      var process = p
      change(&next, &process)
      next[keyPath: path] = process
      out.append(("\(label) by \(who)", next))
    }
    switch p.phase {
    case .absent:
      // The directory is copied while an intent is open in it.
      if g.a.phase == .waiting {
        step("clone") { next, process in process = Self.inherited(next.a, 9) }
      }
    case .idle:
      if p.isInherited || tree.depth(g.log) >= 4 { break }
      if let node = tree.decide(command, g.log, 0, p.incarnation) {
        step("intent") { next, process in
          process.attempt = node
          process.phase = .waiting
          next.net.insert(node)
        }
      }
    case .waiting: wait(g, p, step)
    case .done, .failed: break
    }
    return out
  }

  private static func inherited(_ p: Process, _ incarnation: Int) -> Process {
    var next = p
    next.incarnation = incarnation
    next.isInherited = true
    return next
  }

  private func wait(_ g: State, _ p: Process, _ step: (String, (inout State, inout Process) -> Void) -> Void) {
    if g.crashes > 0 {
      step("crash") { next, process in
        next.crashes -= 1
        process = Self.inherited(process, process.incarnation + 1)
      }
    }
    let slot = tree.depth(p.attempt)
    guard tree.depth(g.log) >= slot else {
      if !g.net.contains(p.attempt) { step("put again") { next, _ in next.net.insert(p.attempt) } }
      if p.void < 0, !p.isInherited { cancel(g, p, step) }
      if p.void >= 0, !g.net.contains(p.void) { step("put void again") { next, _ in next.net.insert(p.void) } }
      return
    }
    let found = tree.ancestor(g.log, slot)
    if found == p.attempt {
      step("committed") { next, process in
        process.phase = .done
        next.succeeded.insert(p.attempt)
      }
      return
    }
    // Foreign bytes (or the void) stand there. Only the incarnation that made the attempt decides again, and never after a
    // cancel.
    let again = !p.isInherited && p.void < 0 || broken == .decideAgain
    if again, tree.depth(g.log) < 4, let node = tree.decide(command, g.log, 0, p.incarnation) {
      step("decide again") { next, process in
        if broken != .sameAttempt { next.failed.insert(p.attempt) }
        process.attempt = node
        process.void = -1
        next.net.insert(node)
      }
      return
    }
    step("lost") { next, process in
      process.phase = .failed
      next.failed.insert(p.attempt)
    }
  }

  private func cancel(_ g: State, _ p: Process, _ step: (String, (inout State, inout Process) -> Void) -> Void) {
    if broken == .giveUp {
      step("give up") { next, process in
        process.phase = .failed
        next.failed.insert(p.attempt)
      }
      return
    }
    let view = tree.parent(p.attempt)
    let id = tree.nodes[Int(p.attempt)].id
    if broken == .voidElsewhere {
      step("void elsewhere") { next, process in
        process.phase = .failed
        next.failed.insert(p.attempt)
      }
      return
    }
    if let void = tree.decide(.void(id: id), view, 0, p.incarnation) {
      step("void") { next, process in
        process.void = void
        next.net.insert(void)
      }
    }
  }

  func fault(_ g: State) -> String? {
    if let trouble = tree.trouble { return trouble }
    let log = tree.entries(g.log)
    let ids = Set(log.map(\.id))
    if g.failed.contains(where: { ids.contains(tree.nodes[Int($0)].id) }) { return "I4: reported failed, took effect" }
    if g.succeeded.contains(where: { !ids.contains(tree.nodes[Int($0)].id) }) { return "I4: reported done, not in the log" }
    // One command, however many attempts it took, is in the log once.
    if log.filter({ $0.event == .note(text: "x") }).count > 1 { return "I4: one command twice in the log" }
    let voided = log.compactMap { node -> ULID? in
      if case .void(let id)? = node.event { return id }
      return nil
    }
    return voided.contains { ids.contains($0) } ? "a voided attempt is in the log" : nil
  }

  func isGoal(_ g: State) -> Bool {
    func isDecided(_ p: Process) -> Bool { p.phase != .waiting }
    return isDecided(g.a) && isDecided(g.twin)
  }
}
