import Glibc

/// How often and how soon a store request whose outcome is unknown is tried again.
package struct RetryPolicy: Sendable {
  package var attempts: Int
  package var firstPauseNanoseconds: UInt64
  /// Waits; the simulator and tests do not.
  package var pause: @Sendable (UInt64) -> Void

  package init(
    attempts: Int = 4, firstPauseNanoseconds: UInt64 = 50_000_000, pause: @escaping @Sendable (UInt64) -> Void = RetryPolicy.sleep
  ) {
    self.attempts = attempts
    self.firstPauseNanoseconds = firstPauseNanoseconds
    self.pause = pause
  }

  /// For who tries again by himself.
  package var once: RetryPolicy {
    var policy = self
    policy.attempts = 1
    return policy
  }

  package static let sleep: @Sendable (UInt64) -> Void = { nanoseconds in
    var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    // A signal makes it shorter, which harms nothing.
    nanosleep(&time, nil)
  }

  /// Before the k-th try again, from 0: doubling, at most 64 times the first.
  func pauseBefore(_ k: Int) { pause(firstPauseNanoseconds << UInt64(min(k, 6))) }
}
