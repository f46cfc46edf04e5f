import ElideIO
import ElideProjections
import Testing

@Suite struct BlockMapTests {
  @Test(arguments: 0..<24) func equalsThePlainestMap(seed: Int) {
    var random = SeededRandom(UInt64(seed))
    let dense = seed % 3 == 0
    var size: UInt64 = dense ? 5000 : [1, 1023, 70_000, 1 << 31, 1 << 33 + 7][seed % 5]
    let map = BlockMap(blocks: size)
    var model = MapModel(blocks: size)
    if seed % 2 == 0 { map.registerReader() }
    for step in 0..<(dense ? 1500 : 300) {
      if random.one(in: 50), size < BlockMap.maxBlocks {
        size = min(BlockMap.maxBlocks, size + random.below(size + 4096))
        map.grow(to: size)
        model.blocks = size
      }
      let u = randomUpdate(&random, blocks: size, dense: dense)
      let before = model.slice(u.lba, u.count)
      var told: [MapUpdate] = []
      var at = u.lba
      map.assign(u.lba, count: u.count, handle: u.handle) { handle, count in
        told.append(MapUpdate(lba: at, count: count, handle: handle))
        at += count
      }
      #expect(told == before, "step \(step)")
      model.assign(u.lba, u.count, u.handle)
      if random.one(in: 4) { map.quiesce() }
      for _ in 0..<4 {
        let lba = random.one(in: 2) ? random.below(size) : min(size - 1, u.lba + random.below(u.count + 2))
        #expect(map.lookup(lba) == model.lookup(lba))
        let limit = 1 + random.below(3000)
        let first = model.slice(lba, limit)[0]
        let run = map.run(at: lba, limit: limit)
        #expect(run.handle == first.handle && run.count == first.count)
      }
      if step % 25 == 0 {
        #expect(map.checkInvariants() == [])
        #expect(map.allRuns() == model.runs)
      }
    }
    #expect(map.allRuns() == model.runs)
    #expect(map.checkInvariants() == [])
    // Everything trimmed: nothing is left but the top node.
    map.assign(0, count: size, handle: .unwritten) { _, _ in }
    map.unregisterReader()
    #expect(map.nodeCount == 1)
    #expect(map.checkInvariants() == [])
    #expect(map.root() == BlockMap(blocks: size).root())
  }

  /// Many runs in one update mean what the same runs mean one by one.
  @Test(arguments: 0..<12) func batchesEqualSingles(seed: Int) {
    var random = SeededRandom(UInt64(seed) + 1000)
    let size: UInt64 = 1 << 22
    let batched = BlockMap(blocks: size)
    let single = BlockMap(blocks: size)
    for _ in 0..<30 {
      var updates: [MapUpdate] = []
      var at: UInt64 = 0
      while at < size, updates.count < 400 {
        var u = randomUpdate(&random, blocks: size, dense: true)
        u.lba = at + random.below(random.one(in: 20) ? 1 << 18 : 60)
        guard u.lba < size else { break }
        u.count = min(u.count, size - u.lba)
        updates.append(u)
        at = u.lba + u.count
      }
      var a: [UInt64: UInt64] = [:]
      var b: [UInt64: UInt64] = [:]
      updates.withUnsafeBufferPointer { batched.update($0) { h, n in a[h.isBlock ? h.segment : 1 << 41, default: 0] += n } }
      for u in updates {
        single.assign(u.lba, count: u.count, handle: u.handle) { h, n in b[h.isBlock ? h.segment : 1 << 41, default: 0] += n }
      }
      #expect(a == b)
      #expect(batched.allRuns() == single.allRuns())
      #expect(batched.checkInvariants() == [])
      #expect(batched.root() == single.root())
    }
  }

  @Test func aRunDoesNotCrossIntoTheNextSegment() {
    let map = BlockMap(blocks: 10_000)
    map.assign(100, count: 10, handle: BlockHandle(segment: 7, r: 1 << 20 - 10)) { _, _ in }
    map.assign(110, count: 10, handle: BlockHandle(segment: 8, r: 0)) { _, _ in }
    #expect(map.run(at: 100, limit: 100).count == 10)
    #expect(map.checkInvariants() == [])
    map.assign(0, count: 1024, handle: .zero) { _, _ in }
    for i in 0..<UInt64(1024) where i % 2 == 0 {
      map.assign(i, count: 1, handle: BlockHandle(segment: 7 + i / 2 % 2, r: i / 2 % 2 == 0 ? 1 << 20 - 1 : 0)) { _, _ in }
      map.assign(i + 1, count: 1, handle: BlockHandle(segment: 9, r: UInt32(i))) { _, _ in }
    }
    #expect(map.run(at: 0, limit: 10).count == 1)
    #expect(map.checkInvariants() == [])
  }

  /// A trim of 16 TiB touches one node, written or not.
  @Test func aWideTrimTouchesOneNode() {
    let size: UInt64 = 1 << 32
    let map = BlockMap(blocks: size)
    map.assign(0, count: size, handle: .unwritten) { handle, count in #expect(handle == .unwritten && count == size) }
    #expect(map.nodeCount == 1)
    map.assign(0, count: size, handle: .zero) { _, _ in }
    #expect(map.nodeCount == 1)
    map.assign(12_345_678, count: 1, handle: BlockHandle(segment: 1, r: 1)) { _, _ in }
    #expect(map.nodeCount == 4)
    var told: [UInt64] = []
    map.assign(0, count: size, handle: .unwritten) { _, count in told.append(count) }
    #expect(told == [12_345_678, 1, size - 12_345_679])
    #expect(map.nodeCount == 1)
  }

  /// A TiB of scattered blocks may cost 2.2 GiB, a TiB in sequence 64 MiB: here less of each, scaled.
  @Test func memoryIsBounded() {
    let few: UInt64 = 1 << 16
    let scattered = BlockMap(blocks: few)
    var random = SeededRandom(5)
    for lba in 0..<few {
      scattered.assign(lba, count: 1, handle: BlockHandle(segment: random.below(1000), r: UInt32(random.below(8000)))) { _, _ in }
    }
    _ = scattered.root()
    let threeNodes = 128 << 10
    #expect(scattered.memoryBytes < Int(few) * 41 / 5 + threeNodes)

    let many: UInt64 = 1 << 20
    let sequential = BlockMap(blocks: many)
    for at in stride(from: UInt64(0), to: many, by: 8192) {
      sequential.assign(at, count: 8192, handle: BlockHandle(segment: at / 8192, r: 0)) { _, _ in }
    }
    _ = sequential.root()
    #expect(sequential.memoryBytes * 256 < 64 << 20)
  }

  /// The root tells contents and size, and nothing of how they came about.
  @Test(arguments: 0..<8) func rootIsIndependentOfHistory(seed: Int) {
    var random = SeededRandom(UInt64(seed) + 77)
    let size: UInt64 = [3000, 1 << 21, 1 << 31][seed % 3]
    let wandering = BlockMap(blocks: size)
    var model = MapModel(blocks: size)
    for step in 0..<200 {
      let u = randomUpdate(&random, blocks: size, dense: seed % 2 == 0)
      wandering.assign(u.lba, count: u.count, handle: u.handle) { _, _ in }
      model.assign(u.lba, u.count, u.handle)
      if step % 10 == 0 { _ = wandering.root() }  // so that digests are cached and must be renewed
    }
    let direct = BlockMap(blocks: size)
    for r in model.runs.shuffled(using: &random) {
      let inside = min(r.lba + r.count, size)
      guard r.lba < size else { continue }
      var at = r.lba
      while at < inside {
        let n = min(inside - at, r.handle.isBlock ? 1 << 20 : inside - at)
        direct.assign(at, count: n, handle: r.handle.advanced(by: at - r.lba)) { _, _ in }
        at += n
      }
    }
    #expect(direct.root() == wandering.root())
    let before = direct.root()
    let old = direct.lookup(size / 2)
    direct.assign(size / 2, count: 1, handle: BlockHandle(segment: 99, r: 5)) { _, _ in }
    #expect(direct.root() != before)
    direct.assign(size / 2, count: 1, handle: old) { _, _ in }
    #expect(direct.root() == before)
    direct.grow(to: size + 1)
    #expect(direct.root() != before)
  }
}
