import Glibc
import Synchronization

/// Work that several threads want and one does: who comes first for a key does it, the others wait for what comes out.
/// Nobody waits in a single-threaded world, where all work that was begun has been ended.
final class SingleFlight<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private let flights = Mutex<[Key: Flight<Value>]>([:])

  enum Role {
    /// The caller does the work, and must `finish` it whatever happens.
    case leads(Flight<Value>)
    case follows(Flight<Value>)
  }

  func enter(_ key: Key) -> Role {
    flights.withLock { all in
      if let flight = all[key] { return .follows(flight) }
      let flight = Flight<Value>()
      all[key] = flight
      return .leads(flight)
    }
  }

  /// Takes the lead for what nobody waits for; nil when somebody is on it.
  func lead(_ key: Key) -> Flight<Value>? {
    flights.withLock { all in
      guard all[key] == nil else { return nil }
      let flight = Flight<Value>(isAhead: true)
      all[key] = flight
      return flight
    }
  }

  func finish(_ key: Key, _ flight: Flight<Value>, _ result: Result<Value, SegmentError>) {
    flights.withLock { $0[key] = nil }
    flight.land(result)
  }
}

/// One piece of such work: its result, once there is one.
final class Flight<Value: Sendable>: @unchecked Sendable {  // pthread objects at fixed addresses; the rest under the mutex
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let landed: UnsafeMutablePointer<pthread_cond_t>
  private var result: Result<Value, SegmentError>?
  /// Its leader does it for nobody, and gives up sooner.
  let isAhead: Bool

  init(isAhead: Bool = false) {
    self.isAhead = isAhead
    mutex = .allocate(capacity: 1)
    landed = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(landed, nil)
  }
  deinit {
    pthread_cond_destroy(landed)
    pthread_mutex_destroy(mutex)
    landed.deallocate()
    mutex.deallocate()
  }

  func land(_ result: Result<Value, SegmentError>) {
    pthread_mutex_lock(mutex)
    self.result = result
    pthread_cond_broadcast(landed)
    pthread_mutex_unlock(mutex)
  }

  /// Waits for the result.
  func wait() -> Result<Value, SegmentError> {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result { return result }
      pthread_cond_wait(landed, mutex)
    }
  }
}
