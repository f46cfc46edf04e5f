import ElideEngine
import ElideIO
import ElideProjections
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
}
