import CElide
import ElideIO

// Files of the block cache, `<data>/cache/<volume>/`. Little-endian; see docs/formats/cache.md.
//
//   <n:16>       blocks of segment n. Either a cache file:
//                     0      header, 4096 bytes (below), kind "ELIDECCH"
//                  4096      one 32-bit word per block, padded to 4096
//                  data      block r at dataOffset + r * 4096; holes where absent
//                or a write-ahead file that was sealed as segment n, moved here once the store had it; then with
//   <n:16>.map   0      header, kind "ELIDECMP"
//                4096   words, padded to 4096; then a 16-bit position per block: where block r lies in that file
//   <n:16>.sums  SHA-256 of each block in r order, then the CRC-32C of those bytes: for dedup, rebuildable
//
// Header: 0 magic (8) · 8 version 1 (4) · 12 blocks (4) · 16 volume (16) · 32 segment (8) · 40 zero (4) · 44 CRC-32C of
// bytes 0..<44 (4) · zeros.
//
// A word says both that a block is present and what its bytes are (`blockWord`); 0 is absent. It is stored after the
// data, and checked on every read, so no crash and no lost page can make a wrong block look right.

package enum CacheFormat {
  static let fileMagic: UInt64 = 0x4843_4345_4449_4C45  // "ELIDECCH"
  static let mapMagic: UInt64 = 0x504D_4345_4449_4C45  // "ELIDECMP"
  static let headerBytes = 4096
  package static let maxBlocks: UInt32 = 1 << 20

  static func padded(_ n: Int) -> Int { (n + 4095) / 4096 * 4096 }
  /// Where the data of a cache file begins: also the length that is allocated and mapped.
  static func dataOffset(blocks: UInt32) -> Int { headerBytes + padded(Int(blocks) * 4) }
  static func placementOffset(blocks: UInt32) -> Int { headerBytes + padded(Int(blocks) * 4) }
  static func mapLength(blocks: UInt32) -> Int { placementOffset(blocks: blocks) + padded(Int(blocks) * 2) }

  static func header(magic: UInt64, volume: ULID, segment: UInt64, blocks: UInt32) -> [UInt8] {
    var w = ByteWriter(capacity: headerBytes)
    w.u64(magic)
    w.u32(1)
    w.u32(blocks)
    w.ulid(volume)
    w.u64(segment)
    w.u32(0)
    w.u32(w.bytes.withUnsafeBytes { crc32c($0) })
    w.padding(to: headerBytes)
    return w.bytes
  }

  /// Whether these 48 bytes are the header expected.
  static func matches(_ bytes: [UInt8], magic: UInt64, volume: ULID, segment: UInt64, blocks: UInt32) -> Bool {
    bytes.count >= 48 && bytes[..<48] == header(magic: magic, volume: volume, segment: segment, blocks: blocks)[..<48]
  }

  static func path(_ directory: String, _ segment: UInt64) -> String { directory + "/" + StoreLayout.digits(segment, 16) }
}
