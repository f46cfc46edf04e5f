import ElideIO

extension MapCheckpoint {
  /// The fixed part of an object, verified by its own digest.
  package struct Header: Equatable, Sendable {
    package var volume: ULID
    package var seq: UInt64
    package var blocks: UInt64
    package var root: Digest
    package var leaves: UInt64
    package var rows: UInt64
    /// Index, table, state, leaves.
    package var lengths: [UInt64]
    package var digests: [Digest]
  }

  /// Reads the first 256 bytes.
  package static func header(_ bytes: ArraySlice<UInt8>) throws(FormatError) -> Header {
    var r = ByteReader(bytes, what: "map checkpoint")
    guard bytes.count >= headerBytes else { throw r.error("\(bytes.count) bytes are no header") }
    guard try r.raw(8).elementsEqual(magic.utf8) else { throw r.error("does not begin with \"\(magic)\"") }
    let version = try r.u32()
    guard version == Self.version else { throw r.error("version \(version), this program reads \(Self.version)") }
    let deltas = try r.u32()
    guard deltas == 0 else { throw r.error("\(deltas) deltas, this program reads none") }
    let (volume, seq, blocks, root) = (try r.ulid(), try r.u64(), try r.u64(), try r.digest())
    let (leaves, rows) = (try r.u64(), try r.u64())
    var lengths: [UInt64] = []
    for _ in 0..<4 { lengths.append(try r.u64()) }
    var digests: [Digest] = []
    for _ in 0..<3 { digests.append(try r.digest()) }
    let covered = bytes[bytes.startIndex..<bytes.startIndex + headerBytes - 32]
    guard try r.digest() == covered.withUnsafeBytes({ Digest.sha256($0) }) else {
      throw r.error("the header's digest does not match")
    }
    guard blocks <= BlockMap.maxBlocks else { throw r.error("a volume of \(blocks) blocks") }
    guard rows <= UInt64(SegmentTableCoding.maxRows), leaves <= BlockMap.leafCount(blocks) else {
      throw r.error("\(rows) segments, \(leaves) leaves")
    }
    return Header(
      volume: volume, seq: seq, blocks: blocks, root: root, leaves: leaves, rows: rows, lengths: lengths, digests: digests)
  }

  /// Where the state's section lies in an object, which is all of it that a look at the volume needs.
  package static func stateRange(_ header: Header) throws(FormatError) -> Range<UInt64> {
    let (index, table, length) = (header.lengths[0], header.lengths[1], header.lengths[2])
    guard index < 1 << 40, table < 1 << 40, length <= UInt64(maxState) + 4096 else {
      throw FormatError("map checkpoint", offset: 96, "sections of \(index), \(table) and \(length) bytes")
    }
    let first = UInt64(headerBytes) + index + table
    return first..<first + length
  }

  /// The state out of that section, checked against the header's digest.
  package static func state(
    _ section: [UInt8], _ header: Header, _ zstd: ZstdCodec? = nil
  ) throws(FormatError) -> [UInt8] {
    guard Digest.sha256(section) == header.digests[2] else {
      throw FormatError("map checkpoint", offset: 0, "the state's digest does not match")
    }
    var reader = ByteReader(section, what: "state of a map checkpoint")
    let state = try ColumnFrame.read(magic: stateMagic, version: 1, limit: maxState, zstd: zstd, from: &reader)
    try reader.end()
    return state
  }

  /// Reads a whole object: every bound, every digest, the root, and that the accounts count what the map holds. Hostile
  /// bytes give an error; memory stays within a small multiple of the object and of the limits.
  package static func decode(_ bytes: [UInt8], _ zstd: ZstdCodec? = nil) throws(FormatError) -> MapCheckpoint {
    let header = try header(bytes[...])
    func bad(_ what: String) -> FormatError { FormatError("map checkpoint", offset: 0, what) }
    var at = headerBytes
    var sections: [ArraySlice<UInt8>] = []
    for length in header.lengths {
      guard length <= UInt64(bytes.count - at) else { throw bad("ends early: a section of \(length) bytes") }
      sections.append(bytes[at..<at + Int(length)])
      at += Int(length)
    }
    guard at == bytes.count else { throw bad("\(bytes.count - at) bytes too many") }
    for (i, name) in ["index", "table", "state"].enumerated() {
      guard sections[i].withUnsafeBytes({ Digest.sha256($0) }) == header.digests[i] else {
        throw bad("the \(name)'s digest does not match")
      }
    }
    var tableReader = ByteReader(sections[1], what: "segment table")
    let rows = try SegmentTableCoding.read(Int(header.rows), zstd: zstd, from: &tableReader)
    try tableReader.end()
    var stateReader = ByteReader(sections[2], what: "state of a map checkpoint")
    let state = try ColumnFrame.read(magic: stateMagic, version: 1, limit: maxState, zstd: zstd, from: &stateReader)
    try stateReader.end()

    let map = BlockMap(blocks: header.blocks)
    var loader = LeafLoader(map: map, rows: rows)
    try loader.load(index: sections[0], leaves: sections[3], count: Int(header.leaves), zstd: zstd)
    for row in rows where loader.counts[row.number] ?? 0 != row.count {
      throw bad("segment \(row.number) counts \(row.count) blocks, the map holds \(loader.counts[row.number] ?? 0)")
    }
    guard map.root() == header.root else { throw bad("the map's root is not \(header.root)") }
    return MapCheckpoint(volume: header.volume, seq: header.seq, root: header.root, map: map, rows: rows, state: state)
  }
}

/// Fills a new map from a checkpoint's index and leaves, and counts what points into each segment.
struct LeafLoader {
  let map: BlockMap
  private let blocks: [UInt64: UInt32]
  private(set) var counts: [UInt64: UInt64] = [:]

  init(map: BlockMap, rows: [SegmentTableRow]) {
    self.map = map
    var blocks: [UInt64: UInt32] = [:]
    blocks.reserveCapacity(rows.count)
    for row in rows { blocks[row.number] = row.blocks }
    self.blocks = blocks
  }

  mutating func load(index: ArraySlice<UInt8>, leaves: ArraySlice<UInt8>, count: Int, zstd: ZstdCodec?) throws(FormatError) {
    var outer = ByteReader(index, what: "index of a map checkpoint")
    // Between any two stored leaves there is one stretch at most.
    guard count <= index.count / 32 else { throw outer.error("\(count) leaves in \(index.count) bytes") }
    let plain = try ColumnFrame.read(
      magic: MapCheckpoint.indexMagic, version: 1, limit: 16 + 8 * (2 * count + 1) + 8 * count, zstd: zstd, from: &outer)
    var r = ByteReader(plain, what: "index of a map checkpoint")
    var body = ByteReader(leaves, what: "leaves of a map checkpoint")
    let total = BlockMap.leafCount(map.blocks)
    var leaf: UInt64 = 0
    var stored = 0
    var before: UInt64?
    for _ in 0..<(try r.count("number of items", limit: 2 * count + 2)) {
      let item = try r.varint()
      guard item & 3 != 3, item >> 2 > 0 else { throw r.error("unknown item \(item)") }
      if item & 3 == 2 {
        guard leaf < total, stored < count, item >> 2 <= UInt64(LeafCoding.maxBytes) else {
          throw r.error("leaf \(leaf) of \(total)")
        }
        try place(leaf, try body.raw(Int(item >> 2)), try outer.digest())
        leaf += 1
        stored += 1
        before = nil
      } else {
        guard item >> 2 <= total - leaf, before != item & 3 else {
          throw r.error("a stretch of \(item >> 2) leaves at leaf \(leaf)")
        }
        try fill(leaf, item >> 2, BlockHandle(raw: (item & 3) << 60), &r)
        leaf += item >> 2
        before = item & 3
      }
    }
    guard leaf == total, stored == count else { throw r.error("\(leaf) leaves of \(total), \(stored) stored of \(count)") }
    try r.end()
    try outer.end()
    try body.end()
  }

  private func fill(_ leaf: UInt64, _ n: UInt64, _ handle: BlockHandle, _ r: inout ByteReader) throws(FormatError) {
    if handle == .unwritten { return }
    // The last leaf is zero throughout only when the volume ends with it.
    guard (leaf + n) * 1024 <= map.blocks else { throw r.error("zeros past the end of the volume") }
    map.assign(leaf * 1024, count: n * 1024, handle: handle) { _, _ in }
  }

  private mutating func place(_ leaf: UInt64, _ bytes: [UInt8], _ digest: Digest) throws(FormatError) {
    guard Digest.sha256(bytes) == digest else { throw FormatError("map leaf \(leaf)", offset: 0, "its digest does not match") }
    var last: (segment: UInt64, count: UInt64) = (.max, 0)
    try bytes.withUnsafeBufferPointer { (p) throws(FormatError) in
      try map.setLeaf(leaf, encoding: UnsafeRawBufferPointer(p)) { (handle, n) throws(FormatError) in
        guard let blocks = self.blocks[handle.segment], UInt64(handle.r) + n <= UInt64(blocks) else {
          throw FormatError("map leaf \(leaf)", offset: 0, "block \(handle.r) of segment \(handle.segment) is in no table")
        }
        if handle.segment != last.segment {
          if last.count > 0 { counts[last.segment, default: 0] += last.count }
          last = (handle.segment, 0)
        }
        last.count += n
      }
    }
    if last.count > 0 { counts[last.segment, default: 0] += last.count }
  }
}
