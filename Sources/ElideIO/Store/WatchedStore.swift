import Synchronization

/// A store as one process has seen it lately: whether it answers, and since when not. Every request is passed on.
///
/// It *answers* when a request had an outcome that the store itself decided: done, no such object, refused, damaged. It
/// does not when all that is known of a request is `.unknown`: nobody there, a time-out, a connection that broke, a 5xx
/// that stayed one. Safe on any thread.
package final class WatchedStore: Store {
  private struct Seen {
    /// Of the monotonic clock; nil while it answers.
    var silentSince: UInt64?
    var answered: UInt64 = 0
  }
  private let store: any Store
  private let clock: any Clock
  private let seen = Mutex(Seen())

  package init(_ store: any Store, clock: any Clock) {
    self.store = store
    self.clock = clock
  }

  /// Nanoseconds of the monotonic clock, when the first of the requests was sent of which none has been answered; nil while
  /// the store answers, and before anything was asked.
  package var silentSince: UInt64? { seen.withLock { $0.silentSince } }

  /// Whether any request was answered at or after a time.
  package func answered(since time: UInt64) -> Bool { seen.withLock { $0.answered >= time && $0.answered > 0 } }

  private func watch<T>(_ request: () throws(StoreError) -> T) throws(StoreError) -> T {
    let begun = clock.monotonicNanoseconds()
    do throws(StoreError) {
      let result = try request()
      note(begun, isAnswer: true)
      return result
    } catch {
      if case .unknown = error { note(begun, isAnswer: false) } else { note(begun, isAnswer: true) }
      throw error
    }
  }

  private func note(_ begun: UInt64, isAnswer: Bool) {
    let now = clock.monotonicNanoseconds()
    seen.withLock { s in
      if isAnswer {
        s.silentSince = nil
        s.answered = max(s.answered, now)
      } else if s.silentSince == nil {
        // Others may have been answered while this one was not.
        s.silentSince = max(begun, s.answered)
      }
    }
  }

  // MARK: Store

  package var url: String { store.url }
  package var counters: StoreCounters { store.counters }

  package func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    try watch { () throws(StoreError) in try store.putIfAbsent(key, bytes) }
  }
  package func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    try watch { () throws(StoreError) in try store.put(key, parts: parts) }
  }
  package func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    try watch { () throws(StoreError) in try store.get(key, range: range) }
  }
  package func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    try watch { () throws(StoreError) in try store.list(prefix, after: after, limit: limit) }
  }
  package func delete(_ key: String) throws(StoreError) {
    try watch { () throws(StoreError) in try store.delete(key) }
  }
}
