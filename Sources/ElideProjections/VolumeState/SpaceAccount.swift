import ElideIO

/// How much of each segment the base still uses: a fold beside `BlockMap`, at the same seq. Which retained points need a
/// segment follows from it by intervals, without reading any old map.
///
/// A value owned by the keeper's thread. Persisted inside map checkpoints; dropping it loses nothing.
package struct SpaceAccount: Equatable, Sendable {
  /// The volume whose journal is folded.
  package let volume: ULID
  // Rows in the order of their numbers. The numbers and the counts lie apart: they are what a fold touches millions of
  // times, and `rows[i].count` is not kept.
  private var rows: [SegmentTableRow] = []
  private var numbers: [UInt64] = []
  private var counts: [UInt64] = []
  /// Rows whose count fell to zero since the last `settle`.
  private var fallen: [Int] = []

  /// Of two rows with one number the first counts.
  package init(volume: ULID, rows: [SegmentTableRow] = []) {
    self.volume = volume
    for row in rows.sorted(by: { $0.number < $1.number }) where row.number != numbers.last {
      self.rows.append(row)
      numbers.append(row.number)
      counts.append(row.count)
    }
  }

  package subscript(_ segment: UInt64) -> SegmentTableRow? { index(of: segment).map { row(at: $0) } }

  /// All rows in the order of their numbers.
  package var ordered: [SegmentTableRow] { rows.indices.map { row(at: $0) } }

  private func row(at i: Int) -> SegmentTableRow {
    var row = rows[i]
    row.count = counts[i]
    return row
  }

  @inline(__always)
  private func index(of segment: UInt64) -> Int? {
    guard let first = numbers.first, segment >= first else { return nil }
    // Numbers rise nearly without gaps: look where it would be without any, then search below.
    let guess = Int(min(UInt64(numbers.count - 1), segment - first))
    return numbers[guess] == segment ? guess : search(segment, below: guess)
  }

  private func search(_ segment: UInt64, below guess: Int) -> Int? {
    var low = 0
    var high = guess
    while low < high {
      let middle = (low + high) / 2
      if numbers[middle] < segment { low = middle + 1 } else { high = middle }
    }
    return numbers[low] == segment ? low : nil
  }

  // MARK: Folding

  /// A segment enters the table. One without blocks of its own is needed by nobody: it dies where it was sealed.
  mutating func seal(_ segment: UInt64, blocks: UInt32, at seq: UInt64) {
    let point = Point(volume: volume, seq: seq)
    // Almost always at the end; the output of a plan may be sealed after later wals.
    var i = numbers.count
    while i > 0, numbers[i - 1] > segment { i -= 1 }
    if i > 0, numbers[i - 1] == segment { return }
    rows.insert(
      SegmentTableRow(number: segment, volume: volume, blocks: blocks, sealed: point, death: blocks == 0 ? point : nil), at: i)
    numbers.insert(segment, at: i)
    counts.insert(0, at: i)
  }

  @inline(__always)
  mutating func add(_ count: UInt64, to handle: BlockHandle) {
    if handle.isBlock, let i = index(of: handle.segment) { counts[i] &+= count }
  }

  /// Takes LBAs away, never below none. What falls to zero is noted for `settle`, since an entry may give back what it took.
  @inline(__always)
  mutating func take(_ count: UInt64, from handle: BlockHandle) {
    guard handle.isBlock, let i = index(of: handle.segment) else { return }
    counts[i] = counts[i] > count ? counts[i] &- count : 0
    if counts[i] == 0 { fallen.append(i) }
  }

  mutating func refer(from referrer: UInt64, to target: UInt64) {
    guard referrer != target, let row = index(of: target) else { return }
    // Referrers are sealed in rising order, so almost always it is the last one, or comes after it.
    let list = rows[row].referrers
    if list.last == referrer { return }
    let i = list.last.map { $0 < referrer } ?? true ? list.count : list.firstIndex { $0 >= referrer } ?? list.count
    if i < list.count, list[i] == referrer { return }
    rows[row].referrers.insert(referrer, at: i)
  }

  /// Ends an entry: segments it emptied died here.
  mutating func settle(at seq: UInt64) {
    for i in fallen where counts[i] == 0 { rows[i].death = Point(volume: volume, seq: seq) }
    fallen.removeAll(keepingCapacity: true)
  }

  /// A segment that nothing points into and nothing will: an output whose plan has ended without using it.
  mutating func giveUp(_ segment: UInt64, at seq: UInt64) {
    guard let i = index(of: segment), counts[i] == 0, rows[i].death == nil else { return }
    rows[i].death = Point(volume: volume, seq: seq)
  }

  // MARK: Questions

  /// The first of the volume's own segments from `first` on that has blocks, and none that the base points into.
  package func emptied(from first: UInt64) -> SegmentTableRow? { own(from: first, isEmptied: true) }

  /// The first of the volume's own segments from `first` on that has blocks.
  package func next(from first: UInt64) -> SegmentTableRow? { own(from: first, isEmptied: false) }

  private func own(from first: UInt64, isEmptied: Bool) -> SegmentTableRow? {
    var (low, high) = (0, numbers.count)
    while low < high {
      let middle = (low + high) / 2
      if numbers[middle] < first { low = middle + 1 } else { high = middle }
    }
    for i in low..<numbers.count where (!isEmptied || counts[i] == 0) && rows[i].blocks > 0 && rows[i].volume == volume {
      return row(at: i)
    }
    return nil
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
    return Set(numbers).union(counted.keys).sorted().first { counted[$0, default: 0] != self[$0]?.count ?? 0 }
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

  package static func == (a: SpaceAccount, b: SpaceAccount) -> Bool { a.volume == b.volume && a.ordered == b.ordered }
}
