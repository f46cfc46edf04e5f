import Simulator
import Testing

/// Hosts and operators on one store that loses, repeats and delays: every reported success is in the log once, and no reported
/// failure ever takes effect.
@Suite struct NameLogSimTests {
  /// Seeds that found something, with what it was.
  static let seedsThatFoundSomething: [UInt64] = []

  private func run(_ seed: UInt64, commands: Int, _ met: inout [String: Int]) -> Int {
    let world = NamesWorld(seed: seed)
    while world.commands < commands { world.step() }
    world.settle()
    for fault in world.faults().prefix(5) { Issue.record("seed \(seed): \(fault); \(Budget.again("NameLogSimTests", seed))") }
    for (what, count) in world.met { met[what, default: 0] += count }
    return world.commands
  }

  @Test func whatIsReportedIsSo() {
    let budget = Budget(seeds: 1..<10_000, operations: 100_000)
    var met: [String: Int] = [:]
    var commands = 0
    var seeds = 0
    for seed in budget.seeds where commands < budget.operations {
      commands += run(seed, commands: 500, &met)
      seeds += 1
    }
    print(
      "\(commands) commands, \(seeds) seeds: \(met.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))"
    )
    Situation.met(.givenUp, times: met["cancelled"] ?? 0)
    if budget.seeds.count == 1 { return }
    for what in [
      "committed", "done", "unknown", "cancel", "cancelled", "crash", "restart", "twin", "resolved", "asked again",
      "late duplicate",
      "stale read", "interleaved", "refused force", "refused adopt",
    ] {
      #expect(met[what] ?? 0 > 0, "never met: \(what)")
    }
  }

  @Test func seedsOfOldFindings() {
    var met: [String: Int] = [:]
    for seed in Self.seedsThatFoundSomething { _ = run(seed, commands: 500, &met) }
  }

  /// Forks and renames over two logs: whoever crashes where, each fork has its pin, and each volume one name.
  @Test func forksAndRenames() {
    let budget = Budget(seeds: 1..<10_000, operations: 4_000)
    var met: [String: Int] = [:]
    var operations = 0
    for seed in budget.seeds where operations < budget.operations {
      let world = TwoLogsWorld(seed: seed)
      while world.operations < 300 { world.step() }
      world.settle()
      for fault in world.faults().prefix(5) { Issue.record("seed \(seed): \(fault); \(Budget.again("NameLogSimTests", seed))") }
      for (what, count) in world.met { met[what, default: 0] += count }
      operations += world.operations
    }
    let counts = met.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    print("\(operations) operations: \(counts)")
    Situation.met(.d4, times: met["orphan cleared"] ?? 0)
    if budget.seeds.count == 1 { return }
    for what in ["fork committed", "fork refused", "rename committed", "rename refused", "orphan cleared", "crash"] {
      #expect(met[what] ?? 0 > 0, "never met: \(what)")
    }
  }

  @Test func theSameSeedGivesTheSameRun() {
    func keys(_ seed: UInt64) -> [String] {
      let world = NamesWorld(seed: seed)
      while world.commands < 100 { world.step() }
      return world.bucket.keys.map { "\($0) \(world.bucket.objects[$0] ?? [])" }
    }
    #expect(keys(5) == keys(5))
    #expect(keys(5) != keys(6))
  }
}
