import ElideIO

/// Numbers of segments, rising: the blob of `segments_retired` and `segments_deleted`. Format in docs/formats/segment.md.
package struct SegmentList: Equatable, Sendable {
  package var numbers: [UInt64]
  package init(_ numbers: [UInt64]) { self.numbers = numbers }
  package static let limit = 1 << 22

  package func encode(_ zstd: ZstdCodec? = nil) -> [UInt8] {
    var column = ByteWriter()
    column.varint(UInt64(numbers.count))
    var next: UInt64 = 0
    for n in numbers {
      precondition(n >= next && n < 1 << 40, "segment numbers rise")
      column.varint(n - next)
      next = n + 1
    }
    var out = ByteWriter()
    ColumnFrame.write(magic: "elsl", version: 1, columns: [column], zstd: zstd, to: &out)
    return out.bytes
  }

  package static func decode(_ bytes: [UInt8], _ zstd: ZstdCodec? = nil) throws(FormatError) -> SegmentList {
    var outer = ByteReader(bytes, what: "segment list")
    let plain = try ColumnFrame.read(magic: "elsl", version: 1, limit: 8 + limit * 6, zstd: zstd, from: &outer)
    try outer.end()
    var reader = ByteReader(plain, what: "segment list")
    let count = try reader.count("number of segments", limit: min(limit, plain.count))
    var numbers: [UInt64] = []
    numbers.reserveCapacity(count)
    var next: UInt64 = 0
    for _ in 0..<count {
      let gap = try reader.varint()
      guard gap < 1 << 40, next + gap < 1 << 40 else { throw reader.error("a segment number of more than 40 bits") }
      numbers.append(next + gap)
      next += gap + 1
    }
    try reader.end()
    return SegmentList(numbers)
  }
}
