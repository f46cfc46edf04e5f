import CElide
import ElideIO

// A write-ahead file, `volumes/<vol>/wal/<number:16>.wal`. Little-endian; ULIDs as 16 bytes, most significant first.
// Positions count blocks of 4096 bytes from the start of the file.
//
//   position 0   file header, written and synced before the file is journaled, never changed:
//       0   8   "ELIDEWAL"
//       8   4   version, 2
//      12   4   blocks the file was made for (2...65535)
//      16  16   volume
//      32   8   wal number
//      40   4   zero
//      44   4   CRC-32C of bytes 0..<44 and 48..<64 (version 1: of bytes 0..<44)
//      48  16   incarnation: the process that made the file, and alone writes it (version 1: zeros)
//      64       zeros to 4096
//   position 1   frames, each a header block and then its data blocks, without gaps. Behind the last: zeros, or whatever
//                the file held when it was another's (`WALFile.reuse`); no frame there has this header's number and incarnation.
//
// Frame header block:
//       0   8   "ELIDEFRM"
//       8   4   CRC of the frame before: the CRC of its last record (0 before the volume's first frame)
//      12   4   zero
//      16  16   volume
//      32   8   wal number
//      40   8   frame number: 1 for the volume's first, dense over all its files
//      48  16   incarnation: the process that wrote the file; the same in all frames of a file
//      64   8   D: every frame up to this number was durable when this frame was opened
//      72   4   zero
//      76   4   CRC-32C of bytes 0..<76
//      80       records, without gaps, until one that is all zeros or does not fit; zeros after the last
//
// Record, 20 bytes and 4 for each block of data:
//       0   8   LBA of the first block
//       8   5   count of blocks, 1...2^40-1
//      13   1   kind: 1 data, 2 zero, 3 trim
//      14   2   zero
//      16  4n   kind data only: CRC-32C of each block
//  16+4n   4   CRC-32C of the record's bytes before this, continuing from the CRC before: the fixed part's for the
//              first record, else the preceding record's
//
// Data blocks follow the header block in the order of the data records.
//
// A frame is extendable: data first, then one more record, until the header is full, the file is full, or a sync is
// issued. Bytes of the header that stand are rewritten by nothing, so a torn extension leaves the records before it
// whole. As each CRC continues from the one before, the CRC of the last record stands for the whole header, and the next
// frame's "CRC of the frame before" pins how many records this one ended with.

package enum WALKind: UInt8, Sendable {
  case data = 1
  case zero = 2
  case trim = 3
}

/// Where the chain of a volume's frames stands: the last frame's number, and the CRC of its last record.
package struct WALChain: Equatable, Hashable, Sendable {
  package var frame: UInt64
  package var crc: UInt32
  package init(frame: UInt64, crc: UInt32) {
    self.frame = frame
    self.crc = crc
  }
  /// Before a volume's first frame. A fork starts here too: it inherits no frames.
  package static let genesis = WALChain(frame: 0, crc: 0)
}

/// How large write-ahead files are. Production uses the default; tests use small files to roll often.
package struct WALGeometry: Equatable, Sendable {
  /// Blocks of the preallocated file, header blocks included; 8 at least, 65,535 at most (positions are 16 bits).
  package var fileBlocks: Int
  /// Blocks of data after which the next file is used.
  package var dataBlocks: Int
  package init(fileBlocks: Int = 9216, dataBlocks: Int = 8192) {
    precondition(fileBlocks >= 8 && fileBlocks <= 65535 && dataBlocks >= 1)
    self.fileBlocks = fileBlocks
    self.dataBlocks = dataBlocks
  }
}

package enum WALFormat {
  package static let block = 4096
  package static let fixedBytes = 80
  package static let recordBytes = 20
  package static let version: UInt32 = 2
  package static let maxCount: UInt64 = 1 << 40 - 1
  /// A volume has at most 2^50 bytes.
  package static let maxBlocks: UInt64 = 1 << 38
  /// Most data blocks that one record, and so one frame of one record, can hold.
  package static let maxDataBlocks = (block - fixedBytes - recordBytes) / 4
  /// A file is given up for the next one after this many records, which bounds the memory of those without data.
  package static let maxRecords = 1 << 15

  static let fileMagic: UInt64 = 0x4C41_5745_4449_4C45  // "ELIDEWAL"
  static let frameMagic: UInt64 = 0x4D52_4645_4449_4C45  // "ELIDEFRM"

  /// Bytes a record takes in a header.
  @inlinable package static func recordLength(dataBlocks: Int) -> Int { 20 &+ 4 &* dataBlocks }

  /// `volumes/<vol>/wal` → the path of a file in it.
  package static func path(directory: String, number: UInt64) -> String {
    let digits = String(number)
    return directory + "/" + String(repeating: "0", count: max(0, 16 - digits.count)) + digits + ".wal"
  }
}

/// The fixed part of a frame header.
package struct FrameHeader: Equatable, Sendable {
  package var previousCRC: UInt32
  package var volume: ULID
  package var wal: UInt64
  package var frame: UInt64
  package var incarnation: ULID
  package var durable: UInt64

  package init(previousCRC: UInt32, volume: ULID, wal: UInt64, frame: UInt64, incarnation: ULID, durable: UInt64) {
    self.previousCRC = previousCRC
    self.volume = volume
    self.wal = wal
    self.frame = frame
    self.incarnation = incarnation
    self.durable = durable
  }

  /// Writes the fixed part into a zeroed header block and returns its CRC, from which the first record's continues.
  func encode(into p: UnsafeMutableRawPointer) -> UInt32 {
    p.storeBytes(of: WALFormat.frameMagic.littleEndian, as: UInt64.self)
    p.storeBytes(of: previousCRC.littleEndian, toByteOffset: 8, as: UInt32.self)
    p.storeBytes(of: 0, toByteOffset: 12, as: UInt32.self)
    storeULID(volume, p + 16)
    p.storeBytes(of: wal.littleEndian, toByteOffset: 32, as: UInt64.self)
    p.storeBytes(of: frame.littleEndian, toByteOffset: 40, as: UInt64.self)
    storeULID(incarnation, p + 48)
    p.storeBytes(of: durable.littleEndian, toByteOffset: 64, as: UInt64.self)
    p.storeBytes(of: 0, toByteOffset: 72, as: UInt32.self)
    let crc = elide_crc32c(0, p, 76)
    p.storeBytes(of: crc.littleEndian, toByteOffset: 76, as: UInt32.self)
    return crc
  }

  /// The fixed part of a header block (4096 bytes) and its CRC; nil when it is no frame header, or a damaged one.
  static func decode(_ p: UnsafeRawPointer) -> (header: FrameHeader, crc: UInt32)? {
    guard load64(p) == WALFormat.frameMagic, load32(p + 12) == 0, load32(p + 72) == 0 else { return nil }
    let crc = elide_crc32c(0, p, 76)
    guard load32(p + 76) == crc else { return nil }
    let header = FrameHeader(
      previousCRC: load32(p + 8), volume: loadULID(p + 16), wal: load64(p + 32), frame: load64(p + 40),
      incarnation: loadULID(p + 48), durable: load64(p + 64))
    return (header, crc)
  }
}

/// One record as it stands in a header: `crcs` points at its block CRCs there.
struct RawRecord {
  var lba: UInt64
  var count: UInt64
  var kind: WALKind
  /// Byte offset of the record in the header block, and its length.
  var offset: Int
  var length: Int
  var crc: UInt32

  /// Data blocks that follow the header because of this record.
  var dataBlocks: Int { kind == .data ? Int(count) : 0 }

  /// The record at `offset` of a header block, when whole and valid: bounds, known kind, CRC continuing from `seed`, and
  /// for data no more than `room` blocks. nil ends the header.
  static func decode(_ header: UnsafeRawPointer, at offset: Int, seed: UInt32, room: Int) -> RawRecord? {
    guard offset + WALFormat.recordBytes <= WALFormat.block else { return nil }
    let p = header + offset
    let lba = load64(p)
    let word = load64(p + 8)
    let count = word & WALFormat.maxCount
    guard word >> 48 == 0, let kind = WALKind(rawValue: UInt8(truncatingIfNeeded: word >> 40)), count > 0 else { return nil }
    guard lba < WALFormat.maxBlocks, count <= WALFormat.maxBlocks - lba else { return nil }
    var blocks = 0
    if kind == .data {
      guard count <= UInt64(min(room, WALFormat.maxDataBlocks)) else { return nil }
      blocks = Int(count)
    }
    let length = WALFormat.recordLength(dataBlocks: blocks)
    guard offset + length <= WALFormat.block else { return nil }
    let crc = elide_crc32c(seed, p, length - 4)
    guard load32(p + (length - 4)) == crc else { return nil }
    return RawRecord(lba: lba, count: count, kind: kind, offset: offset, length: length, crc: crc)
  }

  /// Writes everything of a record but its block CRCs, which stand at `p + 16` already, and returns its CRC.
  @inline(__always)
  static func encode(_ p: UnsafeMutableRawPointer, lba: UInt64, count: UInt64, kind: WALKind, seed: UInt32) -> UInt32 {
    p.storeBytes(of: lba.littleEndian, as: UInt64.self)
    p.storeBytes(of: (count | UInt64(kind.rawValue) << 40).littleEndian, toByteOffset: 8, as: UInt64.self)
    let length = WALFormat.recordLength(dataBlocks: kind == .data ? Int(count) : 0)
    let crc = elide_crc32c(seed, p, length &- 4)
    p.storeBytes(of: crc.littleEndian, toByteOffset: length &- 4, as: UInt32.self)
    return crc
  }
}

@inline(__always) func load64(_ p: UnsafeRawPointer) -> UInt64 { UInt64(littleEndian: p.loadUnaligned(as: UInt64.self)) }
@inline(__always) func load32(_ p: UnsafeRawPointer) -> UInt32 { UInt32(littleEndian: p.loadUnaligned(as: UInt32.self)) }
private func loadULID(_ p: UnsafeRawPointer) -> ULID {
  ULID(high: p.loadUnaligned(as: UInt64.self).bigEndian, low: (p + 8).loadUnaligned(as: UInt64.self).bigEndian)
}
private func storeULID(_ u: ULID, _ p: UnsafeMutableRawPointer) {
  p.storeBytes(of: u.high.bigEndian, as: UInt64.self)
  p.storeBytes(of: u.low.bigEndian, toByteOffset: 8, as: UInt64.self)
}

/// Position 0 of a file.
struct WALFileHeader {
  /// How many blocks the file was made for.
  var blocks: Int
  /// Whose frames are in it; nil where the header is of version 1, and the first frame tells.
  var incarnation: ULID?

  static func encode(volume: ULID, number: UInt64, fileBlocks: Int, incarnation: ULID) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: WALFormat.block)
    bytes.withUnsafeMutableBytes { b in
      guard let p = b.baseAddress else { return }
      p.storeBytes(of: WALFormat.fileMagic.littleEndian, as: UInt64.self)
      p.storeBytes(of: WALFormat.version.littleEndian, toByteOffset: 8, as: UInt32.self)
      p.storeBytes(of: UInt32(fileBlocks).littleEndian, toByteOffset: 12, as: UInt32.self)
      storeULID(volume, p + 16)
      p.storeBytes(of: number.littleEndian, toByteOffset: 32, as: UInt64.self)
      storeULID(incarnation, p + 48)
      p.storeBytes(of: checksum(p, version: WALFormat.version).littleEndian, toByteOffset: 44, as: UInt32.self)
    }
    return bytes
  }

  private static func checksum(_ p: UnsafeRawPointer, version: UInt32) -> UInt32 {
    let crc = elide_crc32c(0, p, 44)
    return version == 1 ? crc : elide_crc32c(crc, p + 48, 16)
  }

  /// What the header says, or what is wrong with it.
  static func check(_ p: UnsafeRawPointer, volume: ULID, number: UInt64) -> Result<WALFileHeader, WALHeaderFault> {
    guard load64(p) == WALFormat.fileMagic else { return .failure(.init("no write-ahead file")) }
    let version = load32(p + 8)
    guard load32(p + 44) == checksum(p, version: version) else { return .failure(.init("the file header is damaged")) }
    guard version == 1 || version == WALFormat.version else { return .failure(.init("format version \(version) is unknown")) }
    guard loadULID(p + 16) == volume else { return .failure(.init("belongs to volume \(loadULID(p + 16))")) }
    guard load64(p + 32) == number else { return .failure(.init("is wal \(load64(p + 32))")) }
    let blocks = load32(p + 12)
    guard blocks >= 2 && blocks <= 65535 else { return .failure(.init("a file of \(blocks) blocks cannot be")) }
    return .success(WALFileHeader(blocks: Int(blocks), incarnation: version == 1 ? nil : loadULID(p + 48)))
  }
}

struct WALHeaderFault: Error {
  let detail: String
  init(_ detail: String) { self.detail = detail }
}
