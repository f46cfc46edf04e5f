import ElideIO
import ElideProjections
import Testing

/// A map, and rows that agree with it.
private func sample(seed: UInt64, size: UInt64, steps: Int, dense: Bool) -> (map: BlockMap, rows: [SegmentTableRow]) {
  var random = SeededRandom(seed)
  let map = BlockMap(blocks: size)
  for _ in 0..<steps {
    let u = randomUpdate(&random, blocks: size, dense: dense)
    map.assign(u.lba, count: u.count, handle: u.handle) { _, _ in }
  }
  let counts = recount(map)
  let volumes = [ULID(high: 1, low: 2), ULID(high: 3, low: seed)]
  var rows: [SegmentTableRow] = []
  for n in UInt64(0)..<6 {
    let volume = volumes[n < 2 ? 0 : 1]
    var row = SegmentTableRow(
      number: n, volume: volume, blocks: 1 << 20, count: counts[n] ?? 0, sealed: Point(volume: volume, seq: 10 + 3 * n))
    if row.count == 0 { row.death = Point(volume: volumes[1], seq: 5 + n) }
    if n == 2 { row.referrers = [3, 5, 900] }
    if n < 4 {
      row.body = BodyLocator(
        hash: Digest.sha256([UInt8(n)]), length: 4128 * (n + 1), encoding: Digest.sha256([UInt8(n), 1]), page: 7 - n,
        offset: 1 << (8 * n), frameLength: 900)
    }
    rows.append(row)
  }
  return (map, rows)
}

func recount(_ map: BlockMap) -> [UInt64: UInt64] {
  var out: [UInt64: UInt64] = [:]
  for run in map.allRuns() where run.handle.isBlock { out[run.handle.segment, default: 0] += run.count }
  return out
}

@Suite struct CheckpointTests {
  let volume = ULID(high: 77, low: 78)

  @Test(arguments: 0..<10) func roundTrip(seed: Int) throws {
    let size: UInt64 = [1, 1023, 5000, 1 << 22, 1 << 33][seed % 5]
    let (map, rows) = sample(seed: UInt64(seed), size: size, steps: seed == 0 ? 0 : 300, dense: seed % 2 == 0)
    let written = MapCheckpoint(volume: volume, seq: 1234, map: map, rows: rows, state: Array("a state".utf8))
    let bytes = written.encode()
    let read = try MapCheckpoint.decode(bytes)
    #expect(read.volume == volume && read.seq == 1234 && read.root == map.root())
    #expect(read.rows == rows)
    #expect(read.state == Array("a state".utf8))
    #expect(read.map.blocks == size)
    #expect(read.map.allRuns() == map.allRuns())
    #expect(read.map.checkInvariants() == [])
    // The same contents give the same bytes, whatever shape the map has in memory.
    #expect(MapCheckpoint(volume: volume, seq: 1234, map: read.map, rows: rows, state: read.state).encode() == bytes)
    #expect(try MapCheckpoint.header(bytes[..<256]).root == map.root())
  }

  /// Any change of any byte is noticed, and nothing traps.
  @Test func alteredBytesAreRefused() throws {
    let (map, rows) = sample(seed: 3, size: 40_000, steps: 60, dense: false)
    let bytes = MapCheckpoint(volume: volume, seq: 9, map: map, rows: rows, state: [1, 2, 3]).encode()
    var random = SeededRandom(8)
    for i in 0..<600 {
      var altered = bytes
      switch i % 3 {
      case 0: altered[Int(random.below(UInt64(bytes.count)))] ^= UInt8(1 + random.below(255))
      case 1: altered.removeLast(1 + Int(random.below(UInt64(bytes.count - 1))))
      default: altered.append(contentsOf: [UInt8](repeating: UInt8(random.below(256)), count: 1 + Int(random.below(9))))
      }
      #expect(throws: FormatError.self) { try MapCheckpoint.decode(altered) }
    }
  }

  /// Sections that are hostile and carry right digests: an error or a checkpoint, never a trap.
  @Test(arguments: 0..<4) func resealedSectionsNeverTrap(section: Int) {
    let (map, rows) = sample(seed: 4, size: 40_000, steps: 60, dense: false)
    let bytes = MapCheckpoint(volume: volume, seq: 9, map: map, rows: rows, state: [1, 2, 3]).encode()
    var random = SeededRandom(UInt64(section) + 80)
    var refused = 0
    for _ in 0..<1500 {
      var altered = bytes
      let lengths = (0..<4).map { i in (0..<8).reduce(0) { $0 | Int(bytes[96 + 8 * i + $1]) << (8 * $1) } }
      let begin = 256 + lengths[..<section].reduce(0, +)
      for _ in 0...random.below(3) { altered[begin + Int(random.below(UInt64(lengths[section])))] = UInt8(random.below(256)) }
      if random.one(in: 4) { altered[40 + Int(random.below(8))] = UInt8(random.below(256)) }  // blocks
      if random.one(in: 4) { altered[80 + Int(random.below(48))] = UInt8(random.below(256)) }  // counts and lengths
      var at = 256
      for i in 0..<3 {
        altered.replaceSubrange(128 + 32 * i..<160 + 32 * i, with: Digest.sha256(Array(altered[at..<at + lengths[i]])).bytes)
        at += lengths[i]
      }
      altered.replaceSubrange(224..<256, with: Digest.sha256(Array(altered[..<224])).bytes)
      if (try? MapCheckpoint.decode(altered)) == nil { refused += 1 }
    }
    #expect(refused > 700)
  }

  /// Counts in the table and LBAs in the map are one thing.
  @Test func accountsThatDisagreeWithTheMapAreRefused() {
    let (map, rows) = sample(seed: 5, size: 40_000, steps: 60, dense: false)
    func decode(_ change: (inout [SegmentTableRow]) -> Void) throws -> MapCheckpoint {
      var changed = rows
      change(&changed)
      return try MapCheckpoint.decode(MapCheckpoint(volume: volume, seq: 9, map: map, rows: changed, state: []).encode())
    }
    #expect(throws: Never.self) { try decode { _ in } }
    #expect(throws: FormatError.self) { try decode { $0[1].count += 1 } }
    #expect(throws: FormatError.self) { try decode { $0.remove(at: 1) } }
    #expect(throws: FormatError.self) { try decode { $0[1].blocks = 1 } }
  }

  /// A leaf with one run written as two means the same and is refused all the same: one leaf has one encoding.
  @Test func aLeafThatIsNotCanonicalIsRefused() throws {
    let map = BlockMap(blocks: 1024)
    map.assign(0, count: 10, handle: BlockHandle(segment: 5, r: 7)) { _, _ in }
    let row = SegmentTableRow(number: 5, volume: volume, blocks: 100, count: 10, sealed: Point(volume: volume, seq: 1))
    let bytes = MapCheckpoint(volume: volume, seq: 9, map: map, rows: [row], state: []).encode()
    let rest: [UInt8] = [0xD8, 0x1F]  // 1014 unwritten blocks
    let leaf: [UInt8] = [1, 42, 10, 14] + rest
    #expect(bytes.suffix(leaf.count).elementsEqual(leaf))

    func object(_ leaf: [UInt8]) -> [UInt8] {
      var altered = Array(bytes.dropLast(6)) + leaf
      // Index: "elmi", version, form, length, number of items, the item; then the leaf's digest.
      altered[256 + 8] = UInt8(leaf.count << 2 | 2)
      altered.replaceSubrange(256 + 9..<256 + 41, with: Digest.sha256(leaf).bytes)
      altered[96 + 24] = UInt8(leaf.count)
      altered.replaceSubrange(128..<160, with: Digest.sha256(Array(altered[256..<256 + 41])).bytes)
      altered.replaceSubrange(224..<256, with: Digest.sha256(Array(altered[..<224])).bytes)
      return altered
    }
    #expect(object(leaf) == bytes)
    #expect(throws: FormatError.self) { try MapCheckpoint.decode(object([1, 22, 10, 14, 22, 0, 0] + rest)) }
  }
}
