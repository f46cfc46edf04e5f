import ElideIO

/// What a write-ahead file leaves behind once its later records have overwritten its earlier ones. A function of the
/// frames of that file alone: the last record in frame order wins.
struct VisibleBlocks {
  struct Block: Equatable {
    var lba: UInt64
    /// Position of its bytes in the file, and their CRC-32C as the record has it.
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

  /// For each LBA the newest run that covers it: disjoint, in LBA order. A sweep over the edges with the open runs in a heap,
  /// newest on top: a file full of overlapping trims takes n log n.
  private static func topmost(_ covers: [Cover]) -> [Cover] {
    if covers.count < 2 { return covers }
    let starts = covers.sorted { ($0.lba, $0.order) < ($1.lba, $1.order) }
    let edges = (covers.map(\.lba) + covers.map(\.end)).sorted()
    var open = NewestFirst()
    var out: [Cover] = []
    var next = 0
    for (i, edge) in edges.enumerated() where i + 1 < edges.count && edges[i + 1] > edge {
      while next < starts.count, starts[next].lba <= edge {
        open.insert(starts[next])
        next += 1
      }
      while let top = open.top, top.end <= edge { open.removeTop() }
      guard let top = open.top else { continue }
      if let last = out.last, last.end == edge, last.order == top.order {
        out[out.count - 1].end = edges[i + 1]
      } else {
        out.append(Cover(lba: edge, end: edges[i + 1], order: top.order, isTrim: top.isTrim))
      }
    }
    return out
  }

  /// A binary heap of runs by order, the highest on top.
  private struct NewestFirst {
    private var heap: [Cover] = []
    var top: Cover? { heap.first }

    mutating func insert(_ cover: Cover) {
      heap.append(cover)
      var i = heap.count - 1
      while i > 0, heap[(i - 1) / 2].order < heap[i].order {
        heap.swapAt(i, (i - 1) / 2)
        i = (i - 1) / 2
      }
    }

    mutating func removeTop() {
      heap.swapAt(0, heap.count - 1)
      heap.removeLast()
      var i = 0
      while 2 * i + 1 < heap.count {
        var child = 2 * i + 1
        if child + 1 < heap.count, heap[child + 1].order > heap[child].order { child += 1 }
        if heap[i].order >= heap[child].order { return }
        heap.swapAt(i, child)
        i = child
      }
    }
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
