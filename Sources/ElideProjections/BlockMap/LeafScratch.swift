/// One leaf as a list of maximal runs, to be changed and written back. The writer's; made once per map.
final class LeafScratch {
  // Room for one more than can be, so that merging may look ahead.
  private(set) var starts = UnsafeMutablePointer<Int32>.allocate(capacity: Level.fanout + 1)
  private(set) var handles = UnsafeMutablePointer<UInt64>.allocate(capacity: Level.fanout + 1)
  private(set) var count = 0
  private var oldStarts = UnsafeMutablePointer<Int32>.allocate(capacity: Level.fanout + 1)
  private var oldHandles = UnsafeMutablePointer<UInt64>.allocate(capacity: Level.fanout + 1)
  private var oldCount = 0

  deinit {
    starts.deallocate()
    handles.deallocate()
    oldStarts.deallocate()
    oldHandles.deallocate()
  }

  func end(_ i: Int) -> Int { i + 1 < count ? Int(starts[i + 1]) : Level.fanout }

  func clear() { count = 0 }

  /// Adds a run that begins at block `start`, which is where the last one ended; joins it if it continues.
  @inline(__always)
  func append(_ start: Int, _ handle: BlockHandle) {
    if count > 0 {
      let first = BlockHandle(raw: handles[count - 1])
      if handle.follows(first, after: UInt64(start - Int(starts[count - 1]))) { return }
    }
    starts[count] = Int32(truncatingIfNeeded: start)
    handles[count] = handle.raw
    count += 1
  }

  /// The leaf that a slot of level 1 holds.
  func load(_ word: UInt64) {
    count = 0
    switch Slot.tag(word) {
    case Slot.dense:
      let blocks = Slot.node(word) + 1
      for i in 0..<Level.fanout { append(i, BlockHandle(raw: blocks[i])) }
    case Slot.runs:
      let leaf = RunsLeaf(words: Slot.node(word))
      count = leaf.count
      for i in 0..<count {
        starts[i] = Int32(truncatingIfNeeded: leaf.start(i))
        handles[i] = leaf.handle(i).raw
      }
    default:
      append(0, BlockHandle(raw: word))
    }
  }

  /// Replaces what the runs at the cursor cover, telling what was there, until the cursor leaves the leaf.
  func merge(_ cursor: inout UpdateCursor, _ old: inout ReplacedRun, _ tell: (BlockHandle, UInt64) -> Void) {
    swap(&starts, &oldStarts)
    swap(&handles, &oldHandles)
    oldCount = count
    count = 0
    oldStarts[oldCount] = Int32(Level.fanout)
    let base = cursor.lba & ~1023
    var at = 0
    var run = 0
    repeat {
      let from = Int(cursor.lba - base)
      let to = from + Int(min(cursor.count, UInt64(Level.fanout - from)))
      walk(&at, &run, to: from) { start, handle, _ in append(start, handle) }
      walk(&at, &run, to: to) { start, handle, n in old.add(base + UInt64(start), handle, UInt64(n), tell) }
      append(from, cursor.handle)
      cursor.advance(UInt64(to - from))
    } while cursor.next() && cursor.lba & ~1023 == base
    walk(&at, &run, to: Level.fanout) { start, handle, _ in append(start, handle) }
  }

  /// Visits the old runs from block `at` to block `to`.
  @inline(__always)
  private func walk(_ at: inout Int, _ run: inout Int, to: Int, _ visit: (Int, BlockHandle, Int) -> Void) {
    while at < to {
      let start = Int(oldStarts[run])
      let end = Int(oldStarts[run + 1])
      let stop = min(end, to)
      visit(at, BlockHandle(raw: oldHandles[run]).advanced(by: UInt64(at - start)), stop - at)
      at = stop
      if stop == end { run += 1 }
    }
  }

  /// A word for each block.
  func expand(_ out: UnsafeMutablePointer<UInt64>) {
    for i in 0..<count {
      let first = BlockHandle(raw: handles[i])
      let start = Int(starts[i])
      for b in start..<end(i) { out[b] = first.advanced(by: UInt64(b - start)).raw }
    }
  }
}
