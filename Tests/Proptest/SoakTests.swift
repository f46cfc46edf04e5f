import ElideIO
import Simulator
import Testing

/// Random worlds for as long as `ELIDE_SOAK_MINUTES` says; does nothing without it. Seeds begin at `ELIDE_SEED` (or at the
/// time, which is printed), so that each soak covers new ground and every finding can be repeated.
@Suite struct SoakTests {
  @Test(.enabled(if: Budget.soakMinutes != nil)) func soak() throws {
    let host = HostClock()
    var now: UInt64 { host.monotonicNanoseconds() / 1_000_000_000 }
    let end = now + UInt64(60 * (Budget.soakMinutes ?? 0))
    var seed = UInt64(Budget.number("ELIDE_SEED") ?? Int(host.wallMilliseconds() / 1000))
    var operations = 0
    var counts: [String: Int] = [:]
    print("soak: from seed \(seed)")
    while now < end {
      do {
        if seed % 3 == 0 {
          let world = try FrontCrashTests.run(seed, faults: seed % 2 == 0)
          operations += Int(world.guest.completed + world.guest.failed)
          counts.merge(world.counts) { $0 + $1 }
        } else if seed % 3 == 1 {
          let world = try FleetTests.run(seed, faults: seed % 4 == 0)
          operations += world.operations
          counts.merge(world.counts) { $0 + $1 }
        } else {
          let kind = EngineCrashTests.Kind(weather: seed % 2 == 0 ? .stormy : .clear, faults: seed % 5 == 0)
          let world = try EngineCrashTests.run(seed, kind)
          operations += Int(world.guest.completed + world.guest.failed)
          counts.merge(world.counts) { $0 + $1 }
        }
      } catch {
        Issue.record("soak: \(error)")
        return
      }
      seed += 1
    }
    print("soak: \(operations) operations, up to seed \(seed - 1)")
    for (what, n) in counts.sorted(by: { $0.key < $1.key }) { print("  \(n)\t\(what)") }
  }
}
