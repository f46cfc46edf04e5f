import ElideIO

/// A host's store with a place to act between its requests: `before` runs when a request is about to be done, on whatever thread
/// asks. In a world of one thread that is where another host may do as much as it likes. Hence unchecked.
package final class HookedStore: Store, @unchecked Sendable {
  private let inner: any Store
  /// Gets the operation and the key.
  package var before: ((String, String) -> Void)?
  /// The answer of a request that comes to nothing; nil: it is done.
  package var fault: ((String, String) -> StoreError?)?
  /// Requests so far.
  package private(set) var requests = 0

  package init(_ inner: any Store) { self.inner = inner }

  package var url: String { inner.url }
  package var counters: StoreCounters { inner.counters }

  private func enter(_ operation: String, _ key: String) throws(StoreError) {
    requests += 1
    before?(operation, key)
    if let fault = fault?(operation, key) { throw fault }
  }

  package func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    try enter("putIfAbsent", key)
    return try inner.putIfAbsent(key, bytes)
  }
  package func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    try enter("put", key)
    try inner.put(key, parts: parts)
  }
  package func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    try enter("get", key)
    return try inner.get(key, range: range)
  }
  package func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    try enter("list", prefix)
    return try inner.list(prefix, after: after, limit: limit)
  }
  package func delete(_ key: String) throws(StoreError) {
    try enter("delete", key)
    try inner.delete(key)
  }
}
