import ElideEvents
import ElideIO
import ElideProjections
import Synchronization

/// Bytes that the front has appended to write-ahead files of which the keeper has not heard that they are closed. The front
/// adds and takes away, any thread reads.
package final class OpenBytes: Sendable {
  private let value = Atomic<UInt64>(0)
  package init() {}
  package var bytes: UInt64 { value.load(ordering: .relaxed) }
  func add(_ bytes: UInt64) { value.wrappingAdd(bytes, ordering: .relaxed) }
  func take(_ bytes: UInt64) { value.wrappingSubtract(bytes, ordering: .relaxed) }
}

/// How long a volume has held bytes that no published cut covers: what would be lost with its host. Times are nanoseconds
/// of the monotonic clock.
struct Exposure: Equatable, Sendable {
  /// When the first byte of each unsealed file was written.
  private var begun: [UInt64: UInt64] = [:]
  /// Files sealed: the entry that sealed it, and when its first byte was written. In the order of entries.
  private var sealed: [(seq: UInt64, since: UInt64)] = []

  mutating func begin(_ wal: UInt64, at now: UInt64) { if begun[wal] == nil { begun[wal] = now } }

  /// Without a `begin` nothing was written to it.
  mutating func seal(_ wal: UInt64, seq: UInt64) {
    if let since = begun.removeValue(forKey: wal) { sealed.append((seq, since)) }
  }

  /// Sealed before this process began: since then at the latest.
  mutating func inherit(seq: UInt64, since: UInt64) { sealed.append((seq, since)) }

  mutating func publish(_ cut: UInt64) { sealed.removeAll { $0.seq <= cut } }

  /// Of the oldest byte that no cut covers; nil when all are covered.
  var since: UInt64? {
    let oldest = min(begun.values.min() ?? .max, sealed.map(\.since).min() ?? .max)
    return oldest == .max ? nil : oldest
  }

  static func == (a: Exposure, b: Exposure) -> Bool {
    a.begun == b.begun && a.sealed.elementsEqual(b.sealed) { $0 == $1 }
  }
}

extension OwnSegment {
  /// A published cut is at or beyond the entry that sealed it.
  func isCovered(_ cut: UInt64?) -> Bool { cut.map { sealedSeq <= $0 } ?? false }
}

/// What the journal alone says of times and sizes; for status, never for decisions.
struct JournalLook {
  let head: UInt64?
  let entry: (UInt64) throws(JournalError) -> [UInt8]?

  init(_ store: any JournalStore) {
    head = store.head?.seq
    entry = { (seq) throws(JournalError) in try store.entry(seq) }
  }
  init(_ journal: Journal) {
    head = journal.head?.seq
    entry = { (seq) throws(JournalError) in try journal.entry(seq) }
  }

  /// The wall clock of the entry that made a write-ahead file or, for a segment without one, sealed it: no byte of it is older.
  /// nil when it is not among the last `limit` entries.
  func began(_ number: UInt64, limit: UInt64 = 20_000) throws(JournalError) -> UInt64? {
    var oldest: UInt64?
    try backwards(limit, ["wal_opened", "segment_sealed"]) { _, entry in
      switch entry.event {
      case .walOpened(number): break
      case .segmentSealed(let s) where s.segment == number && s.origin != .wal: break
      default: return true
      }
      oldest = Timestamp.milliseconds(entry.envelope.at)
      return false
    }
    return oldest
  }

  /// Bytes of the volume as of its snapshots: a size holds from the entry that seals the file it comes after.
  func sizes(of state: VolumeState) throws(JournalError) -> [ULID: UInt64] {
    let first = state.genesis?.size ?? state.size
    var out: [ULID: UInt64] = [:]
    if state.snapshots.isEmpty { return out }
    var grown: [(from: UInt64, size: UInt64)] = []
    if state.deviceSize != first {
      try backwards(.max, ["resized"]) { seq, entry in
        if case .resized(let size, let after) = entry.event {
          grown.append((max(seq, state.segments[after]?.sealedSeq ?? seq), size))
        }
        return true
      }
    }
    for s in state.snapshots {
      let point = s.point ?? .max
      out[s.id] = grown.filter { $0.from <= point }.map(\.size).max() ?? first
    }
    return out
  }

  /// Entries whose text names one of the kinds, newest first, until `body` returns false.
  private func backwards(_ limit: UInt64, _ kinds: [String], _ body: (UInt64, Entry) -> Bool) throws(JournalError) {
    guard let head else { return }
    let lines = kinds.map { Array("kind = \"\($0)\"".utf8) }
    var left = limit
    var seq = head
    while left > 0 {
      if let raw = try entry(seq), lines.contains(where: { Self.contains(raw, $0) }),
        let found = try? EntryCodec.decode(raw), !body(seq, found)
      {
        return
      }
      if seq == 0 { return }
      seq -= 1
      left -= 1
    }
  }

  /// Kinds stand near the beginning of an entry.
  private static func contains(_ raw: [UInt8], _ line: [UInt8]) -> Bool {
    let end = min(raw.count, 512)
    guard end >= line.count else { return false }
    for i in 0...(end - line.count) where raw[i] == line[0] && raw[i..<i + line.count].elementsEqual(line) { return true }
    return false
  }
}
