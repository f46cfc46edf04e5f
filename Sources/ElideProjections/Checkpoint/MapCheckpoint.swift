import ElideIO

/// The base of a volume at one seq, as one object: the block map's leaves, the table of segments with their accounts, and
/// the volume's state. Written in the data directory and, under `volumes/<vol>/maps/`, in the store; format in
/// docs/formats/checkpoint.md. Whoever reads one needs nothing that the journal said before it.
///
/// Immutable once written; a torn or altered one does not decode.
package struct MapCheckpoint: Sendable {
  package let volume: ULID
  /// The last entry folded into it.
  package let seq: UInt64
  /// The map's Merkle root.
  package let root: Digest
  /// The map itself. From `decode` it is new and the caller's alone.
  package let map: BlockMap
  /// In rising order of numbers.
  package let rows: [SegmentTableRow]
  /// `VolumeState.encode()` at `seq`; opaque here, at most `maxState` bytes.
  package let state: [UInt8]

  package static let maxState = 64 << 20

  /// What `encode` will write. The map's writer: its root is computed here.
  package init(volume: ULID, seq: UInt64, map: BlockMap, rows: [SegmentTableRow], state: [UInt8]) {
    self.init(volume: volume, seq: seq, root: map.root(), map: map, rows: rows, state: state)
  }

  init(volume: ULID, seq: UInt64, root: Digest, map: BlockMap, rows: [SegmentTableRow], state: [UInt8]) {
    self.volume = volume
    self.seq = seq
    self.root = root
    self.map = map
    self.rows = rows
    self.state = state
  }

  // MARK: Layout
  //
  //   0  8   "elidemap"
  //   8  4   version, 1
  //  12  4   number of deltas, 0 for now
  //  16  16  volume
  //  32  8   seq
  //  40  8   blocks
  //  48  32  root
  //  80  8   leaves stored
  //  88  8   rows of the segment table
  //  96  32  lengths of the sections: index, table, state, leaves (8 each)
  // 128  96  SHA-256 of index, table and state
  // 224  32  SHA-256 of bytes 0...223
  //
  // then the sections, leaves last, so that all but the leaves is one range.

  static let magic = "elidemap"
  static let version: UInt32 = 1
  package static let headerBytes = 256
  static let indexMagic = "elmi"
  static let stateMagic = "elms"

  /// The object's bytes. The map's writer.
  package func encode(_ zstd: ZstdCodec? = nil) -> [UInt8] {
    precondition(state.count <= Self.maxState && rows.count <= SegmentTableCoding.maxRows)
    var items = ByteWriter()
    var digests = ByteWriter()
    var leaves = ByteWriter()
    var counts = (items: 0, leaves: 0)
    map.visitLeaves { handle, n in
      items.varint(n << 2 | UInt64(handle.tag))
      counts.items += 1
    } leaf: { bytes in
      items.varint(UInt64(bytes.count) << 2 | 2)
      digests.digest(Digest.sha256(UnsafeRawBufferPointer(bytes)))
      leaves.raw(bytes)
      counts.items += 1
      counts.leaves += 1
    }
    var head = ByteWriter()
    head.varint(UInt64(counts.items))
    var index = ByteWriter()
    ColumnFrame.write(magic: Self.indexMagic, version: 1, columns: [head, items], zstd: zstd, to: &index)
    index.raw(digests.bytes)
    var table = ByteWriter()
    SegmentTableCoding.write(rows, zstd: zstd, to: &table)
    var stateSection = ByteWriter()
    var plain = ByteWriter()
    plain.raw(state)
    ColumnFrame.write(magic: Self.stateMagic, version: 1, columns: [plain], zstd: zstd, to: &stateSection)

    let sections = [index.bytes, table.bytes, stateSection.bytes, leaves.bytes]
    var out = ByteWriter(capacity: Self.headerBytes + sections.reduce(0) { $0 + $1.count })
    out.raw(Self.magic.utf8)
    out.u32(Self.version)
    out.u32(0)
    out.ulid(volume)
    for v in [seq, map.blocks] { out.u64(v) }
    out.digest(root)
    for v in [counts.leaves, rows.count] + sections.map(\.count) { out.u64(UInt64(v)) }
    for section in sections.dropLast() { out.digest(Digest.sha256(section)) }
    out.digest(Digest.sha256(out.bytes))
    for section in sections { out.raw(section) }
    return out.bytes
  }
}
