import CElide
import ElideIO

/// The seed of all words of one sealing of a segment: CRC-32C of the owning volume (16 bytes, most significant first), the
/// segment's number (8 bytes, little-endian) and the seal (`CacheFormat.seal`, 32 bytes). Without the seal, blocks of a
/// sealing that a crash undid could pass for those sealed later under the same number.
package func segmentSeed(volume: ULID, segment: UInt64, seal: Digest) -> UInt32 {
  var bytes = (volume.high.bigEndian, volume.low.bigEndian, segment.littleEndian)
  let seed = withUnsafeBytes(of: &bytes) { elide_crc32c(0, $0.baseAddress, 24) }
  return seal.bytes.withUnsafeBytes { elide_crc32c(seed, $0.baseAddress, 32) }
}

/// The word that says that block r of a segment is present, and what its bytes are: CRC-32C of r (4 bytes,
/// little-endian) and the block, continuing from the segment's seed; a CRC of 0 is stored as 0xFFFFFFFF.
@inline(__always)
package func blockWord(seed: UInt32, r: UInt32, _ block: UnsafeRawPointer) -> UInt32 {
  var prefix = r.littleEndian
  let crc = elide_crc32c(elide_crc32c(seed, &prefix, 4), block, 4096)
  return crc == 0 ? 0xFFFF_FFFF : crc
}

/// Words of blocks whose plain CRC-32C is known already, such as from a write-ahead record, without touching the blocks: the
/// CRC of r and block is that of r, carried over 4096 bytes, xor that of the block.
struct BlockWords {
  /// What each byte of a CRC becomes after 4096 bytes more: four tables of 256. (CRC is linear over GF(2).)
  private let carried: [UInt32]

  static let shared = BlockWords()

  private init() {
    let zeros = [UInt8](repeating: 0, count: 4096)
    let bits = zeros.withUnsafeBytes { z -> [UInt32] in
      let none = elide_crc32c(0, z.baseAddress, 4096)
      return (0..<32).map { elide_crc32c(1 << UInt32($0), z.baseAddress, 4096) ^ none }
    }
    carried = (0..<1024).map { i in
      (0..<8).reduce(0) { (i >> $1) & 1 == 1 ? $0 ^ bits[i / 256 * 8 + $1] : $0 }
    }
  }

  /// `blockWord` of the block with this CRC.
  func word(seed: UInt32, r: UInt32, crc: UInt32) -> UInt32 {
    var prefix = r.littleEndian
    let p = elide_crc32c(seed, &prefix, 4)
    let low = carried[Int(p & 255)] ^ carried[256 + Int(p >> 8 & 255)]
    let word = low ^ carried[512 + Int(p >> 16 & 255)] ^ carried[768 + Int(p >> 24)] ^ crc
    return word == 0 ? 0xFFFF_FFFF : word
  }
}
