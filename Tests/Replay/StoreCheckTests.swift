import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Simulator
import Testing

/// A whole store against its logs.
@Suite struct StoreCheckTests {
  private func check(_ world: HandedOverWorld, deep: Bool = false) throws -> StoreCheckReport {
    var check = try StoreCheck(world.store, deep: deep)
    return try check.run()
  }

  @Test func aWholeStoreIsSoundAndHasNoOrphans() throws {
    let world = try HandedOverWorld()
    let report = try check(world, deep: true)
    #expect(report.isSound, "\(report.faults)")
    #expect(report.names >= 4 && report.volumes >= 5 && report.unfinished.isEmpty)
    let ours = report.orphans.filter { o in world.volumes.contains { o.key.contains("\($0)") } }
    #expect(ours.isEmpty, "\(ours)")
  }

  /// Each object that a log names, removed or cut short, is missed; each that none names is an orphan.
  @Test func whatIsMissingAndWhatIsTooMuch() throws {
    let world = try HandedOverWorld()
    let volume = world.volumes[1]
    for part in ["segments", "maps", "journal"] {
      for object in try world.store.all(under: "volumes/\(volume)/\(part)/") {
        // Only the newest checkpoint is needed.
        if part == "maps", try newestMap(world, volume) != object.key { continue }
        let report = try world.with([(object.key, nil)]) { try check(world) }
        #expect(report.faults.contains { $0.place == object.key }, "\(object.key)")
        if part == "segments" {
          let bytes = try world.bytes(object.key)
          let short = try world.with([(object.key, Array(bytes.dropLast()))]) { try check(world) }
          #expect(short.faults.contains { $0.place == object.key })
        }
      }
    }
    let stranger = ULID(high: 0x0199_0000_0000_0000, low: 7)
    let orphans: [(String, String)] = [
      ("volumes/\(volume)/segments/0000000000000999-\(Digest.sha256([1]))", "no page"),
      ("volumes/\(volume)/maps/0000000000000999-\(Digest.sha256([2]))", "no page"),
      ("volumes/\(stranger)/volume.toml", "no name"),
    ]
    for (key, why) in orphans {
      try FileManager.default.createDirectory(
        at: world.path(key).deletingLastPathComponent(), withIntermediateDirectories: true)
      try world.set(key, [1, 2, 3])
      let report = try check(world)
      let orphan = try #require(report.orphans.first { $0.key == key }, "\(key)")
      #expect(orphan.bytes == 3 && orphan.why.hasPrefix(why) && orphan.notBefore != nil && report.isSound)
      try world.set(key, nil)
    }
  }

  private func newestMap(_ world: HandedOverWorld, _ volume: ULID) throws -> String? {
    let pages = PublishedPages(store: try world.store, volume: volume)
    guard var newest = try pages.newest()?.page else { return nil }
    if newest.header.isTerminal, let before = try pages.fetch(newest.page - 1) { newest = before.page }
    return newest.header.checkpoints.first?.key
  }

  /// What a fork continues must be fetchable; a pin's page must be there.
  @Test func lineagesAndPinsAreFollowed() throws {
    let world = try HandedOverWorld()
    let document = StoreLayout.document(world.volumes[0])
    let report = try world.with([(document, nil)]) { try check(world) }
    #expect(report.faults.contains { $0.what == "lineage" && $0.place == document })
    let pinned = StoreLayout.page(world.volumes[0], 4)
    let without = try world.with([(pinned, nil)]) { try check(world) }
    #expect(without.faults.contains { $0.what == "pin" && $0.place == pinned })
  }

  /// Names in the middle of something, with the command that leads on.
  @Test func whatWasLeftUnfinished() throws {
    let world = try HandedOverWorld()
    let key = [UInt8](repeating: 3, count: 32)
    _ = try world.log("importing", 0).perform(.importStart(volume: ULID(high: 9, low: 1), key: key, source: "raw:x"))
    _ = try world.log("reserved", 0).perform(.renameReserve(old: "db", slot: 40))
    let force = Force(expectOwner: world.engines[2].host.id, expectEpoch: nil, volume: ULID(high: 9, low: 2), key: key)
    _ = try world.log("db", 1).perform(.force(force))
    let unfinished = try check(world).unfinished
    #expect(unfinished.map(\.name) == ["db", "importing", "reserved"])
    #expect(unfinished.map(\.phase) == [.recovering, .importing, .reserved])
    #expect(unfinished.allSatisfy { $0.command.contains($0.name) && Timestamp.milliseconds($0.since) != nil })
  }
}
