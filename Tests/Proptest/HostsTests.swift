import Simulator
import Testing

/// Several hosts with the real engine, lifecycle, keepers and guests on one store, and operators who give commands.
@Suite struct HostsTests {
  /// Seeds that found something, with what it was.
  static let seedsThatFoundSomething: [UInt64] = [
    // A host that saw a log for the first time took a hole for its end, appended there and purged the name.
    25
  ]

  private static let meets: [(Situation, [String])] = [
    (.lateDuplicate, ["late duplicate of what is there"]), (.clockWrong, ["clock wrong"]), (.staleRead, ["stale read"]),
    (.stopAgainstWrite, ["stopped with requests in flight"]), (.poison, ["poison"]), (.rolledBack, ["rolled back: fault"]),
    (.hole, ["an entry removed in the middle"]), (.clientAtStop, ["stop refused: clients"]),
    (.fromTheFuture, ["kind from the future"]), (.d8, ["adopted"]),
  ]
  private static let mustMeet = [
    "create: committed", "fork: committed", "import: committed", "start: committed", "stop: committed", "release: committed",
    "claim: committed", "entry: reclaimed", "force: committed", "force --expect: committed", "force --expect: owned",
    "rename: committed", "resize: committed", "snapshot: done", "pin: committed", "unpin: committed", "note: committed",
    "cut reported", "cut refused: fenced", "brought back", "opened again", "began right", "rescue: rescued", "rescue checked",
    "interleaved", "stood still for hours in the middle of a request", "paused", "kill", "power loss", "asked again",
    "an object was missing", "an object was damaged", "pins opened", "names read from the bucket alone",
    "led on from live", "led on from stopped", "led on from released",
  ]

  private func run(_ seed: UInt64, steps: Int, _ met: inout [String: Int]) throws -> Int {
    let world = try HostsWorld(seed: seed)
    for _ in 0..<steps where world.faults.isEmpty { world.step() }
    if world.faults.isEmpty { world.settle() }
    for fault in world.faults.prefix(4) { Issue.record("seed \(seed): \(fault); \(Budget.again("HostsTests", seed))") }
    for (what, count) in world.met { met[what, default: 0] += count }
    return world.commands
  }

  @Test func whateverHappensNothingIsLost() throws {
    let budget = Budget(seeds: 1..<10_000, operations: 4_000)
    var met: [String: Int] = [:]
    var (commands, seeds) = (0, 0)
    for seed in budget.seeds where commands < budget.operations {
      commands += try run(seed, steps: 500, &met)
      seeds += 1
    }
    let counts = met.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    print("\(commands) commands, \(seeds) seeds: \(counts)")
    for (situation, what) in Self.meets { Situation.met(situation, times: what.reduce(0) { $0 + (met[$1] ?? 0) }) }
    if budget.seeds.count == 1 { return }
    for what in Self.mustMeet { #expect(met[what] ?? 0 > 0, "never met: \(what)") }
  }

  @Test func seedsOfOldFindings() throws {
    var met: [String: Int] = [:]
    for seed in Self.seedsThatFoundSomething { _ = try run(seed, steps: 500, &met) }
  }

  @Test func theSameSeedGivesTheSameRun() throws {
    func trace(_ seed: UInt64) throws -> TraceHash {
      let world = try HostsWorld(seed: seed)
      for _ in 0..<120 { world.step() }
      return world.trace
    }
    let (first, again) = (try trace(3), try trace(3))
    #expect(first == again)
    #expect(try trace(4) != first)
  }
}
