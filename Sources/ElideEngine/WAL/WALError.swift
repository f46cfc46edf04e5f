import ElideIO

/// What is wrong with a volume's write-ahead log. Every case names the volume and the file.
package enum WALError: Error, Equatable, Sendable, CustomStringConvertible {
  /// A journaled file is not there: something removed it. Refuse to open.
  case missing(volume: ULID, wal: UInt64)
  /// The file is not the one the journal names, or its first block is damaged. Refuse to open.
  case wrongFile(volume: ULID, wal: UInt64, detail: String)
  /// Frame `frame` was durable and is no longer what was written. Refuse to open; only a repair by hand gives it up.
  case corrupt(volume: ULID, wal: UInt64, frame: UInt64, detail: String)
  /// The system failed; nothing is known about the contents.
  case system(volume: ULID, wal: UInt64, operation: String, error: Errno)

  package var description: String {
    switch self {
    case .missing(let v, let n): "volume \(v): write-ahead file \(n) is in the journal but not on disk"
    case .wrongFile(let v, let n, let detail): "volume \(v): write-ahead file \(n): \(detail)"
    case .corrupt(let v, let n, let f, let detail):
      "volume \(v): write-ahead file \(n), frame \(f): \(detail); it was durable once, so this is corruption"
    case .system(let v, let n, let operation, let error): "volume \(v): write-ahead file \(n): \(operation): \(error)"
    }
  }
}
