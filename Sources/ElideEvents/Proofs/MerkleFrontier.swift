import ElideIO

/// The right edge of a Merkle tree over entries (RFC 6962 hashing): enough to append and to name the root, 32 bytes for
/// each bit of the count.
package struct MerkleFrontier: Equatable, Sendable {
  package private(set) var count: UInt64 = 0
  /// Roots of the perfect subtrees, the largest first: one for each set bit of `count`.
  package private(set) var peaks: [Digest] = []

  package init() {}

  /// nil unless there are as many peaks as `count` has bits set.
  package init?(count: UInt64, peaks: [Digest]) {
    guard peaks.count == count.nonzeroBitCount else { return nil }
    self.count = count
    self.peaks = peaks
  }

  package static func leaf(_ raw: [UInt8]) -> Digest { Digest.sha256([0] + raw) }
  package static func node(_ left: Digest, _ right: Digest) -> Digest { Digest.sha256([1] + left.bytes + right.bytes) }

  package mutating func append(_ raw: [UInt8]) {
    var top = Self.leaf(raw)
    var n = count
    while n & 1 == 1, let left = peaks.popLast() {
      top = Self.node(left, top)
      n >>= 1
    }
    peaks.append(top)
    count += 1
  }

  /// The root of the tree; of no entries the hash of nothing.
  package var root: Digest {
    guard var top = peaks.last else { return Digest.sha256([]) }
    for left in peaks.dropLast().reversed() { top = Self.node(left, top) }
    return top
  }
}
