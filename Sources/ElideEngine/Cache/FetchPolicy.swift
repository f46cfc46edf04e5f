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

  package static let sleep: @Sendable (UInt64) -> Void = { nanoseconds in
    var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    // A signal makes it shorter, which harms nothing.
    nanosleep(&time, nil)
  }

  /// Before the k-th try again, from 0: doubling, at most 64 times the first.
  func pauseBefore(_ k: Int) { pause(firstPauseNanoseconds << UInt64(min(k, 6))) }
}

/// How far to read ahead, by what was fetched of each segment before: nothing for scattered reads, and half of what was
/// read in sequence for the others, so that at most a third of what is fetched was not asked for.
struct ReadAhead {
  private struct Stream {
    var next: UInt32
    var run: Int
  }
  private var streams: [UInt64: Stream] = [:]
  /// Units read in sequence before anything is read ahead, and most units read ahead (of 64 KiB).
  static let threshold = 4
  static let most = 32
  private static let maxStreams = 256

  /// Units to read ahead after a fetch of `units` units from block r up to `end`.
  mutating func note(segment: UInt64, r: UInt32, end: UInt32, units: Int) -> Int {
    if streams.count >= Self.maxStreams, streams[segment] == nil { streams.removeAll(keepingCapacity: true) }
    var run = units
    if let stream = streams[segment], stream.next == r { run += stream.run }
    streams[segment] = Stream(next: end, run: run)
    return run < Self.threshold ? 0 : min(run / 2, Self.most)
  }

  /// So much was read ahead: the next in sequence is asked for at `end`.
  mutating func extended(segment: UInt64, to end: UInt32) { streams[segment]?.next = end }
}
