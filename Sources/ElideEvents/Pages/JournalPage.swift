import ElideIO

// A journal page, byte exact: docs/formats/page.md. In short:
//
//   head   fixed part (192 bytes), end of log, checkpoints, tail, set sums, entries, frame table, signature
//   frames one per blob, in the order of the frame table, each compressed by itself
//
// The signature covers the head before it, and the frame table holds the digest of each blob, so one frame fetched by a
// ranged GET is verified alone, and the SHA-256 of the head commits to the whole page.

/// Bounds of a page, checked before anything is allocated.
package enum PageLimits {
  package static let bytes = 64 << 20
  package static let entries = 64 << 10
  package static let frames = 64 << 10
  package static let checkpoints = 3
  package static let tail = 16
  /// Bytes of a blob as it was put.
  package static let blob = 64 << 20
}

/// Where a map checkpoint lies, and what it is.
package struct CheckpointLocator: Equatable, Sendable {
  /// The volume under whose prefix it was put: an ancestor's, for a child's first page.
  package var volume: ULID
  package var key: String
  /// The state after this entry of that volume's journal.
  package var seq: UInt64
  /// The Merkle root of the block map there.
  package var root: Digest
  /// Bytes of the object, and their SHA-256.
  package var length: UInt64
  package var digest: Digest

  package init(volume: ULID, key: String, seq: UInt64, root: Digest, length: UInt64, digest: Digest) {
    self.volume = volume
    self.key = key
    self.seq = seq
    self.root = root
    self.length = length
    self.digest = digest
  }
}

/// An earlier page that is to be read on top of the checkpoint: [0, length) of it holds all that the fold needs.
package struct TailPage: Equatable, Sendable {
  package var page: UInt64
  package var firstSeq: UInt64
  package var lastSeq: UInt64
  /// The page's `foldLength`.
  package var length: UInt64
  /// The page's hash.
  package var hash: Digest

  package init(page: UInt64, firstSeq: UInt64, lastSeq: UInt64, length: UInt64, hash: Digest) {
    self.page = page
    self.firstSeq = firstSeq
    self.lastSeq = lastSeq
    self.length = length
    self.hash = hash
  }
}

/// Sums over all segments ever uploaded, retired and deleted, each as `SetSums.element`: "live plus gone equals all" is
/// one comparison.
package struct SetSums: Equatable, Sendable {
  package var uploaded: LtHash16
  package var retired: LtHash16
  package var deleted: LtHash16

  package init(uploaded: LtHash16 = LtHash16(), retired: LtHash16 = LtHash16(), deleted: LtHash16 = LtHash16()) {
    self.uploaded = uploaded
    self.retired = retired
    self.deleted = deleted
  }

  /// What a segment is in a sum: volume (16 bytes, big-endian), number (8 bytes, little-endian), hash (32 bytes).
  package static func element(volume: ULID, segment: UInt64, hash: Digest) -> [UInt8] {
    var w = ByteWriter(capacity: 56)
    w.ulid(volume)
    w.u64(segment)
    w.digest(hash)
    return w.bytes
  }
}

/// What a terminal page says: the volume's page log ends here. The only page that another host may put.
package struct PageEnd: Equatable, Sendable {
  /// The name log and the seq of the committed entry that allows it.
  package var name: String
  package var seq: UInt64
  /// The Ed25519 public key of the host that ends the log; it signs this page. Its id is the hex of the key's SHA-256.
  package var by: [UInt8]

  package init(name: String, seq: UInt64, by: [UInt8]) {
    self.name = name
    self.seq = seq
    self.by = by
  }
}

/// What a page says before its entries.
package struct PageHeader: Equatable, Sendable {
  package var volume: ULID
  package var page: UInt64
  /// The hash of page - 1; nil for page 0.
  package var previous: Digest?
  /// The seq of the first entry, or of the next one when the page has none (a terminal page).
  package var firstSeq: UInt64
  /// The hash of entry firstSeq - 1: entries can be verified from here. nil when firstSeq is 0.
  package var previousEntry: Digest?
  /// The state after this entry can be rebuilt from pages up to this one. Never falls.
  package var cut: UInt64
  package var epoch: UInt64
  package var incarnation: ULID
  /// Wall clock of the writer, milliseconds since 1970. Advisory.
  package var at: UInt64
  package var end: PageEnd?
  /// The current checkpoint: base first, then deltas. None: fold from entry 0.
  package var checkpoints: [CheckpointLocator]
  /// Pages before this one that follow the checkpoint, in order.
  package var tail: [TailPage]
  package var sums: SetSums

  package init(
    volume: ULID, page: UInt64, previous: Digest?, firstSeq: UInt64, previousEntry: Digest?, cut: UInt64, epoch: UInt64 = 0,
    incarnation: ULID, at: UInt64, end: PageEnd? = nil, checkpoints: [CheckpointLocator] = [], tail: [TailPage] = [],
    sums: SetSums = SetSums()
  ) {
    self.volume = volume
    self.page = page
    self.previous = previous
    self.firstSeq = firstSeq
    self.previousEntry = previousEntry
    self.cut = cut
    self.epoch = epoch
    self.incarnation = incarnation
    self.at = at
    self.end = end
    self.checkpoints = checkpoints
    self.tail = tail
    self.sums = sums
  }

  package var isTerminal: Bool { end != nil }
  package var log: String { "volume/\(volume)" }
}

/// Where a blob lies in its page.
package struct PageFrame: Equatable, Sendable {
  package enum Codec: UInt8, Sendable { case raw = 0, zstd = 1 }
  /// SHA-256 of the blob as it was put.
  package let digest: Digest
  package let codec: Codec
  /// Where its stored bytes begin in the page, and how many they are.
  package let offset: UInt64
  package let storedLength: UInt32
  /// Bytes of the blob.
  package let length: UInt32

  package var range: Range<UInt64> { offset..<offset + UInt64(storedLength) }
}

/// What is wrong with a page, by its name.
package enum PageError: Error, Equatable, Sendable, CustomStringConvertible {
  /// More of the object is needed: its first `need` bytes.
  case short(need: Int)
  case malformed(FormatError)
  /// It is not signed by the key it should be signed by.
  case badSignature(page: UInt64)
  /// A frame's bytes are not the blob that the table names.
  case damagedFrame(Digest)
  /// No frame has this blob.
  case missingFrame(Digest)
  /// It does not continue the page before it, or is not the page that was asked for.
  case wrongPlace(page: UInt64, String)
  /// It cannot be written: over a bound.
  case tooLarge(String)

  package var description: String {
    switch self {
    case .short(let need): "the page needs \(need) bytes"
    case .malformed(let e): e.description
    case .badSignature(let page): "page \(page) is not signed by its volume's key"
    case .damagedFrame(let d): "the frame of blob \(d.hex) is damaged"
    case .missingFrame(let d): "no frame has blob \(d.hex)"
    case .wrongPlace(let page, let why): "page \(page): \(why)"
    case .tooLarge(let why): "a page too large: \(why)"
    }
  }
}
