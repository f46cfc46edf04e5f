import ElideIO
import Glibc

/// LBA → where in the write-ahead log the newest bytes of a block are, for blocks that the base does not have yet.
///
/// Every entry carries its order, (wal, record ordinal), and the higher one wins. Single blocks lie in an open-addressing
/// table; runs of zeros and trims longer than `longRun` lie in an ordered list, so that a discard of the whole device is
/// one entry. A 16-bit count of entries per 4 MiB lets queries over long ranges skip what is empty, and lets a read of
/// sealed data skip the table.
///
/// Owned by the device's I/O thread. Memory: 16 bytes a slot at a load of at most 5/8, 2 bytes per 4 MiB of device
/// (untouched pages of that are never committed), 32 bytes a long run. Room for a file's entries is made when the file
/// is opened (`reserve`), never by an insert.
struct Overlay: ~Copyable {
  /// Runs of more blocks than this without data go to the list.
  static let longRun: UInt64 = 64
  static let regionShift: UInt64 = 10

  struct Slot {
    /// lba + 1 (40 bits), position (16), kind (8); 0 is empty.
    var key: UInt64
    /// wal (40), ordinal (24).
    var order: UInt64
  }

  /// What a query finds: `kind` nil where the base speaks.
  struct Run: Equatable {
    var kind: WALKind?
    var wal: UInt64
    var position: Int
    var count: UInt64
  }

  private var slots: UnsafeMutablePointer<Slot>
  private var mask: Int
  /// Entries in the table.
  private(set) var entries = 0
  private var regions: UnsafeMutablePointer<UInt16>
  private var regionCount: Int
  private(set) var runs = OverlayRuns()
  /// Entries of lower order say nothing any more: the base has what they said.
  private var foldedBelow: UInt64 = 0

  /// - Parameter blocks: of the device; entries at or beyond it are a programmer's error.
  init(blocks: UInt64) {
    mask = 1 << 12 - 1
    slots = Self.table(mask + 1)
    regionCount = Self.regionsFor(blocks)
    regions = Self.counters(regionCount)
  }

  deinit {
    free(slots)
    free(regions)
  }

  var isEmpty: Bool { entries == 0 && runs.isEmpty }
  var capacity: Int { mask + 1 }
  /// Bytes of memory, as reserved.
  var memory: Int { (mask + 1) * 16 + regionCount * 2 + runs.memory }

  static func order(wal: UInt64, ordinal: Int) -> UInt64 { wal << 24 | UInt64(ordinal) }

  // MARK: insert

  /// Takes in one record, in the order of the log.
  @inline(__always)
  mutating func insert(lba: UInt64, count: UInt64, kind: WALKind, position: Int, order: UInt64) {
    if kind != .data && count > Self.longRun {
      runs.insert(start: lba, end: lba + count, kind: kind, order: order)
      return
    }
    var at = position
    for i in 0..<count {
      set(lba &+ i, UInt64(at) << 8 | UInt64(kind.rawValue), order)
      if kind == .data { at &+= 1 }
    }
  }

  @inline(__always)
  private mutating func set(_ lba: UInt64, _ low: UInt64, _ order: UInt64) {
    let tag = lba &+ 1
    var i = home(tag)
    while true {
      let key = slots[i].key
      if key == 0 { break }
      if key >> 24 == tag {
        if order >= slots[i].order { slots[i] = Slot(key: tag << 24 | low, order: order) }
        return
      }
      i = (i &+ 1) & mask
    }
    precondition(entries < mask - mask / 4, "room was not reserved")
    slots[i] = Slot(key: tag << 24 | low, order: order)
    entries &+= 1
    regions[Int(lba >> Self.regionShift)] &+= 1
  }

  /// Makes room for `more` entries. Costs a rebuild of the table when it has to grow; called once a file.
  mutating func reserve(_ more: Int) {
    let need = (entries + more) * 8 / 5 + 16
    guard need > mask + 1 else { return }
    var size = mask + 1
    while size < need { size *= 2 }
    let old = slots
    let oldCount = mask + 1
    slots = Self.table(size)
    mask = size - 1
    for j in 0..<oldCount where old[j].key != 0 {
      var i = home(old[j].key >> 24)
      while slots[i].key != 0 { i = (i &+ 1) & mask }
      slots[i] = old[j]
    }
    free(old)
  }

  /// The device grew to `blocks`.
  mutating func grow(blocks: UInt64) {
    let wanted = Self.regionsFor(blocks)
    guard wanted > regionCount else { return }
    let grown = Self.counters(wanted)
    memcpy(grown, regions, regionCount * 2)
    free(regions)
    regions = grown
    regionCount = wanted
  }

  // MARK: remove

  /// The base holds all of the files up to `wal`: their entries say nothing from now on, all at once, and may be removed one
  /// by one in any order. Without this a long trim would come to light again where blocks that were written over it in the
  /// same file are removed before it.
  mutating func fold(through wal: UInt64) { foldedBelow = max(foldedBelow, Self.order(wal: wal + 1, ordinal: 0)) }

  /// Removes the block's entry if it still is one of `wal`.
  mutating func remove(_ lba: UInt64, wal: UInt64) {
    let tag = lba &+ 1
    var i = home(tag)
    while slots[i].key >> 24 != tag {
      if slots[i].key == 0 { return }
      i = (i &+ 1) & mask
    }
    guard slots[i].order >> 24 == wal else { return }
    entries &-= 1
    regions[Int(lba >> Self.regionShift)] &-= 1
    // Close the gap: an entry that would no longer be found moves into it.
    var j = i
    while true {
      j = (j &+ 1) & mask
      if slots[j].key == 0 { break }
      let h = home(slots[j].key >> 24)
      if ((j &- h) & mask) >= ((j &- i) & mask) {
        slots[i] = slots[j]
        i = j
      }
    }
    slots[i] = Slot(key: 0, order: 0)
  }

  /// Removes the long runs of `wal`.
  mutating func removeRuns(wal: UInt64) { runs.remove(wal: wal) }

  // MARK: query

  /// What holds from `lba` on, for at most `limit` (≥ 1) blocks: data of one file at rising positions, one kind of
  /// nothing, or the base.
  func run(_ lba: UInt64, limit: UInt64) -> Run {
    if isEmpty { return Run(kind: nil, wal: 0, position: 0, count: limit) }
    var slot = find(lba)
    if slot.order < foldedBelow { slot = Slot(key: 0, order: 0) }
    let long = runs.find(lba)
    let end = lba + limit
    if let long, long.order > slot.order, long.order >= foldedBelow {
      // Older entries of the table lie under the run until their file is dropped.
      let stop = min(long.end, end)
      var p = nextEntry(lba + 1, before: stop)
      while p < stop, find(p).order < long.order { p = nextEntry(p + 1, before: stop) }
      return Run(kind: long.kind, wal: long.order >> 24, position: 0, count: p - lba)
    }
    guard let kind = WALKind(rawValue: UInt8(truncatingIfNeeded: slot.key)) else {
      let stop = min(end, runs.nextStart(after: lba))
      return Run(kind: nil, wal: 0, position: 0, count: nextEntry(lba + 1, before: stop) - lba)
    }
    var n: UInt64 = 1
    let wal = slot.order >> 24
    let step: UInt64 = kind == .data ? 1 << 8 : 0
    let position = Int(slot.key >> 8 & 0xFFFF)
    while n < limit {
      let next = find(lba &+ n)
      guard next.key & 0xFF_FFFF == (slot.key & 0xFF_FFFF) &+ step &* n, next.order >> 24 == wal else { break }
      if !runs.isEmpty, let long = runs.find(lba &+ n), long.order > next.order { break }
      n &+= 1
    }
    return Run(kind: kind, wal: wal, position: position, count: n)
  }

  @inline(__always)
  private func find(_ lba: UInt64) -> Slot {
    if regions[Int(lba >> Self.regionShift)] == 0 { return Slot(key: 0, order: 0) }
    let tag = lba &+ 1
    var i = home(tag)
    while true {
      let key = slots[i].key
      if key >> 24 == tag { return slots[i] }
      if key == 0 { return Slot(key: 0, order: 0) }
      i = (i &+ 1) & mask
    }
  }

  /// The first block in [lba, end) that has an entry in the table; `end` when none has.
  private func nextEntry(_ lba: UInt64, before end: UInt64) -> UInt64 {
    var p = lba
    while p < end {
      var region = Int(p >> Self.regionShift)
      if regions[region] == 0 {
        let last = Int((end - 1) >> Self.regionShift)
        region += 1
        while region <= last, regions[region] == 0 { region += 1 }
        p = UInt64(region) << Self.regionShift
        continue
      }
      let stop = min(end, UInt64(region + 1) << Self.regionShift)
      while p < stop {
        if find(p).key != 0 { return p }
        p += 1
      }
    }
    return end
  }

  @inline(__always)
  private func home(_ tag: UInt64) -> Int {
    Int(truncatingIfNeeded: (tag &* 0x9E37_79B9_7F4A_7C15) >> 24) & mask
  }

  private static func regionsFor(_ blocks: UInt64) -> Int { Int(blocks >> regionShift) + 1 }
  private static func table(_ n: Int) -> UnsafeMutablePointer<Slot> {
    zeroed(n * MemoryLayout<Slot>.stride).bindMemory(to: Slot.self, capacity: n)
  }
  private static func counters(_ n: Int) -> UnsafeMutablePointer<UInt16> {
    zeroed(n * 2).bindMemory(to: UInt16.self, capacity: n)
  }

  // MARK: invariants

  /// Counts what is there and compares; for tests.
  func checkInvariants() {
    var found = 0
    var perRegion = [Int](repeating: 0, count: regionCount)
    for i in 0...mask where slots[i].key != 0 {
      let lba = slots[i].key >> 24 - 1
      precondition(find(lba).order == slots[i].order, "an entry that cannot be found")
      precondition(WALKind(rawValue: UInt8(truncatingIfNeeded: slots[i].key)) != nil, "an entry of no kind")
      perRegion[Int(lba >> Self.regionShift)] += 1
      found += 1
    }
    precondition(found == entries, "entries are miscounted")
    for r in 0..<regionCount { precondition(perRegion[r] == Int(regions[r]), "a region is miscounted") }
    runs.checkInvariants()
  }
}

/// Zeroed memory; large areas are committed by the system only where touched.
func zeroed(_ bytes: Int) -> UnsafeMutableRawPointer {
  guard let p = calloc(1, max(bytes, 16)) else { preconditionFailure("no memory for \(bytes) bytes") }
  return p
}
