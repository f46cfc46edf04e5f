import ElideIO

/// Where a volume's journal lies on this host: LMDB in production, simulated in tests. One transaction of entries, rows
/// and blobs is atomic and durable when `commit` returns.
///
/// Owned by one thread (the volume's keeper). A `commit` that throws `.noSpace`, `.refused` or `.missingBlob` has appended
/// nothing, and the next may succeed. After any other error the outcome is open: nothing more may be appended until the
/// store is reopened and the head is read.
package protocol JournalStore: AnyObject, Sendable {
  /// The highest entry and its hash; nil when empty.
  var head: JournalHead? { get }
  /// Raw bytes of an entry; nil past the head.
  func entry(_ seq: UInt64) throws(JournalError) -> [UInt8]?
  /// A blob by its SHA-256, checked; throws `.missingBlob` when absent, `.damaged` when it does not match.
  func blob(_ digest: Digest) throws(JournalError) -> [UInt8]
  /// A row of persisted projections, intents and settings, by name.
  func row(_ key: String) throws(JournalError) -> [UInt8]?
  /// Appends `entries` (whose seqs follow the head), makes `blobs` readable, and sets rows (nil removes). Blobs are
  /// synced before the transaction that names them commits.
  func commit(entries: [Entry], blobs: [[UInt8]], rows: [(key: String, value: [UInt8]?)]) throws(JournalError)
  func close()
}

package struct JournalHead: Equatable, Sendable {
  package let seq: UInt64
  package let hash: Digest
  package init(seq: UInt64, hash: Digest) {
    self.seq = seq
    self.hash = hash
  }
}

package enum JournalError: Error, Equatable, Sendable {
  /// The commit may or may not have happened: halt the volume, reopen, read the head.
  case unknown(String)
  /// A disk that is full; nothing was appended.
  case noSpace(String)
  /// Stored bytes are not what was put there.
  case damaged(String)
  case missingBlob(Digest)
  /// An earlier commit is unresolved, or the store is closed.
  case halted(String)
  /// What was asked for cannot be written (an entry over its bounds, a key too long); nothing was appended.
  case refused(String)

  /// Nothing was appended, and appending may go on.
  package var leavesJournalUsable: Bool {
    switch self {
    case .noSpace, .refused, .missingBlob: true
    case .unknown, .damaged, .halted: false
    }
  }
}
