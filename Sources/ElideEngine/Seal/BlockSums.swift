import ElideIO
import ElideProjections

// `<n:16>.sums`, beside the segment in the cache. Little-endian:
//
//     0   48   header as of all cache files, kind "ELIDESUM"
//    48   32   the segment's hash, the one in its body's key
//    80    4   CRC-32C of bytes 48..<80 and of the hashes
//    84        zeros
//   128   32n  SHA-256 of each block, in r order
//
// The segment's hash covers content and encoding, so hashes of an earlier attempt to seal the same file, in which other
// blocks were found to be duplicates and every r was another, are never taken for these.

/// The hashes of a segment's blocks, kept on the host that sealed or opened it: what the dedup index is rebuilt from. The same
/// bytes are at the end of the body.
package enum BlockSums {
  private static let tableOffset = 128

  package static func path(_ cache: SegmentCache, _ entry: SegmentEntry) -> String { cache.path(entry) + ".sums" }

  /// Keeps the hashes of an encoded segment. Not synced: losing them loses dedup hits only.
  package static func write(_ hashes: [Digest], for entry: SegmentEntry, in cache: SegmentCache) throws(Errno) {
    guard let hash = entry.hash, hashes.count == Int(entry.blocks) else { throw Errno.invalid }
    var checked = ByteWriter(capacity: hashes.count * 32 + 32)
    checked.digest(hash)
    for h in hashes { checked.digest(h) }
    var w = ByteWriter(capacity: hashes.count * 32 + tableOffset)
    w.raw(header(entry))
    w.digest(hash)
    w.u32(checked.bytes.withUnsafeBytes { crc32c($0) })
    w.padding(to: tableOffset)
    w.raw(checked.bytes[32...])
    try cache.writeWhole(w.bytes, to: path(cache, entry), in: entry.volume)
  }

  /// nil when absent, damaged, or of another sealing of the segment.
  package static func read(for entry: SegmentEntry, in cache: SegmentCache) -> [Digest]? {
    let count = Int(entry.blocks)
    guard let hash = entry.hash,
      let bytes = try? cache.files.readFile(path(cache, entry), limit: count * 32 + tableOffset),
      bytes.count == count * 32 + tableOffset, bytes.starts(with: header(entry)), Array(bytes[48..<80]) == hash.bytes
    else { return nil }
    return bytes.withUnsafeBytes { b -> [Digest]? in
      let table = UnsafeRawBufferPointer(rebasing: b[tableOffset...])
      let sum = crc32c(table, seed: crc32c(UnsafeRawBufferPointer(rebasing: b[48..<80])))
      guard b.loadUnaligned(fromByteOffset: 80, as: UInt32.self).littleEndian == sum else { return nil }
      return (0..<count).map { Digest(bytes: UnsafeRawBufferPointer(rebasing: table[$0 * 32..<$0 * 32 + 32])) }
    }
  }

  private static func header(_ entry: SegmentEntry) -> ArraySlice<UInt8> {
    CacheFormat.header(
      magic: CacheFormat.sumsMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks)[..<CacheFormat.fixedBytes]
  }
}

extension DedupIndex {
  /// Offers what is kept of these segments' hashes: a volume's own and its ancestors', oldest first, so that the newest
  /// stay within the budget. Reads only as many files as fit.
  package mutating func load(_ entries: [SegmentEntry], from cache: SegmentCache) {
    var room = limit
    let fitting = entries.reversed().prefix { entry in
      room -= Int(entry.blocks)
      return room >= 0
    }
    for entry in fitting.reversed() where entry.blocks > 0 {
      if let hashes = BlockSums.read(for: entry, in: cache) { insert(segment: entry.number, hashes: hashes) }
    }
  }
}
