import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Testing

/// Whole lives of volumes: real files, a real store, the real engine, one thread.
@Suite struct VolumeLifeTests {
  static let size: UInt64 = 256 * 4096

  private func cut(_ opened: OpenedVolume) throws -> UInt64 {
    let reply = try #require(opened.port).cut()
    try opened.pump { reply.poll() != nil }
    return try #require(reply.poll()).get()
  }

  /// Replays from the beginning, and compares with recorded roots.
  private func replays(_ engine: Engine, _ volume: ULID, _ source: HistorySource) throws -> ReplayReport {
    let report = try engine.auditor().replay(volume, from: source)
    #expect(report.agrees, "\(String(describing: report.divergence))")
    return report
  }

  @Test func whatIsWrittenIsThereAfterEveryKindOfEnd() throws {
    let world = VolumeWorld()
    var engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    var model: [UInt64: [UInt8]] = [:]
    for (round, ends) in ["cut", "kill", "close", "ship", "kill"].enumerated() {
      let opened = try engine.openLocal(volume)
      let guest = Guest(opened, model: model)
      try guest.check("after opening, round \(round)")
      try guest.work(UInt64(round), operations: 120)
      try guest.check("while open, round \(round)")
      model = guest.model
      switch ends {
      case "kill": opened.abandon()
      case "close": try opened.close(ship: false)
      case "ship": try opened.close(ship: true)
      default:
        let published = try cut(opened)
        #expect(opened.port?.status.cut == published)
        opened.abandon()
      }
      world.executor.dropAll()
      engine = try world.host("a")
    }
    _ = try replays(engine, volume, .local)
  }

  @Test func aVolumeThatWasStoppedOpensElsewhereWithSixRequests() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    try guest.work(1, operations: 300)
    try opened.close(ship: true)

    let store = try world.store()
    let other = try world.host("b", store: store)
    let before = store.counters.requests
    let remote = try other.openPublished(volume)
    #expect(store.counters.requests - before <= 6)
    #expect(remote.isReadOnly && !remote.isAnchored)
    let reader = Guest(remote, model: guest.model)
    _ = try reader.read(0)
    try reader.check("on the other host")
    #expect(remote.device.submit(BlockRequest(operation: .write, offset: 0, length: 4096, buffer: nil, token: 1)) == .done(EPERM))
    try remote.close(ship: false)

    let live = try replays(engine, volume, .local)
    let stored = try replays(other, volume, .store)
    #expect(live.root == stored.root && live.seq == stored.seq)
    #expect(try other.auditor().verify(volume, from: .store, deep: true).isSound)
  }

  @Test func forksOfForksKeepTheirOwnWays() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let parent = try engine.createVolume(name: "base", size: Self.size).volume
    var opened = try engine.openLocal(parent)
    var guest = Guest(opened)
    try guest.work(2, operations: 150)
    try opened.close(ship: false)
    let atFork = guest.model

    let child = try engine.createFork(name: "child", from: VolumeSource("base")).volume
    // The parent goes on; the child does not see it.
    opened = try engine.openLocal(parent)
    guest = Guest(opened, model: atFork)
    try guest.work(3, operations: 100)
    try opened.close(ship: true)

    opened = try engine.openLocal(child)
    guest = Guest(opened, model: atFork)
    try guest.check("the child begins where the parent was")
    try guest.work(4, operations: 150)
    try guest.check("the child")
    let childModel = guest.model
    try opened.close(ship: false)

    let other = try world.host("b")
    #expect(throws: ElideError.self) { try other.openLocal(child) }
    let grandchild = try engine.createFork(name: "grandchild", from: VolumeSource("child")).volume
    let abroad = try other.createFork(name: "abroad", from: VolumeSource(child.description)).volume
    for (host, volume) in [(engine, grandchild), (other, abroad)] {
      opened = try host.openLocal(volume)
      guest = Guest(opened, model: childModel)
      try guest.check("a child's child")
      try guest.work(5, operations: 80)
      try guest.check()
      try opened.close(ship: true)
      let report = try replays(host, volume, .store)
      #expect(report.ancestors == [child, parent])
      #expect(try replays(host, volume, .local).root == report.root)
    }
  }

  @Test func snapshotsCanBeOpenedAndForkedLater() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    try guest.work(6, operations: 120)
    let before = guest.model
    let reply = try #require(opened.port).snapshot(label: "s1", publish: true)
    try opened.pump { reply.poll() != nil }
    let snapshot = try #require(reply.poll()).get()
    #expect(snapshot.isPublished && snapshot.point != nil)
    try guest.work(7, operations: 120)
    _ = try cut(opened)
    try guest.work(8, operations: 60)
    let twice = try #require(opened.port).snapshot(label: "s1", publish: false)
    try opened.pump { twice.poll() != nil }
    #expect(throws: ElideError.self) { try twice.poll()?.get() }
    try opened.close(ship: true)

    let other = try world.host("b")
    let frozen = try other.open(VolumeSource("\(volume)@s1"))
    try Guest(frozen, model: before).check("the snapshot, elsewhere")
    let fork = try engine.createFork(name: "old", from: VolumeSource("vm@s1")).volume
    let writable = try engine.openLocal(fork)
    try Guest(writable, model: before).check("a fork of the snapshot")
    try writable.close(ship: true)
    _ = try replays(other, fork, .store)
  }

  @Test func aVolumeGrowsAndStaysSo() throws {
    let world = VolumeWorld()
    var engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    var guest = Guest(opened)
    try guest.work(9, operations: 40)
    let reply = try #require(opened.port).resize(2 * Self.size)
    try opened.pump { reply.poll() != nil && opened.device.size == 2 * Self.size }
    try guest.write(2 * Self.size / 4096 - 1, Guest.block(99))
    try guest.flush()
    let model = guest.model
    opened.abandon()
    world.executor.dropAll()
    engine = try world.host("a")
    let again = try engine.openLocal(volume)
    #expect(again.device.size == 2 * Self.size)
    guest = Guest(again, model: model)
    try guest.check("after growing and a kill")
    let smaller = try #require(again.port).resize(Self.size)
    try again.pump { smaller.poll() != nil }
    #expect(throws: ElideError.self) { try smaller.poll()?.get() }
    try again.close(ship: true)
    _ = try replays(engine, volume, .store)
    let other = try world.host("b").openPublished(volume)
    try Guest(other, model: model).check("grown, elsewhere")
  }

  @Test func oneProcessServesAVolume() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let second = try world.host("a")
    let refusal = #expect(throws: ElideError.self) { try second.openLocal(volume) }
    #expect(refusal?.kind == .owned)
    try opened.close(ship: false)
    try second.openLocal(volume).close(ship: false)
  }

  @Test func anIdleVolumeWritesNothing() throws {
    let world = VolumeWorld()
    let store = try world.store()
    let engine = try world.host("a", store: store)
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    try guest.write(0, Guest.block(1))
    _ = try cut(opened)
    func hours(_ n: UInt64) throws {
      for _ in 0..<n * 30 {
        world.clock.advance(120_000_000_000)
        let end = world.clock.monotonicNanoseconds() + 20_000_000
        try opened.pump { world.clock.monotonicNanoseconds() > end }
      }
    }
    try hours(1)
    let (puts, head) = (store.counters.puts, opened.port?.status.head)
    try hours(3)
    #expect(store.counters.puts == puts && opened.port?.status.head == head)
    try opened.close(ship: true)
  }

  /// The same parts as in production: threads, the system's clock, everything at once.
  @Test func aVolumeOnThreadsLivesToo() throws {
    let world = VolumeWorld()
    let engine = try Engine.onHost(
      dataDirectory: "\(world.root)/a", store: "file://\(world.root)/store", configuration: world.configuration)
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    try opened.start()
    let guest = Guest(opened)
    try guest.work(11, operations: 400)
    let reply = try #require(opened.port).cut()
    try opened.pump { reply.poll() != nil }
    _ = try #require(reply.poll()).get()
    try guest.check()
    try guest.work(12, operations: 200)
    try opened.close(ship: true)
    let remote = try Engine.onHost(dataDirectory: "\(world.root)/b", store: "file://\(world.root)/store").openPublished(volume)
    try remote.start()
    try Guest(remote, model: guest.model).check("elsewhere")
    try remote.close(ship: false)
  }
}
