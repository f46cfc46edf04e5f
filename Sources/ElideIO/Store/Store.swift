/// An object store: immutable objects by key. Two implementations: `LocalStore` (a directory) and
/// `S3Store` (a bucket).
///
/// Calls block and may be made from any thread. A key is relative, of `[A-Za-z0-9._-]` parts joined by "/", at most 512
/// bytes. Reads are strongly consistent: an object whose `put` returned is seen by every later `get` and `list`.
package protocol Store: AnyObject, Sendable {
  /// How people name it: the URL it was opened with, without credentials.
  var url: String { get }

  /// Puts the whole object if the key is free. One request, not retried inside: a lost response surfaces as `.unknown`,
  /// and the caller reads the slot and puts the same bytes again.
  func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome

  /// Puts a content-addressed object from parts, verified by the store before it returns; replaces what was there.
  /// Idempotent: a retry writes the same bytes.
  func put(_ key: String, parts: [[UInt8]]) throws(StoreError)

  /// The object, or the given range of it cut at its end. `.notFound` when there is none.
  func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8]

  /// Keys under a prefix in byte order with sizes, at most `limit` after `after`.
  func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject]

  /// Deletes; success when absent.
  func delete(_ key: String) throws(StoreError)

  /// Requests and bytes since opening, for `status`, tests and the demo.
  var counters: StoreCounters { get }
}

package enum PutOutcome: Equatable, Sendable { case created, exists }

package struct StoredObject: Equatable, Sendable {
  package let key: String
  package let size: UInt64
  package init(key: String, size: UInt64) {
    self.key = key
    self.size = size
  }
}

package struct StoreCounters: Equatable, Sendable {
  package var gets: UInt64 = 0
  package var puts: UInt64 = 0
  package var lists: UInt64 = 0
  package var deletes: UInt64 = 0
  package var bytesRead: UInt64 = 0
  package var bytesWritten: UInt64 = 0
  package init() {}
  package var requests: UInt64 { gets + puts + lists + deletes }
}

/// What went wrong with a store request, by what the caller should do about it.
package enum StoreError: Error, Equatable, Sendable, CustomStringConvertible {
  /// There is no such object.
  case notFound(key: String)
  /// It may or may not have happened: read and decide. (Timeouts, resets, 5xx, 409.)
  case unknown(key: String, detail: String)
  /// It has not happened and will not by trying again: denied, bad key, no such bucket, disk full.
  case refused(key: String, detail: String)
  /// What came back is not what was put: short, or its checksum differs.
  case corrupt(key: String, detail: String)

  package var description: String {
    switch self {
    case .notFound(let key): "there is no object '\(key)'"
    case .unknown(let key, let detail): "\(Self.subject(key))it may or may not have happened: \(detail)"
    case .refused(let key, let detail): "\(Self.subject(key))the store refused: \(detail)"
    case .corrupt(let key, let detail): "\(Self.subject(key))damaged in the store: \(detail)"
    }
  }
  private static func subject(_ key: String) -> String { key.isEmpty ? "" : "object '\(key)': " }
}
