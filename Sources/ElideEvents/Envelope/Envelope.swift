import ElideIO

/// The fields every entry of either log has, but for the kind and its body. See docs/formats/journal.md.
package struct Envelope: Equatable, Sendable {
  package var schema: UInt64 = 1
  /// "volume/<ulid>" or "name/<name>".
  package var log: String
  /// Dense, from 0.
  package var seq: UInt64
  /// SHA-256 of the raw bytes of entry seq-1; nil at 0.
  package var prev: Digest?
  package var id: ULID
  package var kind: String
  package var ignorable = false
  /// RFC 3339, UTC, milliseconds. Advisory.
  package var at: String
  /// Host id (hex of the SHA-256 of its public key).
  package var actor: String
  package var incarnation: ULID
  package var epoch: UInt64 = 0
  package var request: String?
  package var `operator`: String?
  package var reason: String?

  package init(
    log: String, seq: UInt64, prev: Digest?, id: ULID, kind: String, at: String, actor: String, incarnation: ULID
  ) {
    self.log = log
    self.seq = seq
    self.prev = prev
    self.id = id
    self.kind = kind
    self.at = at
    self.actor = actor
    self.incarnation = incarnation
  }
}

/// An entry as it stands in a log: its raw bytes, which are what is hashed and signed, and what they say.
package struct Entry: Equatable, Sendable {
  /// 64 KiB at most.
  package static let maxBytes = 64 << 10
  package let raw: [UInt8]
  package let hash: Digest
  package let envelope: Envelope
  /// nil when the kind is unknown to this program (or belongs to another log).
  package let event: VolumeEvent?

  package init(raw: [UInt8], hash: Digest, envelope: Envelope, event: VolumeEvent?) {
    self.raw = raw
    self.hash = hash
    self.envelope = envelope
    self.event = event
  }
}

/// An event that is durable in its log. Only a log that made it durable, or the replay of that log, makes one: the
/// initialiser is private to this file, and `commit` below is called from `Journal`, `JournalReplay` and `NameReplay` alone (a
/// tidy test holds it so). Projections take nothing else.
package struct Committed<Event: Sendable>: Sendable {
  package let seq: UInt64
  package let event: Event
  package let envelope: Envelope
  /// SHA-256 of the entry's raw bytes.
  package let hash: Digest

  private init(seq: UInt64, event: Event, envelope: Envelope, hash: Digest) {
    self.seq = seq
    self.event = event
    self.envelope = envelope
    self.hash = hash
  }

  static func commit(seq: UInt64, event: Event, envelope: Envelope, hash: Digest) -> Committed {
    Committed(seq: seq, event: event, envelope: envelope, hash: hash)
  }
}
