import ElideIO

/// An entry as it stands in a name's log: raw bytes, which are what is hashed and signed, and what they say.
package struct NameEntry: Equatable, Sendable {
  package let raw: [UInt8]
  package let hash: Digest
  package let envelope: Envelope
  /// The appender's Ed25519 public key. Its SHA-256 is `envelope.actor`: an entry can be verified with nothing beside it.
  package let key: [UInt8]
  /// nil when the kind (or schema) is unknown to this program.
  package let event: NameEvent?

  /// Whether the appender's key made the seal. Costs an Ed25519 verification.
  package var isSigned: Bool {
    (try? SealedDocument.open(raw, subject: envelope.log, key: key)) != nil
  }
}

/// Entries of name logs as TOML, sealed, byte exact: docs/formats/names.md.
///
/// The envelope is the journal's; then the appender's key, the body, and the seal as the last table. Two calls with the
/// same arguments give the same bytes.
package enum NameEntryCodec {
  package static func log(_ name: String) -> String { "name/\(name)" }

  /// The entry of `event`. `envelope.kind` must be that of `event`, `envelope.actor` the id of `key`. Throws when a field
  /// does not fit the format, or the whole is over 64 KiB.
  package static func encode(_ envelope: Envelope, _ event: NameEvent, key: SigningKey) throws(EntryError) -> NameEntry {
    precondition(envelope.kind == event.kind, "the envelope's kind is the event's")
    var w = TOMLWriter()
    EntryCodec.write(envelope, &w)
    w.publicKey("key", key.publicKey)
    w.table("body")
    event.writeBody(&w)
    if let problem = w.problem { throw EntryError(log: envelope.log, seq: envelope.seq, problem) }
    let raw = SealedDocument.seal(w.bytes, subject: envelope.log) { key.sign($0) }
    guard raw.count <= Entry.maxBytes else {
      throw EntryError(log: envelope.log, seq: envelope.seq, "\(raw.count) bytes, more than \(Entry.maxBytes)")
    }
    return NameEntry(raw: raw, hash: Digest.sha256(raw), envelope: envelope, key: key.publicKey, event: event)
  }

  /// Reads an entry, but for whether its seal is true (`isSigned`). A kind or schema that this program does not know gives
  /// `event == nil`. `name` and `seq` name the place it was read from, for errors only: `NameReplay` compares them.
  package static func decode(
    _ raw: [UInt8], of name: String, at seq: UInt64, upcaster: NameUpcaster = .current
  ) throws(EntryError) -> NameEntry {
    do throws(TOMLError) { return try read(raw, upcaster) } catch {
      throw EntryError(log: log(name), seq: seq, error.description)
    }
  }

  private static func read(_ raw: [UInt8], _ upcaster: NameUpcaster) throws(TOMLError) -> NameEntry {
    var root = TOMLFields(try TOMLDocument.parse(raw, limit: Entry.maxBytes))
    guard SealedDocument.split(raw) != nil else { throw TOMLError("does not end with a seal") }
    let envelope = try EntryCodec.readEnvelope(&root)
    guard envelope.isNameEntry else { throw TOMLError("log is \"\(envelope.log)\", no name's") }
    let key = try root.publicKey("key")
    guard Digest.sha256(key).hex == envelope.actor else { throw TOMLError("actor is not the id of key") }
    let body = try root.table("body")
    var seal = try root.table("seal")
    _ = try seal.signature("signature")
    try seal.end()
    try root.end()
    var event: NameEvent?
    if let lifted = try upcaster.lift(envelope.kind, body, schema: envelope.schema) {
      event = try NameEvent.parse(kind: lifted.kind, lifted.body)
    }
    return NameEntry(raw: raw, hash: Digest.sha256(raw), envelope: envelope, key: key, event: event)
  }
}

/// Brings bodies of older schemas to today's, one step at a time, when they are read. What is stored never changes.
package struct NameUpcaster: Sendable {
  /// A body of schema n as one of schema n+1. A step renames kinds, and adds, drops and renames fields.
  package typealias Step = @Sendable (_ kind: String, _ body: TOMLFields) throws(TOMLError) -> (kind: String, body: TOMLFields)
  /// The schema that `NameEvent.parse` reads.
  package let schema: UInt64
  /// The step from schema n at key n.
  private let steps: [UInt64: Step]

  package init(schema: UInt64, steps: [UInt64: Step]) {
    self.schema = schema
    self.steps = steps
  }

  /// Schema 1 is the only one so far.
  package static let current = NameUpcaster(schema: EntryCodec.schema, steps: [:])

  /// nil for a schema that is newer than this program, or that it has no way from.
  func lift(_ kind: String, _ body: TOMLFields, schema from: UInt64) throws(TOMLError) -> (kind: String, body: TOMLFields)? {
    guard from <= schema else { return nil }
    var (kind, body) = (kind, body)
    for n in from..<schema {
      guard let step = steps[n] else { return nil }
      (kind, body) = try step(kind, body)
    }
    return (kind, body)
  }
}
