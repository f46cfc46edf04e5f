import CElide
import ElideIO
import ElideProjections

/// Builds a segment's content from plain blocks and constant runs given in LBA order: finds zeros and duplicates, gives
/// the rest their r. Used for write-ahead files and imports alike; no I/O.
package struct SegmentBuilder {
  package let segment: UInt64
  package private(set) var runs: [SegmentContent.Run] = []
  /// SHA-256 of each block that got an r, in r order.
  package private(set) var hashes: [Digest] = []
  private var inSegment: [Digest: UInt32] = [:]

  /// - Parameter capacity: blocks expected; a hint.
  package init(segment: UInt64, capacity: Int = 0) {
    self.segment = segment
    hashes.reserveCapacity(capacity)
    inSegment.reserveCapacity(capacity)
  }

  package var content: SegmentContent { SegmentContent(runs: runs) }
  package var blockCount: UInt32 { UInt32(hashes.count) }

  /// Adds zeros or a discard; the run stays one however long it is.
  package mutating func addConstant(lba: UInt64, count: UInt64, isTrim: Bool) {
    append(lba, count, isTrim ? .trim : .zero)
  }

  /// What became of a block.
  package enum Outcome: Equatable, Sendable {
    /// It got the next r.
    case data
    case zero
    /// It is a block of this segment again.
    case repeated
    /// It is a block of another segment: one to keep local (see `Sealer`).
    case duplicate(BlockHandle)
  }

  /// Adds one block, at a higher LBA than all before it.
  ///
  /// - Parameter dedup: where a block with this hash lies in another segment, if that may be pointed at.
  @discardableResult
  package mutating func addBlock(lba: UInt64, _ block: UnsafeRawPointer, dedup: (Digest) -> BlockHandle?) -> Outcome {
    let isZero = elide_is_zero(block, 4096) != 0
    let hash = isZero ? nil : Digest.sha256(UnsafeRawBufferPointer(start: block, count: 4096))
    return addBlock(lba: lba, hash: hash, dedup: dedup)
  }

  /// The same with the block's SHA-256 given: nil for a block of zeros.
  package mutating func addBlock(lba: UInt64, hash: Digest?, dedup: (Digest) -> BlockHandle?) -> Outcome {
    guard let hash else {
      append(lba, 1, .zero)
      return .zero
    }
    if let r = inSegment[hash] {
      append(lba, 1, .duplicate(BlockHandle(segment: segment, r: r)))
      return .repeated
    }
    if let target = dedup(hash) {
      append(lba, 1, .duplicate(target))
      return .duplicate(target)
    }
    let r = UInt32(hashes.count)
    hashes.append(hash)
    inSegment[hash] = r
    append(lba, 1, .data(r: r))
    return .data
  }

  /// Extends the last run where the new one continues it: runs stay maximal.
  private mutating func append(_ lba: UInt64, _ count: UInt64, _ kind: SegmentContent.Kind) {
    if let last = runs.last, last.lba + last.count == lba {
      let continues =
        switch (last.kind, kind) {
        case (.zero, .zero), (.trim, .trim): true
        case (.data(let a), .data(let b)): UInt64(a) + last.count == UInt64(b)
        case (.duplicate(let a), .duplicate(let b)): a.segment == b.segment && a.advanced(by: last.count) == b
        default: false
        }
      if continues {
        runs[runs.count - 1].count += count
        return
      }
    }
    runs.append(SegmentContent.Run(lba: lba, count: count, kind: kind))
  }
}
