import ElideIO
import ElideProjections

/// A segment's body, ready to leave: its parts in order, and what the journal will say of it.
package struct EncodedBody: Sendable {
  package var parts: [[UInt8]]
  package var encoding: SegmentEncoding
  package var length: UInt64
}

/// Makes bodies. Memory is bounded by one segment: its parts are at most its plain size and the hashes.
package enum BodyEncoder {
  /// Blocks per unit: 64 KiB. Larger units compress a little better, and make every small read fetch more.
  package static let unitBlocks: UInt32 = 16

  /// - Parameters:
  ///   - count: blocks of the segment, at least 1.
  ///   - level: zstd level; negative levels are faster.
  ///   - hashes: SHA-256 of each block, in r order.
  ///   - block: the plain bytes of block r.
  package static func encode(
    count: UInt32, hashes: [Digest], level: Int32 = 1, codec: ZstdCodec, block: (UInt32) -> UnsafeRawPointer
  ) -> EncodedBody {
    var parts: [[UInt8]] = []
    var units: [SegmentEncoding.Unit] = []
    var offset: UInt64 = 0
    var plain = [UInt8](repeating: 0, count: Int(unitBlocks) * 4096)
    var frame = [UInt8](repeating: 0, count: ZstdCodec.bound(plain.count))
    var r: UInt32 = 0
    while r < count {
      let blocks = min(unitBlocks, count - r)
      let size = Int(blocks) * 4096
      plain.withUnsafeMutableBytes { p in
        for i in 0..<blocks { (p.baseAddress! + Int(i) * 4096).copyMemory(from: block(r + i), byteCount: 4096) }
      }
      let n = plain.withUnsafeBytes { p in
        frame.withUnsafeMutableBytes { f in codec.compress(UnsafeRawBufferPointer(rebasing: p[..<size]), into: f, level: level) }
      }
      // A unit that hardly shrinks is not worth decompressing at every read.
      let compressed = n.map { $0 < size - size / 16 } ?? false
      let stored = compressed ? Array(frame[..<(n ?? 0)]) : Array(plain[..<size])
      units.append(
        SegmentEncoding.Unit(
          r: r, blocks: blocks, offset: offset, length: UInt32(stored.count), codec: compressed ? .zstd : .raw,
          digest: Digest.sha256(stored)))
      offset += UInt64(stored.count)
      parts.append(stored)
      r += blocks
    }
    var table: [UInt8] = []
    table.reserveCapacity(hashes.count * 32)
    for hash in hashes { table.append(contentsOf: hash.bytes) }
    let encoding = SegmentEncoding(units: units, hashesOffset: offset, hashesDigest: Digest.sha256(table))
    parts.append(table)
    return EncodedBody(parts: parts, encoding: encoding, length: offset + UInt64(table.count))
  }
}
