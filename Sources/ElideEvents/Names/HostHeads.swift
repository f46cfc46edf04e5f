import ElideIO

/// `hosts/<id>/heads/<date>.toml`: the highest slot that a host has seen of each name, and the hash of its bytes, sealed by the
/// host. Whoever cuts a log short, or rolls a bucket back, contradicts it.
package struct HostHeads: Equatable, Sendable {
  package struct Head: Equatable, Sendable {
    package var name: String
    package var head: JournalHead
    package init(name: String, head: JournalHead) {
      self.name = name
      self.head = head
    }
  }
  package var key: [UInt8]
  /// The moment it speaks of, as entries write times; its first ten characters are in the object's key.
  package var at: String
  /// In byte order of the names.
  package var heads: [Head]
  private static let maxBytes = 32 << 20

  package var host: String { Digest.sha256(key).hex }
  package var date: String { String(at.prefix(10)) }

  package init(key: [UInt8], at: String, heads: [Head]) {
    self.key = key
    self.at = at
    self.heads = heads.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
  }

  package func encode(sign: ([UInt8]) -> [UInt8]) -> [UInt8] {
    var w = TOMLWriter()
    w.integer("format", 1)
    w.string("host", host)
    w.publicKey("key", key)
    w.string("at", at)
    w.strings("heads", heads.map { "\($0.name) \($0.head.seq) \($0.head.hash)" })
    return SealedDocument.seal(w.bytes, subject: "heads/\(host)", sign: sign)
  }

  /// Reads, and checks the seal; the host's id must be that of the key.
  package static func decode(_ bytes: [UInt8]) throws(TOMLError) -> HostHeads {
    var f = TOMLFields(try TOMLDocument.parse(bytes, limit: maxBytes))
    guard try f.integer("format") == 1 else { throw TOMLError("another version") }
    let host = try f.host("host")
    let key = try f.publicKey("key")
    let at = try f.string("at", limit: 24)
    guard Timestamp.isWellFormed(at) else { throw TOMLError("at is not a time") }
    var heads: [Head] = []
    for line in try f.strings("heads", limit: 256) {
      var w = Words(line, "heads")
      heads.append(Head(name: try w.name(), head: JournalHead(seq: try w.number(), hash: try w.digest())))
      try w.end()
    }
    var seal = try f.table("seal")
    _ = try seal.signature("signature")
    try seal.end()
    try f.end()
    let out = HostHeads(key: key, at: at, heads: heads)
    guard out.host == host, out.heads == heads else { throw TOMLError("host is not the id of key, or names are out of order") }
    _ = try SealedDocument.open(bytes, subject: "heads/\(host)", key: key)
    return out
  }
}
