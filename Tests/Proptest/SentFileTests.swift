import ElideIO
import Simulator
import Testing

@testable import ElideEngine

/// Write-ahead files whose pages went into sockets are not written again; others are.
@Suite struct SentFileTests {
  /// How many files became others, over some runs; `sent` says which numbers were sent, to a process that begins with `first`.
  private func reused(_ sent: (_ first: UInt64) -> ClosedRange<UInt64>?) throws -> UInt64 {
    var total: UInt64 = 0
    for seed in 1...12 as ClosedRange<UInt64> {
      let world = try EngineWorld(seed: seed, size: 48 * 4096)
      for _ in 0..<2 {
        guard try world.open() else { continue }
        let opened = try #require(world.opened)
        let first = try #require(opened.keeper?.firstWal)
        let segments = try #require(opened.device.sources as? VolumeSegments)
        if let numbers = sent(first) { numbers.forEach { segments.noteSent($0) } }
        for _ in 0..<2500 where world.fault == nil { world.step() }
        #expect(world.fault == nil)
        total += opened.port?.status.counters.walsReused ?? 0
        world.crash(.processKill)
      }
    }
    return total
  }

  @Test func onlyWhatWasNotSent() throws {
    #expect(try reused { _ in nil } > 0)
    #expect(try reused { _ in 1...4000 } == 0)
  }

  /// What a process before sent nobody remembers: its files are left alone.
  @Test func notWhatAnEarlierProcessMayHaveSent() throws {
    #expect(try reused { first in first...(first + 4000) } == 0)
  }
}
