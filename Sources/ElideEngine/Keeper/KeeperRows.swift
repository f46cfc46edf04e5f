import ElideEvents
import ElideIO
import ElideProjections

// Rows that the keeper sets beside the entries of a volume's journal, in the same transactions. Little-endian; each
// begins with a version byte, 1. See docs/formats/rows.md.

/// Names of the rows.
package enum RowKey {
  /// `WALChain` after the last sealed write-ahead file.
  package static let chain = "wal/chain"
  /// `WALChain` after a sealed file that is still in `wal/`: what its blocks' places are found by.
  package static func sealedEnd(_ n: UInt64) -> String { "wal/end/\(StoreLayout.digits(n, 16))" }
  /// What earlier openings found, as far as unsealed files are concerned.
  package static let marks = "wal/marks"
  /// The page that is about to be put, with its bytes.
  package static let intent = "page/intent"
  /// What the next page continues.
  package static let pages = "page/last"
  /// A published page.
  package static func page(_ n: UInt64) -> String { "page/\(StoreLayout.digits(n, 8))" }
  /// The newest local checkpoint.
  package static let checkpoint = "checkpoint/local"
}

extension WALChain {
  package func encodeRow() -> [UInt8] {
    var w = ByteWriter(capacity: 13)
    w.u8(1)
    w.u64(frame)
    w.u32(crc)
    return w.bytes
  }
  package init(row: [UInt8]) throws(FormatError) {
    var r = ByteReader(row, what: "row \(RowKey.chain)")
    try r.version()
    self.init(frame: try r.u64(), crc: try r.u32())
    try r.end()
  }
}

/// Marks of recoveries, in journal order.
package enum MarksRow {
  package static func encode(_ marks: [OpenedMark]) -> [UInt8] {
    var w = ByteWriter()
    w.u8(1)
    w.varint(UInt64(marks.count))
    for m in marks {
      w.u64(m.wal)
      w.u64(m.end.frame)
      w.u32(m.end.crc)
    }
    return w.bytes
  }
  package static func decode(_ row: [UInt8]) throws(FormatError) -> [OpenedMark] {
    var r = ByteReader(row, what: "row \(RowKey.marks)")
    try r.version()
    var marks: [OpenedMark] = []
    for _ in 0..<(try r.count("marks", limit: r.remaining / 20)) {
      let wal = try r.u64()
      let frame = try r.u64()
      marks.append(OpenedMark(wal: wal, end: WALChain(frame: frame, crc: try r.u32())))
    }
    try r.end()
    return marks
  }
}

/// A page frozen before its first byte leaves: after a crash the same bytes are put again.
package struct PageIntent: Equatable, Sendable {
  package var page: UInt64
  package var bytes: [UInt8]
  package init(page: UInt64, bytes: [UInt8]) {
    self.page = page
    self.bytes = bytes
  }

  package func encodeRow() -> [UInt8] {
    var w = ByteWriter(capacity: 9 + bytes.count)
    w.u8(1)
    w.u64(page)
    w.raw(bytes)
    return w.bytes
  }
  package init(row: [UInt8]) throws(FormatError) {
    var r = ByteReader(row, what: "row \(RowKey.intent)")
    try r.version()
    page = try r.u64()
    bytes = try r.raw(r.remaining)
  }
}

/// A page that the store has, as the volume's own host remembers it.
package struct PublishedPage: Equatable, Sendable {
  package var page: UInt64
  package var hash: Digest
  package var firstSeq: UInt64
  package var lastSeq: UInt64
  package var cut: UInt64
  package var foldLength: UInt64
  /// Wall clock when it was confirmed.
  package var at: UInt64
  package var encodings: [PublishedEncoding]

  package init(
    page: UInt64, hash: Digest, firstSeq: UInt64, lastSeq: UInt64, cut: UInt64, foldLength: UInt64, at: UInt64,
    encodings: [PublishedEncoding]
  ) {
    self.page = page
    self.hash = hash
    self.firstSeq = firstSeq
    self.lastSeq = lastSeq
    self.cut = cut
    self.foldLength = foldLength
    self.at = at
    self.encodings = encodings
  }

  package var tail: TailPage { TailPage(page: page, firstSeq: firstSeq, lastSeq: lastSeq, length: foldLength, hash: hash) }

  package func encodeRow() -> [UInt8] {
    var w = ByteWriter()
    w.u8(1)
    for n in [page, firstSeq, lastSeq, cut, foldLength, at] { w.u64(n) }
    w.digest(hash)
    w.varint(UInt64(encodings.count))
    for e in encodings {
      w.varint(e.segment)
      w.digest(e.digest)
      w.varint(e.offset)
      w.varint(UInt64(e.length))
    }
    return w.bytes
  }
  package init(row: [UInt8]) throws(FormatError) {
    var r = ByteReader(row, what: "row of a page")
    try r.version()
    page = try r.u64()
    firstSeq = try r.u64()
    lastSeq = try r.u64()
    cut = try r.u64()
    foldLength = try r.u64()
    at = try r.u64()
    hash = try r.digest()
    encodings = []
    for _ in 0..<(try r.count("encodings", limit: r.remaining / 34)) {
      let segment = try r.varint()
      let digest = try r.digest()
      let offset = try r.varint()
      encodings.append(
        PublishedEncoding(
          segment: segment, digest: digest, page: page, offset: offset,
          length: UInt32(try r.count("encoding", limit: PageLimits.blob))))
    }
    try r.end()
  }
}

/// What the next page continues: the last one, the checkpoint it named, the pages after that, and the sums.
package struct PageLog: Equatable, Sendable {
  package var last: PublishedPage?
  package var checkpoint: CheckpointLocator?
  /// Pages that a reader of the checkpoint folds, in order, the last published one included.
  package var tail: [TailPage] = []
  package var sums = SetSums()
  package init() {}

  package var nextPage: UInt64 { last.map { $0.page + 1 } ?? 0 }
  package var nextSeq: UInt64 { last.map { $0.lastSeq + 1 } ?? 0 }
  package var cut: UInt64? { last?.cut }
  /// Whether a reader of the store sees this snapshot. Written with guards: the optimizer of Swift 6.3.1 stops on closures in
  /// each other that read `cut` ("outside of lifetime use" in CopyPropagation, release only).
  package func publishes(_ snapshot: Snapshot) -> Bool {
    guard let point = snapshot.point, let cut else { return false }
    return point <= cut && snapshot.takenSeq <= cut
  }

  package func encodeRow() -> [UInt8] {
    var w = ByteWriter()
    w.u8(1)
    let lastRow = last?.encodeRow() ?? []
    w.varint(UInt64(lastRow.count))
    w.raw(lastRow)
    w.u8(checkpoint == nil ? 0 : 1)
    if let checkpoint { w.locator(checkpoint) }
    w.varint(UInt64(tail.count))
    for t in tail {
      for n in [t.page, t.firstSeq, t.lastSeq, t.length] { w.u64(n) }
      w.digest(t.hash)
    }
    for sum in [sums.uploaded, sums.retired, sums.deleted] { w.raw(sum.bytes) }
    return w.bytes
  }
  package init(row: [UInt8]) throws(FormatError) {
    var r = ByteReader(row, what: "row \(RowKey.pages)")
    try r.version()
    let lastRow = try r.raw(try r.count("row", limit: r.remaining))
    last = lastRow.isEmpty ? nil : try PublishedPage(row: lastRow)
    checkpoint = try r.u8() == 0 ? nil : try r.locator()
    for _ in 0..<(try r.count("tail", limit: r.remaining / 64)) {
      let page = try r.u64()
      let first = try r.u64()
      let lastSeq = try r.u64()
      tail.append(TailPage(page: page, firstSeq: first, lastSeq: lastSeq, length: try r.u64(), hash: try r.digest()))
    }
    sums.uploaded = try r.sum()
    sums.retired = try r.sum()
    sums.deleted = try r.sum()
    try r.end()
  }
}

/// A checkpoint in `volumes/<vol>/maps/`: what opening starts from.
package struct LocalCheckpoint: Equatable, Sendable {
  package var locator: CheckpointLocator
  /// Hash of the entry it speaks of: folding goes on after it.
  package var entryHash: Digest
  /// The page that was next when it was made: it knows the encodings of all pages before.
  package var horizon: UInt64
  /// Where else it is.
  package enum Storage: UInt8, Sendable {
    /// Named in the journal, to be put.
    case planned = 0
    /// The store has it, under the locator's key.
    case stored = 1
    /// Of this host alone: what a fork begins with, when its first page names the parent's.
    case local = 2
  }
  package var storage: Storage

  package init(locator: CheckpointLocator, entryHash: Digest, horizon: UInt64, storage: Storage) {
    self.locator = locator
    self.entryHash = entryHash
    self.horizon = horizon
    self.storage = storage
  }

  /// Its file name in `maps/`: the last part of the key.
  package var fileName: String { String(locator.key.split(separator: "/").last ?? "") }

  package func encodeRow() -> [UInt8] {
    var w = ByteWriter()
    w.u8(1)
    w.locator(locator)
    w.digest(entryHash)
    w.u64(horizon)
    w.u8(storage.rawValue)
    return w.bytes
  }
  package init(row: [UInt8]) throws(FormatError) {
    var r = ByteReader(row, what: "row \(RowKey.checkpoint)")
    try r.version()
    locator = try r.locator()
    entryHash = try r.digest()
    horizon = try r.u64()
    guard let storage = Storage(rawValue: try r.u8()) else { throw r.error("unknown storage") }
    self.storage = storage
    try r.end()
  }
}

extension ByteWriter {
  fileprivate mutating func locator(_ l: CheckpointLocator) {
    ulid(l.volume)
    string(l.key)
    u64(l.seq)
    digest(l.root)
    u64(l.length)
    digest(l.digest)
  }
}

extension ByteReader {
  fileprivate mutating func version() throws(FormatError) {
    guard try u8() == 1 else { throw error("unknown version") }
  }
  fileprivate mutating func sum() throws(FormatError) -> LtHash16 {
    guard let sum = LtHash16(bytes: try raw(LtHash16.byteCount)) else { throw error("not a sum") }
    return sum
  }
  fileprivate mutating func locator() throws(FormatError) -> CheckpointLocator {
    CheckpointLocator(
      volume: try ulid(), key: try string(limit: StoreKey.maxBytes), seq: try u64(), root: try digest(), length: try u64(),
      digest: try digest())
  }
}
