import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Simulator
import Synchronization
import Testing

/// A store that answers as told: down, or every so many requests failing before or after they happened.
final class MoodyStore: Store {
  enum Mood { case well, down, everySecondLost, everySecondUnanswered }
  private let inner: any Store
  let mood = Mutex(Mood.well)
  private let requests = Mutex<UInt64>(0)
  init(_ inner: any Store) { self.inner = inner }
  var url: String { inner.url }
  var counters: StoreCounters { inner.counters }

  private func ask<T>(_ key: String, _ body: () throws(StoreError) -> T) throws(StoreError) -> T {
    let n = requests.withLock { r in
      r += 1
      return r
    }
    switch mood.withLock({ $0 }) {
    case .well: return try body()
    case .down: throw .unknown(key: key, detail: "down")
    case .everySecondLost:
      if n % 2 == 0 { throw .unknown(key: key, detail: "the request was lost") }
      return try body()
    case .everySecondUnanswered:
      let result = try body()
      if n % 2 == 0 { throw .unknown(key: key, detail: "the answer was lost") }
      return result
    }
  }
  func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    try ask(key) { () throws(StoreError) in try inner.putIfAbsent(key, bytes) }
  }
  func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    try ask(key) { () throws(StoreError) in try inner.put(key, parts: parts) }
  }
  func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    try ask(key) { () throws(StoreError) in try inner.get(key, range: range) }
  }
  func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    try ask(prefix) { () throws(StoreError) in try inner.list(prefix, after: after, limit: limit) }
  }
  func delete(_ key: String) throws(StoreError) { try ask(key) { () throws(StoreError) in try inner.delete(key) } }
}

/// The process ends between any two steps of the keeper, or the store is not there.
@Suite struct KilledKeeperTests {
  static let size: UInt64 = 128 * 4096

  @Test func killedAtAnyStepItGoesOnWhereItWas() throws {
    let world = VolumeWorld()
    let volume = try world.host("a").createVolume(name: "vm", size: Self.size).volume
    var model: [UInt64: [UInt8]] = [:]
    var random = SeededRandom(seed: 42)
    for life in 0..<40 {
      let opened = try world.host("a").openLocal(volume)
      let guest = Guest(opened, model: model)
      try guest.check("life \(life)")
      try guest.work(UInt64(life), operations: 6 + Int(random.below(UInt64(40))))
      model = guest.model
      // Something is asked for and not waited for.
      var replies: [Reply<UInt64>] = []
      if let port = opened.port, random.chance(3, in: 4) { replies.append(port.cut()) }
      if let port = opened.port, random.chance(1, in: 4) { _ = port.snapshot(label: "s\(life)", publish: true) }
      var moves = random.below(400)
      while moves > 0 {
        moves -= 1
        if random.chance(1, in: 3) { world.executor.run(random.pick([.ship, .seal, .overdue, .fetch, .sync]), &random) }
        if random.chance(1, in: 3) { opened.device.poll() }
        opened.stepOnce()
      }
      let cut = opened.port?.status.cut
      for reply in replies { if case .success(let reached) = reply.poll() { #expect(cut ?? 0 >= reached) } }
      // Requests that had left arrive all the same, and nobody hears the answers.
      if random.chance(1, in: 2) { world.executor.drain() }
      opened.abandon()
      world.executor.dropAll()
      // Whoever has only the store can open what was published, at any time.
      if let cut {
        let seen = try world.host("b").openPublished(volume)
        #expect(seen.point ?? 0 >= cut)
      }
    }
    let last = try world.host("a").openLocal(volume)
    try Guest(last, model: model).check("at the end")
    try last.close(ship: true)
    let other = try world.host("b")
    try Guest(try other.openPublished(volume), model: model).check("elsewhere")
    #expect(try other.auditor().verify(volume, from: .store, deep: true).isSound)
    let (local, stored) = (
      try world.host("a").auditor().replay(volume, from: .local), try other.auditor().replay(volume, from: .store)
    )
    #expect(local.agrees && stored.agrees && local.root == stored.root)
  }

  @Test(arguments: [MoodyStore.Mood.down, .everySecondLost, .everySecondUnanswered])
  func aStoreThatFailsCostsTimeOnly(_ mood: MoodyStore.Mood) throws {
    let world = VolumeWorld()
    world.configuration.unsealedWals = 6
    let store = MoodyStore(try world.store())
    let engine = try world.host("a", store: store)
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    store.mood.withLock { $0 = mood }
    try guest.work(1, operations: 150)
    try guest.check("while the store fails")
    if mood == .down {
      #expect(throws: ElideError.self) { try opened.close(ship: true, milliseconds: 5_000) }
    } else {
      try opened.close(ship: true)
      #expect(opened.port?.status.counters.storeFailures ?? 0 > 0)
    }
    store.mood.withLock { $0 = .well }
    try engine.publishClosed(volume)
    let other = try world.host("b")
    try Guest(try other.openPublished(volume), model: guest.model).check("elsewhere")
    #expect(try other.auditor().verify(volume, from: .store, deep: true).isSound)
  }

  @Test func manyPagesStayFewRequests() throws {
    let world = VolumeWorld()
    world.configuration.checkpointPages = 4
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    for n in 0..<30 {
      try guest.work(UInt64(n), operations: 4)
      let reply = try #require(opened.port).cut()
      try opened.pump { reply.poll() != nil }
      _ = try #require(reply.poll()).get()
      let store = try world.store()
      _ = try world.host("b", store: store).openPublished(volume)
      #expect(store.counters.requests <= 14, "after \(n + 1) pages")
    }
    #expect(opened.port?.status.page ?? 0 >= 30)
    // An older point needs an older checkpoint and the pages after it.
    let other = try world.host("b")
    for seq: UInt64 in [3, 20, 50, 90] {
      let old = try other.openPublished(volume, at: seq)
      #expect(old.point == seq)
    }
    opened.abandon()
  }

  /// The page is in the store, and the process dies before it hears so: the same bytes are put again, and found.
  @Test func aPagePutJustBeforeAKillIsTakenForOurs() throws {
    let world = VolumeWorld()
    let store = try world.store()
    let volume = try world.host("a").createVolume(name: "vm", size: Self.size).volume
    let opened = try world.host("a").openLocal(volume)
    let guest = Guest(opened)
    try guest.work(1, operations: 20)
    let reply = try #require(opened.port).cut()
    let key = "volumes/\(volume)/journal/00000001"
    var random = SeededRandom(seed: 1)
    for _ in 0..<10_000 where (try? store.get(key, range: 0..<8)) == nil {
      opened.device.poll()
      if opened.stepOnce() { continue }
      _ = [Lane.ship, .seal, .overdue, .sync].first { world.executor.run($0, &random) }
    }
    #expect(reply.poll() == nil)
    opened.abandon()
    world.executor.dropAll()
    world.clock.advance(3_000_000_000)
    let again = try world.host("a").openLocal(volume)
    let after = Guest(again, model: guest.model)
    try after.work(2, operations: 10)
    try again.close(ship: true)
    try Guest(try world.host("b").openPublished(volume), model: after.model).check("elsewhere")
  }

  @Test func aSlotThatHoldsOtherBytesStopsTheVolume() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    try guest.write(1, Guest.block(1))
    _ = try world.store().putIfAbsent("volumes/\(volume)/journal/00000001", Array("not a page".utf8))
    let reply = try #require(opened.port).cut()
    try opened.pump { reply.poll() != nil }
    let error = #expect(throws: ElideError.self) { try reply.poll()?.get() }
    #expect(error?.kind == .fault && opened.port?.status.state == .halted)
    // What was acknowledged is not lost with it: once the slot is cleared by hand, the frozen page goes where it belongs.
    opened.abandon()
    world.executor.dropAll()
    try world.store().delete("volumes/\(volume)/journal/00000001")
    let again = try world.host("a").openLocal(volume)
    #expect(try Guest(again).read(1) == Guest.block(1))
    try again.close(ship: true)
    #expect(try world.host("b").auditor().verify(volume, from: .store, deep: true).isSound)
  }
}
