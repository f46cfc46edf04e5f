import ElideIO

/// Columns of numbers as one frame: magic, version and form, then the columns plain or as one zstd frame, whichever is
/// shorter. What content, encoding and segment table have in common; layout in docs/formats/segment.md.
enum ColumnFrame {
  enum Form: UInt8 { case plain = 0, zstd = 1 }

  /// `magic` is four ASCII letters, `version` 1...255.
  static func write(magic: String, version: UInt8, columns: [ByteWriter], zstd: ZstdCodec?, to out: inout ByteWriter) {
    let plain = columns.flatMap(\.bytes)
    let packed = (zstd ?? ZstdCodec())?.compressed(plain)
    out.raw(magic.utf8)
    out.u8(version)
    out.u8((packed == nil ? Form.plain : .zstd).rawValue)
    out.varint(UInt64(plain.count))
    if let packed { out.varint(UInt64(packed.count)) }
    out.raw(packed ?? plain)
  }

  /// The plain columns, at most `limit` bytes of them; nothing larger is ever allocated.
  static func read(
    magic: String, version: UInt8, limit: Int, zstd: ZstdCodec?, from reader: inout ByteReader
  ) throws(FormatError) -> [UInt8] {
    guard try reader.raw(4).elementsEqual(magic.utf8) else { throw reader.error("does not begin with \"\(magic)\"") }
    let v = try reader.u8()
    guard v == version else { throw reader.error("version \(v), this program reads \(version)") }
    let f = try reader.u8()
    guard let form = Form(rawValue: f) else { throw reader.error("unknown form \(f)") }
    let plainCount = try reader.count("length of the columns", limit: limit)
    guard form == .zstd else { return try reader.raw(plainCount) }
    // Longer than plain would have been stored plain.
    let stored = try reader.raw(try reader.count("stored length of the columns", limit: plainCount))
    guard let codec = zstd ?? ZstdCodec() else { throw reader.error("no memory to decompress") }
    guard let plain = codec.decompressed(stored[...], size: plainCount) else {
      throw reader.error("columns do not decompress to \(plainCount) bytes")
    }
    return plain
  }
}

extension ByteWriter {
  /// A signed number: 0, -1, 1, -2, … as 0, 1, 2, 3, ….
  mutating func zigzag(_ v: Int64) { varint(UInt64(bitPattern: v << 1 ^ v >> 63)) }
}

extension ByteReader {
  mutating func zigzag() throws(FormatError) -> Int64 {
    let v = try varint()
    return Int64(bitPattern: v >> 1) ^ -Int64(bitPattern: v & 1)
  }
}
