import ElideEngine
import ElideIO
import Simulator
import Testing

/// The whole engine on a simulated host and store, against the crash, store and replay oracles.
@Suite struct EngineCrashTests {
  struct Kind {
    var weather = StoreWeather.clear
    var faults = false
    var processes = 5
  }

  /// Where a crash is rare if it is only the n-th call.
  static let sites = [
    "put segments", "put maps", "putIfAbsent journal", "put volumes", "commit journal", "create wal", "syncDirectory",
    "create cache",
    "write cache", "rename", "write maps", "allocate",
  ]

  static func run(_ seed: UInt64, _ kind: Kind) throws -> EngineWorld {
    var random = SeededRandom(seed: seed ^ 0xE46)
    let world = try EngineWorld(seed: seed)
    for _ in 0..<kind.processes {
      world.host.store.weather = kind.weather
      while true {
        if random.chance(1, in: 4) {
          world.faults.armCrash(after: 1 + random.below(12 as UInt64), random.pick(CrashPhase.allCases))
        }
        if try world.open() { break }
        world.crash(random.pick(CrashMode.allCases))
      }
      world.faults.disarm()
      if random.chance(1, in: 2) {
        world.faults.armCrash(after: 1 + random.below(240 as UInt64), random.pick(CrashPhase.allCases))
      } else if random.chance(3, in: 4) {
        world.faults.armCrash(site: random.pick(Self.sites), random.pick(CrashPhase.allCases))
      }
      if kind.faults {
        let site = random.pick(["sync", "write", "read", "create", "allocate", "commit", "put", "rename", "map"])
        world.faults.setRate(site: site, per65536: 500, random.pick([.io, .noSpace]))
      }
      for n in 0..<(60 + random.below(400)) where !world.faults.isCrashed {
        world.step()
        if n % 16 == 15, random.chance(1, in: 3) { world.checkStore() }
      }
      if random.chance(1, in: 4) {
        world.settle()
        if !world.faults.isCrashed { world.checkReplay() }
      }
      if let fault = world.fault { throw Wrong(fault) }
      world.crash(random.pick(CrashMode.allCases))
      world.checkStore()
      if let fault = world.fault { throw Wrong(fault) }
    }
    guard try world.open() else { throw Wrong("seed \(seed): the last opening failed") }
    if let fault = world.fault { throw Wrong(fault) }
    return world
  }

  private func sweep(_ name: String, _ budget: Budget, _ kind: Kind, mustMeet: [String] = []) {
    var done = 0
    var counts: [String: Int] = [:]
    for seed in budget.seeds where done < budget.operations {
      do {
        let world = try Self.run(seed, kind)
        done += Int(world.guest.completed + world.guest.failed)
        counts.merge(world.counts) { $0 + $1 }
      } catch {
        Issue.record("\(error); \(Budget.again("EngineCrashTests/\(name)", seed))")
        return
      }
    }
    if budget.seeds.count > 1 {
      for what in mustMeet { #expect(counts[what, default: 0] > 0, "no run met: \(what)") }
    }
  }

  @Test func ends() {
    sweep(
      "ends", Budget(seeds: 1..<3000, operations: 60_000), Kind(),
      mustMeet: [
        "power losses", "kills", "cuts reported", "copies checked", "replays", "folds compared", "evictions",
        "files made of old ones",
        "crash at write wal", "crash at sync wal", "crash at commit journal", "crash at put segments",
        "crash at putIfAbsent journal",
        "crash at put maps", "read ahead", "prefetches",
      ])
  }

  @Test func storms() {
    sweep("storms", Budget(seeds: 20_000..<22_000, operations: 20_000), Kind(weather: .stormy), mustMeet: ["cuts reported"])
  }

  /// Seeds that found something, and what it was.
  @Test(
    arguments: [
      // Without a synced name the whole data directory is gone after a power cut.
      (1, false),
      // A write that waited for a block and then for a file was overtaken by one gated behind it.
      (19, false), (19, true),
      // Encoded before the checkpoint, uploaded after the cut: another host took the segment for one without a body.
      (20016, true),
    ] as [(UInt64, Bool)]) func seedsThatFoundSomething(seed: UInt64, storm: Bool) throws
  {
    _ = try Self.run(seed, Kind(weather: storm ? .stormy : .clear))
  }

  @Test func failingCalls() {
    sweep("failingCalls", Budget(seeds: 40_000..<42_000, operations: 20_000), Kind(faults: true))
  }

  @Test func theSameSeedGivesTheSameTrace() throws {
    for seed in [5, 91] as [UInt64] {
      let a = try Self.run(seed, Kind(weather: .stormy)).trace
      let b = try Self.run(seed, Kind(weather: .stormy)).trace
      #expect(a == b)
    }
  }
}
