import ElideEngine
import ElideIO
import Foundation
import Simulator
import Testing

/// What a volume says of itself: what would be lost with its host, and since when.
@Suite struct StatusTests {
  static let size: UInt64 = 256 * 4096

  private func cut(_ opened: OpenedVolume) throws {
    let reply = try #require(opened.port).cut()
    try opened.pump { reply.poll() != nil }
    _ = try #require(reply.poll()).get()
  }

  /// Lets everything happen that needs no time.
  private func settle(_ opened: OpenedVolume) {
    for _ in 0..<8 {
      opened.device.poll()
      while opened.stepKeeper() {}
    }
  }

  @Test func whatIsInTheOpenFileIsExposed() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let port = try #require(opened.port)
    let guest = Guest(opened)
    settle(opened)
    #expect(port.status.unsealedBytes == 0 && port.status.exposureMilliseconds == 0)
    try guest.write(0, Guest.block(1) + Guest.block(2))
    settle(opened)
    world.clock.advance(3_000_000_000)
    // Nobody steps the keeper: time passes all the same.
    #expect(port.status.unsealedBytes == 2 * 4096)
    #expect((3000..<4000).contains(port.status.exposureMilliseconds))
    try guest.write(9, Guest.block(3))
    world.clock.advance(2_000_000_000)
    #expect(port.status.unsealedBytes == 3 * 4096)
    #expect((5000..<6000).contains(port.status.exposureMilliseconds))
    try cut(opened)
    settle(opened)
    #expect(port.status.unsealedBytes == 0 && port.status.unsentBytes == 0 && port.status.exposureMilliseconds == 0)
    opened.abandon()
  }

  /// The clock is that of the oldest byte, whatever pages come between.
  @Test func theClockDoesNotBeginAnewWithEachPage() throws {
    let world = VolumeWorld()
    let store = MoodyStore(try world.store())
    let engine = try world.host("a", store: store)
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let port = try #require(opened.port)
    let guest = Guest(opened)
    try guest.write(0, Guest.block(1))
    let reply = port.cut()
    // Sealed, and on its way.
    var random = SeededRandom(seed: 1)
    for _ in 0..<20 {
      settle(opened)
      world.executor.run(.sync, &random)
    }
    world.clock.advance(1_000_000_000)
    try guest.write(1, Guest.block(2))
    settle(opened)
    world.clock.advance(4_000_000_000)
    try opened.pump { reply.poll() != nil }
    settle(opened)
    // The first write is covered by the page that has just come; the second was there five seconds before it.
    #expect(port.status.cut ?? 0 > 0)
    #expect((4000..<6000).contains(port.status.exposureMilliseconds), "\(port.status.exposureMilliseconds)")
    #expect(port.status.unsealedBytes == 4096)

    // And without the store it goes on through seals.
    store.mood.withLock { $0 = .down }
    for n in 0..<100 { try guest.write(UInt64(n), Guest.block(UInt64(100 + n))) }
    settle(opened)
    world.clock.advance(10_000_000_000)
    #expect(port.status.exposureMilliseconds >= 14_000)
    let before = port.status
    opened.abandon()
    world.executor.dropAll()

    let closed = try engine.closedStatus(volume)
    #expect(closed.unsealedBytes == before.unsealedBytes && closed.unsentBytes == before.unsentBytes)
    #expect(closed.exposureMilliseconds >= before.exposureMilliseconds)
    let again = try world.host("a", store: store).openLocal(volume)
    let status = try #require(again.port).status
    #expect(status.unsealedBytes == before.unsealedBytes && status.exposureMilliseconds >= before.exposureMilliseconds)
    store.mood.withLock { $0 = .well }
    try again.close(ship: true)
    let shipped = try engine.closedStatus(volume)
    #expect(shipped.unsealedBytes == 0 && shipped.unsentBytes == 0 && shipped.exposureMilliseconds == 0)
  }

  @Test func aSnapshotHasTheSizeItWasTakenAt() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let port = try #require(opened.port)
    let guest = Guest(opened)
    func snapshot(_ label: String) throws -> SnapshotInfo {
      let reply = port.snapshot(label: label, publish: true)
      try opened.pump { reply.poll() != nil }
      return try #require(reply.poll()).get()
    }
    func grow(_ size: UInt64) throws {
      let reply = port.resize(size)
      try opened.pump { reply.poll() != nil && opened.device.size == size }
    }
    try guest.write(0, Guest.block(1))
    #expect(try snapshot("small").size == Self.size)
    try grow(2 * Self.size)
    try guest.write(1, Guest.block(2))
    #expect(try snapshot("middle").size == 2 * Self.size)
    try grow(3 * Self.size)
    try guest.write(2, Guest.block(3))
    try cut(opened)
    let expected = ["small": Self.size, "middle": 2 * Self.size]
    func sizes(_ status: VolumeStatus) -> [String: UInt64] {
      Dictionary(uniqueKeysWithValues: status.snapshots.map { ($0.label, $0.size) })
    }
    #expect(sizes(port.status) == expected && port.status.size == 3 * Self.size)
    try opened.close(ship: true)
    let closed = try engine.closedStatus(volume)
    #expect(sizes(closed) == expected && closed.size == 3 * Self.size)
    for (label, size) in expected { #expect(try engine.open(VolumeSource("vm@\(label)")).device.size == size) }
    let again = try world.host("a").openLocal(volume)
    #expect(sizes(try #require(again.port).status) == expected)
    again.abandon()
  }

  /// A list reads neither maps nor tables: it answers as well when they are damaged.
  @Test func aListLooksAtTheStateAlone() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    try guest.work(4, operations: 300)
    let reply = try #require(opened.port).snapshot(label: "s", publish: true)
    try opened.pump { reply.poll() != nil }
    try opened.close(ship: true)
    let state = try #require(try engine.localState(volume))
    let status = try engine.closedStatus(volume)

    let maps = "\(world.root)/a/volumes/\(volume)/maps"
    let newest = try #require(try FileManager.default.contentsOfDirectory(atPath: maps).max())
    var bytes = try #require(FileManager.default.contents(atPath: "\(maps)/\(newest)"))
    let last = bytes.count - 1
    bytes[last] ^= 1
    try bytes.write(to: URL(fileURLWithPath: "\(maps)/\(newest)"))
    #expect(try engine.localState(volume) == state && engine.closedStatus(volume) == status)
    // With its entries before the checkpoint out of reach only the checkpoint can have told this.
    for at in [0, 100, 300, bytes.count / 2] {
      var damaged = bytes
      damaged[at] ^= 1
      try damaged.write(to: URL(fileURLWithPath: "\(maps)/\(newest)"))
      #expect(try engine.localState(volume) == state, "byte \(at): from the journal")
    }
    try FileManager.default.removeItem(atPath: "\(maps)/\(newest)")
    #expect(try engine.localState(volume) == state && engine.closedStatus(volume) == status)
    #expect(try engine.listVolumes().map(\.size) == [Self.size])
  }
}
