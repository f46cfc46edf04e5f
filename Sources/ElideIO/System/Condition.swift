import Glibc

/// A count of signals that threads can wait on: a condition variable that cannot miss a wake-up, since a waiter names the
/// count it has seen. Safe on any thread.
package final class Condition: @unchecked Sendable {  // pthread objects at fixed addresses, and a count under their mutex
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var signals: UInt64 = 0

  package init() {
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    // The wall clock may be set; a wait must not last an hour because of that.
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }
  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Signals so far. Read it before looking at what the signal stands for, then wait after it.
  package var count: UInt64 {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return signals
  }

  /// Wakes one that waits; enough where all waiters would do the same.
  package func signal() { change { pthread_cond_signal($0) } }

  /// Wakes all that wait.
  package func broadcast() { change { pthread_cond_broadcast($0) } }

  private func change(_ wake: (UnsafeMutablePointer<pthread_cond_t>) -> Int32) {
    pthread_mutex_lock(mutex)
    signals &+= 1
    _ = wake(condition)
    pthread_mutex_unlock(mutex)
  }

  /// Returns once there were signals after the first `seen`, at once if there have been, or when the time is over.
  package func wait(after seen: UInt64, nanoseconds: UInt64 = .max) {
    var deadline = timespec()
    clock_gettime(CLOCK_MONOTONIC, &deadline)
    // A year is for ever, and keeps the sum in range.
    let bounded = min(nanoseconds, 365 * 86_400 * 1_000_000_000)
    deadline.tv_sec += Int(bounded / 1_000_000_000)
    deadline.tv_nsec += Int(bounded % 1_000_000_000)
    if deadline.tv_nsec >= 1_000_000_000 {
      deadline.tv_sec += 1
      deadline.tv_nsec -= 1_000_000_000
    }
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while signals == seen {
      if pthread_cond_timedwait(condition, mutex, &deadline) != 0 { return }
    }
  }
}
