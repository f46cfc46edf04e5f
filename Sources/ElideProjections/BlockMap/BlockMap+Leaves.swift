import CElide
import ElideIO

extension BlockMap {
  /// Leaves that cover `blocks`.
  static func leafCount(_ blocks: UInt64) -> UInt64 { blocks / 1024 + (blocks % 1024 == 0 ? 0 : 1) }

  /// Visits the leaves of the volume in order: constants as stretches as wide as they are, the others one by one with
  /// their encoding. Writer.
  func visitLeaves(constant: (BlockHandle, UInt64) -> Void, leaf: (UnsafeBufferPointer<UInt8>) -> Void) {
    var pending: (raw: UInt64, leaves: UInt64) = (0, 0)
    var left = Self.leafCount(shared[Self.sizeWord])
    func flush() {
      if pending.leaves > 0 { constant(BlockHandle(raw: pending.raw), pending.leaves) }
      pending.leaves = 0
    }
    func visit(_ word: UInt64, _ level: Int) {
      guard left > 0 else { return }
      if Slot.tag(word) == Slot.inner {
        let node = Slot.node(word)
        for i in 0..<Level.fanout { visit(node[i], level - 1) }
      } else if word >> 60 <= 1 {
        if pending.raw != word { flush() }
        let n = min(left, Level.span(level - 1))
        pending = (word, pending.leaves + n)
        left -= n
      } else {
        flush()
        left -= 1
        scratch.load(word)
        scratch.withEncoding(leaf)
      }
    }
    for i in 0..<Level.fanout { visit(top[i], 3) }
    flush()
  }

  /// Sets leaf `index` of a map that nobody else has seen yet to what its encoding says. `check` sees each run of blocks
  /// and may refuse it; so is what lies past the end of the volume, and a leaf of one constant, which has no encoding.
  func setLeaf(
    _ index: UInt64, encoding: UnsafeRawBufferPointer, check: (BlockHandle, UInt64) throws(FormatError) -> Void
  ) throws(FormatError) {
    let leaf = loading
    try LeafCoding.decode(encoding, into: leaf)
    func bad(_ what: String) -> FormatError { FormatError("map leaf \(index)", offset: 0, what) }
    if leaf.count == 1, leaf.handles[0] >> 60 <= 1 { throw bad("a constant with an encoding") }
    var runs: [MapUpdate] = []
    runs.reserveCapacity(leaf.count)
    for i in 0..<leaf.count {
      let handle = BlockHandle(raw: leaf.handles[i])
      let run = MapUpdate(
        lba: index * 1024 + UInt64(leaf.starts[i]), count: UInt64(leaf.end(i)) - UInt64(leaf.starts[i]), handle: handle)
      if handle == .unwritten { continue }
      guard run.lba + run.count <= shared[Self.sizeWord] else { throw bad("blocks past the end of the volume") }
      if handle.isBlock { try check(handle, run.count) }
      runs.append(run)
    }
    runs.withUnsafeBufferPointer { update($0) { _, _ in } }
  }
}
