import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

/// xorshift64*: the same numbers for the same seed everywhere.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }
  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }
}

@Suite struct SealTests {
  private enum Cell: Equatable { case data(UInt32), zero, trim }

  /// Random overlapping records against a dictionary that takes them in order.
  @Test(arguments: 0..<60) func visibleBlocksAreTheLastRecordsInFrameOrder(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var scan = WALScan(wal: 7)
    var model: [UInt64: Cell] = [:]
    var position: UInt32 = 2
    for _ in 0..<Int.random(in: 1...80, using: &random) {
      let lba = UInt64.random(in: 0..<64, using: &random)
      let count = UInt64.random(in: 1...24, using: &random)
      let kind = [WALKind.data, .data, .zero, .trim].randomElement(using: &random) ?? .data
      let first = scan.blockCRCs.count
      scan.records.append(FrameRecord(lba: lba, count: count, kind: kind, position: position, firstCRC: first, crc: 0))
      for i in 0..<count {
        switch kind {
        case .data:
          scan.blockCRCs.append(position)
          model[lba + i] = .data(position)
          position += 1
        case .zero: model[lba + i] = .zero
        case .trim: model[lba + i] = .trim
        }
      }
    }
    let visible = VisibleBlocks(scan)
    var found: [UInt64: Cell] = [:]
    for b in visible.blocks {
      #expect(found.updateValue(.data(b.position), forKey: b.lba) == nil)
      #expect(b.crc == b.position)
    }
    for r in visible.runs {
      for i in 0..<r.count { #expect(found.updateValue(r.isTrim ? .trim : .zero, forKey: r.lba + i) == nil) }
    }
    #expect(found == model)
    #expect(visible.blocks.map(\.lba) == visible.blocks.map(\.lba).sorted())
    #expect(visible.runs.map(\.lba) == visible.runs.map(\.lba).sorted())
  }

  @Test func hugeRunsStayRuns() {
    var scan = WALScan(wal: 1)
    scan.records = [
      FrameRecord(lba: 0, count: 1 << 32, kind: .trim, position: 2, firstCRC: 0, crc: 0),
      FrameRecord(lba: 1000, count: 2, kind: .data, position: 2, firstCRC: 0, crc: 0),
    ]
    scan.blockCRCs = [5, 6]
    let visible = VisibleBlocks(scan)
    #expect(visible.runs.count == 2)
    #expect(visible.runs.map(\.count).reduce(0, +) == 1 << 32 - 2)
    #expect(visible.blocks.map(\.lba) == [1000, 1001])
  }

  @Test func builderFindsZerosAndDuplicatesAndKeepsRunsMaximal() {
    var builder = SegmentBuilder(segment: 9)
    func block(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 4096) }
    let old = BlockHandle(segment: 3, r: 40)
    let oldHash = Digest.sha256(block(7))
    var outcomes: [SegmentBuilder.Outcome] = []
    for (lba, byte) in [(10, 1), (11, 2), (12, 0), (13, 0), (14, 1), (15, 7), (20, 3)] as [(UInt64, UInt8)] {
      outcomes.append(
        block(byte).withUnsafeBytes { builder.addBlock(lba: lba, $0.baseAddress!, dedup: { $0 == oldHash ? old : nil }) })
    }
    #expect(outcomes == [.data, .data, .zero, .zero, .repeated, .duplicate(old), .data])
    builder.addConstant(lba: 30, count: 5, isTrim: true)
    builder.addConstant(lba: 35, count: 5, isTrim: true)
    #expect(
      builder.runs == [
        .init(lba: 10, count: 2, kind: .data(r: 0)), .init(lba: 12, count: 2, kind: .zero),
        .init(lba: 14, count: 1, kind: .duplicate(BlockHandle(segment: 9, r: 0))),
        .init(lba: 15, count: 1, kind: .duplicate(old)), .init(lba: 20, count: 1, kind: .data(r: 2)),
        .init(lba: 30, count: 10, kind: .trim),
      ])
    #expect(builder.hashes == [Digest.sha256(block(1)), Digest.sha256(block(2)), Digest.sha256(block(3))])
  }

  /// A file full of overlapping trims must not take quadratic time: this one would take minutes.
  @Test func manyOverlappingRunsAreSwept() {
    var scan = WALScan(wal: 1)
    let n: UInt64 = 30_000
    for i in 0..<n {
      scan.records.append(
        FrameRecord(lba: i, count: n - i + 10, kind: i % 2 == 0 ? .zero : .trim, position: 2, firstCRC: 0, crc: 0))
    }
    let visible = VisibleBlocks(scan)
    #expect(visible.runs.count == Int(n) && visible.runs.allSatisfy { $0.lba == n - 1 || $0.count == 1 })
    #expect(visible.runs.map(\.count).reduce(0, +) == n + 10)
  }
}
