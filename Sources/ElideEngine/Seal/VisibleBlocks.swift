import ElideIO

/// What a write-ahead file leaves behind once its later records have overwritten its earlier ones. A function of the
/// frames of that file alone: the last record in frame order wins.
struct VisibleBlocks {
  struct Block: Equatable {
    var lba: UInt64
    /// Position of its bytes in the file, and where its CRC is in the scan.
    var position: UInt32
    var crc: UInt32
  }
  struct Run: Equatable {
    var lba: UInt64
    var count: UInt64
    var isTrim: Bool
  }
  /// In LBA order; disjoint from each other and from `runs`.
  private(set) var blocks: [Block] = []
  /// Zeros and trims, in LBA order.
  private(set) var runs: [Run] = []

  private struct Data {
    var lba: UInt64
    var order: Int
    var position: UInt32
    var crc: UInt32
  }
  private struct Cover {
    var lba: UInt64
    var end: UInt64
    var order: Int
    var isTrim: Bool
  }

  init(_ scan: WALScan) {
    var data: [Data] = []
    var covers: [Cover] = []
    data.reserveCapacity(scan.blockCRCs.count)
    for (order, record) in scan.records.enumerated() {
      switch record.kind {
      case .data:
        for i in 0..<Int(record.count) {
          data.append(
            Data(
              lba: record.lba + UInt64(i), order: order, position: record.position + UInt32(i),
              crc: scan.blockCRCs[record.firstCRC + i]))
        }
      case .zero, .trim:
        covers.append(Cover(lba: record.lba, end: record.lba + record.count, order: order, isTrim: record.kind == .trim))
      }
    }
    // The newest of each LBA comes last of its group. A record never holds an LBA twice.
    data.sort { ($0.lba, $0.order) < ($1.lba, $1.order) }
    merge(data, Self.topmost(covers))
  }

  /// For each LBA the newest run that covers it: disjoint, in LBA order.
  private static func topmost(_ covers: [Cover]) -> [Cover] {
    if covers.count < 2 { return covers }
    // Sweep over the ends; the open runs are kept by order, newest last.
    let starts = covers.sorted { ($0.lba, $0.order) < ($1.lba, $1.order) }
    var edges = Set<UInt64>()
    for c in covers {
      edges.insert(c.lba)
      edges.insert(c.end)
    }
    var open: [Cover] = []
    var out: [Cover] = []
    var next = 0
    let sorted = edges.sorted()
    for (i, edge) in sorted.enumerated() where i + 1 < sorted.count {
      open.removeAll { $0.end <= edge }
      while next < starts.count, starts[next].lba <= edge {
        open.append(starts[next])
        next += 1
      }
      guard let top = open.max(by: { $0.order < $1.order }) else { continue }
      if let last = out.last, last.end == edge, last.order == top.order {
        out[out.count - 1].end = sorted[i + 1]
      } else {
        out.append(Cover(lba: edge, end: sorted[i + 1], order: top.order, isTrim: top.isTrim))
      }
    }
    return out
  }

  private mutating func merge(_ data: [Data], _ covers: [Cover]) {
    var c = 0
    var i = 0
    // How far the current cover has been emitted.
    var from: UInt64 = covers.first?.lba ?? 0
    while i < data.count {
      // The last of the group with this LBA.
      while i + 1 < data.count, data[i + 1].lba == data[i].lba { i += 1 }
      let d = data[i]
      i += 1
      while c < covers.count, covers[c].end <= d.lba {
        emit(covers[c], from, covers[c].end)
        c += 1
        if c < covers.count { from = covers[c].lba }
      }
      if c < covers.count, covers[c].lba <= d.lba {
        if covers[c].order > d.order { continue }
        emit(covers[c], from, d.lba)
        from = d.lba + 1
      }
      blocks.append(Block(lba: d.lba, position: d.position, crc: d.crc))
    }
    while c < covers.count {
      emit(covers[c], from, covers[c].end)
      c += 1
      if c < covers.count { from = covers[c].lba }
    }
  }

  private mutating func emit(_ cover: Cover, _ from: UInt64, _ to: UInt64) {
    guard from < to else { return }
    if let last = runs.last, last.lba + last.count == from, last.isTrim == cover.isTrim {
      runs[runs.count - 1].count += to - from
    } else {
      runs.append(Run(lba: from, count: to - from, isTrim: cover.isTrim))
    }
  }
}
