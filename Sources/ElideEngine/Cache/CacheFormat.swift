import CElide
import ElideIO

// Files of the block cache, `<data>/cache/<volume>/`. Little-endian; byte by byte in docs/formats/cache.md.
//
//   <n:16>           blocks of segment n. Either a cache file:
//                         0      header, 4096 bytes (below), kind "ELIDECCH"
//                      4096      one 32-bit word per block, padded to 4096
//                      data      block r at dataOffset + r * 4096; holes where absent
//                    or a write-ahead file that was sealed as segment n, moved here once the store had it; then with
//   <n:16>.map       0      header, kind "ELIDECMP"
//                    4096   words, padded to 4096; then a 16-bit position per block: where block r lies in that file
//   <n:16>.sums      SHA-256 of each block in r order, for dedup; rebuildable (`BlockSums`)
//   <n:16>.encoding  the segment's encoding blob, as it is in a journal page; named and checked by its digest
//   *.new-…          being made; nobody's after a crash
//
// Header: 0 magic (8) · 8 version 1 (4) · 12 blocks (4) · 16 volume (16) · 32 segment (8) · 40 CRC-32C of the positions, 0 in
// a cache file (4) · 44 CRC-32C of bytes 0..<44 (4) · 48 used (4) · 52 gone (4) ·
// 56 kept (4) · zeros.
//
// A word says both that a block is present and what its bytes are (`blockWord`); 0 is absent. It is stored after the
// data, and checked on every read, so no crash and no lost page can make a wrong block look right.

package enum CacheFormat {
  static let fileMagic: UInt64 = 0x4843_4345_4449_4C45  // "ELIDECCH"
  static let mapMagic: UInt64 = 0x504D_4345_4449_4C45  // "ELIDECMP"
  static let sumsMagic: UInt64 = 0x4D55_5345_4449_4C45  // "ELIDESUM"
  static let version: UInt32 = 1
  static let headerBytes = 4096
  /// What is compared of a header, and what follows it: hints shared by all processes, no part of any CRC.
  static let fixedBytes = 48
  /// 1 once someone read through the file after eviction's hand last passed it.
  static let usedOffset = 48
  /// 1 once the file is out of the cache: who has it open closes it, so that its space is given back.
  static let goneOffset = 52
  /// 1 while the store does not have the blocks: eviction passes the file by.
  static let keptOffset = 56
  package static let maxBlocks: UInt32 = 1 << 20
  /// Positions 0 and 1 of a write-ahead file hold headers.
  static let firstPosition: UInt16 = 2

  static func padded(_ n: Int) -> Int { (n + 4095) / 4096 * 4096 }
  /// Where the data of a cache file begins: also the length that is allocated and mapped.
  static func dataOffset(blocks: UInt32) -> Int { headerBytes + padded(Int(blocks) * 4) }
  static func placementOffset(blocks: UInt32) -> Int { headerBytes + padded(Int(blocks) * 4) }
  static func mapLength(blocks: UInt32) -> Int { placementOffset(blocks: blocks) + padded(Int(blocks) * 2) }

  /// 4096 bytes; `used` is set, `gone` is not.
  static func header(magic: UInt64, volume: ULID, segment: UInt64, blocks: UInt32, positionsCRC: UInt32 = 0) -> [UInt8] {
    var w = ByteWriter(capacity: headerBytes)
    w.u64(magic)
    w.u32(version)
    w.u32(blocks)
    w.ulid(volume)
    w.u64(segment)
    w.u32(positionsCRC)
    w.u32(w.bytes.withUnsafeBytes { crc32c($0) })
    w.u32(1)
    w.padding(to: headerBytes)
    return w.bytes
  }

  /// Whether these bytes begin with the header expected.
  static func matches(
    _ bytes: [UInt8], magic: UInt64, volume: ULID, segment: UInt64, blocks: UInt32, positionsCRC: UInt32 = 0
  ) -> Bool {
    let expected = header(magic: magic, volume: volume, segment: segment, blocks: blocks, positionsCRC: positionsCRC)
    return bytes.count >= fixedBytes && bytes[..<fixedBytes] == expected[..<fixedBytes]
  }

  static func path(_ directory: String, _ segment: UInt64) -> String { directory + "/" + StoreLayout.digits(segment, 16) }

  /// The segment whose blocks a file of this name holds; nil for other names.
  static func segment(named name: String) -> UInt64? {
    name.utf8.count == 16 && name.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } ? UInt64(name) : nil
  }
}
