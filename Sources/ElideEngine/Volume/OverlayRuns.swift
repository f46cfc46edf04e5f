import Glibc

/// Long runs of zeros and trims: disjoint, in LBA order; a newer run cuts what it covers. Part of `Overlay`.
///
/// Kept in pages of at most `pageSize` runs, so that an insert among many moves little.
struct OverlayRuns: ~Copyable {
  struct Entry: Equatable {
    var start: UInt64
    var end: UInt64
    var kind: WALKind
    /// See `Overlay.order`.
    var order: UInt64
  }

  static let pageSize = 512

  private var pages: [[Entry]] = []
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }
  var memory: Int { pages.count * Self.pageSize * MemoryLayout<Entry>.stride }

  /// The run that covers `lba`.
  func find(_ lba: UInt64) -> Entry? {
    if count == 0 { return nil }
    let p = page(for: lba)
    let i = index(in: p, for: lba)
    guard i >= 0 else { return nil }
    let e = pages[p][i]
    return lba < e.end ? e : nil
  }

  /// The start of the first run that begins after `lba`; `UInt64.max` when none does.
  func nextStart(after lba: UInt64) -> UInt64 {
    if count == 0 { return .max }
    let p = page(for: lba)
    let i = index(in: p, for: lba) + 1
    if i < pages[p].count { return pages[p][i].start }
    return p + 1 < pages.count ? pages[p + 1][0].start : .max
  }

  /// Inserts a run newer than all that it overlaps.
  mutating func insert(start: UInt64, end: UInt64, kind: WALKind, order: UInt64) {
    precondition(start < end)
    clear(start, end)
    place(Entry(start: start, end: end, kind: kind, order: order))
  }

  /// Removes all runs whose order names `wal`.
  mutating func remove(wal: UInt64) {
    if count == 0 { return }
    for p in pages.indices { pages[p].removeAll { $0.order >> 24 == wal } }
    pages.removeAll { $0.isEmpty }
    count = pages.reduce(0) { $0 + $1.count }
  }

  /// Cuts [start, end) out of what is there.
  private mutating func clear(_ start: UInt64, _ end: UInt64) {
    if count == 0 { return }
    var p = page(for: start)
    let i = index(in: p, for: start)
    // The run that reaches in from the left may also reach out to the right.
    if i >= 0, pages[p][i].start < start, pages[p][i].end > start {
      let e = pages[p][i]
      pages[p][i].end = start
      if e.end > end {
        place(Entry(start: end, end: e.end, kind: e.kind, order: e.order))
        return
      }
    }
    p = page(for: start)
    while p < pages.count {
      let first = pages[p].firstIndex { $0.start >= start } ?? pages[p].count
      var last = first
      while last < pages[p].count, pages[p][last].end <= end { last += 1 }
      count -= last - first
      pages[p].removeSubrange(first..<last)
      if first < pages[p].count {
        if pages[p][first].start < end { pages[p][first].start = end }
        return
      }
      if pages[p].isEmpty { pages.remove(at: p) } else { p += 1 }
      if p < pages.count, pages[p][0].start >= end { return }
    }
  }

  /// Inserts a run that overlaps nothing.
  private mutating func place(_ e: Entry) {
    count += 1
    if pages.isEmpty {
      pages.append([e])
      return
    }
    let p = page(for: e.start)
    pages[p].insert(e, at: index(in: p, for: e.start) + 1)
    if pages[p].count > Self.pageSize {
      let half = Array(pages[p][(Self.pageSize / 2)...])
      pages[p].removeSubrange((Self.pageSize / 2)...)
      pages.insert(half, at: p + 1)
    }
  }

  /// The last page whose first run starts at or before `lba`, or page 0.
  private func page(for lba: UInt64) -> Int {
    var low = 0
    var high = pages.count
    while low + 1 < high {
      let mid = (low + high) / 2
      if pages[mid][0].start <= lba { low = mid } else { high = mid }
    }
    return low
  }

  /// The last run of the page that starts at or before `lba`; -1 when none does.
  private func index(in p: Int, for lba: UInt64) -> Int {
    var low = -1
    var high = pages[p].count
    while low + 1 < high {
      let mid = (low + high) / 2
      if pages[p][mid].start <= lba { low = mid } else { high = mid }
    }
    return low
  }

  /// For tests.
  func checkInvariants() {
    var last: UInt64 = 0
    var found = 0
    for page in pages {
      precondition(!page.isEmpty && page.count <= Self.pageSize, "a page of \(page.count) runs")
      for e in page {
        precondition(e.start < e.end && e.start >= last, "runs out of order")
        last = e.end
        found += 1
      }
    }
    precondition(found == count, "runs are miscounted")
  }
}
