import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Glibc
import Simulator
import Testing

/// Names on several hosts with a store of their own: who may serve, and what a fence does.
@Suite struct NamesInServiceTests {
  static let size: UInt64 = 256 * 4096

  private func serve(_ engine: Engine, _ name: String, claim: Bool = false) throws -> (OpenedVolume, ServiceGrant) {
    guard case .write(let grant) = try Lifecycle(engine).enter(name, claim: claim) else {
      throw ElideError(.failed, "'\(name)' is only read")
    }
    return (try engine.openLocal(grant.volume, grant: grant), grant)
  }

  private func end(_ engine: Engine, _ opened: OpenedVolume, _ grant: ServiceGrant) throws {
    try opened.close(ship: true)
    try Lifecycle(engine).leave(grant)
  }

  private func state(_ engine: Engine, _ name: String) throws -> NameState {
    let log = try engine.names.log(name)
    try log.refresh()
    return log.state
  }

  private func refusal(of body: () throws -> Void) -> ElideError? {
    do { try body() } catch { return error as? ElideError }
    return nil
  }
  private func kind(of body: () throws -> Void) -> ElideError.Kind? { refusal(of: body)?.kind }

  // MARK: The gate

  @Test func aNameIsServedByItsOwnerAndByNobodyElse() throws {
    let world = VolumeWorld()
    let (a, b) = (try world.host("a"), try world.host("b"))
    let volume = try a.createVolume(name: "vm", size: Self.size).volume
    #expect(try state(b, "vm").phase == .stopped && b.volume(.name("vm")) == volume)

    let (opened, grant) = try serve(a, "vm")
    #expect(try state(a, "vm").phase == .live && grant.volume == volume)
    let guest = Guest(opened)
    try guest.work(1, operations: 60)
    // Another host is told whose it is and what would be right; another process of this host, that it is in use.
    let refused = refusal { _ = try serve(b, "vm") }
    #expect(refused?.kind == .owned && refused?.message.contains("release vm --force") == true)
    #expect(kind { _ = try serve(try world.host("a"), "vm") } == .owned)
    #expect(try state(a, "vm").incarnation == a.incarnation)
    // Anybody reads what is published.
    try end(a, opened, grant)
    let stopped = try state(b, "vm")
    #expect(stopped.phase == .stopped && stopped.cut?.volume == volume)
    guard case .read(let read, let key?) = try Lifecycle(b).read("vm") else {
      Issue.record("not readable with its key")
      return
    }
    let copy = try b.openPublished(read, key: key)
    #expect(copy.isAnchored)
    try Guest(copy, model: guest.model).check("elsewhere")
    // The journal says by which entry it served.
    let local = try #require(try a.localState(volume))
    #expect(local.boundName == "vm" && local.boundSeq == grant.seq && local.epoch == grant.epoch)
  }

  @Test func aLaterProcessAdoptsAndGoesOn() throws {
    let world = VolumeWorld()
    _ = try world.host("a").createVolume(name: "vm", size: Self.size)
    let first = try world.host("a")
    let (opened, before) = try serve(first, "vm")
    let guest = Guest(opened)
    try guest.work(2, operations: 80)
    opened.abandon()

    let second = try world.host("a")
    let (again, after) = try serve(second, "vm")
    #expect(after.epoch > before.epoch && after.volume == before.volume)
    try Guest(again, model: guest.model).check("after a crash")
    try end(second, again, after)
    // By the log alone: created, adopted, started, adopted, stopped.
    let log = try second.names.log("vm")
    try log.refresh()
    #expect(log.state.seq == 4 && log.state.phase == .stopped)
    // What is stopped is published whole.
    #expect(try Lifecycle(second).perform(.release(name: "vm")).phase == "released")
    Situation.met(.d8)
  }

  @Test func withoutTheStoreNothingIsServed() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let away = try world.host("a", store: SilentStore(try world.store()))
    #expect(kind { _ = try serve(away, "vm") } == .tryLater)
    #expect(try state(engine, "vm").phase == .stopped && !engine.isInUse(volume))
    Situation.met(.noStoreAtStart)
  }

  // MARK: Release and claim in place

  @Test func aReleaseIsGoneOnWithInPlace() throws {
    let world = VolumeWorld()
    let (a, b) = (try world.host("a"), try world.host("b"))
    let volume = try a.createVolume(name: "vm", size: Self.size).volume
    let (opened, grant) = try serve(a, "vm")
    let guest = Guest(opened)
    try guest.work(3, operations: 80)
    #expect(kind { _ = try Lifecycle(a).perform(.release(name: "vm")) } == .usage, "it is live")
    try end(a, opened, grant)
    #expect(kind { _ = try Lifecycle(b).perform(.release(name: "vm")) } == .owned)
    let planned = try Lifecycle(try world.host("a")).perform(.release(name: "vm"), CommandContext(isDryRun: true))
    #expect(planned.outcome == .planned && planned.entry?.contains("kind = \"released\"") == true)
    #expect(try state(a, "vm").phase == .stopped, "a dry run changes nothing")

    let released = try Lifecycle(a).perform(.release(name: "vm"), CommandContext(request: "r1", reason: "moved"))
    #expect(released.outcome == .committed && released.phase == "released" && released.owner == nil)
    #expect(try Lifecycle(try world.host("a")).perform(.release(name: "vm"), CommandContext(request: "r1")).seq == released.seq)
    #expect(try Lifecycle(a).perform(.release(name: "vm")).outcome == .done, "twice is a success")
    #expect(kind { _ = try serve(a, "vm") } == .usage, "released: it is claimed first")

    let (again, second) = try serve(a, "vm", claim: true)
    #expect(second.volume == volume && second.epoch > grant.epoch)
    try Guest(again, model: guest.model).check("claimed in place")
    try end(a, again, second)
  }

  // MARK: Fences

  /// Another host's entry takes the name away: the owner, paused meanwhile, accepts nothing once it has seen it, and keeps all.
  @Test(arguments: [true, false]) func aFencedOwnerAnswersNothing(_ byPage: Bool) throws {
    let world = VolumeWorld()
    let (a, b) = (try world.host("a"), try world.host("b"))
    let volume = try a.createVolume(name: "vm", size: Self.size).volume
    let (opened, _) = try serve(a, "vm")
    let port = try #require(opened.port)
    let guest = Guest(opened)
    try guest.work(4, operations: 60)
    let log = try b.names.log("vm")
    try log.refresh()
    let force = Force(
      expectOwner: nil, expectEpoch: nil, volume: ULID(clock: world.clock, random: HostRandom()),
      key: [UInt8](repeating: 3, count: 32))
    guard case .committed(let fenced, _) = try log.perform(.force(force)) else { throw ElideError(.failed, "no fence") }
    let pages = try world.store().list("volumes/\(volume)/journal/", after: nil, limit: 100).count

    if byPage {
      let reply = port.cut()
      try opened.pump { reply.poll() != nil }
      #expect(kind { _ = try reply.poll()?.get() } == .fenced)
    } else {
      world.clock.advance(6_000_000_000)
      try opened.pump { port.status.state == .fenced }
    }
    opened.device.poll()
    #expect(port.status.state == .fenced && port.status.reason?.contains("vm") == true)
    var block = Guest.block(7)
    for operation in [BlockRequest.Operation.read, .write, .trim, .writeZeroes, .flush] {
      let answer = block.withUnsafeMutableBytes {
        opened.device.submit(
          BlockRequest(operation: operation, offset: 0, length: 4096, buffer: $0.baseAddress, token: 1 << 40))
      }
      #expect(answer == .done(EIO), "\(operation)")
    }
    #expect(try world.store().list("volumes/\(volume)/journal/", after: nil, limit: 100).count == pages, "no page after it")
    #expect(kind { try opened.close(ship: true) } == .fenced)
    // The journal knows, all is kept, and no short command publishes any of it.
    let local = try #require(try a.localState(volume))
    #expect(local.isFenced)
    let kept = try a.closedStatus(volume)
    #expect(kept.head > kept.cut ?? 0)
    #expect(kind { try a.publishClosed(volume) } == .fenced)
    #expect(kind { _ = try a.openLocal(volume) } == .fenced)
    #expect(kind { _ = try serve(a, "vm") } == .owned)
    #expect(try a.closedStatus(volume).state == .fenced && state(b, "vm").epoch == fenced)
  }

  @Test func notesAndPinsOfOthersAreNoFence() throws {
    let world = VolumeWorld()
    let (a, b) = (try world.host("a"), try world.host("b"))
    _ = try a.createVolume(name: "vm", size: Self.size)
    let (opened, grant) = try serve(a, "vm")
    let port = try #require(opened.port)
    let guest = Guest(opened)
    try guest.work(5, operations: 40)
    let cut = port.cut()
    try opened.pump { cut.poll() != nil }
    try Lifecycle(b).perform(.note(name: "vm", text: "looked at"))
    try Lifecycle(b).perform(.pin(name: "vm", point: "\(try #require(port.status.cut))", until: nil))
    for _ in 0..<3 {
      world.clock.advance(6_000_000_000)
      while opened.stepKeeper() {}
      world.executor.drain()
      while opened.stepKeeper() {}
    }
    #expect(port.status.state == .serving)
    try guest.work(6, operations: 20)
    // And an adoption by another process of this host is none either: a coordinator that restarts.
    let other = try world.host("a")
    let log = try other.names.log("vm")
    guard case .committed = try log.perform(.adopt) else { throw ElideError(.failed, "not adopted") }
    let second = port.cut()
    try opened.pump { second.poll() != nil }
    _ = try second.poll()?.get()
    #expect(port.status.state == .serving)
    try end(a, opened, grant)
    #expect(try state(b, "vm").phase == .stopped)
  }

  /// A copy of the data directory has the key and not the rows: what it appends fences the one that serves.
  @Test func aCopyOfTheHostFencesIt() throws {
    let world = VolumeWorld()
    let a = try world.host("a")
    _ = try a.createVolume(name: "vm", size: Self.size)
    let (opened, _) = try serve(a, "vm")
    let port = try #require(opened.port)
    try Guest(opened).work(7, operations: 30)
    let copied = SimNameRows(faults: SimFaults(seed: 1))
    for table in NameRowTable.allCases {
      try copied.commit(a.names.rows.scan(table, prefix: []).map { NameRowChange(table, $0.key, $0.value) })
    }
    let twin = try NameLog(
      "vm", store: try world.store(), rows: copied,
      author: NameAuthor(key: a.host.key, incarnation: ULID(clock: world.clock, random: HostRandom())), clock: world.clock,
      random: HostRandom())
    guard case .committed = try twin.perform(.adopt) else { throw ElideError(.failed, "the twin does not adopt") }
    let reply = port.cut()
    try opened.pump { reply.poll() != nil }
    #expect(kind { _ = try reply.poll()?.get() } == .fenced)
    #expect(port.status.state == .fenced)
    opened.abandon()
    // Nor does the next process take it back: they would go on so for ever.
    #expect(kind { try Lifecycle(world.host("a")).adopt("vm") } == .fenced)
  }

  /// A silent store is no fence: the guest goes on, and nothing is reported as published.
  @Test func aSilentStoreIsNoFence() throws {
    let world = VolumeWorld()
    let store = SilentStore(try world.store())
    store.isAway = false
    let a = try world.host("a", store: store)
    _ = try a.createVolume(name: "vm", size: Self.size)
    let (opened, grant) = try serve(a, "vm")
    let port = try #require(opened.port)
    let guest = Guest(opened)
    try guest.work(8, operations: 40)
    store.isAway = true
    let cut = port.cut()
    for _ in 0..<200 {
      world.clock.advance(500_000_000)
      while opened.stepKeeper() {}
      world.executor.drain()
      opened.device.poll()
    }
    #expect(cut.poll() == nil && port.status.state == .serving)
    try guest.work(9, operations: 20)
    store.isAway = false
    try opened.pump { cut.poll() != nil }
    _ = try cut.poll()?.get()
    try guest.check()
    try end(a, opened, grant)
  }
}

/// A store that can be away: every request then fails, undecided.
final class SilentStore: Store, @unchecked Sendable {  // tests of one thread
  private let inner: any Store
  var isAway = true
  init(_ inner: any Store) { self.inner = inner }
  var url: String { inner.url }
  var counters: StoreCounters { inner.counters }
  private func arrive(_ key: String) throws(StoreError) { if isAway { throw .unknown(key: key, detail: "away") } }

  func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    try arrive(key)
    return try inner.putIfAbsent(key, bytes)
  }
  func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    try arrive(key)
    try inner.put(key, parts: parts)
  }
  func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    try arrive(key)
    return try inner.get(key, range: range)
  }
  func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    try arrive(prefix)
    return try inner.list(prefix, after: after, limit: limit)
  }
  func delete(_ key: String) throws(StoreError) {
    try arrive(key)
    try inner.delete(key)
  }
}
