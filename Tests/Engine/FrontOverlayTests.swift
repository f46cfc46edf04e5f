import Testing

@testable import ElideEngine

@Suite struct FrontOverlayTests {
  struct Model {
    struct Entry: Equatable {
      var kind: WALKind
      var wal: UInt64
      var position: Int
    }
    var entries: [UInt64: Entry] = [:]
  }

  /// Random records, drops in the order of the files, and queries, against a dictionary.
  @Test(arguments: 0..<12) func behavesLikeADictionary(seed: UInt64) {
    var dice = Dice(seed)
    let blocks: UInt64 = 6000
    var overlay = Overlay(blocks: blocks)
    var model = Model()
    var noted: [UInt64: [(UInt64, UInt64)]] = [:]
    var oldest: UInt64 = 1
    for wal in 1...12 as ClosedRange<UInt64> {
      var position = 1
      for ordinal in 0..<120 {
        let kind: WALKind = [.data, .data, .zero, .trim][Int.random(in: 0..<4, using: &dice)]
        let long = kind != .data && Int.random(in: 0..<3, using: &dice) == 0
        let count = UInt64.random(in: long ? 60...1500 : 1...12, using: &dice)
        let lba = UInt64.random(in: 0..<blocks - count, using: &dice)
        overlay.reserve(Int(min(count, 64)))
        overlay.insert(lba: lba, count: count, kind: kind, position: position, order: Overlay.order(wal: wal, ordinal: ordinal))
        for i in 0..<count {
          model.entries[lba + i] = .init(kind: kind, wal: wal, position: kind == .data ? position + Int(i) : 0)
        }
        if kind == .data { position += Int(count) }
        if kind == .data || count <= Overlay.longRun { noted[wal, default: []].append((lba, count)) }
        if ordinal % 20 == 0 { compare(overlay, model, blocks, &dice) }
      }
      overlay.checkInvariants()
      while oldest + UInt64.random(in: 0...4, using: &dice) < wal {
        drop(&overlay, &model, oldest, noted[oldest] ?? [], blocks, &dice)
        overlay.checkInvariants()
        oldest += 1
        compare(overlay, model, blocks, &dice)
      }
    }
    while oldest <= 12 {
      drop(&overlay, &model, oldest, noted[oldest] ?? [], blocks, &dice)
      oldest += 1
    }
    let isEmpty = overlay.isEmpty
    #expect(isEmpty)
    overlay.checkInvariants()
  }

  private func drop(
    _ overlay: inout Overlay, _ model: inout Model, _ wal: UInt64, _ ranges: [(UInt64, UInt64)], _ blocks: UInt64,
    _ dice: inout Dice
  ) {
    overlay.fold(through: wal)
    model.entries = model.entries.filter { $0.value.wal != wal }
    for (i, (lba, count)) in ranges.enumerated() {
      for b in lba..<lba + count { overlay.remove(b, wal: wal) }
      // In slices, with reads between.
      if i % 16 == 0 { compare(overlay, model, blocks, &dice) }
    }
    overlay.removeRuns(wal: wal)
  }

  /// Walks a random range by runs: each block is as the model says, and the runs cover the range.
  private func compare(_ overlay: borrowing Overlay, _ model: Model, _ blocks: UInt64, _ dice: inout Dice) {
    let start = UInt64.random(in: 0..<blocks - 1, using: &dice)
    let end = UInt64.random(in: start + 1...blocks, using: &dice)
    var at = start
    while at < end {
      let run = overlay.run(at, limit: end - at)
      guard run.count >= 1, at + run.count <= end else {
        Issue.record("a run of \(run.count) blocks at \(at)")
        return
      }
      for i in 0..<run.count {
        let want = model.entries[at + i]
        #expect(run.kind == want?.kind, "block \(at + i)")
        if let want, run.kind == .data { #expect(run.wal == want.wal && run.position + Int(i) == want.position) }
      }
      at += run.count
    }
  }

  /// A discard of 16 TiB is one entry, and a query over it one step.
  @Test func aWholeDeviceIsOneRun() {
    let blocks: UInt64 = 1 << 32
    var overlay = Overlay(blocks: blocks)
    overlay.insert(lba: 77, count: 1, kind: .data, position: 1, order: Overlay.order(wal: 1, ordinal: 0))
    overlay.insert(lba: 0, count: blocks, kind: .trim, position: 2, order: Overlay.order(wal: 1, ordinal: 1))
    overlay.insert(lba: 1 << 31, count: 1, kind: .data, position: 2, order: Overlay.order(wal: 1, ordinal: 2))
    #expect(overlay.run(0, limit: blocks).count == 1 << 31)
    #expect(overlay.run(1 << 31, limit: blocks - 1 << 31) == .init(kind: .data, wal: 1, position: 2, count: 1))
    #expect(overlay.run(1 << 31 + 1, limit: (1 << 31) - 1).count == (1 << 31) - 1)
    let runs = overlay.runs.count
    #expect(runs == 1)
  }

  @Test func theHigherOrderWins() {
    var overlay = Overlay(blocks: 100)
    overlay.insert(lba: 5, count: 1, kind: .data, position: 9, order: Overlay.order(wal: 2, ordinal: 4))
    overlay.insert(lba: 5, count: 1, kind: .data, position: 3, order: Overlay.order(wal: 2, ordinal: 3))
    #expect(overlay.run(5, limit: 1).position == 9)
    overlay.remove(5, wal: 1)
    #expect(overlay.run(5, limit: 1).kind == .data)
    overlay.remove(5, wal: 2)
    let isEmpty = overlay.isEmpty
    #expect(isEmpty)
  }

  /// Blocks written over a long run of zeros, all in one file that is folded: not even while it is removed do they read as zeros,
  /// or as anything but what the base has.
  @Test func aFoldedFileSaysNothingMore() {
    var overlay = Overlay(blocks: 1000)
    overlay.reserve(64)
    overlay.insert(lba: 0, count: 500, kind: .zero, position: 0, order: Overlay.order(wal: 1, ordinal: 0))
    overlay.insert(lba: 7, count: 3, kind: .data, position: 9, order: Overlay.order(wal: 1, ordinal: 1))
    overlay.insert(lba: 8, count: 1, kind: .data, position: 2, order: Overlay.order(wal: 2, ordinal: 0))
    overlay.fold(through: 1)
    for step in 0..<4 {
      for lba in [0, 6, 7, 9, 10, 499] as [UInt64] { #expect(overlay.run(lba, limit: 1).kind == nil, "\(lba), step \(step)") }
      #expect(overlay.run(8, limit: 1) == .init(kind: .data, wal: 2, position: 2, count: 1))
      if step < 3 { overlay.remove(7 + UInt64(step), wal: 1) }
    }
    overlay.removeRuns(wal: 1)
    overlay.checkInvariants()
    #expect(overlay.run(8, limit: 1).wal == 2)
  }
}
