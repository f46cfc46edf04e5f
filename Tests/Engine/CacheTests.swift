import ElideIO
import ElideProjections
import Glibc
import Synchronization
import Testing

@testable import ElideEngine

@Suite struct CacheTests {
  @Test func fetchesOnlyTheUnitsWantedAndEachOnce() throws {
    let world = try CacheWorld(count: 100)
    try world.fetcher.fetch(segment: 5, r: 20, count: 3)
    #expect(world.store.counters.gets == 1)
    #expect(try world.read(20) == world.blocks[20] && (try world.read(31)) == world.blocks[31])
    #expect(try world.read(32) == nil && (try world.read(15)) == nil)
    try world.fetcher.fetch(segment: 5, r: 16, count: 16)
    #expect(world.store.counters.gets == 1)
    try world.fetcher.fetch(segment: 5, r: 0, count: 100)
    #expect(world.store.counters.gets == 3)
    for r in 0..<100 { #expect(try world.read(UInt32(r)) == world.blocks[r]) }
  }

  @Test func aDamagedUnitIsNamed() throws {
    let world = try CacheWorld(count: 40)
    let key = try #require(world.entry.bodyKey)
    let unit = world.body.body.encoding.units[1]
    world.store.change(key) { $0[Int(unit.offset)] ^= 1 }
    do {
      try world.fetcher.fetch(segment: 5, r: 20, count: 1)
      Issue.record("a damaged unit was taken")
    } catch {
      guard case .damaged(let object, let detail) = error else { throw error }
      #expect(object == key && detail.contains("byte \(unit.offset) "))
    }
    // Its neighbours are none the worse.
    try world.fetcher.fetch(segment: 5, r: 0, count: 16)
    #expect(try world.countRight() == 16)
  }

  @Test func fetchOutsideTheSegmentIsRefused() throws {
    let world = try CacheWorld(count: 20)
    #expect(throws: SegmentError.unknownSegment(5)) { try world.fetcher.fetch(segment: 5, r: 18, count: 3) }
    #expect(throws: SegmentError.unknownSegment(6)) { try world.fetcher.fetch(segment: 6, r: 0, count: 1) }
  }

  /// Whatever happens to a body, what is read is the block that was written or nothing.
  @Test(arguments: 0..<40) func damagedBodiesAreNeverCached(seed: UInt64) throws {
    let world = try CacheWorld(count: 40, seed: 2)
    var random = SeededGenerator(seed: seed)
    world.store.change(try #require(world.entry.bodyKey)) { bytes in
      switch seed % 3 {
      case 0: bytes[Int.random(in: 0..<bytes.count - 40 * 32, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes.removeLast(40 * 32 + Int.random(in: 1..<bytes.count / 2, using: &random))
      default: bytes = []
      }
    }
    #expect(throws: SegmentError.self) { try world.fetcher.fetch(segment: 5, r: 0, count: 40) }
    #expect(try world.countRight() < 40)
    #expect(world.fetcher.counters.failures == 1 && world.fetcher.counters.damagedUnits > 0)
  }

  @Test func scatteredReadsFetchOnlyTheirUnits() throws {
    let world = try CacheWorld(count: 320)
    for unit in [7, 2, 15, 4, 11, 0, 9] as [UInt32] { try world.fetcher.fetch(segment: 5, r: unit * 16 + 3, count: 1) }
    #expect(world.fetcher.counters.units == 7 && world.fetcher.counters.readAhead == 0)
    #expect(try world.countRight() == 7 * 16)
  }

  @Test func anUnknownOutcomeIsTriedAgainAndNothingElseIs() throws {
    let world = try CacheWorld(count: 20)
    let unknown = StoreError.unknown(key: "k", detail: "timed out")
    world.store.getErrors.withLock { $0 = [unknown, unknown] }
    try world.fetcher.fetch(segment: 5, r: 0, count: 16)
    #expect(world.fetcher.counters.requests == 3 && world.fetcher.counters.retries == 2)
    world.store.getErrors.withLock { $0 = [unknown, unknown, unknown, unknown, unknown] }
    #expect(throws: SegmentError.store(unknown)) { try world.fetcher.fetch(segment: 5, r: 16, count: 1) }
    #expect(world.fetcher.counters.requests == 7)
    world.store.getErrors.withLock { $0 = [.notFound(key: "k")] }
    #expect(throws: SegmentError.store(.notFound(key: "k"))) { try world.fetcher.fetch(segment: 5, r: 16, count: 1) }
    #expect(world.fetcher.counters.requests == 8)
    try world.fetcher.fetch(segment: 5, r: 16, count: 1)
    #expect(try world.countRight() == 20)
  }

  @Test func threadsJoinOneFetch() throws {
    let world = try CacheWorld(count: 200)
    let fetcher = world.fetcher
    let threads = try (0..<8).map { _ in try spawnThread(name: "fetch") { _ = try? fetcher.fetch(segment: 5, r: 0, count: 200) } }
    for t in threads { t.join() }
    #expect(try world.countRight() == 200)
    #expect(fetcher.counters.units == 13)
  }

  /// The first GET waits until the other threads wait for it: so they did join, and share its failure.
  @Test func thoseThatJoinedShareTheFailure() throws {
    let world = try CacheWorld(count: 16)
    let fetcher = world.fetcher
    world.store.getErrors.withLock { $0 = [.refused(key: "k", detail: "denied")] }
    world.store.onGet.withLock { $0 = { while fetcher.counters.joined < 3 { sched_yield() } } }
    let failures = Failures()
    let threads = try (0..<4).map { _ in
      try spawnThread(name: "fetch") {
        do { _ = try fetcher.fetch(segment: 5, r: 3, count: 1) } catch { failures.count.withLock { $0 += 1 } }
      }
    }
    for t in threads { t.join() }
    #expect(failures.count.withLock { $0 } == 4)
    #expect(world.store.counters.gets == 1)
  }

  private final class Failures: Sendable { let count = Mutex(0) }

  @Test func aFullDiskIsAnsweredFromMemory() throws {
    let world = try CacheWorld(count: 40)
    try world.fetcher.fetch(segment: 5, r: 0, count: 1)
    world.files.fault.withLock { $0 = { op, _ in op == .write ? .noSpace : nil } }
    let bytes = try #require(try world.fetcher.fetch(segment: 5, r: 14, count: 10))
    #expect(bytes == Array(world.blocks[14..<24].joined()))
    #expect(world.fetcher.counters.uncached == 1 && world.fetcher.counters.failures == 0)
    world.files.fault.withLock { $0 = nil }
    #expect(try world.fetcher.fetch(segment: 5, r: 14, count: 10) == nil)
    #expect(try world.countRight() == 32)
  }

  @Test func withoutRoomForACacheFileReadsAreAnsweredToo() throws {
    let world = try CacheWorld(count: 40)
    world.files.fault.withLock { $0 = { op, _ in op == .allocate ? .noSpace : nil } }
    #expect(try world.fetcher.fetch(segment: 5, r: 30, count: 10) == Array(world.blocks[30..<40].joined()))
    world.files.fault.withLock { $0 = nil }
    #expect(try world.countRight() == 0)
  }

  @Test func encodingsAreKeptBesideTheCache() throws {
    let world = try CacheWorld(count: 40)
    try world.fetcher.fetch(segment: 5, r: 0, count: 1)
    try world.anotherProcess().fetcher.fetch(segment: 5, r: 20, count: 1)
    #expect(world.encodings.asked.withLock { $0 } == 1)
    var random = SeededGenerator(seed: 4)
    try flipBit(world.path + ".encoding", &random)
    try world.anotherProcess().fetcher.fetch(segment: 5, r: 35, count: 1)
    #expect(world.encodings.asked.withLock { $0 } == 2)
    try world.fetcher.fetch(segment: 5, r: 0, count: 40)
    #expect(try world.countRight() == 40 && world.store.counters.gets == 3)
  }

  @Test(arguments: 0..<30) func damagedEncodingsAreRefused(seed: UInt64) throws {
    let world = try CacheWorld(count: 40)
    var random = SeededGenerator(seed: seed)
    var blob = world.body.encodingBlob
    blob[Int.random(in: 0..<blob.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    let fetcher = Fetcher(store: world.store, segments: world.segments, encodings: CacheWorld.Encodings([5: blob]))
    #expect(throws: SegmentError.self) { try fetcher.fetch(segment: 5, r: 0, count: 1) }
    #expect(world.store.counters.gets == 0)
  }

  /// An encoding that verifies, but belongs to a body of another length or another number of blocks.
  @Test func encodingsThatDoNotFitAreRefused() throws {
    let world = try CacheWorld(count: 40)
    for change in [{ $0.bodyLength += 1 }, { $0.blocks = 41 }] as [(inout SegmentEntry) -> Void] {
      world.segments.directory.set(world.entry)
      world.segments.directory.update(5, change)
      let other = world.anotherProcess()
      #expect(throws: SegmentError.self) { try other.fetcher.fetch(segment: 5, r: 0, count: 1) }
    }
  }

  @Test func whatIsNotUploadedIsNotAskedFor() throws {
    let world = try CacheWorld(count: 20)
    world.segments.directory.update(5) { $0.uploaded = false }
    #expect(throws: SegmentError.self) { try world.fetcher.fetch(segment: 5, r: 0, count: 1) }
    #expect(world.store.counters.gets == 0 && !HostFiles().exists(world.path))
  }

  @Test func rawAndShortUnitsRoundTrip() throws {
    for count in [1, 15, 16, 17, 33] {
      let world = try CacheWorld(count: count, seed: UInt64(count))
      try world.fetcher.fetch(segment: 5, r: 0, count: UInt32(count))
      #expect(try world.countRight() == count)
    }
  }
}
