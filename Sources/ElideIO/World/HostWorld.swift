import CElide
import Glibc

/// The system's clocks.
package final class HostClock: Clock {
  package init() {}
  package func wallMilliseconds() -> UInt64 {
    var t = timespec()
    clock_gettime(CLOCK_REALTIME, &t)
    return UInt64(max(0, t.tv_sec)) * 1000 + UInt64(t.tv_nsec) / 1_000_000
  }
  /// CLOCK_BOOTTIME: goes on while the machine sleeps.
  package func monotonicNanoseconds() -> UInt64 {
    var t = timespec()
    clock_gettime(CLOCK_BOOTTIME, &t)
    return UInt64(t.tv_sec) * 1_000_000_000 + UInt64(t.tv_nsec)
  }
}

/// The system's entropy, by getrandom(2).
package final class HostRandom: Randomness {
  package init() {}
  package func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    var done = 0
    while done < buffer.count {
      let n = elide_getrandom(buffer.baseAddress! + done, buffer.count - done)
      if n > 0 { done += Int(n) } else { precondition(Glibc.errno == EINTR, "getrandom failed: \(Errno.current)") }
    }
  }
}

extension World {
  /// The real one.
  package static func host() -> World { World(clock: HostClock(), random: HostRandom(), files: HostFiles()) }
}
