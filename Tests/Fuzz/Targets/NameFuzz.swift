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

  /// What was understood is written as it was read: notes have one spelling.
  static func proof(_ bytes: [UInt8]) {
    if let note = try? TreeCheckpoint.decode(bytes) {
      precondition(note.encode() == bytes, "a note that is written otherwise")
      if let key { precondition(!note.isSigned(by: key.publicKey) || !note.signatures.isEmpty) }
    }
    guard let proof = try? LogProof.decode(bytes) else { return }
    precondition(proof.encode() == bytes, "a proof that is written otherwise")
    _ = proof.holds
  }

  /// A note, and a proof of each kind.
  static var proofs: [[UInt8]] {
    guard let key else { return [] }
    let leaves = (0..<5 as Range<UInt8>).map { MerkleFrontier.leaf([$0]) }
    var note = TreeCheckpoint(
      origin: "elide/store/01J00000000000000000000000/name/db", size: 5, root: MerkleProof.root(leaves[...]))
    note.sign(key)
    let entry = LogProof(.entry(raw: [3], index: 3), path: MerkleProof.inclusion(of: 3, in: leaves[...]), checkpoint: note)
    let beginning = LogProof(
      .beginning(size: 3, root: MerkleProof.root(leaves[..<3])), path: MerkleProof.consistency(from: 3, in: leaves[...]),
      checkpoint: note)
    return [note.encode(), entry.encode(), beginning.encode()]
  }
}
