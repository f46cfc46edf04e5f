import ElideIO

/// A place in history: an entry of one volume's journal. Points of different volumes are not compared by seq.
package struct Point: Hashable, Sendable {
  package var volume: ULID
  package var seq: UInt64
  package init(volume: ULID, seq: UInt64) {
    self.volume = volume
    self.seq = seq
  }
}

/// Where an uploaded segment's body and encoding are: enough to read its blocks without the journal.
package struct BodyLocator: Hashable, Sendable {
  /// The hash in the body's key, and the body's length in bytes.
  package var hash: Digest
  package var length: UInt64
  /// SHA-256 of the encoding blob, and where that blob's frame lies: bytes [offset, offset+frameLength) of a journal page
  /// of the segment's volume.
  package var encoding: Digest
  package var page: UInt64
  package var offset: UInt64
  package var frameLength: UInt32
  package init(hash: Digest, length: UInt64, encoding: Digest, page: UInt64, offset: UInt64, frameLength: UInt32) {
    self.hash = hash
    self.length = length
    self.encoding = encoding
    self.page = page
    self.offset = offset
    self.frameLength = frameLength
  }
}

/// One segment as the space account and a map checkpoint know it.
package struct SegmentTableRow: Hashable, Sendable {
  package var number: UInt64
  /// The volume under whose prefix its body lies: this one, or an ancestor.
  package var volume: ULID
  package var blocks: UInt32
  /// LBAs of the base that point into it.
  package var count: UInt64
  package var sealed: Point
  /// The last time the count fell to zero; nil while it never has.
  package var death: Point?
  /// Segments whose index names this one as a duplicate's target, rising.
  package var referrers: [UInt64]
  /// Known for inherited segments; for the volume's own only in a checkpoint, once a page carries the encoding.
  package var body: BodyLocator?

  package init(
    number: UInt64, volume: ULID, blocks: UInt32, count: UInt64 = 0, sealed: Point, death: Point? = nil,
    referrers: [UInt64] = [], body: BodyLocator? = nil
  ) {
    self.number = number
    self.volume = volume
    self.blocks = blocks
    self.count = count
    self.sealed = sealed
    self.death = death
    self.referrers = referrers
    self.body = body
  }

  /// Whether a retained point c of the lineage needs this segment. Exact for points of the volume that the account
  /// belongs to; `order` says how points of ancestors compare (they all precede the child's own).
  package func isNeeded(at c: UInt64, volume v: ULID) -> Bool {
    let sealedBefore = sealed.volume != v || sealed.seq <= c
    let diedAfter = death.map { $0.volume == v && c < $0.seq } ?? true
    return sealedBefore && (count > 0 || diedAfter)
  }
}
