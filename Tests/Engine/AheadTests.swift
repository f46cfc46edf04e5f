import ElideIO
import ElideProjections
import Glibc
import Synchronization
import Testing

@testable import ElideEngine

/// Fetches that nobody waits for: what they bring, and that they do no harm.
@Suite struct AheadTests {
  @Test func bringsWhatIsAbsentAndNothingElse() throws {
    let world = try CacheWorld(count: 100)
    try world.fetcher.fetch(segment: 5, r: 20, count: 1)
    #expect(world.fetcher.ahead(segment: 5, r: 10, count: 40) == .kept)
    #expect(try world.countRight() == 64)
    #expect(world.fetcher.counters.units == 4 && world.fetcher.counters.readAhead == 3)
    #expect(world.fetcher.ahead(segment: 5, r: 0, count: 64) == .kept)
    #expect(world.store.counters.gets == 3)
    // Then it is there for who asks.
    try world.fetcher.fetch(segment: 5, r: 0, count: 64)
    #expect(world.store.counters.gets == 3)
  }

  @Test func whatAnotherProcessHasIsNotFetchedAgain() throws {
    let world = try CacheWorld(count: 100)
    _ = try world.segments.attach(5)
    try world.anotherProcess().fetcher.fetch(segment: 5, r: 0, count: 100)
    let before = world.store.counters.gets
    #expect(world.fetcher.ahead(segment: 5, r: 0, count: 100) == .kept)
    #expect(world.store.counters.gets == before)
  }

  @Test func encodingsAlone() throws {
    let world = try CacheWorld(count: 40)
    #expect(world.fetcher.ahead(segment: 5, r: 0, count: 0) == .kept)
    #expect(world.encodings.asked.withLock { $0 } == 1 && world.store.counters.gets == 0)
    try world.fetcher.fetch(segment: 5, r: 3, count: 1)
    #expect(world.encodings.asked.withLock { $0 } == 1)
  }

  @Test func whatIsWrongWithTheAskingIsNoError() throws {
    let world = try CacheWorld(count: 40)
    for (segment, r, count) in [(6, 0, 1), (5, 39, 2), (5, 40, 1), (5, 41, 0), (5, .max, .max)] as [(UInt64, UInt32, UInt32)] {
      #expect(world.fetcher.ahead(segment: segment, r: r, count: count) == .kept)
    }
    world.segments.directory.update(5) { $0.uploaded = false }
    #expect(world.fetcher.ahead(segment: 5, r: 0, count: 40) == .kept)
    #expect(world.store.counters.gets == 0)
  }

  @Test func aStoreThatFailsIsAskedOnce() throws {
    let world = try CacheWorld(count: 40)
    world.store.getErrors.withLock { $0 = [.unknown(key: "k", detail: "timed out")] }
    #expect(world.fetcher.ahead(segment: 5, r: 0, count: 16) == .failed)
    #expect(world.store.counters.gets == 1 && world.fetcher.counters.failures == 0)
    try world.fetcher.fetch(segment: 5, r: 0, count: 16)
    #expect(try world.countRight() == 16)
  }

  @Test func damageIsNotKept() throws {
    let world = try CacheWorld(count: 40)
    let unit = world.body.body.encoding.units[1]
    world.store.change(try #require(world.entry.bodyKey)) { $0[Int(unit.offset)] ^= 1 }
    #expect(world.fetcher.ahead(segment: 5, r: 0, count: 40) == .failed)
    #expect(try world.countRight() == 24)
    #expect(throws: SegmentError.self) { try world.fetcher.fetch(segment: 5, r: 20, count: 1) }
  }

  /// Without room it says so, and for its sake nothing is evicted.
  @Test func aFullDiskEndsIt() throws {
    let world = try CacheWorld(count: 40)
    try world.fetcher.fetch(segment: 5, r: 0, count: 1)
    world.files.fault.withLock { $0 = { op, _ in op == .write ? .noSpace : nil } }
    #expect(world.fetcher.ahead(segment: 5, r: 16, count: 24) == .notKept)
    world.files.fault.withLock { $0 = nil }
    #expect(try world.countRight() == 16)
    #expect(world.segments.cache.counters.filesEvicted == 0)
    world.files.fault.withLock { $0 = { op, _ in op == .allocate ? .noSpace : nil } }
    world.segments.cache.evict(volume: world.volume, segment: 5)
    #expect(world.fetcher.ahead(segment: 5, r: 16, count: 24) == .notKept)
  }

  /// A guest's read that wants what is being fetched ahead waits for it; should that fail, it fetches itself.
  @Test func whoJoinsAFetchAheadThatFailsFetchesHimself() throws {
    let world = try CacheWorld(count: 16)
    let fetcher = world.fetcher
    world.store.getErrors.withLock { $0 = [.unknown(key: "k", detail: "timed out")] }
    world.store.onGet.withLock { $0 = { while fetcher.counters.joined < 1 { sched_yield() } } }
    let begun = Atomic<Bool>(false)
    let outcome = Mutex<AheadOutcome?>(nil)
    let ahead = try spawnThread(name: "ahead") {
      begun.store(true, ordering: .releasing)
      let result = fetcher.ahead(segment: 5, r: 0, count: 16)
      outcome.withLock { $0 = result }
    }
    while !begun.load(ordering: .acquiring) || fetcher.counters.requests < 1 { sched_yield() }
    #expect(throws: Never.self) { try fetcher.fetch(segment: 5, r: 3, count: 2) }
    ahead.join()
    #expect(outcome.withLock { $0 } == .failed)
    #expect(try world.countRight() == 16)
    #expect(world.store.counters.gets == 2 && fetcher.counters.joined == 1)
  }

  /// What somebody is fetching is not fetched ahead, nor waited for.
  @Test func whatIsUnderWayIsPassedBy() throws {
    let world = try CacheWorld(count: 32)
    let fetcher = world.fetcher
    let release = Atomic<Bool>(false)
    let holds = Atomic<Bool>(false)
    world.store.onGet.withLock {
      $0 = {
        if holds.exchange(true, ordering: .acquiringAndReleasing) { return }
        while !release.load(ordering: .acquiring) { sched_yield() }
      }
    }
    let guest = try spawnThread(name: "guest") { _ = try? fetcher.fetch(segment: 5, r: 0, count: 16) }
    while !holds.load(ordering: .acquiring) { sched_yield() }
    #expect(fetcher.ahead(segment: 5, r: 0, count: 32) == .kept)
    #expect(try world.countRight() == 16)
    release.store(true, ordering: .releasing)
    guest.join()
    #expect(try world.countRight() == 32 && fetcher.counters.units == 2)
  }
}
