import ElideIO

// The segment table of a checkpoint, as columns (docs/formats/checkpoint.md): each number of a row is written for all
// rows before the next, so that like stands beside like and compresses.

enum SegmentTableCoding {
  static let magic = "elmt"
  static let maxRows = 1 << 24
  static let maxPlain = 1 << 28

  static func write(_ rows: [SegmentTableRow], zstd: ZstdCodec?, to out: inout ByteWriter) {
    var volumes: [ULID] = []
    var places: [ULID: UInt64] = [:]
    func place(_ volume: ULID) -> UInt64 {
      if let i = places[volume] { return i }
      places[volume] = UInt64(volumes.count)
      volumes.append(volume)
      return UInt64(volumes.count - 1)
    }
    var numbers = ByteWriter()
    var owners = ByteWriter()
    var sizes = ByteWriter()
    var points = ByteWriter()
    var referrers = ByteWriter()
    var next: UInt64 = 0
    var seq: UInt64 = 0
    for row in rows {
      precondition(row.number >= next && row.number < 1 << 40, "segments rise")
      numbers.varint(row.number - next)
      next = row.number + 1
      owners.varint(place(row.volume))
      sizes.varint(UInt64(row.blocks))
      sizes.varint(row.count)
      points.varint(place(row.sealed.volume))
      points.zigzag(Int64(bitPattern: row.sealed.seq &- seq))
      seq = row.sealed.seq
      points.varint(row.death.map { place($0.volume) + 1 } ?? 0)
      if let death = row.death { points.zigzag(Int64(bitPattern: death.seq &- seq)) }
      writeReferrers(row.referrers, &referrers)
    }
    var head = ByteWriter()
    head.varint(UInt64(volumes.count))
    for v in volumes { head.ulid(v) }
    let bodies = bodyColumns(rows)
    ColumnFrame.write(
      magic: magic, version: 1, columns: [head, numbers, owners, sizes, points, referrers, bodies], zstd: zstd, to: &out)
  }

  private static func writeReferrers(_ list: [UInt64], _ w: inout ByteWriter) {
    w.varint(UInt64(list.count))
    var next: UInt64 = 0
    for r in list {
      precondition(r >= next, "referrers rise")
      w.varint(r - next)
      next = r + 1
    }
  }

  private static func bodyColumns(_ rows: [SegmentTableRow]) -> ByteWriter {
    var numbers = ByteWriter()
    var digests = ByteWriter()
    var page: UInt64 = 0
    for row in rows {
      numbers.u8(row.body == nil ? 0 : 1)
      guard let body = row.body else { continue }
      numbers.varint(body.length)
      numbers.zigzag(Int64(bitPattern: body.page &- page))
      page = body.page
      numbers.varint(body.offset)
      numbers.varint(UInt64(body.frameLength))
      digests.digest(body.hash)
      digests.digest(body.encoding)
    }
    numbers.raw(digests.bytes)
    return numbers
  }

  static func read(_ count: Int, zstd: ZstdCodec?, from outer: inout ByteReader) throws(FormatError) -> [SegmentTableRow] {
    let plain = try ColumnFrame.read(magic: magic, version: 1, limit: maxPlain, zstd: zstd, from: &outer)
    var r = ByteReader(plain, what: "segment table")
    // A row takes nine bytes or more.
    guard count <= min(maxRows, plain.count / 9) else { throw r.error("\(count) segments in \(plain.count) bytes") }
    var volumes: [ULID] = []
    for _ in 0..<(try r.count("number of volumes", limit: min(plain.count / 16, 2 * count + 1))) { volumes.append(try r.ulid()) }
    func volume(_ i: Int) throws(FormatError) -> ULID {
      guard i < volumes.count else { throw r.error("volume \(i) of \(volumes.count)") }
      return volumes[i]
    }
    var rows: [SegmentTableRow] = []
    rows.reserveCapacity(count)
    let nowhere = Point(volume: ULID(high: 0, low: 0), seq: 0)
    var next: UInt64 = 0
    for _ in 0..<count {
      let gap = try r.varint()
      guard gap < 1 << 40, next + gap < 1 << 40 else { throw r.error("a segment number of more than 40 bits") }
      rows.append(SegmentTableRow(number: next + gap, volume: nowhere.volume, blocks: 0, sealed: nowhere))
      next += gap + 1
    }
    for i in rows.indices { rows[i].volume = try volume(try r.count("volume", limit: volumes.count)) }
    for i in rows.indices {
      rows[i].blocks = UInt32(try r.count("blocks", limit: 1 << 20))
      rows[i].count = UInt64(try r.count("LBAs", limit: Int(BlockMap.maxBlocks)))
    }
    var seq: UInt64 = 0
    for i in rows.indices {
      let owner = try volume(try r.count("volume", limit: volumes.count))
      seq = seq &+ UInt64(bitPattern: try r.zigzag())
      rows[i].sealed = Point(volume: owner, seq: seq)
      let death = try r.count("volume", limit: volumes.count)
      if death > 0 { rows[i].death = Point(volume: try volume(death - 1), seq: seq &+ UInt64(bitPattern: try r.zigzag())) }
    }
    for i in rows.indices { rows[i].referrers = try readReferrers(&r) }
    try readBodies(&rows, &r)
    try r.end()
    return rows
  }

  private static func readReferrers(_ r: inout ByteReader) throws(FormatError) -> [UInt64] {
    var out: [UInt64] = []
    var next: UInt64 = 0
    for _ in 0..<(try r.count("number of referrers", limit: r.remaining)) {
      let gap = try r.varint()
      guard gap < 1 << 40, next + gap < 1 << 40 else { throw r.error("a segment number of more than 40 bits") }
      out.append(next + gap)
      next += gap + 1
    }
    return out
  }

  private static func readBodies(_ rows: inout [SegmentTableRow], _ r: inout ByteReader) throws(FormatError) {
    let none = Digest(words: (0, 0, 0, 0))
    var page: UInt64 = 0
    for i in rows.indices {
      let flag = try r.u8()
      guard flag <= 1 else { throw r.error("\(flag) where 0 or 1 should be") }
      guard flag == 1 else { continue }
      // Stored units are never longer than plain, and there is a hash for each block.
      let length = UInt64(try r.count("length of a body", limit: 4128 * Int(rows[i].blocks)))
      page = page &+ UInt64(bitPattern: try r.zigzag())
      rows[i].body = BodyLocator(
        hash: none, length: length, encoding: none, page: page, offset: try r.varint(),
        frameLength: UInt32(try r.count("length of a frame", limit: Int(UInt32.max))))
    }
    for i in rows.indices where rows[i].body != nil {
      rows[i].body?.hash = try r.digest()
      rows[i].body?.encoding = try r.digest()
    }
  }
}
