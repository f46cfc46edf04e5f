import ElideIO
import ElideProjections

/// SplitMix64: a seeded source of numbers for tests.
struct SeededRandom: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
  mutating func below(_ n: UInt64) -> UInt64 { n == 0 ? 0 : next() % n }
  mutating func one(in n: UInt64) -> Bool { below(n) == 0 }
}

/// The plainest map there is: runs in an array, sorted, disjoint and maximal.
struct MapModel {
  var blocks: UInt64
  private(set) var runs: [MapUpdate]

  init(blocks: UInt64) {
    self.blocks = blocks
    runs = [MapUpdate(lba: 0, count: BlockMap.maxBlocks, handle: .unwritten)]
  }

  private static func continues(_ a: MapUpdate, _ b: BlockHandle) -> Bool {
    if !a.handle.isBlock { return a.handle == b }
    return b.isBlock && b.segment == a.handle.segment && UInt64(b.r) == UInt64(a.handle.r) + a.count
  }

  /// The runs inside [lba, lba+count), cut to it.
  func slice(_ lba: UInt64, _ count: UInt64) -> [MapUpdate] {
    var out: [MapUpdate] = []
    for r in runs where r.lba < lba + count && r.lba + r.count > lba {
      let from = max(r.lba, lba)
      let to = min(r.lba + r.count, lba + count)
      out.append(MapUpdate(lba: from, count: to - from, handle: r.handle.advanced(by: from - r.lba)))
    }
    return out
  }

  mutating func assign(_ lba: UInt64, _ count: UInt64, _ handle: BlockHandle) {
    guard count > 0 else { return }
    let end = lba + count
    let pieces = slice(0, lba) + [MapUpdate(lba: lba, count: count, handle: handle)] + slice(end, BlockMap.maxBlocks - end)
    runs = []
    for p in pieces {
      if let last = runs.last, Self.continues(last, p.handle) {
        runs[runs.count - 1].count += p.count
      } else {
        runs.append(p)
      }
    }
  }

  func lookup(_ lba: UInt64) -> BlockHandle { slice(lba, 1)[0].handle }

  /// LBAs per segment.
  func counts() -> [UInt64: UInt64] {
    var out: [UInt64: UInt64] = [:]
    for r in runs where r.handle.isBlock { out[r.handle.segment, default: 0] += r.count }
    return out
  }
}

extension BlockMap {
  /// All runs of the whole address space, as the reader sees them.
  func allRuns() -> [MapUpdate] {
    var out: [MapUpdate] = []
    var at: UInt64 = 0
    while at < BlockMap.maxBlocks {
      let (handle, count) = run(at: at, limit: BlockMap.maxBlocks - at)
      out.append(MapUpdate(lba: at, count: count, handle: handle))
      at += count
    }
    return out
  }
}

/// A random run for a map of `blocks` blocks: positions and lengths gather at the borders of leaves and nodes, so that
/// uniform nodes come and go; segments repeat, so that runs meet and join.
func randomUpdate(_ random: inout SeededRandom, blocks: UInt64, dense: Bool) -> MapUpdate {
  var lba: UInt64
  var count: UInt64
  switch random.below(dense ? 3 : 8) {
  case 0, 1, 2:
    lba = random.below(min(blocks, 4096))
    count = 1 + random.below(dense ? 3 : 40)
  case 3:
    lba = random.below(min(blocks, 8192)) & ~1023
    count = 1024 * (1 + random.below(6))
  case 4:
    lba = random.below(blocks)
    count = 1 + random.below(5000)
  case 5:
    lba = random.below(blocks) & ~(1 << 20 - 1)
    count = 1 << 20 + random.below(2) * random.below(1 << 21)
  case 6:
    lba = random.below(blocks) & ~(1 << 30 - 1)
    count = 1 << 30
  default:
    lba = random.below(blocks) & ~1023 &+ random.below(3)
    count = 1022 + random.below(5)
  }
  lba = min(lba, blocks - 1)
  count = min(count, blocks - lba)
  var handle: BlockHandle
  switch random.below(8) {
  case 0: handle = .unwritten
  case 1: handle = .zero
  default:
    count = min(count, 1 << 20)
    // r = lba modulo something: neighbours often continue each other.
    let r = random.one(in: 3) ? random.below(1 << 20) : lba & (1 << 20 - 1)
    handle = BlockHandle(segment: random.below(4), r: UInt32(min(r, 1 << 20 - count)))
  }
  return MapUpdate(lba: lba, count: count, handle: handle)
}
