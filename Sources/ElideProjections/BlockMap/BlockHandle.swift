import ElideIO

/// Where a block's bytes are: a tag (4 bits), a segment of the volume's table (40 bits) and the ordinal r of the block
/// in that segment's body (20 bits). Eight bytes, trivially copied.
package struct BlockHandle: Equatable, Hashable, Sendable {
  package let raw: UInt64
  @inlinable package init(raw: UInt64) { self.raw = raw }

  /// Never written (or trimmed): reads as zeros.
  package static let unwritten = BlockHandle(raw: 0)
  /// Written as zeros.
  package static let zero = BlockHandle(raw: 1 << 60)

  @inlinable package init(segment: UInt64, r: UInt32) {
    precondition(segment < 1 << 40 && r < 1 << 20)
    raw = 2 << 60 | segment << 20 | UInt64(r)
  }
  @inlinable package var tag: UInt8 { UInt8(raw >> 60) }
  @inlinable package var isBlock: Bool { tag == 2 }
  @inlinable package var segment: UInt64 { raw >> 20 & (1 << 40 - 1) }
  @inlinable package var r: UInt32 { UInt32(truncatingIfNeeded: raw & (1 << 20 - 1)) }
  /// The handle `n` blocks on in a run: r rises for blocks, zero and unwritten stay themselves.
  @inlinable package func advanced(by n: UInt64) -> BlockHandle { isBlock ? BlockHandle(raw: raw + n) : self }
}
