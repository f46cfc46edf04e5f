import ElideEngine
import ElideIO
import Simulator
import Testing

/// All workloads of up to three requests over a small alphabet, with a crash at every changing call, in each way it can be
/// cut; and with every single call failing, once or for good.
@Suite struct FrontExhaustiveTests {
  /// Overlapping, unaligned, repeated, empty: what three requests can do to one another.
  static let alphabet: [GuestRequest] = {
    func write(_ block: Int, _ count: Int, _ content: GuestContent, fua: Bool = false, at byte: Int = 0, length: Int? = nil)
      -> GuestRequest
    {
      var r = GuestRequest(.write, offset: block * 4096 + byte, length: length ?? count * 4096)
      r.content = content
      r.forceUnitAccess = fua
      return r
    }
    return [
      write(0, 1, .unique(1)), write(0, 3, .unique(2)), write(1, 1, .repeated(32), fua: true),
      write(0, 1, .unique(3), at: 700, length: 5000), GuestRequest(.flush), GuestRequest(.trim, offset: 4096, length: 8192),
    ]
  }()

  private func workloads(_ length: Int) -> [[GuestRequest]] {
    if length == 0 { return [[]] }
    return workloads(length - 1).flatMap { head in Self.alphabet.map { head + [$0] } }
  }

  /// Opens, runs the requests one by one, lets them finish.
  private func run(_ world: FrontWorld, _ requests: [GuestRequest], _ arm: () -> Void) throws {
    guard try world.open() else { throw Wrong("the first opening failed") }
    arm()
    for (i, r) in requests.enumerated() {
      // Each request stands once in the workload with bytes of its own.
      var r = r
      if case .unique(let n) = r.content { r.content = .unique(n * 16 + UInt64(i)) }
      world.submit(r)
      world.commit()
      world.settle()
      if world.faults.isCrashed { return }
    }
  }

  @Test(arguments: [1, 2, 3]) func aCrashAtEveryCall(length: Int) throws {
    #if DEBUG
      let step = length == 3 ? 17 : 1
    #else
      let step = 1
    #endif
    let all = workloads(length)
    for w in stride(from: 0, to: all.count, by: step) {
      var n: UInt64 = 1
      while true {
        var reached = false
        for phase in CrashPhase.allCases {
          for mode in CrashMode.allCases {
            let world = try FrontWorld(
              seed: n * 31 + UInt64(w), size: 6 * 4096, geometry: WALGeometry(fileBlocks: 8, dataBlocks: 4))
            do {
              try run(world, all[w]) { world.faults.armCrash(after: n, phase) }
              reached = reached || world.faults.isCrashed
              if let fault = world.fault { throw Wrong(fault) }
              world.crash(mode)
              guard try world.open() else { throw Wrong("it does not open again") }
            } catch {
              Issue.record("workload \(w) of length \(length), call \(n), \(phase), \(mode): \(error)")
              return
            }
          }
        }
        if !reached { break }
        n += 1
      }
    }
  }

  @Test func everyCallFailsOnceAndForGood() throws {
    let all = workloads(2)
    for w in all.indices {
      for forGood in [false, true] {
        var n: UInt64 = 1
        while true {
          let error: Errno = n % 2 == 0 ? .io : .noSpace
          let world = try FrontWorld(
            seed: n * 31 + UInt64(w), size: 6 * 4096, geometry: WALGeometry(fileBlocks: 8, dataBlocks: 4))
          let before = world.faults.fired
          do {
            try run(world, all[w]) { world.faults.armFailure(after: n, error, forGood: forGood) }
            if let fault = world.fault { throw Wrong(fault) }
            let fired = world.faults.fired > before
            world.crash(n % 3 == 0 ? .processKill : .powerLoss)
            guard try world.open() else { throw Wrong("it does not open again") }
            if !fired { break }
          } catch let wrong {
            Issue.record("workload \(w), call \(n) failing with \(error) \(forGood ? "for good" : "once"): \(wrong)")
            return
          }
          n += 1
        }
      }
    }
  }

  /// Opening itself: every call of it fails or is the last, and the next opening is right.
  @Test func openingIsCutAnywhere() throws {
    for w in 0..<12 as Range<UInt64> {
      for phase in CrashPhase.allCases {
        var n: UInt64 = 1
        while true {
          let world = try FrontWorld(seed: w)
          _ = try world.open()
          for _ in 0..<60 { world.step() }
          world.crash(w % 2 == 0 ? .powerLoss : .processKill)
          world.faults.armCrash(after: n, phase)
          do {
            if try world.open() { break }
            world.crash(n % 2 == 0 ? .powerLoss : .processKill)
            guard try world.open() else { throw Wrong("it does not open again") }
          } catch {
            Issue.record("world \(w), call \(n) of opening, \(phase): \(error)")
            return
          }
          n += 1
        }
        #expect(n > 1)
      }
    }
  }
}
