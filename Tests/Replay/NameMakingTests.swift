import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Simulator
import Testing

/// Names as volumes are made for them: forks over hosts, images, and the rows of before there were logs.
@Suite struct NameMakingTests {
  static let size: UInt64 = 64 * 4096

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

  private func image(_ world: VolumeWorld) throws -> String {
    let path = world.root + "/image"
    var bytes: [UInt8] = []
    for n in 0..<UInt64(20) { bytes += Guest.block(n) }
    try world.world.files.makeDirectory(world.root)
    try world.world.files.replaceFile(path, with: bytes)
    return path
  }

  // MARK: Forks and images

  @Test func aForkOfANameOfAnotherHostIsPinned() throws {
    let world = VolumeWorld()
    let (a, b) = (try world.host("a"), try world.host("b"))
    let parent = try a.createVolume(name: "base", size: Self.size).volume
    let opened = try a.openLocal(parent)
    let guest = Guest(opened)
    try guest.work(1, operations: 40)
    try opened.close(ship: true)
    let child = try b.createFork(name: "child", from: VolumeSource("base")).volume
    let pins = try state(a, "base").holdings.pins
    #expect(pins.count == 1 && pins.first?.by == "child" && pins.first?.hold == .fork(slot: 0))
    let episode = try #require(try state(a, "child").holdings.episodes.first)
    #expect(episode.volume == child && episode.basis?.volume == parent)
    let copy = try b.openLocal(child)
    try Guest(copy, model: guest.model).check("a fork of another host's name")
    try copy.close(ship: true)
    // While the fork may read it the source is not purged, by nobody.
    #expect(kind { _ = try Lifecycle(a).perform(.purge(name: "base")) } == .failed)
    #expect(kind { _ = try Lifecycle(a).perform(.unpin(name: "base", pin: pins[0].id.description)) } == .failed)
    // A taken name is refused, and leaves nothing behind.
    let before = try world.world.files.list(b.directory.volumes)
    #expect(kind { _ = try b.createVolume(name: "base", size: Self.size) } == .usage)
    #expect(kind { _ = try b.createFork(name: "child", from: VolumeSource("base")) } == .usage)
    #expect(try world.world.files.list(b.directory.volumes) == before && b.names.makings().isEmpty)
    #expect(try state(a, "base").holdings.pins.count == 1)
  }

  @Test func anImageIsReadOnlyAndOpensAnywhere() throws {
    let world = VolumeWorld()
    let path = try image(world)
    let (a, b) = (try world.host("a"), try world.host("b"))
    let volume = try a.importImage(name: "debian", path: path) { _ in true }.volume
    #expect(try state(b, "debian").phase == .readonly && state(b, "debian").owner == nil)
    for host in [a, b, try world.host("c")] {
      guard case .read(volume, let key?) = try Lifecycle(host).enter("debian") else {
        Issue.record("an image is read")
        continue
      }
      let copy = try host.openPublished(volume, key: key)
      #expect(copy.isReadOnly && copy.isAnchored)
      let guest = Guest(copy)
      #expect(try guest.read(3) == Guest.block(3))
    }
    #expect(kind { _ = try Lifecycle(a).perform(.start(name: "debian", claim: false)) } == .usage)
    #expect(kind { _ = try Lifecycle(a).perform(.snapshot(name: "debian", label: "s")) } == .usage)
    _ = try b.createFork(name: "vm", from: VolumeSource("debian"))
    #expect(try state(a, "debian").holdings.pins.map(\.by) == ["vm"])
    // Purged when nothing holds it; the name is free again.
    #expect(kind { _ = try Lifecycle(b).perform(.purge(name: "debian")) } == .failed)
  }

  @Test func aPurgeDeletesWhatTheNameHeldAndFreesIt() throws {
    let world = VolumeWorld()
    let path = try image(world)
    let (a, b) = (try world.host("a"), try world.host("b"))
    let volume = try a.importImage(name: "debian", path: path) { _ in true }.volume
    let store = try world.store()
    #expect(try !store.list("volumes/\(volume)/segments/", after: nil, limit: 10).isEmpty)
    #expect(try Lifecycle(b).perform(.purge(name: "debian"), CommandContext(isDryRun: true)).outcome == .planned)
    #expect(try state(a, "debian").phase == .readonly)
    #expect(try Lifecycle(b).perform(.purge(name: "debian")).phase == "purged")
    #expect(try store.list("volumes/\(volume)/segments/", after: nil, limit: 10).isEmpty)
    #expect(try store.list("volumes/\(volume)/maps/", after: nil, limit: 10).isEmpty)
    #expect(try !store.list("volumes/\(volume)/journal/", after: nil, limit: 10).isEmpty, "a slot is never free again")
    #expect(try Lifecycle(b).perform(.purge(name: "debian")).outcome == .done)
    _ = try b.createVolume(name: "debian", size: Self.size)
    #expect(try state(a, "debian").owner == b.host.id)
  }

  @Test func anImportThatDiedIsEndedByTheNextUseOfItsName() throws {
    let world = VolumeWorld()
    let (a, b) = (try world.host("a"), try world.host("b"))
    let prepared = try a.prepareVolume("debian", .imported)
    let log = try a.names.log("debian")
    let start = NameCommand.importStart(volume: prepared.volume, key: prepared.key.publicKey, source: "x")
    guard case .committed = try log.perform(start) else { throw ElideError(.failed, "not started") }
    // While its process lives it is nobody else's to end, but for one who says so.
    try Lifecycle(try world.host("a")).settle("debian")
    #expect(try state(b, "debian").phase == .importing)
    #expect(kind { _ = try b.createVolume(name: "debian", size: Self.size) } == .usage)
    prepared.leave()
    _ = try Lifecycle(try world.host("a")).perform(.create(name: "debian", size: Self.size, from: nil))
    #expect(try state(b, "debian").phase == .stopped)
    #expect(!world.world.files.exists(a.directory.volume(prepared.volume).root))
  }

  // MARK: Renames

  @Test func aRenameTakesTheVolumeAlong() throws {
    let world = VolumeWorld()
    let (a, b) = (try world.host("a"), try world.host("b"))
    let volume = try a.createVolume(name: "old", size: Self.size).volume
    let renamed = try Lifecycle(try world.host("a")).perform(.rename(name: "old", to: "new"))
    #expect(renamed.name == "new" && renamed.phase == "stopped" && renamed.volume == volume.description)
    #expect(try a.volume(.name("new")) == volume && a.listVolumes().map(\.name) == ["new"])
    #expect(kind { _ = try b.find(.name("old"), fresh: true) } == nil, "an old name leads to its volume")
    let engine = try world.host("a")
    guard case .write(let grant) = try Lifecycle(engine).enter("new") else { throw ElideError(.failed, "not served") }
    let opened = try engine.openLocal(grant.volume, grant: grant)
    try Guest(opened).work(2, operations: 10)
    #expect(kind { _ = try Lifecycle(try world.host("a")).perform(.rename(name: "new", to: "newer")) } == .usage, "it is live")
    try opened.close(ship: true)
    try Lifecycle(engine).leave(grant)
  }

  // MARK: Names of before there were logs

  /// A volume as an earlier version left it: a row, and no log.
  private func makeOld(_ world: VolumeWorld, _ name: String, flags: NameRow.Flags = [], _ make: (Engine) throws -> ULID) throws
    -> ULID
  {
    let engine = try world.host("a")
    let volume = try make(engine)
    try world.forget("a", name)
    #expect(try engine.names.old?.replace(name, nil, with: NameRow(name: name, volume: volume, flags: flags)) == true)
    return volume
  }

  @Test func oldNamesBecomeLogsAtTheirFirstUse() throws {
    let world = VolumeWorld()
    let path = try image(world)
    let base = try makeOld(world, "base", flags: .image) { try $0.importImage(name: "base", path: path) { _ in true }.volume }
    let child = try makeOld(world, "vm") { engine in
      let published = try engine.publishedReader.open(base)
      let lineage = Lineage(
        parent: base, seq: published.point, page: published.page, pageHash: published.pageHash, parentKey: published.key,
        firstSegment: published.tables.state.nextSegment)
      let prepared = try engine.prepareVolume("vm", .forked)
      let made = try prepared.begin(inherited: published.tables.inheritance) { key in
        .forked(Genesis(size: published.tables.state.size, key: key), from: lineage)
      }
      _ = try made.publish()
      made.close()
      prepared.leave()
      try engine.names.end(prepared.making)
      return prepared.volume
    }
    let a = try world.host("a")
    // Looking asks no store and changes nothing.
    #expect(try a.listVolumes().map(\.name) == ["base", "vm"] && a.volume(.name("vm")) == child)
    #expect(try a.names.all().isEmpty)
    guard case .write(let grant) = try Lifecycle(a).enter("vm") else { throw ElideError(.failed, "not served") }
    #expect(grant.volume == child)
    #expect(try state(a, "vm").phase == .live && state(a, "base").phase == .readonly)
    // The image is kept for the fork, as for a fork of today.
    #expect(try state(a, "base").holdings.pins.map(\.by) == ["vm"])
    #expect(try a.names.old?.list().isEmpty == true)
    #expect(try world.host("b").volume(.name("vm")) == child)
  }

  @Test func anOldNameThatIsTakenStaysReachableByItsULID() throws {
    let world = VolumeWorld()
    let b = try world.host("b")
    let mine = try makeOld(world, "vm") { try $0.createVolume(name: "vm", size: Self.size).volume }
    let theirs = try b.createVolume(name: "vm", size: Self.size).volume
    let a = try world.host("a")
    let clash = refusal { _ = try Lifecycle(a).enter("vm") }
    #expect(clash?.kind == .usage && clash?.message.contains(mine.description) == true)
    // From then on the name is the store's.
    #expect(kind { _ = try Lifecycle(a).enter("vm") } == .owned)
    #expect(try a.volume(.name("vm")) == theirs)
    let listed = try a.listVolumes().first { $0.volume == mine }
    #expect(listed != nil && listed?.name == nil)
    let opened = try a.openLocal(mine)
    try Guest(opened).work(3, operations: 10)
    try opened.close(ship: true)
  }
}

/// Outcomes that nobody knows yet.
extension NameMakingTests {
  /// The put of the entry has no answer, and neither has the store for a while: all is kept, and goes on when it answers.
  @Test(arguments: [true, false]) func anUnknownCreateIsKeptAndGoneOnWith(_ arrived: Bool) throws {
    let world = VolumeWorld()
    let store = MuteStore(try world.store())
    let engine = try world.host("a", store: store)
    store.losesEntryOf = "vm"
    store.arrives = arrived
    let report = try Lifecycle(engine).perform(
      .create(name: "vm", size: Self.size, from: nil), CommandContext(request: "r"))
    #expect(report.outcome == .unknown)
    let making = try #require(try engine.names.makings("vm").first)
    #expect(world.world.files.exists(engine.directory.volume(making.volume).key), "the key is kept")
    // In a later process the same request is answered, and the volume is whole.
    let later = try world.host("a")
    let again = try Lifecycle(later).perform(.create(name: "vm", size: Self.size, from: nil), CommandContext(request: "r"))
    #expect(again.outcome == .committed && again.volume == making.volume.description && again.seq == 0)
    #expect(try later.names.makings().isEmpty && later.openPublished(making.volume).device.size == Self.size)
  }
}

/// A store that does not answer the put of a name's first entry, nor anything of that name after it; the entry arrives or not.
final class MuteStore: Store, @unchecked Sendable {  // tests of one thread
  private let inner: any Store
  var losesEntryOf = ""
  var arrives = false
  private var isMute = false
  init(_ inner: any Store) { self.inner = inner }
  var url: String { inner.url }
  var counters: StoreCounters { inner.counters }
  private func isOfName(_ key: String) -> Bool { key.hasPrefix("events/\(losesEntryOf)/") }

  func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    guard isOfName(key) else { return try inner.putIfAbsent(key, bytes) }
    isMute = true
    if arrives { _ = try inner.putIfAbsent(key, bytes) }
    throw .unknown(key: key, detail: "no answer")
  }
  func put(_ key: String, parts: [[UInt8]]) throws(StoreError) { try inner.put(key, parts: parts) }
  func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    if isMute, isOfName(key) { throw .unknown(key: key, detail: "no answer") }
    return try inner.get(key, range: range)
  }
  func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    try inner.list(prefix, after: after, limit: limit)
  }
  func delete(_ key: String) throws(StoreError) { try inner.delete(key) }
}
