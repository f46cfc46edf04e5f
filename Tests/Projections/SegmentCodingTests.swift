import ElideIO
import ElideProjections
import Testing

/// A content as a sealer might make it: runs of all kinds, maximal.
func randomContent(_ random: inout SeededRandom, number: UInt64, blocks size: UInt64, targets: [UInt64], runs: Int)
  -> SegmentContent
{
  var content = SegmentContent(runs: [])
  var at: UInt64 = 0
  var r: UInt64 = 0
  for _ in 0..<runs {
    let lba = at + random.below(random.one(in: 3) ? 1 : 1 + size / UInt64(2 * runs))
    guard lba < size else { break }
    var run = SegmentContent.Run(lba: lba, count: min(size - lba, 1 + random.below(40)), kind: .zero)
    switch random.below(5) {
    case 0: run.kind = .trim
    case 1: break
    case 2 where !targets.isEmpty:
      run.kind = .duplicate(BlockHandle(segment: targets[Int(random.below(UInt64(targets.count)))], r: UInt32(random.below(50))))
    default:
      run.kind = .data(r: UInt32(r))
    }
    var tried = content
    tried.runs.append(run)
    guard tried.fault == nil else { continue }
    content = tried
    at = run.lba + run.count
    if case .data = run.kind { r += run.count }
  }
  return content
}

@Suite struct SegmentCodingTests {
  private func encoding(_ random: inout SeededRandom, units: Int) -> SegmentEncoding {
    var list: [SegmentEncoding.Unit] = []
    var r: UInt32 = 0
    var offset: UInt64 = 0
    for _ in 0..<units {
      let blocks = UInt32(1 + random.below(32))
      let raw = random.one(in: 3)
      let length = raw ? blocks * 4096 : UInt32(1 + random.below(UInt64(blocks) * 4095))
      list.append(
        .init(
          r: r, blocks: blocks, offset: offset, length: length, codec: raw ? .raw : .zstd, digest: Digest.sha256([UInt8(r & 255)])
        ))
      r += blocks
      offset += UInt64(length)
    }
    return SegmentEncoding(units: list, hashesOffset: offset, hashesDigest: Digest.sha256([1]))
  }

  @Test(arguments: 0..<40) func contentRoundTrip(seed: Int) throws {
    var random = SeededRandom(UInt64(seed))
    let content = randomContent(
      &random, number: 9, blocks: 1 << (10 + UInt64(seed) % 28), targets: [1, 3, 8, 9, 1 << 39], runs: seed * 8)
    #expect(content.fault == nil)
    #expect(try SegmentContent.decode(content.encode()) == content)
  }

  @Test(arguments: 0..<20) func encodingRoundTrip(seed: Int) throws {
    var random = SeededRandom(UInt64(seed))
    let e = encoding(&random, units: seed * 3)
    #expect(e.fault == nil)
    #expect(try SegmentEncoding.decode(e.encode()) == e)
    #expect(e.fault(blocks: e.blocks, bodyLength: e.bodyLength) == nil)
    #expect(e.fault(blocks: e.blocks + 1, bodyLength: e.bodyLength) != nil)
    #expect(e.fault(blocks: e.blocks, bodyLength: e.bodyLength + 1) != nil)
  }

  /// At most 16 bytes a run of a file image; 12 bytes a scattered block, 0.3 % of it.
  @Test func contentIsSmall() {
    var random = SeededRandom(1)
    var runs: [SegmentContent.Run] = []
    var at: UInt64 = 0
    for i in 0..<8192 {
      at += 2 + random.below(60_000)
      runs.append(.init(lba: at, count: 1, kind: .data(r: UInt32(i))))
    }
    #expect(SegmentContent(runs: runs).encode().count < 8192 * 12)
    runs = []
    at = 0
    for _ in 0..<4000 {
      at += 1 + random.below(100)
      let count = 1 + random.below(300)
      let target = BlockHandle(segment: random.below(70), r: UInt32(random.below(8000)))
      runs.append(.init(lba: at, count: count, kind: .duplicate(target)))
      at += count
    }
    #expect(SegmentContent(runs: runs).encode().count < 4000 * 16)
  }

  /// Wrong contents are named before they are written.
  @Test func faults() {
    func fault(_ runs: [SegmentContent.Run]) -> String? { SegmentContent(runs: runs).fault }
    #expect(fault([.init(lba: 5, count: 0, kind: .zero)]) != nil)
    #expect(fault([.init(lba: 5, count: 2, kind: .zero), .init(lba: 6, count: 1, kind: .trim)]) != nil)
    #expect(fault([.init(lba: 5, count: 2, kind: .zero), .init(lba: 7, count: 1, kind: .zero)]) != nil)
    #expect(fault([.init(lba: 5, count: 2, kind: .data(r: 1))]) != nil)
    #expect(fault([.init(lba: 5, count: 2, kind: .data(r: 0)), .init(lba: 9, count: 1, kind: .data(r: 3))]) != nil)
    #expect(fault([.init(lba: 1 << 38 - 1, count: 2, kind: .zero)]) != nil)
    #expect(fault([.init(lba: 0, count: 1 << 20 + 1, kind: .data(r: 0))]) != nil)
    let a = BlockHandle(segment: 4, r: 7)
    #expect(
      fault([.init(lba: 0, count: 2, kind: .duplicate(a)), .init(lba: 2, count: 1, kind: .duplicate(a.advanced(by: 2)))]) != nil)
    #expect(fault([.init(lba: 0, count: 2, kind: .duplicate(a)), .init(lba: 2, count: 1, kind: .duplicate(a))]) == nil)
    #expect(fault([.init(lba: 0, count: 2, kind: .duplicate(BlockHandle(segment: 1, r: 1 << 20 - 1)))]) != nil)
    #expect(fault([.init(lba: 0, count: 1, kind: .duplicate(.zero))]) != nil)
  }

  /// Changed and cut bytes give an error or a valid value, never a trap; what decodes encodes again.
  @Test func hostileBytesNeverTrap() throws {
    var random = SeededRandom(99)
    let contents = [0, 3, 60, 900].map { runs in
      randomContent(&random, number: 9, blocks: 1 << 20, targets: [1, 2, 9], runs: runs).encode()
    }
    let encodings = [1, 40].map { encoding(&random, units: $0).encode() }
    var decoded = 0
    for i in 0..<20_000 {
      let isContent = i % 2 == 0
      let pool = isContent ? contents : encodings
      var bytes = pool[Int(random.below(UInt64(pool.count)))]
      // Often the plain form: there a change reaches the columns.
      for _ in 0...random.below(3) {
        let at = random.one(in: 2) ? random.below(UInt64(min(12, bytes.count))) : random.below(UInt64(bytes.count))
        bytes[Int(at)] = UInt8(random.below(256))
      }
      if random.one(in: 8) { bytes.removeLast(Int(random.below(UInt64(bytes.count)))) }
      if isContent, let c = try? SegmentContent.decode(bytes) {
        decoded += 1
        #expect(try SegmentContent.decode(c.encode()) == c)
      } else if !isContent, let e = try? SegmentEncoding.decode(bytes) {
        decoded += 1
        #expect(try SegmentEncoding.decode(e.encode()) == e)
      }
    }
    #expect(decoded > 0)
  }

  /// Columns as varints of any value: what a hostile writer would send, in the plain form.
  @Test func hostileColumnsNeverTrap() {
    var random = SeededRandom(7)
    var decoded = 0
    for i in 0..<30_000 {
      var columns = ByteWriter()
      let n = random.below(6)
      columns.varint(n)
      for _ in 0..<n * (2 + random.below(4)) {
        switch random.below(4) {
        case 0: columns.varint(random.next())
        case 1: columns.varint(1 << random.below(64))
        default: columns.varint(random.below(64))
        }
      }
      var w = ByteWriter()
      w.raw((i % 2 == 0 ? "elsc" : "else").utf8)
      w.u8(1)
      w.u8(0)
      w.varint(UInt64(columns.bytes.count))
      w.raw(columns.bytes)
      if i % 2 == 0 {
        if (try? SegmentContent.decode(w.bytes)) != nil { decoded += 1 }
      } else {
        w.raw([UInt8](repeating: 3, count: 32 * Int(n + 1)))
        if (try? SegmentEncoding.decode(w.bytes)) != nil { decoded += 1 }
      }
    }
    #expect(decoded > 20)
  }

  @Test func keysAndHashes() {
    let a = Digest.sha256([1])
    let b = Digest.sha256([2])
    #expect(SegmentEncoding.segmentHash(content: a, encoding: b) == Digest.sha256(a.bytes + b.bytes))
    let volume = ULID(high: 0, low: 1)
    #expect(
      SegmentEncoding.bodyKey(volume: volume, segment: 42, hash: a) == "volumes/\(volume)/segments/0000000000000042-\(a.hex)")
  }
}
