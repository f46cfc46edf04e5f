import ElideEvents
import ElideIO

/// `events/<name>/checkpoints/<seq>`: the fold of a name's log after one slot, sealed by the host that made it. It bounds what
/// a host reads that sees the name for the first time. Whoever decides about deleting folds from slot 0 all the same.
package struct NameCheckpoint: Equatable, Sendable {
  /// One after every so many entries.
  package static let interval: UInt64 = 64
  package static func isDue(after seq: UInt64) -> Bool { (seq + 1) % interval == 0 }

  package let fold: NameFold
  /// The key of the host that sealed it.
  package let key: [UInt8]
  package let at: String
  /// Folded from slot 0; else from another host's checkpoint on.
  package let isWhole: Bool

  private static func subject(_ name: String) -> String { "checkpoint/\(name)" }
  private static let maxBytes = NameState.maxBytes * 2

  /// The sealed bytes; nil before slot 0.
  package static func encode(_ fold: NameFold, isWhole: Bool, at: String, key: SigningKey) -> [UInt8]? {
    guard let head = fold.head else { return nil }
    var w = TOMLWriter()
    w.integer("format", 1)
    w.string("name", fold.state.name)
    w.integer("seq", head.seq)
    w.digest("hash", head.hash)
    w.strings("tree", fold.tree.peaks.map(\.hex))
    w.digest("root", fold.tree.root)
    w.boolean("whole", isWhole)
    w.string("at", at)
    w.publicKey("key", key.publicKey)
    w.string("state", String(decoding: fold.state.encode(), as: UTF8.self))
    return SealedDocument.seal(w.bytes, subject: subject(fold.state.name)) { key.sign($0) }
  }

  /// Reads, and checks the seal against the key that it names.
  package static func decode(_ bytes: [UInt8], of name: String) throws(TOMLError) -> NameCheckpoint {
    var f = TOMLFields(try TOMLDocument.parse(bytes, limit: maxBytes))
    guard try f.integer("format") == 1 else { throw TOMLError("another version") }
    guard try f.string("name", limit: 64) == name else { throw TOMLError("a checkpoint of another name") }
    let head = JournalHead(seq: try f.integer("seq"), hash: try f.digest("hash"))
    var peaks: [Digest] = []
    for text in try f.strings("tree", limit: 64) {
      guard let peak = Digest(hex: text) else { throw TOMLError("tree: '\(text)' is not a digest") }
      peaks.append(peak)
    }
    guard let tree = MerkleFrontier(count: head.seq + 1, peaks: peaks), tree.root == (try f.digest("root")) else {
      throw TOMLError("the tree is not one of \(head.seq) entries")
    }
    let isWhole = try f.boolean("whole")
    let at = try f.string("at", limit: 24)
    let key = try f.publicKey("key")
    let state = try NameState.decode(Array(try f.string("state", limit: maxBytes).utf8))
    var seal = try f.table("seal")
    _ = try seal.signature("signature")
    try seal.end()
    try f.end()
    guard state.name == name, let fold = NameFold(state: state, tree: tree, head: head) else {
      throw TOMLError("the state is not that after entry \(head.seq)")
    }
    _ = try SealedDocument.open(bytes, subject: subject(name), key: key)
    return NameCheckpoint(fold: fold, key: key, at: at, isWhole: isWhole)
  }
}

/// `names/<name>.toml`: where the log's end was, and what lies between the newest checkpoint and there. Unsigned, rewritten
/// freely; it may be old and it may lie, and is believed only as far as its entries lead to the bytes in the slot it names.
package struct NameHint: Equatable, Sendable {
  package var name: String
  package var seq: UInt64
  package var hash: Digest
  /// A checkpoint's bytes, or none when `entries` begin at slot 0.
  package var checkpoint: [UInt8]?
  package var entries: [[UInt8]]
  package static let maxBytes = 8 << 20

  package init(name: String, seq: UInt64, hash: Digest, checkpoint: [UInt8]?, entries: [[UInt8]]) {
    self.name = name
    self.seq = seq
    self.hash = hash
    self.checkpoint = checkpoint
    self.entries = entries
  }

  /// nil when what it holds cannot be written as text.
  package func encode() -> [UInt8]? {
    var w = TOMLWriter()
    w.integer("format", 1)
    w.string("name", name)
    w.integer("seq", seq)
    w.digest("hash", hash)
    var texts: [String] = []
    for bytes in (checkpoint.map { [$0] } ?? []) + entries {
      guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
      texts.append(text)
    }
    w.boolean("has_checkpoint", checkpoint != nil)
    w.strings("documents", texts)
    return w.problem == nil && w.bytes.count <= Self.maxBytes ? w.bytes : nil
  }

  package static func decode(_ bytes: [UInt8]) throws(TOMLError) -> NameHint {
    var f = TOMLFields(try TOMLDocument.parse(bytes, limit: maxBytes))
    guard try f.integer("format") == 1 else { throw TOMLError("another version") }
    var hint = NameHint(
      name: try f.volumeName("name"), seq: try f.integer("seq"), hash: try f.digest("hash"), checkpoint: nil, entries: [])
    let hasCheckpoint = try f.boolean("has_checkpoint")
    hint.entries = try f.strings("documents", limit: maxBytes).map { Array($0.utf8) }
    if hasCheckpoint {
      guard !hint.entries.isEmpty else { throw TOMLError("no checkpoint") }
      hint.checkpoint = hint.entries.removeFirst()
    }
    try f.end()
    return hint
  }

  /// The fold that its documents give; nil when they do not lead to its end.
  package func fold() -> NameFold? {
    var fold = NameFold(name: name)
    if let checkpoint {
      guard let c = try? NameCheckpoint.decode(checkpoint, of: name) else { return nil }
      fold = c.fold
    }
    for raw in entries { fold.next(raw) }
    return fold.head == JournalHead(seq: seq, hash: hash) ? fold : nil
  }
}
