import ElideIO

/// A small generator with a 64-bit seed (splitmix64): every choice of a simulated world comes from one of these, so a seed
/// names a run. Not for keys.
package struct SeededRandom: RandomNumberGenerator, Sendable {
  package private(set) var state: UInt64
  package init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 ^ 0xD1B5_4A32_D192_ED03 }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// True with probability `part` in `whole`.
  package mutating func chance(_ part: UInt64, in whole: UInt64) -> Bool { next() % whole < part }
  /// In 0..<bound.
  package mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  package mutating func below(_ bound: UInt64) -> UInt64 { next() % bound }
  package mutating func pick<T>(_ list: [T]) -> T { list[below(list.count)] }
  /// An independent generator.
  package mutating func fork() -> SeededRandom { SeededRandom(seed: next()) }
}

/// `Randomness` from a seed. One thread steps a simulated world, hence unchecked.
package final class SimRandom: Randomness, @unchecked Sendable {
  private var generator: SeededRandom
  package init(seed: UInt64) { generator = SeededRandom(seed: seed) }
  package func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    for i in buffer.indices { buffer[i] = UInt8(truncatingIfNeeded: generator.next() >> 24) }
  }
}

/// A clock that stands still until it is moved. One thread steps a simulated world, hence unchecked.
package final class SimClock: Clock, @unchecked Sendable {
  package var milliseconds: UInt64
  /// Added to the wall clock only: a clock that is wrong, or jumps.
  package var skew: Int64 = 0
  package init(milliseconds: UInt64 = 1_700_000_000_000) { self.milliseconds = milliseconds }
  package func wallMilliseconds() -> UInt64 { UInt64(max(0, Int64(milliseconds) + skew)) }
  package func monotonicNanoseconds() -> UInt64 { milliseconds * 1_000_000 }
  package func advance(milliseconds delta: UInt64) { milliseconds += delta }
}
