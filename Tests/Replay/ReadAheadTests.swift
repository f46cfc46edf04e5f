import ElideEngine
import ElideIO
import ElideProjections
import Synchronization
import Testing

/// Reading ahead in a whole volume: across segments, among writes, without a store.
@Suite struct ReadAheadTests {
  /// 512 blocks in segments of 64, written in sequence, and a host that has none of them.
  private func remote(_ world: VolumeWorld, fetches: Int = 4) throws -> (opened: OpenedVolume, guest: Guest) {
    world.configuration.front.readAhead.threshold = 16
    world.configuration.front.readAhead.window = 128
    world.configuration.front.readAhead.chunk = 32
    world.configuration.front.readAhead.fetches = fetches
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: 512 * 4096).volume
    let writer = Guest(try engine.openLocal(volume))
    for lba in stride(from: 0 as UInt64, to: 512, by: 4) {
      try writer.write(lba, (0..<4).flatMap { Guest.block(lba + $0) })
    }
    try writer.opened.close(ship: true)
    let opened = try world.host("b").openPublished(volume)
    return (opened, Guest(opened, model: writer.model))
  }

  @Test func crossesSegments() throws {
    let world = VolumeWorld()
    let (opened, guest) = try remote(world)
    try guest.check()
    let c = opened.fetcher.counters
    // Every unit came once, most of them before anybody asked, and few reads had to wait.
    #expect(c.units == 32 && c.readAhead >= 18)
    #expect(opened.device.counters.fetchesWanted <= 14)
    #expect(c.joined == 0)
    #expect(opened.device.aheadUnderWay == 0)
    opened.device.checkInvariants()
  }

  @Test func notWhenSwitchedOff() throws {
    let world = VolumeWorld()
    let (opened, guest) = try remote(world, fetches: 0)
    try guest.check()
    #expect(opened.fetcher.counters.readAhead == 0 && opened.device.counters.fetchesWanted >= 32)
  }

  @Test func notForThoseWhoReadBackwardsOrHereAndThere() throws {
    let world = VolumeWorld()
    let (opened, guest) = try remote(world)
    for lba in (0..<512 as Range<UInt64>).reversed() { #expect(try guest.read(lba) == guest.model[lba]) }
    #expect(opened.fetcher.counters.readAhead == 0)

    let other = VolumeWorld()
    let (scattered, reader) = try remote(other)
    for i in 0..<32 as Range<UInt64> {
      let lba = (i * 7 % 32) * 16 + i % 16
      #expect(try reader.read(lba) == reader.model[lba])
    }
    #expect(scattered.fetcher.counters.readAhead == 0)
  }

  /// A writable volume whose cache was evicted: what is read in sequence is partly in the overlay, partly trimmed, partly
  /// overwritten while it is on its way.
  @Test func amongWritesTrimsAndResizes() throws {
    let world = VolumeWorld()
    let (published, first) = try remote(world)
    try published.close(ship: false)
    let engine = try world.host("a")
    let volume = try #require(try engine.listVolumes().first).volume
    for segment in 1...16 as ClosedRange<UInt64> { engine.cache.evict(volume: volume, segment: segment) }
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened, model: first.model)
    for lba in 0..<512 as Range<UInt64> {
      #expect(try guest.read(lba) == guest.model[lba])
      switch lba % 16 {
      case 3 where lba + 40 < 512: try guest.write(lba + 40, Guest.block(lba * 31))
      case 7 where lba + 20 < 512: try guest.trim(lba + 20, 4)
      case 11 where lba == 203:
        let reply = try #require(opened.port).resize(600 * 4096)
        try opened.pump { reply.poll() != nil }
      default: break
      }
    }
    try guest.check()
    #expect(opened.device.size == 600 * 4096)
    #expect(opened.fetcher.counters.readAhead > 0)
    opened.device.checkInvariants()
    try opened.close(ship: true)
  }

  private func finish(_ opened: OpenedVolume) throws -> PrefetchProgress {
    try opened.pump { opened.device.prefetching?.state != .running }
    return try #require(opened.device.prefetching)
  }

  @Test func prefetchingBringsEverythingOnce() throws {
    let world = VolumeWorld()
    let (opened, guest) = try remote(world)
    _ = try guest.read(300)
    #expect(opened.startPrefetch(.small, smallBytes: 512 * 4096, cacheBytes: 1 << 30) == .begun)
    let p = try finish(opened)
    #expect(p.state == .done && p.mapped == 512 && p.passed == 512)
    #expect(opened.fetcher.counters.units == 32 && opened.device.aheadUnderWay == 0)
    let fetches = opened.fetcher.counters.fetches
    try guest.check()
    #expect(opened.fetcher.counters.fetches == fetches)
    // Another process, and the command: all is here.
    let again = try world.host("b").prefetch(VolumeSource("\(opened.volume)")) { _, _ in true }
    #expect(again.mapped == 512 * 4096 && again.fetched == 0)
  }

  @Test func whatIsLargeIsNotPrefetched() throws {
    let world = VolumeWorld()
    let (opened, _) = try remote(world)
    #expect(opened.startPrefetch(.off, smallBytes: 1 << 40, cacheBytes: 1 << 40) == .off)
    #expect(opened.startPrefetch(.small, smallBytes: 511 * 4096, cacheBytes: 1 << 40) == .tooLarge(limit: 511 * 4096))
    #expect(opened.startPrefetch(.all, smallBytes: 0, cacheBytes: 1000 * 4096) == .tooLarge(limit: 500 * 4096))
    try opened.pump { true }
    #expect(opened.fetcher.counters.units == 0 && opened.device.prefetching == nil)
  }

  /// Holes, what is in the overlay, and what is local already are passed by.
  @Test func prefetchingASparseVolumeThatIsWritten() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: 1 << 44).volume
    var opened = try engine.openLocal(volume)
    var guest = Guest(opened)
    for lba in [0, 5, 1 << 20, (1 << 32) - 1] as [UInt64] { try guest.write(lba, Guest.block(lba)) }
    let model = guest.model
    try opened.close(ship: true)
    for segment in 1...4 as ClosedRange<UInt64> { engine.cache.evict(volume: volume, segment: segment) }
    opened = try engine.openLocal(volume)
    guest = Guest(opened, model: model)
    try guest.write(77, Guest.block(9))
    #expect(opened.startPrefetch(.all, smallBytes: 0, cacheBytes: 1 << 30) == .begun)
    let p = try finish(opened)
    #expect(p.state == .done && p.mapped == 4)
    #expect(opened.fetcher.counters.units > 0)
    let fetches = opened.fetcher.counters.fetches
    for (lba, bytes) in guest.model { #expect(try guest.read(lba) == bytes) }
    #expect(opened.fetcher.counters.fetches == fetches)
    try opened.close(ship: false)
  }

  /// Without the store it waits, and goes on when a read was answered.
  @Test func prefetchingOutlivesTheStore() throws {
    let world = VolumeWorld()
    _ = try remote(world).opened.close(ship: false)
    let store = AwayStore(try world.store())
    let engine = try world.host("c", store: store)
    let opened = try engine.openPublished(try #require(try world.host("a").listVolumes().first).volume)
    let guest = Guest(opened)
    store.isAway.store(true, ordering: .relaxed)
    #expect(opened.startPrefetch(.all, smallBytes: 0, cacheBytes: 1 << 30) == .begun)
    #expect(try finish(opened).state == .waiting)
    store.isAway.store(false, ordering: .relaxed)
    #expect(try guest.read(100) == Guest.block(100))
    let p = try finish(opened)
    #expect(p.state == .done && p.passed == 512)
    #expect(opened.fetcher.counters.units == 32)
  }

  @Test func prefetchingStopsWhenToldTo() throws {
    let world = VolumeWorld()
    _ = try remote(world).opened.close(ship: false)
    let volume = try #require(try world.host("a").listVolumes().first).volume
    #expect { try world.host("d").prefetch(VolumeSource("\(volume)")) { done, _ in done < 100 * 4096 } } throws: {
      ($0 as? ElideError)?.kind == .interrupted
    }
    let rest = try world.host("d").prefetch(VolumeSource("\(volume)")) { _, _ in true }
    #expect(rest.mapped == 512 * 4096 && rest.fetched > 0 && rest.fetched < 500 * 4096)
  }
}

/// A store that may be away: its reads fail then.
private final class AwayStore: Store {
  private let inner: LocalStore
  let isAway = Atomic<Bool>(false)
  init(_ inner: LocalStore) { self.inner = inner }
  var url: String { inner.url }
  var counters: StoreCounters { inner.counters }
  func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    try inner.putIfAbsent(key, bytes)
  }
  func put(_ key: String, parts: [[UInt8]]) throws(StoreError) { try inner.put(key, parts: parts) }
  func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    if isAway.load(ordering: .relaxed) { throw .unknown(key: key, detail: "away") }
    return try inner.get(key, range: range)
  }
  func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    try inner.list(prefix, after: after, limit: limit)
  }
  func delete(_ key: String) throws(StoreError) { try inner.delete(key) }
}
