import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

@Suite struct DedupIndexTests {
  private func hash(_ n: Int) -> Digest { withUnsafeBytes(of: n) { Digest.sha256($0) } }

  @Test func theOldestSegmentIsForgottenFirstAndTheNewestOffered() {
    var index = DedupIndex(limit: 8)
    index.insert(segment: 1, hashes: [1, 2, 3].map(hash))
    index.insert(segment: 2, hashes: [4, 1, 5].map(hash))
    #expect(index[hash(1)] == BlockHandle(segment: 2, r: 1) && index[hash(2)] == BlockHandle(segment: 1, r: 1))
    index.insert(segment: 3, hashes: [6, 7, 8, 9].map(hash))
    #expect(index[hash(2)] == nil && index[hash(1)] == BlockHandle(segment: 2, r: 1))
    #expect(index.count == 7)
    index.remove(segments: [2])
    #expect(index[hash(4)] == nil && index[hash(9)] == BlockHandle(segment: 3, r: 3))
    #expect(index.count == 4)
    index.insert(segment: 4, hashes: (0..<9).map(hash))
    #expect(index.count == 4)
  }

  /// Against a model that knows all entries in order: every lookup is the newest live entry of that hash, or nothing.
  @Test(arguments: 0..<20) func agreesWithAModel(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let limit = Int.random(in: 50...9000, using: &random)
    var index = DedupIndex(limit: limit)
    var model: [(segment: UInt64, hashes: [Int], offered: Bool)] = []
    for segment in 0..<120 as Range<UInt64> {
      let count = Int.random(in: 1...min(limit, 400), using: &random)
      let fresh = Int.random(in: 0..<6000, using: &random)
      let numbers = Array(Set((0..<count).map { (fresh + $0 * 7) % 6000 })).sorted()
      index.insert(segment: segment, hashes: numbers.map(hash))
      model.append((segment, numbers, true))
      while model.reduce(0, { $0 + $1.hashes.count }) > limit { model.removeFirst() }
      if Int.random(in: 0..<4, using: &random) == 0, let victim = model.randomElement(using: &random)?.segment {
        index.remove(segments: [victim])
        if let i = model.firstIndex(where: { $0.segment == victim }) { model[i].offered = false }
      }
      if segment % 20 != 19 { continue }
      var expected: [Int: BlockHandle] = [:]
      for m in model where m.offered {
        for (r, n) in m.hashes.enumerated() { expected[n] = BlockHandle(segment: m.segment, r: UInt32(r)) }
      }
      // A segment that was withdrawn may have hidden an older one with the same block: no hit then, but never a wrong one.
      for n in 0..<6000 {
        guard let found = index[hash(n)] else { continue }
        #expect(model.contains { $0.offered && $0.segment == found.segment && $0.hashes[Int(found.r)] == n })
      }
      for (n, handle) in expected where index[hash(n)] != handle {
        #expect(index[hash(n)] == nil && model.contains { !$0.offered && $0.segment > handle.segment && $0.hashes.contains(n) })
      }
      #expect(index.count <= expected.count)
    }
  }

  @Test func loadsTheNewestWithinTheBudget() throws {
    let directory = TemporaryDirectory()
    let cache = SegmentCache(root: directory.path, files: HostFiles())
    let entries = try (1...5).map { n in
      let entry = SegmentEntry(
        number: UInt64(n), volume: ULID(high: 1, low: 1), blocks: 10, hash: hash(-n), locator: .local, uploaded: true)
      if n != 4 { try BlockSums.write((0..<10).map { hash(n * 100 + $0) }, for: entry, in: cache) }
      return entry
    }
    var index = DedupIndex(limit: 35)
    index.load(entries, from: cache)
    #expect(index.count == 20)
    #expect(index[hash(303)] == BlockHandle(segment: 3, r: 3) && index[hash(509)] == BlockHandle(segment: 5, r: 9))
    #expect(index[hash(200)] == nil && index[hash(400)] == nil)
  }
}
