import ElideIO

/// Proofs over a log's entries (RFC 6962, verified as in RFC 9162): that an entry is the one at a place in a tree of which
/// somebody kept the root, and that a longer tree begins with a shorter one. Made from the hashes of all leaves, checked with
/// the proof alone.
package enum MerkleProof {
  /// The root of a tree of these leaf hashes (`MerkleFrontier.leaf`).
  package static func root(_ leaves: ArraySlice<Digest>) -> Digest {
    guard leaves.count > 1 else { return leaves.first ?? Digest.sha256([]) }
    let middle = leaves.startIndex + split(leaves.count)
    return MerkleFrontier.node(root(leaves[..<middle]), root(leaves[middle...]))
  }

  /// Siblings from the leaf `index` up to the root, the nearest first. Empty when there is no such leaf.
  package static func inclusion(of index: Int, in leaves: ArraySlice<Digest>) -> [Digest] {
    guard leaves.count > 1, (0..<leaves.count).contains(index) else { return [] }
    let k = split(leaves.count)
    let middle = leaves.startIndex + k
    if index < k { return inclusion(of: index, in: leaves[..<middle]) + [root(leaves[middle...])] }
    return inclusion(of: index - k, in: leaves[middle...]) + [root(leaves[..<middle])]
  }

  /// That the tree of the first `count` leaves is the beginning of the tree of all. Empty for none or all of them.
  package static func consistency(from count: Int, in leaves: ArraySlice<Digest>) -> [Digest] {
    guard count > 0, count < leaves.count else { return [] }
    return subproof(count, leaves, isWhole: true)
  }

  private static func subproof(_ m: Int, _ leaves: ArraySlice<Digest>, isWhole: Bool) -> [Digest] {
    if m == leaves.count { return isWhole ? [] : [root(leaves)] }
    let k = split(leaves.count)
    let middle = leaves.startIndex + k
    if m <= k { return subproof(m, leaves[..<middle], isWhole: isWhole) + [root(leaves[middle...])] }
    return subproof(m - k, leaves[middle...], isWhole: false) + [root(leaves[..<middle])]
  }

  /// The largest power of two below `count`, which is at least 2.
  private static func split(_ count: Int) -> Int {
    var k = 1
    while 2 * k < count { k *= 2 }
    return k
  }

  // MARK: Checking

  /// Whether `leaf` is number `index` in the tree of `size` leaves with this root.
  package static func isIncluded(_ leaf: Digest, at index: UInt64, of size: UInt64, root: Digest, by path: [Digest]) -> Bool {
    guard index < size else { return false }
    var (node, last) = (index, size - 1)
    var hash = leaf
    for sibling in path {
      if last == 0 { return false }
      if node & 1 == 1 || node == last {
        hash = MerkleFrontier.node(sibling, hash)
        while node & 1 == 0, node != 0 {
          node >>= 1
          last >>= 1
        }
      } else {
        hash = MerkleFrontier.node(hash, sibling)
      }
      node >>= 1
      last >>= 1
    }
    return last == 0 && hash == root
  }

  /// Whether the tree of `new` leaves begins with that of `old`. An empty tree is the beginning of every one.
  package static func isConsistent(
    from old: UInt64, _ oldRoot: Digest, to new: UInt64, _ newRoot: Digest, by path: [Digest]
  ) -> Bool {
    if old == new { return path.isEmpty && oldRoot == newRoot }
    if old == 0 { return path.isEmpty && oldRoot == Digest.sha256([]) }
    guard old < new else { return false }
    // A perfect old tree is a node of the new one, and is not repeated in the path.
    var rest = path[...]
    if old & (old - 1) == 0 { rest = ([oldRoot] + path)[...] }
    guard let first = rest.popFirst() else { return false }
    var (node, last) = (old - 1, new - 1)
    while node & 1 == 1 {
      node >>= 1
      last >>= 1
    }
    var (before, after) = (first, first)
    for sibling in rest {
      if last == 0 { return false }
      if node & 1 == 1 || node == last {
        before = MerkleFrontier.node(sibling, before)
        after = MerkleFrontier.node(sibling, after)
        while node & 1 == 0, node != 0 {
          node >>= 1
          last >>= 1
        }
      } else {
        after = MerkleFrontier.node(after, sibling)
      }
      node >>= 1
      last >>= 1
    }
    return last == 0 && before == oldRoot && after == newRoot
  }
}
