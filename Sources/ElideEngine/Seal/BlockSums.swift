import ElideIO
import ElideProjections

// `<n:16>.sums`, beside the segment in the cache. Little-endian:
//
//     0  128   header as of all cache files, kind "ELIDESUM", with the segment's hash and the CRC-32C of the hashes
//   128   32n  SHA-256 of each block, in r order
//
// The segment's hash covers content and encoding, so hashes of an earlier attempt to seal the same file, in which other
// blocks were found to be duplicates and every r was another, are never taken for these.

/// The hashes of a segment's blocks, kept on the host that sealed or opened it: what the dedup index is rebuilt from. The same
/// bytes are at the end of the body.
package enum BlockSums {
  private static let tableOffset = CacheHeader.fixedBytes

  package static func path(_ cache: SegmentCache, _ entry: SegmentEntry) -> String { cache.path(entry) + ".sums" }

  /// Keeps the hashes of an encoded segment. Not synced: losing them loses dedup hits only.
  package static func write(_ hashes: [Digest], for entry: SegmentEntry, in cache: SegmentCache) throws(Errno) {
    guard let hash = entry.hash, hashes.count == Int(entry.blocks) else { throw Errno.invalid }
    var table = ByteWriter(capacity: hashes.count * 32)
    for h in hashes { table.digest(h) }
    var header = CacheHeader(entry, seal: hash, hash: hash)
    header.magic = CacheFormat.sumsMagic
    header.tableCRC = table.bytes.withUnsafeBytes { crc32c($0) }
    try cache.writeWhole(header.encode()[..<tableOffset] + table.bytes, to: path(cache, entry), in: entry.volume)
  }

  /// nil when absent, damaged, or of another sealing of the segment.
  package static func read(for entry: SegmentEntry, in cache: SegmentCache) -> [Digest]? {
    let count = Int(entry.blocks)
    guard let hash = entry.hash,
      let bytes = try? cache.files.readFile(path(cache, entry), limit: count * 32 + tableOffset),
      bytes.count == count * 32 + tableOffset,
      let header = CacheHeader.decode(
        bytes, magic: CacheFormat.sumsMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks),
      header.hash == hash
    else { return nil }
    return bytes.withUnsafeBytes { b -> [Digest]? in
      let table = UnsafeRawBufferPointer(rebasing: b[tableOffset...])
      guard crc32c(table) == header.tableCRC else { return nil }
      return (0..<count).map { Digest(bytes: UnsafeRawBufferPointer(rebasing: table[$0 * 32..<$0 * 32 + 32])) }
    }
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
