import ElideEvents
import ElideIO

/// Entries of a name's log.
enum NameFuzz {
  private static let key = SigningKey(secret: [UInt8](repeating: 7, count: 32))

  /// What was understood can be written, and is understood again; whatever it is, it occupies one slot.
  static func entry(_ bytes: [UInt8]) {
    var replay = NameReplay(name: "db")
    _ = replay.next(bytes)
    precondition(replay.position == JournalHead(seq: 0, hash: Digest.sha256(bytes)), "bytes that do not occupy their slot")
    guard let entry = try? NameEntryCodec.decode(bytes, of: "db", at: 0) else { return }
    precondition(bytes.count <= Entry.maxBytes, "an entry beyond its bound")
    guard let event = entry.event, let key else { return }
    var envelope = entry.envelope
    envelope.actor = Digest.sha256(key.publicKey).hex
    guard let written = try? NameEntryCodec.encode(envelope, event, key: key) else { return }
    guard let again = try? NameEntryCodec.decode(written.raw, of: "db", at: 0) else {
      preconditionFailure("what was written is not read")
    }
    precondition(again == written && again.isSigned, "what was written reads as something else")
  }
}
