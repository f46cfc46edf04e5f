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
// A word says both that a block is present and what its bytes are (`blockWord`); 0 is absent. It is stored after the
// data, and checked on every read, so no crash and no lost page can make a wrong block look right.

package enum CacheFormat {
  static let fileMagic: UInt64 = 0x4843_4345_4449_4C45  // "ELIDECCH"
  static let mapMagic: UInt64 = 0x504D_4345_4449_4C45  // "ELIDECMP"
  static let sumsMagic: UInt64 = 0x4D55_5345_4449_4C45  // "ELIDESUM"
  static let version: UInt32 = 2
  static let headerBytes = 4096
  package static let maxBlocks: UInt32 = 1 << 20
  /// Positions 0 and 1 of a write-ahead file hold headers.
  static let firstPosition: UInt16 = 2

  static func padded(_ n: Int) -> Int { (n + 4095) / 4096 * 4096 }
  /// Where the data of a cache file begins.
  static func dataOffset(blocks: UInt32) -> Int { headerBytes + padded(Int(blocks) * 4) }
  static func placementOffset(blocks: UInt32) -> Int { headerBytes + padded(Int(blocks) * 4) }
  static func mapLength(blocks: UInt32) -> Int { placementOffset(blocks: blocks) + padded(Int(blocks) * 2) }

  static func path(_ directory: String, _ segment: UInt64) -> String { directory + "/" + StoreLayout.digits(segment, 16) }

  /// The segment whose blocks a file of this name holds; nil for other names.
  static func segment(named name: some StringProtocol) -> UInt64? {
    name.utf8.count == 16 && name.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } ? UInt64(name) : nil
  }

  /// What the local file of a sealed write-ahead file is known by until it has a body: the content says which block each r is,
  /// the chain's end says which frames they were read from.
  package static func seal(content: Digest, end: WALChain) -> Digest {
    var w = ByteWriter(capacity: 44)
    w.digest(content)
    w.u64(end.frame)
    w.u32(end.crc)
    return Digest.sha256(w.bytes)
  }

  /// The same for blocks that came from elsewhere than a write-ahead file.
  package static func seal(content: Digest, hashes: [Digest]) -> Digest {
    var w = ByteWriter(capacity: 32 * (hashes.count + 1))
    w.digest(content)
    for h in hashes { w.digest(h) }
    return Digest.sha256(w.bytes)
  }
}

/// The head of a cache file, a map or a table of hashes: what the file is of. It says so by more than the number: after a
/// crash a number may be used again, for other blocks.
struct CacheHeader: Equatable {
  var magic: UInt64
  var volume: ULID
  var segment: UInt64
  var blocks: UInt32
  /// CRC-32C of what the file holds besides words: a map's positions, hashes. 0 in a cache file.
  var tableCRC: UInt32 = 0
  /// Which sealing the words belong to: part of their seed.
  var seal: Digest
  /// The hash in the body's key: what readers compare. nil while the store does not have the body.
  var hash: Digest?

  /// All but the marks, which follow it: they are hints shared by all processes, and in no CRC.
  static let fixedBytes = 128
  /// 1 once someone read through the file after eviction's hand last passed it.
  static let usedOffset = 128
  /// 1 while the store does not have the blocks: eviction passes the file by.
  static let keptOffset = 132

  /// 4096 bytes; `used` is set.
  func encode(kept: Bool = false) -> [UInt8] {
    var w = ByteWriter(capacity: CacheFormat.headerBytes)
    w.u64(magic)
    w.u32(CacheFormat.version)
    w.u32(blocks)
    w.ulid(volume)
    w.u64(segment)
    w.u32(tableCRC)
    w.u32(0)
    w.digest(seal)
    w.digest(hash ?? Self.none)
    w.u64(0)
    w.u32(0)
    w.u32(w.bytes.withUnsafeBytes { crc32c($0) })
    w.u32(1)
    w.u32(kept ? 1 : 0)
    w.padding(to: CacheFormat.headerBytes)
    return w.bytes
  }

  /// nil when the bytes are no header of this kind, or damaged.
  static func decode(_ bytes: [UInt8], magic: UInt64, volume: ULID, segment: UInt64, blocks: UInt32) -> CacheHeader? {
    guard bytes.count >= fixedBytes else { return nil }
    func digest(_ at: Int) -> Digest { bytes[at..<at + 32].withUnsafeBytes { Digest(bytes: $0) } }
    let hash = digest(80)
    let table = bytes[40..<44].withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)) }
    let found = CacheHeader(
      magic: magic, volume: volume, segment: segment, blocks: blocks, tableCRC: table, seal: digest(48),
      hash: hash == none ? nil : hash)
    return found.encode()[..<fixedBytes] == bytes[..<fixedBytes] ? found : nil
  }

  private static let none = Digest(words: (0, 0, 0, 0))
}
