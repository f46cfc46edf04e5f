import CElide
import Glibc

/// Waits for many descriptors at once: an epoll, level-triggered. Owned by one thread.
struct Poller: ~Copyable {
  struct Interest: OptionSet {
    let rawValue: UInt32
    static let readable = Interest(rawValue: UInt32(ELIDE_READABLE))
    static let writable = Interest(rawValue: UInt32(ELIDE_WRITABLE))
    /// Reported whether asked for or not.
    static let failed = Interest(rawValue: UInt32(ELIDE_FAILED))
    static let hungUp = Interest(rawValue: UInt32(ELIDE_HUNG_UP))
  }

  private static let capacity = 64
  private let descriptor: Int32
  private let events = UnsafeMutablePointer<elide_event>.allocate(capacity: capacity)

  init() throws(Errno) {
    descriptor = elide_epoll_create()
    if descriptor < 0 { throw Errno.current }
  }

  deinit {
    close(descriptor)
    events.deallocate()
  }

  func add(_ fd: Int32, _ interest: Interest, key: UInt64) throws(Errno) {
    if elide_epoll_control(descriptor, Int32(ELIDE_ADD), fd, interest.rawValue, key) != 0 { throw Errno.current }
  }
  func change(_ fd: Int32, _ interest: Interest, key: UInt64) {
    _ = elide_epoll_control(descriptor, Int32(ELIDE_CHANGE), fd, interest.rawValue, key)
  }
  func remove(_ fd: Int32) {
    _ = elide_epoll_control(descriptor, Int32(ELIDE_REMOVE), fd, 0, 0)
  }

  /// How many descriptors have something; 0 when the time is over or a signal came. -1 waits without end.
  func wait(milliseconds: Int32) -> Int {
    max(0, Int(elide_epoll_wait(descriptor, events, Int32(Self.capacity), milliseconds)))
  }
  func event(_ index: Int) -> (key: UInt64, what: Interest) {
    (events[index].key, Interest(rawValue: events[index].events))
  }
}
