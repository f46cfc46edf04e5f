import ElideIO
import ElideProjections
import Synchronization
import Testing

/// The writer changes the map while a reader on another thread looks on: every block is what it was or what it becomes,
/// and memory that the reader may see is not freed.
@Suite struct BlockMapConcurrencyTests {
  private final class Shared: Sendable {
    let ended = Atomic<Bool>(false)
    let faults = Mutex<[String]>([])
  }

  /// The writer stores in block b only handles whose r is b, of rising segments: whatever the reader finds must carry its
  /// own address, and never go back.
  @Test func readersSeeOldOrNew() throws {
    let size: UInt64 = 64 * 1024
    let map = BlockMap(blocks: size)
    map.registerReader()
    let shared = Shared()
    let thread = try spawnThread(name: "reader") {
      var found: [String] = []
      var random = SeededRandom(1)
      var seen = [UInt64](repeating: 0, count: Int(size))
      var reads = 0
      while found.isEmpty, !shared.ended.load(ordering: .acquiring) || reads < 100_000 {
        for _ in 0..<64 {
          reads += 1
          let lba = random.below(size)
          let handle = map.lookup(lba)
          if handle.isBlock, UInt64(handle.r) != lba { found.append("block \(lba) says r \(handle.r)") }
          if handle.isBlock {
            if handle.segment < seen[Int(lba)] { found.append("block \(lba) went back to \(handle.segment)") }
            seen[Int(lba)] = handle.segment
          }
          let (first, n) = map.run(at: lba, limit: 200)
          if first.isBlock, UInt64(first.r) != lba || n == 0 || lba + n > size {
            found.append("run at \(lba): r \(first.r), \(n)")
          }
        }
        map.quiesce()
      }
      let faults = found
      shared.faults.withLock { $0 = faults }
    }
    var random = SeededRandom(2)
    var greatest = 0
    for segment in UInt64(1)...3000 {
      // Long runs, short ones and scattered blocks, so that leaves change shape all the time.
      for _ in 0..<8 {
        let lba = random.below(size)
        let count = min(size - lba, 1 + random.below([1, 8, 600, 5000][Int(random.below(4))]))
        let handle = random.one(in: 30) ? BlockHandle.zero : BlockHandle(segment: segment, r: UInt32(lba))
        map.assign(lba, count: count, handle: handle) { _, _ in }
      }
      map.reclaim()
      greatest = max(greatest, map.retiredBytes)
    }
    shared.ended.store(true, ordering: .releasing)
    thread.join()
    #expect(shared.faults.withLock { $0 } == [])
    map.unregisterReader()
    #expect(map.retiredBytes == 0)
    #expect(greatest > 0)
    #expect(map.checkInvariants() == [])
  }

  /// Nothing is freed before the reader has quiesced, and everything after.
  @Test func memoryWaitsForTheReader() {
    let map = BlockMap(blocks: 4096)
    map.registerReader()
    for i in 0..<UInt64(100) { map.assign(2 * i, count: 1, handle: BlockHandle(segment: 1, r: UInt32(i))) { _, _ in } }
    map.reclaim()
    let waiting = map.retiredBytes
    #expect(waiting > 0)
    map.reclaim()
    #expect(map.retiredBytes == waiting)
    map.quiesce()
    map.reclaim()
    #expect(map.retiredBytes == 0)
    map.unregisterReader()
    map.assign(0, count: 1, handle: .zero) { _, _ in }
    #expect(map.retiredBytes == 0)
  }
}
