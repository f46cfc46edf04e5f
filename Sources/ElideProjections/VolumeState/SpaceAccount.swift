import ElideIO

/// How much of each segment the base still uses: a fold beside `BlockMap`, at the same seq. Which retained points need a
/// segment follows from it by intervals, without reading any old map.
///
/// A value owned by the keeper's thread. Persisted inside map checkpoints; dropping it loses nothing.
package struct SpaceAccount: Equatable, Sendable {
  /// The volume whose journal is folded.
  package let volume: ULID
  package private(set) var rows: [UInt64: SegmentTableRow] = [:]

  package init(volume: ULID, rows: [SegmentTableRow] = []) {
    self.volume = volume
    for row in rows { self.rows[row.number] = row }
  }

  package subscript(_ segment: UInt64) -> SegmentTableRow? { rows[segment] }

  /// All rows in the order of their numbers.
  package var ordered: [SegmentTableRow] { rows.values.sorted { $0.number < $1.number } }

  mutating func seal(_ segment: UInt64, blocks: UInt32, at seq: UInt64) {
    rows[segment] = SegmentTableRow(
      number: segment, volume: volume, blocks: blocks, sealed: Point(volume: volume, seq: seq))
  }

  mutating func add(_ count: UInt64, to handle: BlockHandle) {
    if handle.isBlock { rows[handle.segment]?.count += count }
  }

  /// Takes LBAs away. A count that falls to zero is noted by `settle`, since an entry may give back what it took.
  mutating func take(_ count: UInt64, from handle: BlockHandle, touched: inout Set<UInt64>) {
    guard handle.isBlock else { return }
    rows[handle.segment]?.count -= count
    touched.insert(handle.segment)
  }

  mutating func refer(from referrer: UInt64, to target: UInt64) {
    guard referrer != target, var row = rows[target] else { return }
    if let i = row.referrers.firstIndex(where: { $0 >= referrer }) {
      if row.referrers[i] == referrer { return }
      row.referrers.insert(referrer, at: i)
    } else {
      row.referrers.append(referrer)
    }
    rows[target] = row
  }

  /// Ends an entry: segments it emptied died here.
  mutating func settle(_ touched: Set<UInt64>, at seq: UInt64) {
    for segment in touched where rows[segment]?.count == 0 { rows[segment]?.death = Point(volume: volume, seq: seq) }
  }

  /// Counts from the map itself, and compares: the structure's invariant. The first segment that differs, or nil.
  package func checkInvariants(_ map: BlockMap) -> UInt64? {
    var counted: [UInt64: UInt64] = [:]
    var lba: UInt64 = 0
    while lba < map.blocks {
      let (handle, count) = map.run(at: lba, limit: map.blocks - lba)
      if handle.isBlock { counted[handle.segment, default: 0] += count }
      lba += count
    }
    return Set(rows.keys).union(counted.keys).sorted().first { counted[$0, default: 0] != rows[$0]?.count ?? 0 }
  }

  /// Deterministic bytes of everything the fold decides (bodies' places are not part of it).
  package func encode() -> [UInt8] {
    var w = ByteWriter()
    w.ulid(volume)
    w.varint(UInt64(rows.count))
    for row in ordered {
      w.varint(row.number)
      w.ulid(row.volume)
      w.varint(UInt64(row.blocks))
      w.varint(row.count)
      w.ulid(row.sealed.volume)
      w.varint(row.sealed.seq)
      w.u8(row.death == nil ? 0 : 1)
      if let death = row.death {
        w.ulid(death.volume)
        w.varint(death.seq)
      }
      w.varint(UInt64(row.referrers.count))
      for r in row.referrers { w.varint(r) }
    }
    return w.bytes
  }
}
