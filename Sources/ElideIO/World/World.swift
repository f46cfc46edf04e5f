/// What the engine may touch of the outside world. Everything that is not a pure function of its arguments comes in
/// through here, so that a simulator can stand in for all of it: production passes `World.host()`, the simulator its own.
///
/// Ownership: created once per process (or per simulated host) and shared by its threads; every member is safe to use
/// from any thread.
package struct World: Sendable {
  package let clock: any Clock
  package let random: any Randomness
  package let files: any Files

  package init(clock: any Clock, random: any Randomness, files: any Files) {
    self.clock = clock
    self.random = random
    self.files = files
  }
}

/// Times for people, for retention and for deadlines. Never used to order events (design rule: no order from clocks).
package protocol Clock: AnyObject, Sendable {
  /// Wall clock, milliseconds since 1970-01-01T00:00:00Z. May jump either way.
  func wallMilliseconds() -> UInt64
  /// Monotonic nanoseconds from an arbitrary origin; goes on during suspend where the system offers it.
  func monotonicNanoseconds() -> UInt64
}

/// Random bytes: identifiers, keys, jitter. Cryptographic in production, seeded in the simulator.
package protocol Randomness: AnyObject, Sendable {
  /// Fills `buffer` completely. Cannot fail: a host without entropy stops the process.
  func fill(_ buffer: UnsafeMutableRawBufferPointer)
}
