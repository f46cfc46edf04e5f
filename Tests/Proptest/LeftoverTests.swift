import ElideEngine
import ElideIO
import Simulator
import Testing

/// What crashes leave on a host is gone after the next opening, or the next try.
@Suite struct LeftoverTests {
  private func make(_ files: SimFiles, _ path: String) throws {
    try files.makeDirectory(parentDirectory(path))
    files.close(try files.open(path, .createNew))
  }

  @Test func mapsThatNothingNames() throws {
    let world = try EngineWorld(seed: 5, size: 48 * 4096)
    try #require(try world.open())
    world.submit(GuestRequest(.write, offset: 0, length: 8 * 4096))
    world.askForSnapshot()
    world.askForCut()
    try #require(world.settle())
    let maps = "/data/volumes/\(world.volume)/maps"
    let named = try world.host.files.list(maps)
    world.crash(.processKill)
    try make(world.host.files, maps + "/0000000000000001-00")
    try make(world.host.files, maps + "/0000000000000001-00.tmp")
    try #require(try world.open())
    #expect(try world.host.files.list(maps) == named)
    #expect(!named.isEmpty && world.fault == nil)
  }

  /// An import that a crash cut keeps what it had not uploaded; the next use of the name ends it and gives that back.
  @Test func whatAnImportKept() throws {
    let host = SimHost(seed: 3, bucket: SimBucket())
    try host.files.replaceFile("/image", with: [UInt8](repeating: 7, count: 64 * 4096))
    host.faults.armCrash(site: "commit journal", .before)
    #expect(throws: (any Error).self) { try host.process().importImage(name: "vm", path: "/image") { _ in true } }
    host.crash(.processKill)
    let left = try #require(try host.process().names.makings("vm").first)
    #expect(left.kind == .imported)
    let kept = "/data/cache/\(left.volume)/0000000000000001"
    try make(host.files, kept)
    _ = try host.process().createVolume(name: "vm", size: 1 << 20)
    #expect(!host.files.exists(kept) && !host.files.exists(parentDirectory(kept)))
    #expect(!host.files.exists("/data/volumes/\(left.volume)"))
  }
}
