import ElideIO
import ElideProjections

/// SHA-256 of plain blocks → where such a block lies. Only what will stay is offered: sealed segments of the volume and of
/// its ancestors. All 32 bytes are kept and compared, so a hit is the same block, also across a trust boundary, and no
/// file has to be read to be sure of it.
///
/// Owned by the keeper's thread. Loses nothing when dropped but hits: what is missing makes content larger, never wrong.
/// Bounded by bytes: a ring of entries in the order of insertion, of which the oldest segments are forgotten first, and
/// an open-addressing table of positions in the ring. Of equal blocks the newest is offered, which lives longest here.
package struct DedupIndex {
  private struct Extent {
    var segment: UInt64
    /// Ring position of its first entry, counted from the beginning of time.
    var first: UInt64
    var count: Int
    var offered = true
  }

  /// Entry i of all time is at i % capacity.
  private var hashes: [Digest] = []
  private var handles: [BlockHandle] = []
  /// Live entries are [oldest, next).
  private var oldest: UInt64 = 0
  private var next: UInt64 = 0
  private var extents: [Extent] = []
  private var firstExtent = 0
  /// Position in the ring plus one; 0 is free. Linear probing, at most two thirds full.
  private var table: [UInt32] = []
  private var used = 0
  package let limit: Int

  /// Memory of an entry: 32 + 8 in the ring, and 4 in a table that is between a third and two thirds full.
  package static let bytesPerBlock = 52

  /// - Parameter limit: blocks remembered at most.
  package init(limit: Int = 1 << 19) {
    precondition(limit > 0 && limit < 1 << 30)
    self.limit = limit
  }

  package init(budget bytes: Int) { self.init(limit: max(1, min(bytes / Self.bytesPerBlock, 1 << 30 - 1))) }

  /// Different blocks on offer.
  package var count: Int { used }

  package subscript(_ hash: Digest) -> BlockHandle? {
    if used == 0 { return nil }
    let entry = table[slot(of: hash)]
    return entry == 0 ? nil : handles[Int(entry) - 1]
  }

  /// Offers all blocks of a sealed segment, in r order. A segment that exceeds the budget alone is passed over.
  package mutating func insert(segment: UInt64, hashes new: [Digest]) {
    if new.isEmpty || new.count > limit { return }
    while Int(next - oldest) + new.count > limit { forgetOldest() }
    grow(to: Int(next - oldest) + new.count)
    extents.append(Extent(segment: segment, first: next, count: new.count))
    for (r, hash) in new.enumerated() {
      let place = Int(next % UInt64(hashes.count))
      hashes[place] = hash
      handles[place] = BlockHandle(segment: segment, r: UInt32(r))
      let slot = slot(of: hash)
      if table[slot] == 0 { used += 1 }
      table[slot] = UInt32(place + 1)
      next += 1
    }
  }

  /// Offers nothing of these segments any more: they are retired or planned.
  package mutating func remove(segments: Set<UInt64>) {
    for i in firstExtent..<extents.count where extents[i].offered && segments.contains(extents[i].segment) {
      withdraw(extents[i])
      extents[i].offered = false
    }
  }

  private mutating func forgetOldest() {
    let extent = extents[firstExtent]
    if extent.offered { withdraw(extent) }
    oldest = extent.first + UInt64(extent.count)
    firstExtent += 1
    if firstExtent > 1024 {
      extents.removeFirst(firstExtent)
      firstExtent = 0
    }
  }

  private mutating func withdraw(_ extent: Extent) {
    for entry in extent.first..<extent.first + UInt64(extent.count) {
      let place = Int(entry % UInt64(hashes.count))
      let slot = slot(of: hashes[place])
      // Otherwise a newer segment has the same block.
      if table[slot] == UInt32(place + 1) { free(slot) }
    }
  }

  /// Empties a slot and moves up what probed past it.
  private mutating func free(_ emptied: Int) {
    let mask = table.count - 1
    var hole = emptied
    var i = hole
    used -= 1
    while true {
      table[hole] = 0
      while true {
        i = (i + 1) & mask
        if table[i] == 0 { return }
        let home = home(of: hashes[Int(table[i]) - 1])
        // Stays if its home lies cyclically in (hole, i].
        if hole <= i ? (home <= hole || home > i) : (home <= hole && home > i) { break }
      }
      table[hole] = table[i]
      hole = i
    }
  }

  private func home(of hash: Digest) -> Int { Int(truncatingIfNeeded: hash.words.3) & (table.count - 1) }

  /// The slot that holds this hash, or the free one where it would go.
  private func slot(of hash: Digest) -> Int {
    var i = home(of: hash)
    while table[i] != 0, hashes[Int(table[i]) - 1] != hash { i = (i + 1) & (table.count - 1) }
    return i
  }

  /// Makes room for so many live entries: doubles ring and table up to what the limit needs.
  private mutating func grow(to entries: Int) {
    if entries <= hashes.count { return }
    let capacity = min(limit, max(1 << 12, entries, 2 * hashes.count))
    var newHashes = [Digest](repeating: Digest(words: (0, 0, 0, 0)), count: capacity)
    var newHandles = [BlockHandle](repeating: .unwritten, count: capacity)
    for entry in oldest..<next {
      let (old, new) = (Int(entry % UInt64(hashes.count)), Int(entry % UInt64(capacity)))
      newHashes[new] = hashes[old]
      newHandles[new] = handles[old]
    }
    (hashes, handles) = (newHashes, newHandles)
    var slots = 1 << 12
    while slots * 2 < capacity * 3 { slots *= 2 }
    table = [UInt32](repeating: 0, count: slots)
    used = 0
    for i in firstExtent..<extents.count where extents[i].offered {
      for entry in extents[i].first..<extents[i].first + UInt64(extents[i].count) {
        let place = Int(entry % UInt64(capacity))
        let slot = slot(of: hashes[place])
        if table[slot] == 0 { used += 1 }
        table[slot] = UInt32(place + 1)
      }
    }
  }
}
