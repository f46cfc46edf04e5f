import CElide

/// LBA → handle for a whole volume: the *base*, a fold of the journal. Eight bytes a block where blocks are scattered,
/// next to nothing where they run; a constant 2^30 blocks wide is one word.
///
/// Caveats first. There is **one writer thread** (the volume's keeper: everything but what is listed here) and **at most
/// one reader thread** beside it (the volume's I/O thread: `lookup`, `run`, `quiesce`, `blocks`). A registered reader
/// that stops calling `quiesce()` keeps memory from being freed. Readers see each block either as before or as after an
/// update, never half a word, but not all blocks of an update at once: who folds a segment keeps its blocks shadowed by
/// the overlay meanwhile.
///
/// Nothing here is durable: after a crash the map is read from a checkpoint and the journal is folded on.
// @unchecked: the tree is shared through atomic words only; all else belongs to the writer.
package final class BlockMap: @unchecked Sendable {
  /// 2^50 bytes in blocks of 4 KiB.
  package static let maxBlocks: UInt64 = 1 << 38

  /// The node of level 3 (slots of 2^30 blocks); its address never changes.
  package let top: UnsafeMutablePointer<UInt64>
  /// Words that both threads touch: size in blocks, the writer's epoch, the epoch the reader has seen (0: no reader).
  package let shared: UnsafeMutablePointer<UInt64>
  package static var sizeWord: Int { 0 }
  package static var epochWord: Int { 8 }
  package static var seenWord: Int { 16 }

  // The writer's.
  var retired: [Retired] = []
  let scratch = LeafScratch()
  /// Another one, for a leaf that is read from a checkpoint.
  lazy var loading = LeafScratch()
  /// Bytes and number of all nodes, retired ones included.
  package internal(set) var memoryBytes = 0
  package internal(set) var nodeCount = 0

  /// An empty map of `blocks` blocks, at most `maxBlocks`.
  package init(blocks: UInt64) {
    precondition(blocks <= Self.maxBlocks)
    shared = .allocate(capacity: 24)
    shared.initialize(repeating: 0, count: 24)
    shared[Self.sizeWord] = blocks
    shared[Self.epochWord] = 1
    top = .allocate(capacity: InnerNode.wordCount)
    top.initialize(repeating: 0, count: InnerNode.wordCount)
    InnerNode(words: top).setConstants(unwritten: Level.fanout, zero: 0)
    memoryBytes = InnerNode.wordCount * 8
    nodeCount = 1
  }

  deinit {
    shared[Self.seenWord] = 0
    for i in 0..<Level.fanout { retireTree(top[i]) }
    reclaim()
    InnerNode(words: top).digests?.deallocate()
    top.deallocate()
    shared.deallocate()
  }

  // MARK: Reader

  /// Size in blocks.
  @inlinable package var blocks: UInt64 { elide_load_acquire_u64(shared + Self.sizeWord) }

  /// Where block `lba` is; unwritten past the end. Wait-free, no allocation.
  @inlinable package func lookup(_ lba: UInt64) -> BlockHandle {
    let word = leafWord(lba)
    let offset = Int(truncatingIfNeeded: lba & 1023)
    if !Slot.isPointer(word) { return Self.inUniform(word, lba & 1023) }
    if Slot.tag(word) == Slot.dense {
      return BlockHandle(raw: loadSlot(Slot.node(word), 1 + offset))
    }
    let leaf = RunsLeaf(words: Slot.node(word))
    let i = leaf.index(of: offset)
    return leaf.handle(i).advanced(by: UInt64(offset &- leaf.start(i)))
  }

  /// The longest run of consecutive handles (the same constant, or rising r in one segment) from `lba` on, at most
  /// `limit` blocks; 0 blocks only when `limit` is 0. Wait-free, no allocation.
  @inlinable package func run(at lba: UInt64, limit: UInt64) -> (handle: BlockHandle, count: UInt64) {
    var (handle, count) = piece(at: lba, limit: limit)
    while count < limit {
      let (next, n) = piece(at: lba &+ count, limit: limit &- count)
      guard next.follows(handle, after: count) else { break }
      count &+= n
    }
    return (handle, count)
  }

  /// The reader holds no result of an earlier call that it still resolves: called once per round of its loop.
  @inlinable package func quiesce() {
    elide_store_release_u64(shared + Self.seenWord, elide_load_acquire_u64(shared + Self.epochWord))
  }

  // MARK: Reader's steps

  /// The word that covers the leaf of `lba`: of level 1, or of the uniform span above it.
  @inlinable package func leafWord(_ lba: UInt64) -> UInt64 {
    guard lba < Self.maxBlocks else { return 0 }
    var word = loadSlot(top, Int(truncatingIfNeeded: lba >> 30))
    guard Slot.isPointer(word) else { return word }
    word = loadSlot(Slot.node(word), Int(truncatingIfNeeded: lba >> 20 & 1023))
    guard Slot.isPointer(word) else { return word }
    return loadSlot(Slot.node(word), Int(truncatingIfNeeded: lba >> 10 & 1023))
  }

  /// Block `offset` of a span that one word describes. Only leaves are runs of blocks, so upper levels are constants.
  @inlinable package static func inUniform(_ word: UInt64, _ offset: UInt64) -> BlockHandle {
    BlockHandle(raw: word).advanced(by: offset)
  }

  /// A run at `lba` as far as one node tells, at most `limit` blocks.
  @inlinable package func piece(at lba: UInt64, limit: UInt64) -> (handle: BlockHandle, count: UInt64) {
    guard lba < Self.maxBlocks else { return (.unwritten, limit) }
    var level = 3
    var word = loadSlot(top, Int(truncatingIfNeeded: lba >> 30))
    while level > 1, Slot.isPointer(word) {
      level &-= 1
      word = loadSlot(Slot.node(word), Int(truncatingIfNeeded: lba >> UInt64(10 * level) & 1023))
    }
    let span = Level.span(level)
    let offset = lba & (span &- 1)
    if !Slot.isPointer(word) { return (Self.inUniform(word, offset), min(limit, span &- offset)) }
    if Slot.tag(word) == Slot.dense { return Self.pieceOfDense(Slot.node(word), Int(offset), limit) }
    let leaf = RunsLeaf(words: Slot.node(word))
    let i = leaf.index(of: Int(offset))
    let handle = leaf.handle(i).advanced(by: offset &- UInt64(leaf.start(i)))
    return (handle, min(limit, UInt64(leaf.end(i)) &- offset))
  }

  @inlinable package static func pieceOfDense(
    _ node: UnsafeMutablePointer<UInt64>, _ offset: Int, _ limit: UInt64
  ) -> (handle: BlockHandle, count: UInt64) {
    let handle = BlockHandle(raw: loadSlot(node, 1 + offset))
    let most = Int(min(limit, UInt64(Level.fanout &- offset)))
    var n = 1
    while n < most, BlockHandle(raw: loadSlot(node, 1 + offset + n)).follows(handle, after: UInt64(n)) { n &+= 1 }
    return (handle, UInt64(min(n, most)))
  }
}
