import ElideIO
import ElideProjections

/// SHA-256 of plain blocks → where such a block lies. Only what will stay is offered: sealed segments of the volume and of
/// its ancestors. All 32 bytes are compared, so a hit is the same block, also across a trust boundary.
///
/// Owned by the keeper's thread. Rebuilt from the `.sums` files beside the cache; what is missing means fewer hits, never a
/// wrong one. Bounded: the oldest segments are forgotten first.
package struct DedupIndex {
  private var places: [Digest: BlockHandle] = [:]
  private var order: [(segment: UInt64, hashes: [Digest])] = []
  private var oldest = 0
  package let limit: Int

  /// - Parameter limit: blocks remembered; each takes about 60 bytes.
  package init(limit: Int = 1 << 19) { self.limit = limit }

  package var count: Int { places.count }

  package subscript(_ hash: Digest) -> BlockHandle? { places[hash] }

  /// Remembers all blocks of a sealed segment, in r order. The first place of a block stays its place.
  package mutating func insert(segment: UInt64, hashes: [Digest]) {
    if hashes.count > limit { return }
    while places.count + hashes.count > limit, oldest < order.count { forgetOldest() }
    for (r, hash) in hashes.enumerated() where places[hash] == nil {
      places[hash] = BlockHandle(segment: segment, r: UInt32(r))
    }
    order.append((segment, hashes))
  }

  /// Offers nothing of these segments any more.
  package mutating func remove(segments: Set<UInt64>) {
    for i in oldest..<order.count where segments.contains(order[i].segment) {
      forget(i)
      order[i].hashes = []
    }
  }

  private mutating func forgetOldest() {
    forget(oldest)
    order[oldest].hashes = []
    oldest += 1
    if oldest > 1024 {
      order.removeFirst(oldest)
      oldest = 0
    }
  }

  private mutating func forget(_ i: Int) {
    for hash in order[i].hashes where places[hash]?.segment == order[i].segment { places[hash] = nil }
  }
}

/// The `.sums` file of a segment: its blocks' hashes, kept on the host that sealed it.
package enum BlockSums {
  package static func path(_ cache: SegmentCache, _ entry: SegmentEntry) -> String {
    CacheFormat.path(cache.directory(entry.volume), entry.number) + ".sums"
  }

  /// Not synced: losing it loses dedup hits only.
  package static func write(_ hashes: [Digest], for entry: SegmentEntry, in cache: SegmentCache) throws(Errno) {
    var w = ByteWriter(capacity: hashes.count * 32 + 4)
    for hash in hashes { w.digest(hash) }
    w.u32(w.bytes.withUnsafeBytes { crc32c($0) })
    try cache.files.makeDirectory(cache.directory(entry.volume))
    let path = path(cache, entry)
    let file = try cache.files.open(path + ".new", .create)
    do {
      defer { cache.files.close(file) }
      let bytes = w.bytes
      try cache.files.truncate(file, size: UInt64(bytes.count))
      try bytes.withUnsafeBufferPointer { (b) throws(Errno) in
        try cache.files.write(file, UnsafeRawBufferPointer(b), at: 0)
      }
    }
    try cache.files.rename(path + ".new", to: path)
  }

  /// nil when absent or damaged.
  package static func read(for entry: SegmentEntry, in cache: SegmentCache) -> [Digest]? {
    let count = Int(entry.blocks)
    guard let bytes = try? cache.files.readFile(path(cache, entry), limit: count * 32 + 4), bytes.count == count * 32 + 4
    else { return nil }
    return bytes.withUnsafeBytes { b -> [Digest]? in
      let sum = crc32c(UnsafeRawBufferPointer(rebasing: b[..<(count * 32)]))
      guard b.loadUnaligned(fromByteOffset: count * 32, as: UInt32.self).littleEndian == sum else { return nil }
      return (0..<count).map { Digest(bytes: UnsafeRawBufferPointer(rebasing: b[$0 * 32..<$0 * 32 + 32])) }
    }
  }
}
