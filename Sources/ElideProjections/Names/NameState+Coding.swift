import ElideEvents
import ElideIO

// The state as TOML: what a checkpoint carries, what a rename's hash is over, what this host keeps. Equal states are equal
// bytes. Rebuildable: bytes of another version are dropped and the log is folded again.

extension NameState {
  private static let format: UInt64 = 1
  /// Bytes of the longest encoded state that is read.
  package static let maxBytes = 8 << 20

  package func encode() -> [UInt8] {
    var w = TOMLWriter()
    w.integer("format", Self.format)
    w.string("name", name)
    if let seq { w.integer("seq", seq) }
    w.string("phase", phase.rawValue)
    w.integer("since", since)
    w.string("since_at", sinceAt)
    w.string("owner", ifPresent: owner)
    if let incarnation { w.ulid("incarnation", incarnation) }
    w.integer("epoch", epoch)
    if let grant { w.ulid("grant", grant) }
    w.string("released_by", ifPresent: releasedBy)
    w.integer("size", size)
    if let cut { cut.write("cut", &w) }
    if let pending {
      w.ulid("pending_volume", pending.volume)
      w.publicKey("pending_key", pending.key)
    }
    w.string("source", ifPresent: source)
    if let r = reservation {
      w.string("reserved_for", r.old)
      w.integer("reserved_slot", r.slot)
      w.integer("reserved_seq", r.seq)
      w.string("reserved_before", r.before.rawValue)
    }
    w.string("renamed_to", ifPresent: renamedTo)
    if let origin {
      w.string("origin", origin.old)
      w.integer("origin_slot", origin.slot)
    }
    if let s = stranger {
      w.integer("stranger_seq", s.seq)
      w.string("stranger_kind", s.kind)
      w.integer("stranger_schema", s.schema)
    }
    w.integer("violation_count", violationCount)
    w.integers("violation_seqs", violations.map(\.seq))
    w.strings("violations", violations.map(\.detail))
    holdings.write(&w)
    return w.bytes
  }

  /// From `encode`'s bytes; anything else is an error, never a trap.
  package static func decode(_ bytes: [UInt8]) throws(TOMLError) -> NameState {
    var f = TOMLFields(try TOMLDocument.parse(bytes, limit: maxBytes))
    guard try f.integer("format") == format else { throw TOMLError("another version") }
    var s = NameState(name: try f.volumeName("name"))
    if f.contains("seq") { s.seq = try f.integer("seq") }
    s.phase = try phase("phase", &f)
    s.since = try f.integer("since")
    s.sinceAt = try f.string("since_at", limit: 24)
    if f.contains("owner") { s.owner = try f.host("owner") }
    if f.contains("incarnation") { s.incarnation = try f.ulid("incarnation") }
    s.epoch = try f.integer("epoch")
    if f.contains("grant") { s.grant = try f.ulid("grant") }
    if f.contains("released_by") { s.releasedBy = try f.host("released_by") }
    s.size = try f.integer("size")
    if f.contains("cut_volume") { s.cut = try Cut("cut", &f) }
    try s.readPromises(&f)
    if f.contains("stranger_seq") {
      s.stranger = Stranger(
        seq: try f.integer("stranger_seq"), kind: try f.string("stranger_kind", limit: 64),
        schema: try f.integer("stranger_schema"))
    }
    s.violationCount = try f.integer("violation_count")
    let (seqs, details) = (try f.integers("violation_seqs", EventLimits.integer), try f.strings("violations"))
    guard seqs.count == details.count, seqs.count <= keptViolations else { throw TOMLError("violations do not match") }
    s.violations = zip(seqs, details).map { Violation(seq: $0, detail: $1) }
    s.holdings = try Holdings(&f)
    try f.end()
    return s
  }

  private mutating func readPromises(_ f: inout TOMLFields) throws(TOMLError) {
    if f.contains("pending_volume") {
      pending = Pending(volume: try f.ulid("pending_volume"), key: try f.publicKey("pending_key"))
    }
    source = try f.optionalString("source", limit: EventLimits.text)
    if f.contains("reserved_for") {
      reservation = Reservation(
        old: try f.volumeName("reserved_for"), slot: try f.integer("reserved_slot"), seq: try f.integer("reserved_seq"),
        before: try Self.phase("reserved_before", &f))
    }
    if f.contains("renamed_to") { renamedTo = try f.volumeName("renamed_to") }
    if f.contains("origin") { origin = Origin(old: try f.volumeName("origin"), slot: try f.integer("origin_slot")) }
  }

  private static func phase(_ key: String, _ f: inout TOMLFields) throws(TOMLError) -> Phase {
    let text = try f.string(key, limit: 16)
    guard let phase = Phase(rawValue: text) else { throw TOMLError("\(key) is \"\(text)\"") }
    return phase
  }

  /// What a rename carries to the new name, from this state right after its `renamed_to` in `slot`. `before` is the state
  /// before it, which still had an owner.
  package func carried(before: NameState, slot: UInt64) -> Renamed? {
    guard phase == .renamed, let owner = before.owner, let incarnation = before.incarnation else { return nil }
    return Renamed(
      old: name, slot: slot, stateHash: Digest.sha256(encode()), owner: owner, incarnation: incarnation, size: size, cut: cut,
      holdings: holdings)
  }
}
