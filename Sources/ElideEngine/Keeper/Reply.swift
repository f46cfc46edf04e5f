import ElideIO
import Synchronization

/// The answer to a request that another thread works on. Whoever asked waits, or looks now and then; answering is done
/// once, later answers are ignored. A crash loses it, so what it reports must be durable elsewhere.
package final class Reply<Value: Sendable>: Sendable {
  private let result = Mutex<Result<Value, ElideError>?>(nil)
  private let arrival = Condition()

  package init() {}

  /// The first answer counts.
  package func answer(_ value: Result<Value, ElideError>) {
    result.withLock { if $0 == nil { $0 = value } }
    arrival.broadcast()
  }

  /// The answer, if there is one yet.
  package func poll() -> Result<Value, ElideError>? { result.withLock { $0 } }

  /// Waits for the answer; `.unknown` when it did not come in time (it may still).
  package func wait(milliseconds: UInt64 = .max) throws(ElideError) -> Value {
    let clock = HostClock()
    let begin = clock.monotonicNanoseconds()
    while true {
      let seen = arrival.count
      if let result = poll() { return try result.get() }
      let spent = (clock.monotonicNanoseconds() - begin) / 1_000_000
      guard spent < milliseconds else {
        throw ElideError(.unknown, "no answer within \(milliseconds) ms; the request is still being worked on")
      }
      arrival.wait(after: seen, nanoseconds: min(milliseconds - spent, 60_000) * 1_000_000)
    }
  }
}
