import ElideEngine
import ElideIO
import Simulator
import Testing

/// Several volumes in one process, and everything that happens to them besides requests, against the crash and store
/// oracles and those of forks, imports, resizes, snapshots, the serve gate, full disks and outages.
@Suite struct FleetTests {
  static func run(_ seed: UInt64, faults: Bool = false) throws -> FleetWorld {
    do {
      return try live(seed, faults)
    } catch let wrong as Wrong {
      throw Wrong("seed \(seed): \(wrong)")
    }
  }

  private static func live(_ seed: UInt64, _ faults: Bool) throws -> FleetWorld {
    var random = SeededRandom(seed: seed ^ 0xF1EE)
    let world = try FleetWorld(seed: seed)
    for _ in 0..<4 {
      while true {
        if random.chance(1, in: 5) {
          world.faults.armCrash(after: 1 + random.below(20 as UInt64), random.pick(CrashPhase.allCases))
        }
        if try world.start() { break }
        world.crash(random.pick(CrashMode.allCases))
        world.storeComesBack()
        world.giveSpaceBack()
      }
      world.faults.disarm()
      if random.chance(1, in: 2) {
        world.faults.armCrash(after: 1 + random.below(600 as UInt64), random.pick(CrashPhase.allCases))
      } else if random.chance(1, in: 2) {
        world.faults.armCrash(site: random.pick(EngineCrashTests.sites), random.pick(CrashPhase.allCases))
      }
      if faults {
        let site = random.pick(["sync", "write", "read", "create", "allocate", "commit", "put", "rename", "map"])
        world.faults.setRate(site: site, per65536: 300, random.pick([.io, .noSpace]))
      }
      for _ in 0..<(200 + random.below(800)) where !world.faults.isCrashed && world.fault == nil { world.step() }
      // Half of the time things are as bad as they were when the process ends.
      if random.chance(1, in: 2) {
        world.giveSpaceBack()
        world.storeComesBack()
        if !world.faults.isCrashed { world.settle() }
      } else if seed % 4 == 3 {
        world.fillDisk()
      }
      if let fault = world.fault { throw Wrong(fault) }
      world.crash(random.pick(CrashMode.allCases))
    }
    world.storeComesBack()
    world.giveSpaceBack()
    guard try world.start() else { throw Wrong("the last start failed") }
    world.settle()
    world.checkEverything()
    if let fault = world.fault { throw Wrong(fault) }
    return world
  }

  private func sweep(_ name: String, _ budget: Budget, faults: Bool = false, mustMeet: [String] = []) {
    var done = 0
    var counts: [String: Int] = [:]
    for seed in budget.seeds where done < budget.operations {
      do {
        let world = try Self.run(seed, faults: faults)
        done += world.operations
        counts.merge(world.counts) { $0 + $1 }
      } catch {
        Issue.record("\(error); \(Budget.again("FleetTests/\(name)", seed))")
        return
      }
    }
    if budget.seeds.count > 1 {
      for what in mustMeet { #expect(counts[what, default: 0] > 0, "no run met: \(what)") }
    }
  }

  @Test func lives() {
    sweep(
      "lives", Budget(seeds: 1..<2000, operations: 60_000),
      mustMeet: [
        "power losses", "kills", "opened", "cuts reported", "copies checked", "evictions", "forks", "forks of snapshots",
        "cuts for a fork", "imports", "resized", "grew under its guest", "snapshots published", "snapshots opened elsewhere",
        "the serve gate held", "read besides", "stopped and opened", "disk filled", "space came back",
        "started on a full disk",
        "outages", "writes were slowed", "writes waited for a slow store",
        "writes were refused in an outage", "store came back",
      ])
  }

  /// Seeds that found something, and what it was.
  @Test(
    arguments: [
      // A fork named its parent's checkpoint, which was written before the last bodies were uploaded: other hosts read EIO.
      5,
      // The model: a write in flight wrote what an earlier one had; after a crash it took the earlier one for what was found.
      16,
    ] as [UInt64]) func seedsThatFoundSomething(seed: UInt64) throws
  {
    _ = try Self.run(seed)
  }

  @Test func failingCalls() { sweep("failingCalls", Budget(seeds: 50_000..<52_000, operations: 8000), faults: true) }

  @Test func theSameSeedGivesTheSameTrace() throws {
    for seed in [4, 8] as [UInt64] { #expect(try Self.run(seed).trace == Self.run(seed).trace) }
  }
}
