import ElideIO

/// A volume's journal on this host: entries and rows in LMDB (`<volume>/journal/`), blobs in append-only files
/// (`<volume>/blobs/`) that are synced before the transaction that names them. Layout: docs/formats/journal.md.
///
/// Owned by one thread. One writer per volume: whoever opens it `.write` holds the volume's lock. Caveats:
/// - A commit that throws anything but `.noSpace` or `.refused` leaves the outcome open; the store then refuses commits
///   until it is closed and opened again, when `head` says what happened.
/// - A crash at any point leaves the last committed transaction with all its blobs, and perhaps bytes in a blob file that
///   no row names.
/// - Memory: nothing is cached but the head. LMDB maps its file.
package final class LMDBJournalStore: JournalStore, @unchecked Sendable {  // owned by one thread at a time
  package enum Mode: Equatable, Sendable {
    case write
    /// Sees the state at each call; `commit` is refused. May run beside a writer in another process.
    case read
  }

  private static let entries = "entries"
  private static let blobs = "blobs"
  private static let rows = "rows"
  private static let meta = "meta"
  private static let tailKey = Array("blob_tail".utf8)
  private static let formatKey = Array("format".utf8)
  private static let format: [UInt8] = [1]
  /// Bytes of the longest row key (LMDB's own bound).
  package static let maxRowKey = 511

  private let directory: String
  private let mode: Mode
  private var environment: LMDBEnvironment?
  private var blobFiles: BlobFiles
  private var haltReason: String?
  private var knownHead: JournalHead?

  /// Opens the journal of the volume whose directory this is; `.write` makes it if absent. Errors name the volume's
  /// directory; another format, or a damaged database, is `.damaged`.
  package init(volumeDirectory: String, files: any Files, mode: Mode = .write) throws(JournalError) {
    directory = volumeDirectory
    self.mode = mode
    let journal = volumeDirectory + "/journal"
    let blobDirectory = volumeDirectory + "/blobs"
    if mode == .write { try Self.prepare(journal, blobDirectory, files, volumeDirectory) }
    let opened: LMDBEnvironment
    let tail: BlobPlace
    do throws(LMDBError) {
      opened = try LMDBEnvironment(path: journal, readOnly: mode == .read)
      try Self.checkFormat(opened, claim: mode == .write)
      tail = try Self.readTail(opened)
      knownHead = try Self.readHead(opened)
    } catch {
      throw error == .noSpace ? .noSpace("\(volumeDirectory): \(error)") : .damaged("\(volumeDirectory): \(error)")
    }
    // LMDB makes its file but does not sync the directory that names it.
    if mode == .write {
      do { try files.syncDirectory(journal) } catch { throw .damaged("\(journal): \(error)") }
    }
    environment = opened
    blobFiles = BlobFiles(directory: blobDirectory, files: files, tail: tail)
  }

  package var head: JournalHead? {
    guard mode == .read, let environment else { return knownHead }
    if let fresh = try? Self.readHead(environment) { knownHead = fresh }
    return knownHead
  }

  package func entry(_ seq: UInt64) throws(JournalError) -> [UInt8]? {
    try get(Self.entries, Self.key(seq))
  }

  package func row(_ key: String) throws(JournalError) -> [UInt8]? {
    guard Self.isRowKey(key) else { return nil }
    return try get(Self.rows, Array(key.utf8))
  }

  package func blob(_ digest: Digest) throws(JournalError) -> [UInt8] {
    guard let raw = try get(Self.blobs, digest.bytes) else { throw .missingBlob(digest) }
    let place: BlobPlace
    do { place = try BlobPlace(raw) } catch { throw .damaged("\(directory): \(error)") }
    let bytes: [UInt8]
    do { bytes = try blobFiles.read(place) } catch {
      throw .damaged("\(directory): blob \(digest.hex) in \(blobFiles.path(place.file)) at \(place.offset): \(error)")
    }
    guard Digest.sha256(bytes) == digest else {
      throw .damaged("\(directory): blob \(digest.hex) in \(blobFiles.path(place.file)) at \(place.offset) does not match")
    }
    return bytes
  }

  package func commit(
    entries: [Entry], blobs: [[UInt8]], rows: [(key: String, value: [UInt8]?)]
  ) throws(JournalError) {
    if let haltReason { throw .halted(haltReason) }
    guard mode == .write, let environment else { throw .halted("\(directory): not open for writing") }
    try check(entries, blobs, rows)
    let new = try unknownBlobs(blobs)
    let places = try writeBlobs(new.map(\.bytes))
    let before = knownHead
    do {
      try environment.write { (t) throws(LMDBError) in
        try Self.requireHead(before, t)
        for entry in entries { try t.put(Self.entries, Self.key(entry.envelope.seq), entry.raw) }
        for (blob, place) in zip(new, places) { try t.put(Self.blobs, blob.digest.bytes, place.bytes) }
        for (key, value) in rows {
          if let value { try t.put(Self.rows, Array(key.utf8), value) } else { try t.delete(Self.rows, Array(key.utf8)) }
        }
        if let last = places.last {
          let end = BlobPlace(file: last.file, offset: last.offset + UInt64(last.length), length: 0)
          try t.put(Self.meta, Self.tailKey, end.bytes)
        }
      }
    } catch {
      throw resolve(error, environment, before)
    }
    blobFiles.committed(places)
    if let last = entries.last { knownHead = JournalHead(seq: last.envelope.seq, hash: last.hash) }
  }

  package func close() {
    environment = nil
    blobFiles.close()
    haltReason = haltReason ?? "\(directory): closed"
  }

  // MARK: Commit, step by step

  private func check(
    _ entries: [Entry], _ blobs: [[UInt8]], _ rows: [(key: String, value: [UInt8]?)]
  ) throws(JournalError) {
    var next = knownHead.map { $0.seq + 1 } ?? 0
    for entry in entries {
      precondition(entry.envelope.seq == next, "entries follow the head")
      next += 1
    }
    guard blobs.allSatisfy({ $0.count <= PageLimits.blob }) else { throw .refused("a blob over \(PageLimits.blob) bytes") }
    for (key, _) in rows where !Self.isRowKey(key) { throw .refused("a row key of \(key.utf8.count) bytes") }
  }

  /// Blobs that no row names yet, each once.
  private func unknownBlobs(_ blobs: [[UInt8]]) throws(JournalError) -> [(digest: Digest, bytes: [UInt8])] {
    var seen: Set<Digest> = []
    var new: [(digest: Digest, bytes: [UInt8])] = []
    for bytes in blobs {
      let digest = Digest.sha256(bytes)
      guard seen.insert(digest).inserted, try get(Self.blobs, digest.bytes) == nil else { continue }
      new.append((digest, bytes))
    }
    return new
  }

  private func writeBlobs(_ blobs: [[UInt8]]) throws(JournalError) -> [BlobPlace] {
    guard !blobs.isEmpty else { return [] }
    do { return try blobFiles.write(blobs) } catch {
      // No row names what was written, so nothing was appended. But a failed sync says nothing good about the disk.
      blobFiles.abandonFile()
      if error == .noSpace { throw .noSpace("\(directory): blobs: \(error)") }
      haltReason = "\(directory): writing blobs failed: \(error)"
      throw .unknown("\(directory): writing blobs: \(error)")
    }
  }

  /// Another writer has appended: the lock was not held.
  private static func requireHead(_ known: JournalHead?, _ t: borrowing LMDBEnvironment.Transaction) throws(LMDBError) {
    let last = try t.last(entries)
    guard try last.map({ (l) throws(LMDBError) in try head(l) }) == known else {
      throw .unknown("another process has appended to this journal")
    }
  }

  /// What a failed transaction means. Full disk: LMDB reports it before the page that makes the transaction count is
  /// written, and the head is read back to be sure.
  private func resolve(_ error: LMDBError, _ environment: LMDBEnvironment, _ before: JournalHead?) -> JournalError {
    if error == .noSpace, let now = try? Self.readHead(environment), now == before {
      return .noSpace("\(directory): \(error)")
    }
    haltReason = "\(directory): \(error)"
    if case .damaged(let detail) = error { return .damaged("\(directory): \(detail)") }
    return .unknown("\(directory): \(error)")
  }

  // MARK: Rows of the database

  private static func isRowKey(_ key: String) -> Bool { (1...maxRowKey).contains(key.utf8.count) }

  /// Big-endian, so that the order of keys is the order of entries.
  private static func key(_ seq: UInt64) -> [UInt8] { withUnsafeBytes(of: seq.bigEndian) { Array($0) } }

  private static func head(_ last: (key: [UInt8], value: [UInt8])) throws(LMDBError) -> JournalHead {
    guard last.key.count == 8 else { throw .damaged("an entry's key has \(last.key.count) bytes") }
    return JournalHead(seq: last.key.reduce(0) { $0 << 8 | UInt64($1) }, hash: Digest.sha256(last.value))
  }

  private static func readHead(_ environment: LMDBEnvironment) throws(LMDBError) -> JournalHead? {
    try environment.read { (t) throws(LMDBError) in
      try t.last(entries).map { (l) throws(LMDBError) in try head(l) }
    }
  }

  private static func readTail(_ environment: LMDBEnvironment) throws(LMDBError) -> BlobPlace {
    let raw = try environment.read { (t) throws(LMDBError) in try t.get(meta, tailKey) }
    guard let raw else { return BlobPlace(file: 0, offset: 0, length: 0) }
    do { return try BlobPlace(raw) } catch { throw .damaged(error.description) }
  }

  /// The first writer leaves the format's number; everyone else must find the one they know.
  private static func checkFormat(_ environment: LMDBEnvironment, claim: Bool) throws(LMDBError) {
    let found = try environment.read { (t) throws(LMDBError) in try t.get(meta, formatKey) }
    if let found, found != format { throw .damaged("format \(found) is not known") }
    if found == nil && claim { try environment.write { (t) throws(LMDBError) in try t.put(meta, formatKey, format) } }
  }

  private func get(_ table: String, _ key: [UInt8]) throws(JournalError) -> [UInt8]? {
    guard let environment else { throw .halted("\(directory): closed") }
    do {
      return try environment.read { (t) throws(LMDBError) in try t.get(table, key) }
    } catch {
      throw .damaged("\(directory): \(error)")
    }
  }

  private static func prepare(
    _ journal: String, _ blobs: String, _ files: any Files, _ directory: String
  ) throws(JournalError) {
    do {
      try files.makeDirectory(journal)
      try files.makeDirectory(blobs)
      try files.syncDirectory(directory)
      try files.syncDirectory(parentDirectory(directory))
    } catch {
      throw error == .noSpace ? .noSpace("\(directory): \(error)") : .damaged("\(directory): \(error)")
    }
  }
}
