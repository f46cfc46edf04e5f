import ElideIO

/// `Executor` without threads: jobs wait until the scheduler draws them. Sync jobs run in order, the others in any. One
/// thread steps a simulated world, hence unchecked.
package final class SimExecutor: Executor, @unchecked Sendable {
  private var lanes: [[@Sendable () -> Void]] = Lane.allCases.map { _ in [] }
  private(set) package var executed: UInt64 = 0

  package init() {}

  package func submit(_ lane: Lane, _ job: @escaping @Sendable () -> Void) { lanes[lane.rawValue].append(job) }

  package func waiting(_ lane: Lane) -> Int { lanes[lane.rawValue].count }
  package var waiting: Int { lanes.reduce(0) { $0 + $1.count } }

  /// Runs one job of the lane, drawn by `random`; false when none waits.
  @discardableResult
  package func run(_ lane: Lane, _ random: inout SeededRandom) -> Bool {
    let n = lanes[lane.rawValue].count
    guard n > 0 else { return false }
    let job = lanes[lane.rawValue].remove(at: lane == .sync ? 0 : random.below(n))
    executed += 1
    job()
    return true
  }

  /// Runs jobs, and those that they submit, until none waits.
  package func drain() {
    var any = true
    while any {
      any = false
      for lane in Lane.allCases where !lanes[lane.rawValue].isEmpty {
        executed += 1
        lanes[lane.rawValue].removeFirst()()
        any = true
      }
    }
  }

  /// The process is gone, its jobs with it.
  package func dropAll() { for i in lanes.indices { lanes[i] = [] } }
}

/// A running hash of everything that a simulated run decided and saw: the same seed gives the same trace.
package struct TraceHash: Equatable, Sendable, CustomStringConvertible {
  package private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325
  package private(set) var steps: UInt64 = 0
  package init() {}
  package mutating func note(_ x: UInt64) {
    value = (value ^ x) &* 0x0000_0100_0000_01B3
    value ^= value >> 29
    steps += 1
  }
  package mutating func note(_ text: String) { for b in text.utf8 { note(UInt64(b)) } }
  package var description: String { String(value, radix: 16) + "/\(steps)" }
}
