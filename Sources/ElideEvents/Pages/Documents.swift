import ElideIO

// The small TOML documents beside the pages: docs/formats/page.md. Each is at most 64 KiB and begins with `format = 1`.

/// What went wrong with one of them, by its name.
package struct DocumentError: Error, Equatable, Sendable, CustomStringConvertible {
  package let document: String
  package let detail: String
  package var description: String { "\(document): \(detail)" }
}

/// `volumes/<vol>/head.toml`: a hint where the newest page is. It may be old and it may lie: a reader gallops on from
/// here and believes only signed pages.
package struct HeadHint: Equatable, Sendable {
  package var volume: ULID
  package var page: UInt64
  /// The page's fold length: what to fetch of it in one request.
  package var length: UInt64
  /// The newest checkpoint, if any: its key relative to the store, and its length.
  package var checkpoint: String?
  package var checkpointLength: UInt64?

  package init(volume: ULID, page: UInt64, length: UInt64, checkpoint: String? = nil, checkpointLength: UInt64? = nil) {
    self.volume = volume
    self.page = page
    self.length = length
    self.checkpoint = checkpoint
    self.checkpointLength = checkpointLength
  }

  package func encode() -> [UInt8] {
    var w = TOMLWriter()
    w.integer("format", 1)
    w.ulid("volume", volume)
    w.integer("page", page)
    w.integer("length", length)
    if let checkpoint, let checkpointLength {
      w.string("checkpoint", checkpoint)
      w.integer("checkpoint_length", checkpointLength)
    }
    return w.bytes
  }

  package static func decode(_ bytes: [UInt8]) throws(DocumentError) -> HeadHint {
    try Documents.read(bytes, "head.toml") { (f) throws(TOMLError) in
      var hint = HeadHint(
        volume: try f.ulid("volume"), page: try f.integer("page"),
        length: try f.integer("length", 0...UInt64(PageLimits.bytes)))
      if f.contains("checkpoint") {
        hint.checkpoint = try f.string("checkpoint", limit: EventLimits.key)
        hint.checkpointLength = try f.integer("checkpoint_length")
      }
      return hint
    }
  }
}

/// `volumes/<vol>/volume.toml`: what the volume was made as, sealed by its own key. The size is the first one; later
/// ones are in the journal.
package struct VolumeDocument: Equatable, Sendable {
  package var volume: ULID
  package var size: UInt64
  package var blockSize: UInt64
  package var key: [UInt8]
  /// The cut it was forked from, if it was.
  package var lineage: Lineage?
  /// Wall clock, as entries write it. Advisory.
  package var created: String

  package init(volume: ULID, size: UInt64, blockSize: UInt64 = 4096, key: [UInt8], lineage: Lineage? = nil, created: String) {
    self.volume = volume
    self.size = size
    self.blockSize = blockSize
    self.key = key
    self.lineage = lineage
    self.created = created
  }

  private static func subject(_ volume: ULID) -> String { "volume.toml/\(volume)" }

  package func encode(sign: ([UInt8]) -> [UInt8]) -> [UInt8] {
    var w = TOMLWriter()
    w.integer("format", 1)
    w.ulid("volume", volume)
    w.integer("size", size)
    w.integer("block_size", blockSize)
    w.publicKey("key", key)
    w.string("created", created)
    if let lineage {
      w.table("lineage")
      lineage.write(&w)
    }
    return SealedDocument.seal(w.bytes, subject: Self.subject(volume), sign: sign)
  }

  /// Reads and checks the seal against the key that the document itself names: whether that key is the volume's is for
  /// the caller to know (a name log's entry, the parent's page, `--key`), or to call unanchored.
  package static func decode(_ bytes: [UInt8]) throws(DocumentError) -> VolumeDocument {
    let document = try Documents.read(bytes, "volume.toml", sealed: true) { (f) throws(TOMLError) in
      var d = VolumeDocument(
        volume: try f.ulid("volume"), size: try f.integer("size", EventLimits.size),
        blockSize: try f.integer("block_size", 512...65536), key: try f.publicKey("key"), created: try Documents.time(&f))
      if f.contains("lineage") {
        var table = try f.table("lineage")
        d.lineage = try Lineage(&table)
        try table.end()
      }
      return d
    }
    try Documents.requireSeal(bytes, "volume.toml", subject: subject(document.volume), key: document.key)
    return document
  }
}

/// A host's identity: `<data-dir>/host.toml` and, the same bytes, `hosts/<id>/host.pub`, sealed by the host's own key.
package struct HostDocument: Equatable, Sendable {
  package var key: [UInt8]
  package var created: String
  /// Hex of the SHA-256 of the public key.
  package var id: String { Digest.sha256(key).hex }

  package init(key: [UInt8], created: String) {
    self.key = key
    self.created = created
  }

  package func encode(sign: ([UInt8]) -> [UInt8]) -> [UInt8] {
    var w = TOMLWriter()
    w.integer("format", 1)
    w.string("id", id)
    w.publicKey("key", key)
    w.string("created", created)
    return SealedDocument.seal(w.bytes, subject: "host.pub/\(id)", sign: sign)
  }

  /// Reads; the id must be that of the key, and the seal that key's.
  package static func decode(_ bytes: [UInt8]) throws(DocumentError) -> HostDocument {
    let host = try Documents.read(bytes, "host.pub", sealed: true) { (f) throws(TOMLError) in
      let id = try f.string("id", limit: 64)
      let host = HostDocument(key: try f.publicKey("key"), created: try Documents.time(&f))
      guard id == host.id else { throw TOMLError("id is not that of key") }
      return host
    }
    try Documents.requireSeal(bytes, "host.pub", subject: "host.pub/\(host.id)", key: host.key)
    return host
  }
}

/// `elide.toml` at the root of a store: that this is one, and which.
package struct StoreDocument: Equatable, Sendable {
  package var store: ULID
  package var created: String

  package init(store: ULID, created: String) {
    self.store = store
    self.created = created
  }

  package func encode() -> [UInt8] {
    var w = TOMLWriter()
    w.integer("format", 1)
    w.ulid("store", store)
    w.string("created", created)
    return w.bytes
  }

  package static func decode(_ bytes: [UInt8]) throws(DocumentError) -> StoreDocument {
    try Documents.read(bytes, "elide.toml") { (f) throws(TOMLError) in
      StoreDocument(store: try f.ulid("store"), created: try Documents.time(&f))
    }
  }
}

enum Documents {
  /// Parses, checks `format = 1`, and lets `body` take the fields; what is left over is an error.
  static func read<Document>(
    _ bytes: [UInt8], _ name: String, sealed: Bool = false, _ body: (inout TOMLFields) throws(TOMLError) -> Document
  ) throws(DocumentError) -> Document {
    do { return try readFields(bytes, sealed, body) } catch { throw DocumentError(document: name, detail: error.description) }
  }

  private static func readFields<Document>(
    _ bytes: [UInt8], _ sealed: Bool, _ body: (inout TOMLFields) throws(TOMLError) -> Document
  ) throws(TOMLError) -> Document {
    var fields = TOMLFields(try TOMLDocument.parse(bytes, limit: Entry.maxBytes))
    let format = try fields.integer("format")
    guard format == 1 else { throw TOMLError("format \(format) is not known") }
    let document = try body(&fields)
    if sealed {
      var seal = try fields.table("seal")
      _ = try seal.signature("signature")
      try seal.end()
    }
    try fields.end()
    return document
  }

  static func requireSeal(_ bytes: [UInt8], _ name: String, subject: String, key: [UInt8]) throws(DocumentError) {
    do { _ = try SealedDocument.open(bytes, subject: subject, key: key) } catch {
      throw DocumentError(document: name, detail: error.description)
    }
  }

  static func time(_ f: inout TOMLFields) throws(TOMLError) -> String {
    let text = try f.string("created", limit: 24)
    guard Timestamp.isWellFormed(text) else { throw TOMLError("created is not \"YYYY-MM-DDThh:mm:ss.mmmZ\"") }
    return text
  }
}
