import Glibc
import Synchronization

/// A bounded queue of messages from any threads to one. Sending never waits: a full box says so, and that is
/// back-pressure for the sender to deal with.
///
/// Ownership: shared; the receiver is whichever thread calls `receive`. A crash loses its messages, so nothing durable
/// may rest on one.
package final class Mailbox<Message: Sendable>: Sendable {
  private struct Ring {
    var slots: [Message?]
    var first = 0
    var count = 0

    mutating func take() -> Message? {
      guard count > 0 else { return nil }
      let message = slots[first]
      slots[first] = nil
      first = (first + 1) % slots.count
      count -= 1
      return message
    }
  }
  private let ring: Mutex<Ring>
  private let arrival = Condition()
  private let wake: @Sendable () -> Void

  /// - Parameters:
  ///   - capacity: messages held at most.
  ///   - wake: called after each message that was accepted, on the sender's thread; typically `WakeEvent.signal`.
  package init(capacity: Int, wake: @escaping @Sendable () -> Void = {}) {
    precondition(capacity > 0)
    ring = Mutex(Ring(slots: Array(repeating: nil, count: capacity)))
    self.wake = wake
  }

  /// False when the box is full; the message is then not in it.
  package func send(_ message: Message) -> Bool {
    let accepted = ring.withLock { ring -> Bool in
      guard ring.count < ring.slots.count else { return false }
      ring.slots[(ring.first + ring.count) % ring.slots.count] = message
      ring.count += 1
      return true
    }
    if accepted {
      arrival.signal()
      wake()
    }
    return accepted
  }

  /// The oldest message; nil when empty.
  package func receive() -> Message? { ring.withLock { $0.take() } }

  /// The oldest message, waiting for one until `deadlineNanoseconds` (of `HostClock.monotonicNanoseconds`); nil when none
  /// came. For threads that wait for nothing else; who also polls descriptors uses the wake closure.
  package func waitReceive(deadlineNanoseconds: UInt64) -> Message? {
    let clock = HostClock()
    while true {
      let seen = arrival.count
      if let message = receive() { return message }
      let now = clock.monotonicNanoseconds()
      if now >= deadlineNanoseconds { return nil }
      arrival.wait(after: seen, nanoseconds: deadlineNanoseconds - now)
    }
  }

  package var count: Int { ring.withLock { $0.count } }
}
