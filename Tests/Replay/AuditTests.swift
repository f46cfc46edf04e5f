import ElideEngine
import ElideEvents
import ElideIO
import Foundation
import Simulator
import Testing

/// What an auditor finds in histories that are not what they should be.
@Suite struct AuditTests {
  static let size: UInt64 = 256 * 4096

  /// A parent with roots in its journal, its child, and a child of that.
  private func family(_ world: VolumeWorld, _ engine: Engine) throws -> [ULID] {
    var family: [ULID] = []
    for (n, name) in ["one", "two", "three"].enumerated() {
      let made =
        n == 0
        ? try engine.createVolume(name: name, size: Self.size)
        : try engine.createFork(name: name, from: VolumeSource(["one", "two"][n - 1]))
      let opened = try engine.openLocal(made.volume)
      let guest = Guest(opened)
      // Blind: what was there before does not matter here.
      try guest.work(UInt64(n), operations: 120)
      let reply = try #require(opened.port).snapshot(label: "s", publish: true)
      try opened.pump { reply.poll() != nil }
      try opened.close(ship: true)
      family.append(made.volume)
    }
    return family
  }

  /// Says something wrong of an earlier state, behind the point where its child begins.
  private func lie(_ world: VolumeWorld, _ engine: Engine, _ volume: ULID, about seq: UInt64) throws {
    let store = try engine.journals.open(engine.directory.volume(volume), write: true)
    let journal = Journal(
      store: store, log: "volume/\(volume)", identity: JournalIdentity(actor: engine.host.id, incarnation: ULID(high: 1, low: 1)),
      clock: world.clock, random: HostRandom())
    _ = try journal.append([.mapRooted(seq: seq, root: Digest.sha256([1, 2, 3]))])
    store.close()
  }

  @Test func rootsOfAncestorsAreComparedToo() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let family = try family(world, engine)
    let (one, three) = (family[0], family[2])
    let fine = try engine.auditor().replay(three, from: .local)
    #expect(fine.agrees && fine.ancestors == [family[1], family[0]])
    let alone = try engine.auditor().replay(one, from: .local)
    #expect(alone.rootsCompared > 0 && fine.rootsCompared > alone.rootsCompared)

    try lie(world, engine, one, about: 2)
    let found = try engine.auditor().replay(three, from: .local)
    let divergence = try #require(found.divergence)
    #expect(divergence.volume == one && divergence.kind == .root && divergence.point == 2)
    #expect(try #require(engine.auditor().replay(family[1], from: .local).divergence).volume == one)
  }

  @Test func aCheckpointOfAnAncestorIsComparedToo() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let family = try family(world, engine)
    let other = try world.host("b")
    let fine = try other.auditor().replay(family[2], from: .store)
    #expect(fine.agrees && fine.checkpointsCompared > 0)
    let maps = "\(world.root)/store/volumes/\(family[0])/maps"
    for name in try FileManager.default.contentsOfDirectory(atPath: maps) {
      try Data([1, 2, 3]).write(to: URL(fileURLWithPath: "\(maps)/\(name)"))
    }
    let divergence = try #require(try other.auditor().replay(family[2], from: .store).divergence)
    #expect(divergence.volume == family[0] && divergence.kind == .checkpoint)
  }

  /// Every page in turn, damaged anywhere or cut short: a fault with its name, whatever was read before it.
  @Test func aDamagedPageIsAFaultAfterGoodOnes() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    for n in 0..<4 {
      try guest.work(UInt64(n), operations: 30 + 60 * n)
      let reply = try #require(opened.port).cut()
      try opened.pump { reply.poll() != nil }
    }
    try opened.close(ship: true)
    let other = try world.host("b")
    #expect(try other.auditor().verify(volume, from: .store, deep: true).isSound)
    let journal = "\(world.root)/store/volumes/\(volume)/journal"
    var random = SeededRandom(seed: 5)
    for name in try FileManager.default.contentsOfDirectory(atPath: journal).sorted() {
      let url = URL(fileURLWithPath: "\(journal)/\(name)")
      let whole = try Data(contentsOf: url)
      for n in 0..<12 {
        var damaged = whole
        if n < 8 {
          damaged[Int(random.below(UInt64(damaged.count)))] ^= 1
        } else {
          damaged = damaged.prefix(n == 8 ? 0 : Int(random.below(UInt64(damaged.count))))
        }
        try damaged.write(to: url)
        let report = try other.auditor().verify(volume, from: .store, deep: true)
        #expect(!report.isSound, "\(name), \(n)")
      }
      try whole.write(to: url)
    }
  }
}
