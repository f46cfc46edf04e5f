import CElide
import Glibc

/// Wakes a thread that waits in `poll` or `epoll`: an eventfd. `signal` from any thread makes `descriptor` readable
/// until `clear`. Signals that come before a clear merge into one.
package final class WakeEvent: Sendable {
  /// -1 for the silent event of a simulator.
  package let descriptor: Int32

  package init() throws(Errno) {
    let fd = elide_eventfd()
    if fd < 0 { throw Errno.current }
    descriptor = fd
  }

  private init(descriptor: Int32) { self.descriptor = descriptor }

  /// An event that wakes nobody, for worlds where one thread steps everything.
  package static func silent() -> WakeEvent { WakeEvent(descriptor: -1) }

  deinit { if descriptor >= 0 { close(descriptor) } }

  package func signal() {
    guard descriptor >= 0 else { return }
    var one: UInt64 = 1
    // EAGAIN means that the counter is full, so it is readable anyway.
    _ = write(descriptor, &one, 8)
  }

  package func clear() {
    guard descriptor >= 0 else { return }
    var count: UInt64 = 0
    _ = read(descriptor, &count, 8)
  }

  /// Waits until signalled or until the time is over, whichever is first. Does not clear.
  package func wait(milliseconds: Int32) {
    guard descriptor >= 0 else { return }
    var p = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    _ = poll(&p, 1, milliseconds)
  }
}
