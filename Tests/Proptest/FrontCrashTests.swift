import ElideEngine
import ElideIO
import Simulator
import Testing

/// The write path against the crash oracle: real device, log and recovery; simulated files, threads and power.
@Suite struct FrontCrashTests {
  /// One life of a world: several processes, each ended somewhere. Returns the guest's operations.
  static func run(_ seed: UInt64, processes: Int = 6, faults: Bool = false) throws -> FrontWorld {
    var random = SeededRandom(seed: seed ^ 0xF207)
    let world = try FrontWorld(seed: seed)
    for _ in 0..<processes {
      // Also the way back up is cut, now and then more than once.
      while true {
        if random.chance(1, in: 4) {
          world.faults.armCrash(after: 1 + random.below(8 as UInt64), random.pick(CrashPhase.allCases))
        }
        if try world.open() { break }
        world.crash(random.pick(CrashMode.allCases))
      }
      world.faults.disarm()
      if random.chance(4, in: 5) {
        world.faults.armCrash(after: 1 + random.below(60 as UInt64), random.pick(CrashPhase.allCases))
      }
      if faults {
        world.faults.setRate(
          site: random.pick(["sync", "write", "read", "create", "allocate", "commit"]), per65536: 600,
          random.pick([.io, .noSpace]))
      }
      for _ in 0..<(20 + random.below(120)) where !world.faults.isCrashed { world.step() }
      if random.chance(1, in: 4) { world.settle() }
      if let fault = world.fault { throw Wrong(fault) }
      world.crash(random.pick(CrashMode.allCases))
    }
    guard try world.open() else { throw Wrong("seed \(seed): the last opening failed") }
    return world
  }

  @Test func everyCrashLeavesAPrefix() throws {
    let budget = Budget(seeds: 1..<4000, operations: 60_000)
    var done = 0
    var counts: [String: Int] = [:]
    for seed in budget.seeds where done < budget.operations {
      do {
        let world = try Self.run(seed)
        done += Int(world.guest.completed + world.guest.failed)
        counts.merge(world.counts) { $0 + $1 }
      } catch {
        Issue.record("\(error); \(Budget.again("FrontCrashTests", seed))")
        return
      }
    }
    if budget.seeds.count > 1 {
      // A situation that no seed reaches is a failure of the simulator.
      for what in [
        "power losses", "kills", "frames discarded", "crash at write wal", "crash at sync wal", "crash at create wal",
        "crash at syncDirectory wal", "crash at commit journal", "crash at allocate wal", "crash at between calls",
      ] { #expect(counts[what, default: 0] > 0, "no run met: \(what)") }
    }
  }

  /// Two crashes in a row: the first recovery gave up a record, and the next frame in the same file, which continues from it, was
  /// taken for a loss by the second.
  @Test func aRecordThatWasGivenUpStaysGivenUp() throws { _ = try Self.run(213) }

  @Test func failingCallsNeverMakeAWrongAnswer() throws {
    let budget = Budget(seeds: 10_000..<14_000, operations: 20_000)
    var done = 0
    for seed in budget.seeds where done < budget.operations {
      do {
        let world = try Self.run(seed, faults: true)
        done += Int(world.guest.completed + world.guest.failed)
      } catch {
        Issue.record("\(error); \(Budget.again("FrontCrashTests", seed))")
        return
      }
    }
  }

  @Test func theSameSeedGivesTheSameTrace() throws {
    for seed in [3, 77, 1234] as [UInt64] {
      let a = try Self.run(seed).trace
      let b = try Self.run(seed).trace
      #expect(a == b)
      #expect(try Self.run(seed + 1).trace != a)
    }
  }
}
