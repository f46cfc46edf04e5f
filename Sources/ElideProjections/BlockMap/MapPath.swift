import CElide

/// Where an update stands: the runs not yet applied, the first of them cut at the front.
struct UpdateCursor {
  private let updates: UnsafeBufferPointer<MapUpdate>
  private var index = 0
  private(set) var lba: UInt64 = 0
  private(set) var count: UInt64 = 0
  private(set) var handle = BlockHandle.unwritten

  init(_ updates: UnsafeBufferPointer<MapUpdate>) { self.updates = updates }

  /// Moves on to the next run when the current one is used up; false at the end.
  @inline(__always)
  mutating func next() -> Bool {
    while count == 0 {
      guard index < updates.count else { return false }
      let u = updates[index]
      (lba, count, handle) = (u.lba, u.count, u.handle)
      index += 1
    }
    return true
  }
  @inline(__always)
  mutating func advance(_ n: UInt64) {
    lba &+= n
    count &-= n
    // Past the last block there is nothing to advance to: r may have reached its limit.
    if count > 0 { handle = handle.advanced(by: n) }
  }
}

/// The inner nodes above a slot.
struct MapPath {
  let lba: UInt64
  var nodes: (UnsafeMutablePointer<UInt64>, UnsafeMutablePointer<UInt64>, UnsafeMutablePointer<UInt64>)

  /// Node of `level` (the one whose slots cover that level) and the index in it.
  @inline(__always)
  func slot(_ level: Int) -> (node: UnsafeMutablePointer<UInt64>, index: Int) {
    let node = level == 3 ? nodes.0 : level == 2 ? nodes.1 : nodes.2
    return (node, Int(lba >> UInt64(10 * level) & 1023))
  }

  /// The slot of `level` and those above it have changed.
  @inline(__always)
  func markDirty(_ level: Int) {
    for l in level...3 {
      let (node, index) = slot(l)
      InnerNode(words: node).markDirty(index)
    }
  }
}

extension BlockMap {
  /// The nodes down to those of `level` at the cursor, made where a constant span has to be divided. nil when such a span
  /// already is what the cursor wants: then it was told and skipped.
  func path(
    _ cursor: inout UpdateCursor, downTo level: Int, _ old: inout ReplacedRun, _ tell: (BlockHandle, UInt64) -> Void
  ) -> MapPath? {
    var path = MapPath(lba: cursor.lba, nodes: (top, top, top))
    var at = 3
    while true {
      let (node, index) = path.slot(at)
      let word = node[index]
      if !Slot.isPointer(word), !cursor.handle.isBlock, word == cursor.handle.raw {
        let span = Level.span(at)
        let n = min(cursor.count, span - cursor.lba & (span - 1))
        old.add(cursor.lba, cursor.handle, n, tell)
        cursor.advance(n)
        return nil
      }
      if at == level { return path }
      at -= 1
      var child = word
      if !Slot.isPointer(word) {
        child = makeInner(constant: word)
        set(path, level: at + 1, child)
      }
      if at == 2 { path.nodes.1 = Slot.node(child) } else { path.nodes.2 = Slot.node(child) }
    }
  }

  /// A node all of whose slots are `constant`.
  private func makeInner(constant: UInt64) -> UInt64 {
    let words = allocate(words: InnerNode.wordCount)
    words.update(repeating: constant, count: Level.fanout)
    (words + Level.fanout).update(repeating: 0, count: InnerNode.wordCount - Level.fanout)
    let unwritten = constant == BlockHandle.unwritten.raw
    InnerNode(words: words).setConstants(unwritten: unwritten ? Level.fanout : 0, zero: unwritten ? 0 : Level.fanout)
    return Slot.pointer(words, tag: Slot.inner)
  }

  /// Publishes a slot.
  func set(_ path: MapPath, level: Int, _ word: UInt64) {
    let (node, index) = path.slot(level)
    let inner = InnerNode(words: node)
    let old = node[index]
    if Slot.tag(old) >> 60 <= 1 { inner.adjustConstants(Slot.tag(old), by: -1) }
    if Slot.tag(word) >> 60 <= 1 { inner.adjustConstants(Slot.tag(word), by: 1) }
    elide_store_release_u64(node + index, word)
    path.markDirty(level)
  }

  /// Nodes that have become one constant give way to a slot above.
  func collapse(_ path: MapPath, from level: Int) {
    var level = level
    while level < 3 {
      let (node, index) = path.slot(level)
      let word = node[index]
      guard !Slot.isPointer(word), word >> 60 <= 1, InnerNode(words: node).constants(Slot.tag(word)) == Level.fanout else {
        return
      }
      level += 1
      set(path, level: level, word)
      retireInner(node)
    }
  }
}
