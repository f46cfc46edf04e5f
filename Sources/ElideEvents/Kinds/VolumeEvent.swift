import ElideIO

/// Everything that can happen to a volume's data, in the words of its journal. Kinds and fields are the journal's
/// format: see docs/formats/journal.md. State changes by folding these and by nothing else.
package enum VolumeEvent: Equatable, Sendable {
  // Genesis: entry 0 of every journal is one of these.
  case created(Genesis)
  case forked(Genesis, from: Lineage)
  case continued(Genesis, from: Lineage)
  case imported(Genesis, source: String, digest: Digest)

  // Serving.
  case opened(wal: UInt64, lastFrame: UInt64, lastHeaderCRC: UInt32, discarded: UInt64)
  case closed
  case bound(name: String, nameSeq: UInt64, epoch: UInt64)
  case fenced(nameSeq: UInt64)

  // Write-ahead files and segments.
  case walOpened(wal: UInt64)
  case segmentSealed(SealedSegment)
  case segmentEncoded(EncodedSegment)
  case segmentUploaded(segment: UInt64, hash: Digest)

  // Barriers and kept points: each takes effect at the entry that seals wal `after` (at once if that is sealed).
  case snapshotTaken(snapshot: ULID, label: String, after: UInt64)
  case snapshotDeleted(snapshot: ULID)
  case resized(size: UInt64, after: UInt64)
  case mapRooted(seq: UInt64, root: Digest)

  // Collection: formats and accounts are fixed now, the engine appends them once it collects.
  case compactionPlanned(plan: ULID, inputs: [UInt64], outputs: [UInt64], reason: String)
  case compactionCommitted(plan: ULID, moves: Digest)
  case compactionAbandoned(plan: ULID)
  case segmentsRetired(list: Digest, count: UInt64)
  case segmentsDeleted(list: Digest, count: UInt64, reapSeq: UInt64)
  case sourceAdded(volume: ULID, cut: UInt64, key: [UInt8], first: UInt64, count: UInt64)
  case objectPlanned(key: String)
  case objectsRetired(keys: [String])
  case objectsDeleted(keys: [String])
  case repaired(detail: String, lostFromFrame: UInt64)
}

/// What every genesis says.
package struct Genesis: Equatable, Sendable {
  /// Bytes, a multiple of 512, at most 2^50.
  package var size: UInt64
  /// The store's unit, 4096.
  package var blockSize: UInt64
  /// The volume's Ed25519 public key, 32 bytes: it signs the journal's pages.
  package var key: [UInt8]
  /// Features a reader must know to open the volume at all, and to write it.
  package var incompatibleFeatures: [String]
  package var readOnlyCompatibleFeatures: [String]

  package init(
    size: UInt64, blockSize: UInt64 = 4096, key: [UInt8], incompatibleFeatures: [String] = [],
    readOnlyCompatibleFeatures: [String] = []
  ) {
    self.size = size
    self.blockSize = blockSize
    self.key = key
    self.incompatibleFeatures = incompatibleFeatures
    self.readOnlyCompatibleFeatures = readOnlyCompatibleFeatures
  }
}

/// Where a forked or continued volume begins: a published cut of its parent.
package struct Lineage: Equatable, Sendable {
  package var parent: ULID
  /// The cut: the parent's state after this entry.
  package var seq: UInt64
  /// The page of the parent that published the cut, and the SHA-256 of that page.
  package var page: UInt64
  package var pageHash: Digest
  package var parentKey: [UInt8]
  /// The first segment number that is the child's own: one past the parent's highest at the cut.
  package var firstSegment: UInt64

  package init(parent: ULID, seq: UInt64, page: UInt64, pageHash: Digest, parentKey: [UInt8], firstSegment: UInt64) {
    self.parent = parent
    self.seq = seq
    self.page = page
    self.pageHash = pageHash
    self.parentKey = parentKey
    self.firstSegment = firstSegment
  }
}

/// `segment_sealed`: contents, duplicates and runs of a segment are final.
package struct SealedSegment: Equatable, Sendable {
  package enum Origin: String, Sendable { case wal, `import`, compaction }
  package var segment: UInt64
  package var origin: Origin
  /// Blocks that have an r, that is, plain data of its own; 0 means that there is no body.
  package var blocks: UInt64
  /// SHA-256 of the content blob (`SegmentContent`), carried beside the entry.
  package var content: Digest

  package init(segment: UInt64, origin: Origin, blocks: UInt64, content: Digest) {
    self.segment = segment
    self.origin = origin
    self.blocks = blocks
    self.content = content
  }
}

/// `segment_encoded`: how a segment's body is laid out, named before its first byte leaves.
package struct EncodedSegment: Equatable, Sendable {
  package var segment: UInt64
  /// SHA-256 over content digest and encoding digest (64 bytes); the body's key ends with it.
  package var hash: Digest
  /// SHA-256 of the encoding blob (`SegmentEncoding`), carried beside the entry.
  package var encoding: Digest
  /// Length of the body object in bytes.
  package var length: UInt64
  package var units: UInt64

  package init(segment: UInt64, hash: Digest, encoding: Digest, length: UInt64, units: UInt64) {
    self.segment = segment
    self.hash = hash
    self.encoding = encoding
    self.length = length
    self.units = units
  }
}
