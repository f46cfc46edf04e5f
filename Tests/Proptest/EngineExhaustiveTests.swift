import ElideEngine
import ElideIO
import Simulator
import Testing

/// One life of a volume (write, flush, seal, encode, upload, page, checkpoint, evict, fetch, snapshot, open) with each of
/// its calls failing in turn, once or for good, and cut at each of its changes.
@Suite struct EngineExhaustiveTests {
  private static func write(_ block: Int, _ count: Int, _ content: GuestContent, fua: Bool = false, at byte: Int = 0)
    -> GuestRequest
  {
    var r = GuestRequest(.write, offset: block * 4096 + byte, length: count * 4096)
    r.content = content
    r.forceUnitAccess = fua
    return r
  }

  /// Goes through the script until the host is gone.
  private static func script(_ world: EngineWorld) {
    let steps: [() -> Void] = [
      { world.submit(write(0, 12, .unique(1))) },
      { world.submit(write(4, 9, .repeated(32))) },
      { world.submit(GuestRequest(.flush)) },
      { world.submit(write(20, 20, .sparse(2))) },
      { world.askForCut() },
      { world.evictAll() },
      { world.submit(GuestRequest(.read, offset: 0, length: 45 * 4096)) },
      { world.submit(write(2, 3, .unique(3), at: 100)) },
      { world.submit(GuestRequest(.trim, offset: 8 * 4096, length: 6 * 4096)) },
      { world.submit(write(30, 4, .repeated(32), fua: true)) },
      { world.askForSnapshot() },
      { world.askForCut() },
      { world.submit(write(1, 2, .unique(4))) },
    ]
    for step in steps where !world.faults.isCrashed {
      step()
      world.settle(rounds: 60)
    }
  }

  /// Whatever happened: the volume opens, is right, and goes on to publish what it holds.
  private static func recovers(_ world: EngineWorld, _ mode: CrashMode) throws {
    if let fault = world.fault { throw Wrong(fault) }
    world.crash(mode)
    world.checkStore()
    guard try world.open() else { throw Wrong("it does not open again") }
    world.submit(write(3, 1, .unique(9)))
    world.askForCut()
    guard world.settle() else { throw Wrong("it does not go on: \(world.fault ?? world.opened?.port?.status.lastError ?? "")") }
    world.checkStore()
    world.checkReplay()
    if let fault = world.fault { throw Wrong(fault) }
  }

  /// Every seventh call; 1 (`ELIDE_STRIDE`) is all of them, a quarter of an hour without optimisation.
  private static let stride = UInt64(Budget.number("ELIDE_STRIDE") ?? 7)

  @Test(arguments: CrashPhase.allCases) func cutAtEveryChange(_ phase: CrashPhase) throws {
    for mode in CrashMode.allCases {
      var n: UInt64 = 1
      while true {
        let world = try EngineWorld(seed: 500 + n, size: 48 * 4096)
        do {
          guard try world.open() else { throw Wrong("the first opening failed") }
          world.faults.armCrash(after: n, phase)
          Self.script(world)
          let reached = world.faults.isCrashed
          try Self.recovers(world, mode)
          if !reached { break }
        } catch {
          Issue.record("change \(n) cut \(phase), \(mode): \(error)")
          return
        }
        n += Self.stride
      }
      #expect(n > 100)
    }
  }

  @Test(arguments: [(.io, false), (.noSpace, false), (.io, true)] as [(Errno, Bool)])
  func everyCallFails(_ error: Errno, _ forGood: Bool) throws {
    try failEach(error, forGood)
  }

  @Test func everyCallFailsForGoodOnAFullDisk() throws { try failEach(.noSpace, true) }

  private func failEach(_ error: Errno, _ forGood: Bool) throws {
    var n: UInt64 = 1
    while true {
      let world = try EngineWorld(seed: 900 + n, size: 48 * 4096)
      var site = ""
      do {
        guard try world.open() else { throw Wrong("the first opening failed") }
        let before = world.faults.fired
        world.faults.armFailure(after: n, error, forGood: forGood)
        Self.script(world)
        let fired = world.faults.fired > before
        site = world.faults.firstFailed
        try Self.recovers(world, n % 2 == 0 ? .powerLoss : .processKill)
        if !fired { break }
      } catch let wrong {
        Issue.record("call \(n) (\(site)) failing with \(error)\(forGood ? " for good" : ""): \(wrong)")
        return
      }
      n += Self.stride
    }
    #expect(n > 100)
  }

  /// A page whose put had not begun, or is still on its way: what leaves after the restart are the same bytes, for the first
  /// put may arrive yet.
  @Test(arguments: CrashMode.allCases) func aFrozenPageIsPutAsItWasFrozen(_ mode: CrashMode) throws {
    let world = try EngineWorld(seed: 78, size: 48 * 4096)
    try #require(try world.open())
    world.submit(Self.write(0, 12, .unique(1)))
    world.faults.armCrash(site: "putIfAbsent journal", .before)
    world.askForCut()
    world.settle()
    try #require(world.faults.isCrashed)
    let frozen = try PageIntent(row: try #require(world.disk?.rows[RowKey.intent]))
    try Self.recovers(world, mode)
    #expect(world.bucket.objects[StoreLayout.page(world.volume, frozen.page)] == frozen.bytes)
    Situation.met(.d7)
  }

  /// The page is in its slot, and the host that put it does not know: the next process puts the same bytes again, and goes on.
  @Test(arguments: CrashMode.allCases) func aPageInItsSlotIsPutAgainAsItWas(_ mode: CrashMode) throws {
    let world = try EngineWorld(seed: 77, size: 48 * 4096)
    try #require(try world.open())
    world.submit(Self.write(0, 12, .unique(1)))
    world.faults.armCrash(site: "putIfAbsent journal", .after)
    world.askForCut()
    world.settle()
    try #require(world.faults.isCrashed)
    #expect(world.faults.lastSite == "putIfAbsent journal")
    try Self.recovers(world, mode)
  }

  /// Every call of opening fails, or is the last.
  @Test func openingIsCutAndFails() throws {
    for phase in CrashPhase.allCases {
      for fails in [false, true] {
        var n: UInt64 = 1
        while true {
          let world = try EngineWorld(seed: 1300 + n, size: 48 * 4096)
          do {
            guard try world.open() else { throw Wrong("the first opening failed") }
            Self.script(world)
            world.crash(n % 2 == 0 ? .powerLoss : .processKill)
            let before = world.faults.fired
            if fails {
              world.faults.armFailure(after: n, phase == .before ? .io : .noSpace)
            } else {
              world.faults.armCrash(after: n, phase)
            }
            let opened = try world.open()
            let reached = world.faults.isCrashed || world.faults.fired > before
            if opened && !reached { break }
            try Self.recovers(world, .powerLoss)
          } catch {
            Issue.record("call \(n) of opening, \(phase), \(fails ? "failing" : "cut"): \(error)")
            return
          }
          n += 1
        }
        #expect(n > 3)
      }
    }
  }

  /// A crash anywhere in making a volume: the same command works the next time.
  @Test(arguments: CrashPhase.allCases) func creationIsCut(_ phase: CrashPhase) throws {
    for mode in CrashMode.allCases {
      var n: UInt64 = 1
      var (granted, again) = (0, 0)
      while true {
        let bucket = SimBucket()
        let host = SimHost(seed: n, bucket: bucket)
        host.faults.armCrash(after: n, phase)
        let first = try? host.process().createVolume(name: "vm", size: 1 << 20)
        let reached = host.faults.isCrashed
        host.crash(mode)
        do {
          let engine = try host.process()
          // What the crash left is gone on with, or cleared away.
          try Lifecycle(engine).settle("vm")
          #expect(try engine.names.makings().isEmpty && engine.names.openAttempts().isEmpty)
          let log = try engine.names.log("vm")
          try log.refresh()
          if let volume = log.state.volume {
            #expect(first == nil || first?.volume == volume)
            granted += 1
          } else {
            #expect(first == nil)
            _ = try engine.createVolume(name: "vm", size: 1 << 20)
            again += 1
          }
          let volume = try engine.volume(.name("vm"))
          let opened = try engine.openLocal(volume)
          #expect(opened.device.size == 1 << 20)
          let other = SimHost(seed: n, bucket: bucket.copy())
          #expect(try other.process().openPublished(volume).device.size == 1 << 20)
        } catch {
          Issue.record("change \(n) of creating, cut \(phase), \(mode): \(error)")
          return
        }
        if !reached { break }
        n += 1
      }
      #expect(n > 10 && granted > 1 && again > 1)
    }
  }
}
