import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Simulator
import Testing

/// A bucket with a history: host a makes `db` and releases it, b claims it, c takes it by force, a forks it as `web`, and
/// renames another name. Real engines wrote the volumes, real name logs the entries.
final class HandedOverWorld {
  let world = VolumeWorld()
  let engines: [Engine]
  private var rows: [SimNameRows] = []
  private let incarnations: [ULID]
  /// Volumes of `db` in the order in which they were granted: a's, b's, c's.
  private(set) var volumes: [ULID] = []

  var store: LocalStore { get throws { try world.store() } }
  var root: String { "\(world.root)/store" }

  /// `notes`: further entries, so that there are checkpoints.
  init(notes: Int = 0) throws {
    let world = world
    engines = try ["a", "b", "c"].map { try world.host($0) }
    incarnations = (0..<3).map { ULID(high: 5, low: $0) }
    rows = (0..<3).map { SimNameRows(faults: SimFaults(seed: $0)) }
    try story(notes)
  }

  func log(_ name: String, _ host: Int) throws(ElideError) -> NameLog {
    try NameLog(
      name, store: try world.store(refusing: ()), rows: rows[host],
      author: NameAuthor(key: engines[host].host.key, incarnation: incarnations[host]), clock: world.clock, random: HostRandom())
  }

  private func run(_ name: String, _ host: Int, _ command: NameCommand) throws {
    world.clock.advance(1_500_000_000)
    guard case .committed = try log(name, host).perform(command) else {
      throw ElideError(.failed, "\(command) is not in the log")
    }
  }

  private func story(_ notes: Int) throws {
    let a = try engines[0].createVolume(name: "va", size: AuditTests.size).volume
    let key = try volumeKey(0, a)
    try run("db", 0, .create(NewVolumeFacts(volume: a, key: key.publicKey, size: AuditTests.size)))
    try run("db", 0, .start)
    let first = try work(0, a, rounds: 3)
    try run("db", 0, .stop(cut: first, clients: 0, force: false))
    try run("db", 0, .pin(cut: first, by: "audit", hold: .until(nil)))
    try run("db", 0, .release(cut: first))
    // b claims.
    let b = try engines[1].createFork(name: "vb", from: VolumeSource("va:\(first.seq)")).volume
    try run("db", 1, .claim(volume: b, key: try volumeKey(1, b).publicKey, serve: true))
    try end(a, by: 1, "db", seq: 5)
    let second = try work(1, b, rounds: 2)
    // c takes it by force.
    let c = try engines[2].createFork(name: "vc", from: VolumeSource("vb:\(second.seq)")).volume
    let force = Force(expectOwner: engines[1].host.id, expectEpoch: 5, volume: c, key: try volumeKey(2, c).publicKey)
    try run("db", 2, .force(force))
    try end(b, by: 2, "db", seq: 6)
    try run("db", 2, .recover(volume: c, basis: .cut(second), lost: ""))
    try run("db", 2, .start)
    for n in 0..<notes { try run("db", n % 3, .note(text: "note \(n)")) }
    let third = try work(2, c, rounds: 2)
    try run("db", 2, .stop(cut: third, clients: 0, force: false))
    volumes = [a, b, c]
    try others(third)
    for host in 0..<3 {
      _ = try NameWitness.publish(rows[host], to: store, author: log("db", host).author, clock: world.clock)
    }
  }

  /// A fork, and a rename, of which the logs of two names speak.
  private func others(_ cut: Cut) throws {
    let fork = try engines[0].createFork(name: "vw", from: VolumeSource("vc:\(cut.seq)")).volume
    let facts = NewVolumeFacts(volume: fork, key: try volumeKey(0, fork).publicKey, size: AuditTests.size)
    let two = TwoLogs { (name) throws(ElideError) in try self.log(name, 0) }
    #expect(try two.fork("web", from: "db", at: cut, facts, request: "f").isCommitted)
    let old = try engines[0].createVolume(name: "vo", size: AuditTests.size).volume
    try run("old", 0, .create(NewVolumeFacts(volume: old, key: try volumeKey(0, old).publicKey, size: AuditTests.size)))
    #expect(try two.rename("old", to: "new", request: "r").isCommitted)
  }

  func volumeKey(_ host: Int, _ volume: ULID) throws -> SigningKey {
    try #require(try KeyFile.read(HostFiles(), engines[host].directory.volume(volume).key))
  }

  /// A guest at work; a page after each round, the last one when the volume is closed.
  private func work(_ host: Int, _ volume: ULID, rounds: Int) throws -> Cut {
    let opened = try engines[host].openLocal(volume)
    let guest = Guest(opened)
    for n in 0..<rounds {
      try guest.work(UInt64(host * 10 + n), operations: 40)
      let reply = try #require(opened.port).cut()
      try opened.pump { reply.poll() != nil }
    }
    try opened.close(ship: true)
    let newest = try #require(try PublishedPages(store: store, volume: volume).newest()).page
    return Cut(volume: volume, seq: newest.header.cut, page: newest.page, pageHash: newest.hash)
  }

  /// The terminal page.
  private func end(_ volume: ULID, by host: Int, _ name: String, seq: UInt64) throws {
    let before = try #require(try PublishedPages(store: store, volume: volume).newest()).page
    let last = try #require(try before.entries().last)
    let key = engines[host].host.key
    let header = PageHeader(
      volume: volume, page: before.page + 1, previous: before.hash, firstSeq: before.nextSeq,
      previousEntry: Digest.sha256(last), cut: before.header.cut, epoch: seq, incarnation: incarnations[host],
      at: world.clock.wallMilliseconds(), end: PageEnd(name: name, seq: seq, by: key.publicKey), sums: before.header.sums)
    let built = try PageWriter.build(header, entries: [], fold: [], other: []) { key.sign($0) }
    #expect(try store.putIfAbsent(StoreLayout.page(volume, before.page + 1), built.bytes) == .created)
  }

  // MARK: Tampering

  func verify(_ name: String = "db", deep: Bool = false, volumes: Bool = true, kept: [NameWitnessed] = []) throws -> NameReport {
    try NameAuditor(store: store, kept: kept).verify(name, deep: deep, volumes: volumes)
  }
  func path(_ key: String) -> URL { URL(fileURLWithPath: "\(root)/\(key)") }
  func bytes(_ key: String) throws -> [UInt8] { Array(try Data(contentsOf: path(key))) }
  func set(_ key: String, _ bytes: [UInt8]?) throws {
    if let bytes {
      try Data(bytes).write(to: path(key))
    } else {
      try FileManager.default.removeItem(at: path(key))
    }
  }
  /// With these objects changed (nil: removed), then as before.
  func with<T>(_ changes: [(key: String, bytes: [UInt8]?)], _ body: () throws -> T) throws -> T {
    let before = try changes.map { ($0.key, try? bytes($0.key)) }
    defer { for (key, bytes) in before { try? set(key, bytes) } }
    for change in changes { try set(change.key, change.bytes) }
    return try body()
  }
  func count(_ prefix: String) throws -> UInt64 {
    UInt64(try store.list(prefix, after: nil, limit: 1000).filter { !$0.key.contains("checkpoints") }.count)
  }
}

extension VolumeWorld {
  /// The store, with the engine's kind of error.
  func store(refusing: Void) throws(ElideError) -> LocalStore {
    do throws(StoreError) { return try LocalStore(root: "\(root)/store", world: world) } catch { throw ElideError(error) }
  }
}

extension NameOutcome {
  var isCommitted: Bool { if case .committed = self { true } else { false } }
}

/// `ELIDE_BUCKET=DIR swift test --filter HandedOverBucket` leaves such a bucket there, to try commands on.
@Suite struct HandedOverBucket {
  @Test(.enabled(if: ProcessInfo.processInfo.environment["ELIDE_BUCKET"] != nil)) func isKept() throws {
    let place = try #require(ProcessInfo.processInfo.environment["ELIDE_BUCKET"])
    let world = try HandedOverWorld()
    let copy = try LocalStore(root: place, world: world.world.world)
    _ = try AuditExport(from: world.store, to: copy, bodies: true).name("db")
    for name in ["web", "old", "new"] { _ = try AuditExport(from: world.store, to: copy, bodies: true).name(name) }
  }
}
