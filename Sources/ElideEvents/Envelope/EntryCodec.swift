import ElideIO

/// What is wrong with an entry, and which entry it is as far as that is known.
package struct EntryError: Error, Equatable, Sendable, CustomStringConvertible {
  package let log: String?
  package let seq: UInt64?
  package let detail: String

  package init(log: String?, seq: UInt64?, _ detail: String) {
    self.log = log
    self.seq = seq
    self.detail = detail
  }

  package var description: String {
    "entry \(seq.map(String.init) ?? "of unknown number") of \(log ?? "an unknown log"): \(detail)"
  }
}

/// Entries of a journal as TOML, byte exact: docs/formats/journal.md. Those of a name log: `NameEntryCodec`.
///
/// Written in one order of fields and one spelling of values; read with a TOML library in any. What is hashed and signed
/// is always the raw bytes.
package enum EntryCodec {
  /// The schema that this program writes. Older ones are upcast when read; there are none yet.
  package static let schema: UInt64 = 1
  /// Bytes of the longest "log" and "actor".
  static let nameLimit = 300

  /// The raw bytes of an entry. `envelope.kind` must be that of `event`. Throws when a field does not fit the format:
  /// an integer over 2^63-1, text with a NUL, more than 64 KiB in all.
  package static func encode(_ envelope: Envelope, _ event: VolumeEvent) throws(EntryError) -> [UInt8] {
    precondition(envelope.kind == event.kind, "the envelope's kind is the event's")
    var w = TOMLWriter()
    write(envelope, &w)
    w.table("body")
    event.writeBody(&w)
    if let problem = w.problem { throw EntryError(log: envelope.log, seq: envelope.seq, problem) }
    guard w.bytes.count <= Entry.maxBytes else {
      throw EntryError(log: envelope.log, seq: envelope.seq, "\(w.bytes.count) bytes, more than \(Entry.maxBytes)")
    }
    return w.bytes
  }

  /// Reads an entry. A kind (or schema) that this program does not know gives `event == nil`; its envelope is checked all
  /// the same. `log` and `seq` name the place it was read from, for errors
  /// only: `JournalReplay` compares them.
  package static func decode(_ raw: [UInt8], of log: String? = nil, at seq: UInt64? = nil) throws(EntryError) -> Entry {
    do throws(TOMLError) {
      var root = TOMLFields(try TOMLDocument.parse(raw, limit: Entry.maxBytes))
      let envelope = try readEnvelope(&root)
      let body = try root.table("body")
      try root.end()
      guard !envelope.isNameEntry else { throw TOMLError("log is \"\(envelope.log)\", a name's") }
      let event = envelope.schema == schema ? try VolumeEvent.parse(kind: envelope.kind, body) : nil
      return Entry(raw: raw, hash: Digest.sha256(raw), envelope: envelope, event: event)
    } catch {
      throw EntryError(log: log, seq: seq, error.description)
    }
  }

  static func write(_ e: Envelope, _ w: inout TOMLWriter) {
    w.integer("schema", e.schema)
    w.string("log", e.log)
    w.integer("seq", e.seq)
    if let prev = e.prev { w.digest("prev", prev) } else { w.string("prev", "none") }
    w.ulid("id", e.id)
    w.string("kind", e.kind)
    w.boolean("ignorable", e.ignorable)
    w.string("at", e.at)
    w.string("actor", e.actor)
    w.ulid("incarnation", e.incarnation)
    w.integer("epoch", e.epoch)
    w.string("request", ifPresent: e.request)
    w.string("operator", ifPresent: e.operator)
    w.string("reason", ifPresent: e.reason)
  }

  static func readEnvelope(_ f: inout TOMLFields) throws(TOMLError) -> Envelope {
    let schema = try f.integer("schema", 1...UInt64(Int64.max))
    let log = try f.string("log", limit: nameLimit)
    guard log.hasPrefix("volume/") || log.hasPrefix("name/") else { throw TOMLError("log is \"\(log)\"") }
    let seq = try f.integer("seq")
    let prev = try readPrev(&f, seq: seq)
    var e = Envelope(
      log: log, seq: seq, prev: prev, id: try f.ulid("id"), kind: try f.string("kind", limit: 64), at: try readTime(&f),
      actor: try f.string("actor", limit: nameLimit), incarnation: try f.ulid("incarnation"))
    e.schema = schema
    e.ignorable = try f.boolean("ignorable")
    e.epoch = try f.integer("epoch")
    e.request = try f.optionalString("request", limit: EventLimits.text)
    e.operator = try f.optionalString("operator", limit: EventLimits.text)
    e.reason = try f.optionalString("reason", limit: EventLimits.text)
    return e
  }

  private static func readPrev(_ f: inout TOMLFields, seq: UInt64) throws(TOMLError) -> Digest? {
    if seq > 0 { return try f.digest("prev") }
    guard try f.string("prev") == "none" else { throw TOMLError("prev of entry 0 is not \"none\"") }
    return nil
  }

  private static func readTime(_ f: inout TOMLFields) throws(TOMLError) -> String {
    let text = try f.string("at", limit: 24)
    guard Timestamp.isWellFormed(text) else { throw TOMLError("at is not \"YYYY-MM-DDThh:mm:ss.mmmZ\"") }
    return text
  }
}

extension Envelope {
  package var isNameEntry: Bool { log.hasPrefix("name/") }
}
