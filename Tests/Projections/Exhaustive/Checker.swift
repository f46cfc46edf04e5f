/// A protocol as a set of states and steps. A request that was sent stays in the state and may be applied at any later time,
/// or never; a sender learns the outcome by reading the slot. That covers requests lost, answers lost, late and duplicate
/// ones (a duplicate of a put-if-absent meets an occupied slot); a pause is an interleaving.
protocol World {
  associatedtype State: Hashable
  func begin() -> [State]
  func steps(_ state: State) -> [(String, State)]
  /// What is wrong in this state; nil when nothing is.
  func fault(_ state: State) -> String?
  /// From every reachable state such a state must stay reachable.
  func isGoal(_ state: State) -> Bool
}

struct Exploration {
  var states = 0
  var edges = 0
  var isComplete = true
  /// By what is wrong, the shortest way there.
  var faults: [String: [String]] = [:]
  /// The shortest way to a state from which no goal can be reached.
  var stuck: [String]?
  /// How often each step was taken, by its first word.
  var met: [String: Int] = [:]

  var isClean: Bool { faults.isEmpty && stuck == nil }
}

/// Breadth first, each state once; no step is taken from a state that is wrong.
func explore<W: World>(_ world: W, limit: Int = 5_000_000) -> Exploration {
  var out = Exploration()
  var numbers: [W.State: Int32] = [:]
  var list: [W.State] = []
  var parents: [Int32] = []
  var backward: [(from: Int32, to: Int32)] = []
  var good: [Bool] = []
  func add(_ state: W.State, _ parent: Int32) -> Int32 {
    if let n = numbers[state] { return n }
    let n = Int32(list.count)
    numbers[state] = n
    list.append(state)
    parents.append(parent)
    return n
  }
  for state in world.begin() { _ = add(state, -1) }
  var at = 0
  while at < list.count {
    if list.count > limit {
      out.isComplete = false
      break
    }
    let state = list[at]
    let fault = world.fault(state)
    good.append(fault != nil || world.isGoal(state))
    if let fault {
      if out.faults[fault] == nil { out.faults[fault] = trace(world, list, parents, at) }
    } else {
      for (label, next) in world.steps(state) {
        out.edges += 1
        out.met[String(label.prefix { $0 != " " && $0 != ":" }), default: 0] += 1
        let n = add(next, Int32(at))
        if n != Int32(at) { backward.append((n, Int32(at))) }
      }
    }
    at += 1
  }
  out.states = list.count
  guard out.isComplete else { return out }
  // Backwards from the goals.
  var starts = [Int32](repeating: 0, count: list.count + 1)
  for edge in backward { starts[Int(edge.from) + 1] += 1 }
  for i in 1..<starts.count { starts[i] += starts[i - 1] }
  var fill = starts
  var sources = [Int32](repeating: 0, count: backward.count)
  for edge in backward {
    sources[Int(fill[Int(edge.from)])] = edge.to
    fill[Int(edge.from)] += 1
  }
  var todo = good.indices.filter { good[$0] }
  while let n = todo.popLast() {
    for i in Int(starts[n])..<Int(starts[n + 1]) where !good[Int(sources[i])] {
      good[Int(sources[i])] = true
      todo.append(Int(sources[i]))
    }
  }
  if let n = good.firstIndex(of: false) { out.stuck = trace(world, list, parents, n) }
  return out
}

/// The steps that led to a state, found again by taking them.
private func trace<W: World>(_ world: W, _ list: [W.State], _ parents: [Int32], _ end: Int) -> [String] {
  var labels: [String] = []
  var n = Int32(end)
  while parents[Int(n)] >= 0 {
    let before = parents[Int(n)]
    let step = world.steps(list[Int(before)]).first { $0.1 == list[Int(n)] }
    labels.append(step?.0 ?? "?")
    n = before
  }
  return labels.reversed()
}
