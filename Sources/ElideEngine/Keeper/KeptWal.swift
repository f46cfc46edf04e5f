import ElideIO

/// Where the oldest closed file stands before it is sealed: one at a time, since they are sealed in order.
enum Judging {
  case nobody
  case underWay
  case judged(JudgedWAL)
}

/// A write-ahead file as its keeper knows it, from `wal_opened` until it has left `wal/`.
package struct KeptWal: Sendable {
  package var number: UInt64
  /// Open; the keeper's, until the cache takes it over. `.none` when the segment's mapping holds it already.
  package var file: FileID
  /// The chain after its last frame; nil while the front may append.
  package var end: WALChain?
  /// Of a recovered file: what recovery kept. The file may hold more, which is dead.
  package var scan: WALScan?
  package var isSealed = false
  /// The overlay holds nothing of it.
  package var isDropped = false
  /// Bytes of the file, for `status`.
  package var bytes: UInt64

  package init(number: UInt64, file: FileID, bytes: UInt64) {
    self.number = number
    self.file = file
    self.bytes = bytes
  }

  package var isClosed: Bool { end != nil }
}
