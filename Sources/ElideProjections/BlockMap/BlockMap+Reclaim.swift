import CElide

// Memory that a reader may still look at. The writer unlinks a node (release store of the slot that named it), notes it
// with the current epoch E, and then raises the epoch. A reader that has quiesced at an epoch above E read it with
// acquire after the unlinking and holds nothing from before: the node can be freed. One word each way, no fences.

/// A node that is out of the tree, and the epoch in which it left.
struct Retired {
  let words: UnsafeMutablePointer<UInt64>
  let bytes: Int
  let epoch: UInt64
}

extension BlockMap {
  /// Writer, before the reader's thread may touch the map: from now on nodes are freed only after it has quiesced.
  package func registerReader() {
    elide_store_release_u64(shared + Self.seenWord, shared[Self.epochWord])
  }

  /// Writer, after the reader's thread has ended or promised not to come back.
  package func unregisterReader() {
    elide_store_release_u64(shared + Self.seenWord, 0)
    reclaim()
  }

  /// Writer: frees what no reader can still see. Cheap when there is nothing; called after each update and whenever the
  /// keeper has nothing better to do.
  package func reclaim() {
    guard !retired.isEmpty else { return }
    let epoch = shared[Self.epochWord]
    elide_store_release_u64(shared + Self.epochWord, epoch + 1)
    let seen = elide_load_acquire_u64(shared + Self.seenWord)
    var kept = 0
    for item in retired {
      if seen == 0 || item.epoch < seen {
        memoryBytes -= item.bytes
        nodeCount -= 1
        item.words.deallocate()
      } else {
        retired[kept] = item
        kept += 1
      }
    }
    retired.removeLast(retired.count - kept)
  }

  /// Bytes of nodes that wait for the reader.
  package var retiredBytes: Int { retired.reduce(0) { $0 + $1.bytes } }

  func allocate(words: Int) -> UnsafeMutablePointer<UInt64> {
    memoryBytes += words * 8
    nodeCount += 1
    return .allocate(capacity: words)
  }

  /// The node is out of the tree already.
  func retire(_ node: UnsafeMutablePointer<UInt64>, words: Int) {
    retired.append(Retired(words: node, bytes: words * 8, epoch: shared[Self.epochWord]))
  }

  /// Retires the node of a leaf slot, if it has one.
  func retireLeaf(_ word: UInt64) {
    guard Slot.isPointer(word) else { return }
    let node = Slot.node(word)
    retire(node, words: Slot.tag(word) == Slot.dense ? 1 + Level.fanout : RunsLeaf.wordCount(RunsLeaf(words: node).count))
  }

  func retireInner(_ node: UnsafeMutablePointer<UInt64>) {
    // Only the writer looks at digests.
    if let digests = InnerNode(words: node).digests {
      digests.deallocate()
      InnerNode(words: node).digests = nil
      memoryBytes -= MapRoot.cacheBytes
    }
    retire(node, words: InnerNode.wordCount)
  }

  /// Retires everything below a slot that is out of the tree.
  func retireTree(_ word: UInt64) {
    guard Slot.tag(word) == Slot.inner else { return retireLeaf(word) }
    let node = Slot.node(word)
    for i in 0..<Level.fanout { retireTree(node[i]) }
    retireInner(node)
  }
}
