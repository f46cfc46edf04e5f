import ElideIO

/// What a sealed segment says of the device: runs of blocks in LBA order, disjoint, maximal. With the number of the
/// segment it is all that the block map needs. The content blob of `segment_sealed`; format in docs/formats/segment.md.
package struct SegmentContent: Equatable, Sendable {
  package enum Kind: Equatable, Sendable {
    /// The segment's own blocks: r of the first; dense and rising over all data runs, so it is implied in the format.
    case data(r: UInt32)
    /// Written as zeros.
    case zero
    /// Discarded: reads as zeros, and a child sees it unwritten.
    case trim
    /// The same bytes as an older block: the handle of the first, consecutive r after it.
    case duplicate(BlockHandle)
  }
  package struct Run: Equatable, Sendable {
    package var lba: UInt64
    package var count: UInt64
    package var kind: Kind
    package init(lba: UInt64, count: UInt64, kind: Kind) {
      self.lba = lba
      self.count = count
      self.kind = kind
    }
  }
  package var runs: [Run]
  package init(runs: [Run]) { self.runs = runs }
}

/// How a segment's body is laid out: units of neighbouring blocks, each compressed by itself. The encoding blob of
/// `segment_encoded`; format in docs/formats/segment.md.
package struct SegmentEncoding: Equatable, Sendable {
  package enum Codec: UInt8, Sendable {
    case raw = 0
    case zstd = 1
    /// The plain blocks too, and the digest is that of their hashes: SHA-256 over the SHA-256 of each block, in r order.
    case hashed = 2

    /// Whether the blocks are stored as they are.
    package var isPlain: Bool { self != .zstd }
  }
  package struct Unit: Equatable, Sendable {
    /// First r of the unit, and how many blocks it holds (1...256).
    package var r: UInt32
    package var blocks: UInt32
    /// Where its stored bytes lie in the body.
    package var offset: UInt64
    package var length: UInt32
    package var codec: Codec
    /// SHA-256 of the stored bytes, or what `codec` says instead.
    package var digest: Digest
    package init(r: UInt32, blocks: UInt32, offset: UInt64, length: UInt32, codec: Codec, digest: Digest) {
      self.r = r
      self.blocks = blocks
      self.offset = offset
      self.length = length
      self.codec = codec
      self.digest = digest
    }
  }
  /// In r order, covering every r of the segment once.
  package var units: [Unit]
  /// After the units, the body holds one SHA-256 per block in r order: where, and the SHA-256 of that table.
  package var hashesOffset: UInt64
  package var hashesDigest: Digest
  package init(units: [Unit], hashesOffset: UInt64, hashesDigest: Digest) {
    self.units = units
    self.hashesOffset = hashesOffset
    self.hashesDigest = hashesDigest
  }
}
