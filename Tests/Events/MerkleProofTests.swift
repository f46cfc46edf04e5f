import ElideEvents
import ElideIO
import Testing

/// Every proof of every small tree holds; none holds for another place, size, root or leaf, nor with a hash changed, left out
/// or added.
@Suite struct MerkleProofTests {
  private let leaves = (0..<34 as Range<UInt8>).map { MerkleFrontier.leaf([$0, 7]) }
  private func root(_ n: Int) -> Digest { MerkleProof.root(leaves[..<n]) }
  private let other = Digest.sha256([9])

  @Test func theRootIsThatOfTheEdge() {
    var edge = MerkleFrontier()
    for n in 0...leaves.count {
      #expect(root(n) == edge.root, "\(n)")
      edge.append([UInt8(n), 7])
    }
  }

  @Test func anEntryIsProvedToBeWhereItIs() {
    for n in 1...leaves.count {
      for i in 0..<n {
        let path = MerkleProof.inclusion(of: i, in: leaves[..<n])
        func holds(_ leaf: Digest, _ i: Int, _ n: Int, _ root: Digest, _ path: [Digest]) -> Bool {
          MerkleProof.isIncluded(leaf, at: UInt64(i), of: UInt64(n), root: root, by: path)
        }
        #expect(holds(leaves[i], i, n, root(n), path), "\(i) of \(n)")
        #expect(!holds(other, i, n, root(n), path) && !holds(leaves[i], i, n, other, path))
        #expect(!holds(leaves[i], n, n, root(n), path) && !holds(leaves[i], i, n, root(n), path + [other]))
        if n > 1 {
          #expect(!holds(leaves[i], i ^ 1, n, root(n), path) && !holds(leaves[i], i, n, root(n), Array(path.dropLast())))
        }
        for j in path.indices {
          var changed = path
          changed[j] = other
          #expect(!holds(leaves[i], i, n, root(n), changed))
        }
      }
    }
  }

  @Test func aLongerLogIsProvedToBeginWithAShorter() {
    for n in 0...leaves.count {
      for m in 0...n {
        let path = MerkleProof.consistency(from: m, in: leaves[..<n])
        func holds(_ m: Int, _ old: Digest, _ n: Int, _ new: Digest, _ path: [Digest]) -> Bool {
          MerkleProof.isConsistent(from: UInt64(m), old, to: UInt64(n), new, by: path)
        }
        #expect(holds(m, root(m), n, root(n), path), "\(m) in \(n)")
        if m == 0 { continue }
        #expect(!holds(m, other, n, root(n), path) && !holds(m, root(m), n, other, path))
        #expect(!holds(m, root(m), n, root(n), path + [other]))
        if m < n {
          #expect(!holds(n, root(n), m, root(m), path) && !holds(m, root(m), n, root(n), Array(path.dropLast())))
        }
        for j in path.indices {
          var changed = path
          changed[j] = other
          #expect(!holds(m, root(m), n, root(n), changed))
        }
      }
    }
  }
}
