import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Testing

/// A data directory and a store of their own, gone after the test.
final class TemporaryHost {
  let root: String
  init() throws {
    root = NSTemporaryDirectory() + "elide-replay-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: root) }
  var storeURL: String { "file://\(root)/store" }
  func engine(_ host: String = "a") throws -> Engine { try Engine.onHost(dataDirectory: "\(root)/\(host)", store: storeURL) }
}

@Suite struct ImportTests {
  /// An image with zeros, repeated blocks and plain data, and a tail that is no whole block.
  private func image(_ path: String) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 40 << 20)
    var state: UInt64 = 88_172_645_463_325_252
    for block in 0..<bytes.count / 4096 where block % 5 != 0 {
      if block % 7 == 0 {
        for i in 0..<4096 { bytes[block * 4096 + i] = UInt8(truncatingIfNeeded: block % 3 + 1) }
        continue
      }
      for i in stride(from: 0, to: 4096, by: 8) {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        withUnsafeBytes(of: state) { for j in 0..<8 { bytes[block * 4096 + i + j] = $0[j] } }
      }
    }
    bytes.append(contentsOf: [UInt8](repeating: 7, count: 1536))
    #expect(FileManager.default.createFile(atPath: path, contents: Data(bytes)))
    return bytes
  }

  @Test func anImportIsWholeInTheStoreAndReplaysToItsRoots() throws {
    let host = try TemporaryHost()
    let path = host.root + "/image"
    let bytes = try image(path)
    let engine = try host.engine()
    var steps: Set<WorkProgress.Step> = []
    let made = try engine.importImage(name: "debian", path: path) {
      steps.insert($0.step); return true
    }
    #expect(made.size == UInt64(bytes.count) && made.isImage)
    #expect(steps.contains(.digest) && steps.contains(.seal))
    let auditor = engine.auditor()
    let verified = try auditor.verify(made.volume, from: .store, deep: true)
    #expect(verified.isSound, "\(verified.faults)")
    #expect(verified.segments >= 1)
    let local = try auditor.replay(made.volume, from: .local)
    let remote = try auditor.replay(made.volume, from: .store)
    #expect(local.agrees && remote.agrees, "\(String(describing: local.divergence ?? remote.divergence))")
    #expect(local.root == remote.root && remote.checkpointsCompared >= 1)
  }

  @Test func anInterruptedImportLeavesNothingBehind() throws {
    let host = try TemporaryHost()
    let path = host.root + "/image"
    _ = try image(path)
    let engine = try host.engine()
    #expect(throws: ElideError.self) { try engine.importImage(name: "x", path: path) { $0.step != .seal } }
    #expect(try engine.listVolumes().isEmpty)
    #expect(try FileManager.default.contentsOfDirectory(atPath: host.root + "/a/volumes").isEmpty)
    _ = try engine.importImage(name: "x", path: path) { _ in true }
    #expect(try engine.listVolumes().map(\.name) == ["x"])
  }

  @Test func aDamagedBodyAndAChangedEntryAreFound() throws {
    let host = try TemporaryHost()
    let path = host.root + "/image"
    _ = try image(path)
    let engine = try host.engine()
    let made = try engine.importImage(name: "x", path: path) { _ in true }
    let directory = host.root + "/store/volumes/\(made.volume)"
    let segment = try #require(try FileManager.default.contentsOfDirectory(atPath: directory + "/segments").sorted().first)
    var body = try #require(FileManager.default.contents(atPath: directory + "/segments/" + segment))
    body[1000] ^= 1
    try body.write(to: URL(fileURLWithPath: directory + "/segments/" + segment))
    let deep = try engine.auditor().verify(made.volume, from: .store, deep: true)
    #expect(!deep.isSound && deep.faults.contains { $0.detail.contains(segment) })

    let page = directory + "/journal/00000000"
    var bytes = try #require(FileManager.default.contents(atPath: page))
    bytes[300] ^= 1
    try bytes.write(to: URL(fileURLWithPath: page))
    let broken = try engine.auditor().verify(made.volume, from: .store)
    #expect(!broken.isSound)
    #expect(throws: ElideError.self) { try engine.auditor().replay(made.volume, from: .store) }
  }

  @Test func aFileThatIsNoImageIsRefused() throws {
    let host = try TemporaryHost()
    let engine = try host.engine()
    let path = host.root + "/odd"
    #expect(FileManager.default.createFile(atPath: path, contents: Data(repeating: 1, count: 1000)))
    #expect(throws: ElideError.self) { try engine.importImage(name: "x", path: path) { _ in true } }
    #expect(throws: ElideError.self) { try engine.importImage(name: "x", path: path + "-not-there") { _ in true } }
    #expect(try engine.listVolumes().isEmpty)
  }
}
