import CElide

// The nodes of a `BlockMap` in memory. The map is a radix tree over LBAs: a leaf covers 1024 blocks (4 MiB), three
// levels of inner nodes above it have 1024 slots each, so the slots of level 1, 2 and 3 cover 2^10, 2^20 and 2^30 blocks.
//
// A slot is one word, loaded with acquire and stored with release. Its top four bits say what it is:
//
//     0 unwritten, 1 zero    the whole span of the slot is this constant (any level)
//     2 block                the whole leaf is one run of consecutive r that begins with this handle (level 1 only)
//     8 runs                 pointer to a leaf of few runs, immutable: replaced as a whole
//     9 dense                pointer to a leaf with a word per block, each of which is stored by itself
//     10 inner               pointer to a node of the level below
//
// Layouts, in words of 8 bytes:
//
//     runs   count | count handles | count starts of 16 bits, padded to a word; start 0 is 0
//     dense  number of maximal runs (the writer's) | 1024 handles
//     inner  1024 slots | unwritten slots (32 bits), zero slots (32 bits) | digests or 0 | 1024 dirty bits
//
// After its slots an inner node holds the writer's own notes; a reader looks at slots alone.

/// One thing a slot may hold. See the head of this file.
package enum Slot {
  package static let runs: UInt64 = 8 << 60
  package static let dense: UInt64 = 9 << 60
  package static let inner: UInt64 = 10 << 60
  package static let tagMask: UInt64 = 15 << 60

  @inlinable package static func tag(_ word: UInt64) -> UInt64 { word & tagMask }
  @inlinable package static func isPointer(_ word: UInt64) -> Bool { word >> 63 != 0 }
  /// The node a pointer slot names. User addresses here have fewer than 60 bits (checked when the slot is made).
  @inlinable package static func node(_ word: UInt64) -> UnsafeMutablePointer<UInt64> {
    UnsafeMutablePointer(bitPattern: UInt(word & ~tagMask)).unsafelyUnwrapped
  }
  static func pointer(_ node: UnsafeMutablePointer<UInt64>, tag: UInt64) -> UInt64 {
    let address = UInt64(UInt(bitPattern: node))
    precondition(address & tagMask == 0)
    return address | tag
  }
}

/// What a slot stands for, level by level: 0 is a block, 1 a leaf.
package enum Level {
  package static let fanout = 1024
  @inlinable package static func span(_ level: Int) -> UInt64 { 1 << UInt64(10 * level) }
}

extension BlockHandle {
  /// Whether `self` is what comes `n` blocks after `first` in a run: the same constant, or the r that follows in the
  /// same segment.
  @inlinable package func follows(_ first: BlockHandle, after n: UInt64) -> Bool {
    first.isBlock ? raw == first.raw &+ n && segment == first.segment : raw == first.raw
  }
}

/// A word of the tree as readers see it.
@inlinable package func loadSlot(_ node: UnsafeMutablePointer<UInt64>, _ index: Int) -> UInt64 {
  elide_load_acquire_u64(node + index)
}

/// A leaf of few runs.
package struct RunsLeaf {
  package let words: UnsafeMutablePointer<UInt64>
  @inlinable package init(words: UnsafeMutablePointer<UInt64>) { self.words = words }

  /// More runs than this make a dense leaf; a dense leaf becomes one of runs again at `comeBack` or fewer.
  static let limit = 512
  static let comeBack = 192

  @inlinable package var count: Int { Int(truncatingIfNeeded: words[0]) }
  @inlinable package func handle(_ i: Int) -> BlockHandle { BlockHandle(raw: words[1 + i]) }
  @inlinable package func start(_ i: Int) -> Int {
    Int(UnsafeRawPointer(words + 1 + count).loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))
  }
  /// First block after run `i`.
  @inlinable package func end(_ i: Int) -> Int { i + 1 < count ? start(i + 1) : Level.fanout }
  /// The run that holds block `offset` of the leaf.
  @inlinable package func index(of offset: Int) -> Int {
    let starts = UnsafeRawPointer(words + 1 + count)
    var low = 0
    var length = count
    while length > 1 {
      let half = length >> 1
      let probe = Int(starts.loadUnaligned(fromByteOffset: 2 * (low + half), as: UInt16.self))
      low = probe <= offset ? low + half : low
      length -= half
    }
    return low
  }
  static func wordCount(_ runs: Int) -> Int { 1 + runs + (2 * runs + 7) / 8 }
}

/// The writer's notes behind an inner node's slots.
struct InnerNode {
  let words: UnsafeMutablePointer<UInt64>
  static let wordCount = Level.fanout + 2 + Level.fanout / 64

  /// How many slots are this constant.
  func constants(_ tag: UInt64) -> Int {
    tag == 0 ? Int(words[Level.fanout] & 0xFFFF_FFFF) : Int(words[Level.fanout] >> 32)
  }
  func adjustConstants(_ tag: UInt64, by n: Int) {
    words[Level.fanout] = words[Level.fanout] &+ (UInt64(bitPattern: Int64(n)) << (tag == 0 ? 0 : 32))
  }
  func setConstants(unwritten: Int, zero: Int) { words[Level.fanout] = UInt64(unwritten) | UInt64(zero) << 32 }

  /// Cached digests of the children: `MapRoot.headerBytes`, then 32 bytes a child; nil until a root was asked for.
  var digests: UnsafeMutableRawPointer? {
    get { UnsafeMutableRawPointer(bitPattern: UInt(words[Level.fanout + 1])) }
    nonmutating set { words[Level.fanout + 1] = UInt64(UInt(bitPattern: newValue)) }
  }
  /// 1024 bits: the child changed since its digest was cached.
  var dirty: UnsafeMutablePointer<UInt64> { words + Level.fanout + 2 }
  func markDirty(_ i: Int) { dirty[i >> 6] |= 1 << UInt64(i & 63) }
}
