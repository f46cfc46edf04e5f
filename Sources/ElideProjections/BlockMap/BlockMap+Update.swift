import CElide

/// One run of an update: blocks [lba, lba+count) become `handle` and what follows it.
package struct MapUpdate: Equatable, Sendable {
  package var lba: UInt64
  package var count: UInt64
  package var handle: BlockHandle
  package init(lba: UInt64, count: UInt64, handle: BlockHandle) {
    self.lba = lba
    self.count = count
    self.handle = handle
  }
}

/// What was replaced, joined into maximal runs before it is told.
struct ReplacedRun {
  var lba: UInt64 = 0
  var count: UInt64 = 0
  var handle = BlockHandle.unwritten

  @inline(__always)
  mutating func add(_ at: UInt64, _ h: BlockHandle, _ n: UInt64, _ tell: (BlockHandle, UInt64) -> Void) {
    if at == lba &+ count, h.follows(handle, after: count) {
      count &+= n
      return
    }
    if count > 0 { tell(handle, count) }
    (lba, count, handle) = (at, n, h)
  }
  mutating func end(_ tell: (BlockHandle, UInt64) -> Void) {
    if count > 0 { tell(handle, count) }
    count = 0
  }
}

extension BlockMap {
  /// Sets blocks [lba, lba+count) to `handle` and what follows it, and tells in LBA order, as maximal runs, what was
  /// there. Writer. A constant run costs a node per level, not per block.
  package func assign(_ lba: UInt64, count: UInt64, handle: BlockHandle, replaced: (BlockHandle, UInt64) -> Void) {
    var one = MapUpdate(lba: lba, count: count, handle: handle)
    withUnsafePointer(to: &one) { update(UnsafeBufferPointer(start: $0, count: 1), replaced: replaced) }
  }

  /// Many runs at once, in LBA order and disjoint: each leaf is rebuilt once. Writer.
  package func update(_ updates: UnsafeBufferPointer<MapUpdate>, replaced: (BlockHandle, UInt64) -> Void) {
    let size = shared[Self.sizeWord]
    var before: UInt64 = 0
    for u in updates {
      precondition(u.lba >= before && u.lba <= size && u.count <= size - u.lba, "updates in order, inside the volume")
      precondition(u.handle.tag <= 1 || u.handle.isBlock && UInt64(u.handle.r) + u.count <= 1 << 20, "a run of one segment")
      before = u.lba + u.count
    }
    var old = ReplacedRun()
    var cursor = UpdateCursor(updates)
    while cursor.next() {
      // The widest slot that this run fills by itself; a run of blocks fills leaves only.
      var level = cursor.handle.isBlock ? 1 : 3
      while level > 0, cursor.lba & (Level.span(level) - 1) != 0 || cursor.count < Level.span(level) { level -= 1 }
      if level > 0 {
        fillSlot(&cursor, level: level, &old, replaced)
      } else {
        updateLeaf(&cursor, &old, replaced)
      }
    }
    old.end(replaced)
    reclaim()
  }

  /// More blocks, unwritten; never fewer. Writer.
  package func grow(to blocks: UInt64) {
    precondition(blocks >= shared[Self.sizeWord] && blocks <= Self.maxBlocks)
    elide_store_release_u64(shared + Self.sizeWord, blocks)
  }

  // MARK: Steps

  /// Sets one whole slot of `level` at the cursor to its constant, or to its run when the slot is a leaf.
  private func fillSlot(
    _ cursor: inout UpdateCursor, level: Int, _ old: inout ReplacedRun, _ tell: (BlockHandle, UInt64) -> Void
  ) {
    let lba = cursor.lba
    guard let path = path(&cursor, downTo: level, &old, tell) else { return }
    let (node, index) = path.slot(level)
    let word = node[index]
    report(word, level: level, lba: lba, &old, tell)
    set(path, level: level, cursor.handle.raw)
    retireTree(word)
    collapse(path, from: level)
    cursor.advance(Level.span(level))
  }

  /// Applies all runs at the cursor that fall into its leaf.
  private func updateLeaf(_ cursor: inout UpdateCursor, _ old: inout ReplacedRun, _ tell: (BlockHandle, UInt64) -> Void) {
    guard let path = path(&cursor, downTo: 1, &old, tell) else { return }
    let (node, index) = path.slot(1)
    let word = node[index]
    if Slot.tag(word) == Slot.dense {
      updateDense(Slot.node(word), &cursor, &old, tell)
      path.markDirty(1)
      guard Slot.node(word)[0] <= UInt64(RunsLeaf.comeBack) else { return }
      scratch.load(word)
    } else {
      scratch.load(word)
      scratch.merge(&cursor, &old, tell)
    }
    set(path, level: 1, build(scratch))
    retireLeaf(word)
    collapse(path, from: 1)
  }

  /// In place, a word at a time: readers see each block before or after.
  private func updateDense(
    _ words: UnsafeMutablePointer<UInt64>, _ cursor: inout UpdateCursor, _ old: inout ReplacedRun,
    _ tell: (BlockHandle, UInt64) -> Void
  ) {
    let base = cursor.lba & ~1023
    let blocks = words + 1
    repeat {
      let from = Int(cursor.lba - base)
      let n = Int(min(cursor.count, UInt64(1024 - from)))
      let handle = cursor.handle
      if n == 1 {
        // The common case of scattered writes: two borders, no loop.
        let word = blocks[from]
        old.add(base + UInt64(from), BlockHandle(raw: word), 1, tell)
        if word != handle.raw {
          let before = Self.borders(blocks, from)
          elide_store_release_u64(blocks + from, handle.raw)
          words[0] = UInt64(Int(words[0]) + Self.borders(blocks, from) - before)
        }
        cursor.advance(1)
        continue
      }
      var breaks = Self.breaks(blocks, from, n)
      for i in 0..<n {
        old.add(base + UInt64(from + i), BlockHandle(raw: blocks[from + i]), 1, tell)
        elide_store_release_u64(blocks + from + i, handle.advanced(by: UInt64(i)).raw)
      }
      breaks = Self.breaks(blocks, from, n) - breaks
      words[0] = UInt64(Int(words[0]) + breaks)
      cursor.advance(UInt64(n))
    } while cursor.next() && cursor.lba & ~1023 == base
  }

  /// How many runs begin at block `i` and the one after.
  @inline(__always)
  private static func borders(_ blocks: UnsafeMutablePointer<UInt64>, _ i: Int) -> Int {
    let here = BlockHandle(raw: blocks[i])
    let first = i > 0 && !here.follows(BlockHandle(raw: blocks[i - 1]), after: 1)
    let second = i + 1 < Level.fanout && !BlockHandle(raw: blocks[i + 1]).follows(here, after: 1)
    return (first ? 1 : 0) + (second ? 1 : 0)
  }

  /// How many runs begin at blocks [from, from+n], the block after included, of a dense leaf.
  private static func breaks(_ blocks: UnsafeMutablePointer<UInt64>, _ from: Int, _ n: Int) -> Int {
    var count = 0
    for i in max(from, 1)..<min(from + n + 1, Level.fanout)
    where !BlockHandle(raw: blocks[i]).follows(BlockHandle(raw: blocks[i - 1]), after: 1) {
      count += 1
    }
    return count
  }

  /// The slot word for what the scratch holds.
  func build(_ leaf: LeafScratch) -> UInt64 {
    if leaf.count == 1 { return leaf.handles[0] }
    if leaf.count <= RunsLeaf.limit {
      let words = allocate(words: RunsLeaf.wordCount(leaf.count))
      words[0] = UInt64(leaf.count)
      (words + 1).update(from: leaf.handles, count: leaf.count)
      let starts = UnsafeMutableRawPointer(words + 1 + leaf.count)
      for i in 0..<leaf.count { starts.storeBytes(of: UInt16(leaf.starts[i]), toByteOffset: 2 * i, as: UInt16.self) }
      return Slot.pointer(words, tag: Slot.runs)
    }
    let words = allocate(words: 1 + Level.fanout)
    words[0] = UInt64(leaf.count)
    leaf.expand(words + 1)
    return Slot.pointer(words, tag: Slot.dense)
  }

  /// Tells what a slot held, constant spans as one run.
  private func report(
    _ word: UInt64, level: Int, lba: UInt64, _ old: inout ReplacedRun, _ tell: (BlockHandle, UInt64) -> Void
  ) {
    switch Slot.tag(word) {
    case Slot.inner:
      let node = Slot.node(word)
      for i in 0..<Level.fanout {
        report(node[i], level: level - 1, lba: lba + UInt64(i) * Level.span(level - 1), &old, tell)
      }
    case Slot.dense:
      let node = Slot.node(word)
      for i in 0..<Level.fanout { old.add(lba + UInt64(i), BlockHandle(raw: node[1 + i]), 1, tell) }
    case Slot.runs:
      let leaf = RunsLeaf(words: Slot.node(word))
      for i in 0..<leaf.count {
        old.add(lba + UInt64(leaf.start(i)), leaf.handle(i), UInt64(leaf.end(i) - leaf.start(i)), tell)
      }
    default:
      old.add(lba, BlockHandle(raw: word), Level.span(level), tell)
    }
  }
}
