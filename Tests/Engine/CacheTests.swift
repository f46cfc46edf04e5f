import ElideIO
import ElideProjections
import Foundation
import Glibc
import Synchronization
import Testing

@testable import ElideEngine

/// A store in memory whose objects a test may damage.
final class MemoryStore: Store {
  let url = "memory:"
  private let objects = Mutex<[String: [UInt8]]>([:])
  private let tallies = Mutex(StoreCounters())
  var counters: StoreCounters { tallies.withLock { $0 } }

  func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    let copy = Array(bytes)
    return objects.withLock {
      if $0[key] != nil { return .exists }
      $0[key] = copy
      return .created
    }
  }
  func put(_ key: String, parts: [[UInt8]]) throws(StoreError) { objects.withLock { $0[key] = parts.flatMap { $0 } } }
  func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    tallies.withLock { $0.gets += 1 }
    guard let all = objects.withLock({ $0[key] }) else { throw .notFound(key: key) }
    let first = min(Int(range?.lowerBound ?? 0), all.count)
    let last = min(Int(range?.upperBound ?? UInt64(all.count)), all.count)
    return Array(all[first..<last])
  }
  func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] { [] }
  func delete(_ key: String) throws(StoreError) { objects.withLock { $0[key] = nil } }
  func change(_ key: String, _ body: (inout [UInt8]) -> Void) {
    objects.withLock { if var b = $0[key] { body(&b); $0[key] = b } }
  }
}

/// A directory that is gone after the test.
final class TemporaryDirectory {
  let path: String
  init() {
    var template = Array("/tmp/elide-test-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

@Suite struct CacheTests {
  private final class Encodings: EncodingSource {
    let table: [UInt64: SegmentEncoding]
    init(_ table: [UInt64: SegmentEncoding]) { self.table = table }
    func encoding(of entry: SegmentEntry) throws(SegmentError) -> SegmentEncoding {
      guard let e = table[entry.number] else { throw .unknownSegment(entry.number) }
      return e
    }
  }

  private struct World {
    let directory = TemporaryDirectory()
    let store = MemoryStore()
    let blocks: [[UInt8]]
    let entry: SegmentEntry
    let segments: VolumeSegments
    let fetcher: Fetcher
    let volume = ULID(high: 1, low: 2)

    init(count: Int, seed: UInt64 = 1) throws {
      var random = SeededGenerator(seed: seed)
      blocks = (0..<count).map { i in
        (0..<4096).map { _ in i % 3 == 0 ? UInt8.random(in: 0...255, using: &random) : UInt8.random(in: 0...3, using: &random) }
      }
      let hashes = blocks.map { Digest.sha256($0) }
      let copy = blocks
      let flat = copy.flatMap { $0 }
      let codec = try #require(ZstdCodec())
      let body = flat.withUnsafeBytes { p in
        BodyEncoder.encode(count: UInt32(count), hashes: hashes, codec: codec) { p.baseAddress! + Int($0) * 4096 }
      }
      entry = SegmentEntry(
        number: 5, volume: volume, blocks: UInt32(count), hash: Digest.sha256([1]), encoding: Digest.sha256([2]), locator: .local,
        uploaded: true)
      try store.put(try #require(entry.bodyKey), parts: body.parts)
      let table = SegmentDirectory()
      table.set(entry)
      segments = VolumeSegments(directory: table, cache: SegmentCache(root: directory.path + "/cache", files: HostFiles()))
      fetcher = Fetcher(store: store, segments: segments, encodings: Encodings([5: body.encoding]))
    }

    func read(_ r: UInt32) throws -> [UInt8]? {
      var out = [UInt8](repeating: 0, count: 4096)
      let file = try segments.attach(5)
      return out.withUnsafeMutableBytes { file.read(r, into: $0.baseAddress!) } ? out : nil
    }
  }

  @Test func fetchesOnlyTheUnitsWantedAndEachOnce() throws {
    let world = try World(count: 100)
    try world.fetcher.fetch(segment: 5, r: 20, count: 3)
    #expect(world.store.counters.gets == 1)
    #expect(try world.read(20) == world.blocks[20] && (try world.read(31)) == world.blocks[31])
    #expect(try world.read(32) == nil && (try world.read(15)) == nil)
    try world.fetcher.fetch(segment: 5, r: 16, count: 16)
    #expect(world.store.counters.gets == 1)
    try world.fetcher.fetch(segment: 5, r: 0, count: 100)
    #expect(world.store.counters.gets == 3)
    for r in 0..<100 { #expect(try world.read(UInt32(r)) == world.blocks[r]) }
  }

  @Test func fetchOutsideTheSegmentIsRefused() throws {
    let world = try World(count: 20)
    #expect(throws: SegmentError.unknownSegment(5)) { try world.fetcher.fetch(segment: 5, r: 18, count: 3) }
    #expect(throws: SegmentError.unknownSegment(6)) { try world.fetcher.fetch(segment: 6, r: 0, count: 1) }
  }

  /// Whatever happens to a body, what is read is the block that was written or nothing.
  @Test(arguments: 0..<40) func damagedBodiesAreNeverCached(seed: UInt64) throws {
    let world = try World(count: 40, seed: 2)
    var random = SeededGenerator(seed: seed)
    world.store.change(try #require(world.entry.bodyKey)) { bytes in
      switch seed % 3 {
      case 0: bytes[Int.random(in: 0..<bytes.count - 40 * 32, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes.removeLast(40 * 32 + Int.random(in: 1..<bytes.count / 2, using: &random))
      default: bytes = []
      }
    }
    #expect(throws: SegmentError.self) { try world.fetcher.fetch(segment: 5, r: 0, count: 40) }
    for r in 0..<40 {
      let bytes = try world.read(UInt32(r))
      #expect(bytes == nil || bytes == world.blocks[r])
    }
    #expect(world.fetcher.counters.failures == 1)
  }

  /// A flipped bit anywhere in a cache file costs a block, never yields a wrong one.
  @Test(arguments: 0..<60) func damagedCacheFilesAreMisses(seed: UInt64) throws {
    let world = try World(count: 20, seed: 3)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    world.segments.detach(5)
    let path = world.directory.path + "/cache/\(world.volume)/0000000000000005"
    let files = HostFiles()
    let file = try files.open(path, .readWrite)
    var random = SeededGenerator(seed: seed)
    let size = try files.size(file)
    let at = UInt64.random(in: 0..<(seed % 2 == 0 ? 4096 + 80 : size), using: &random)
    var byte = try files.readBytes(file, at: at, count: 1)
    byte[0] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    try byte.withUnsafeBytes { try files.write(file, $0, at: at) }
    files.close(file)
    for r in 0..<20 {
      let bytes = try world.read(UInt32(r))
      #expect(bytes == nil || bytes == world.blocks[r])
    }
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
  }

  @Test func evictionLeavesReadersTheirBytes() throws {
    let world = try World(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    let open = try world.segments.attach(5)
    #expect(world.segments.cache.evict(volume: world.volume, segment: 5) > 0)
    var out = [UInt8](repeating: 0, count: 4096)
    #expect(out.withUnsafeMutableBytes { open.read(3, into: $0.baseAddress!) } && out == world.blocks[3])
    world.segments.detach(5)
    #expect(try world.read(3) == nil)
  }

  @Test func aBlockDiscardedAfterAMismatchIsFetchedAnew() throws {
    let world = try World(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    try world.segments.attach(5).discard(4)
    #expect(try world.read(4) == nil)
    try world.fetcher.fetch(segment: 5, r: 4, count: 1)
    #expect(try world.read(4) == world.blocks[4])
  }

  @Test func threadsJoinOneFetch() throws {
    let world = try World(count: 200)
    let fetcher = world.fetcher
    let threads = try (0..<8).map { _ in try spawnThread(name: "fetch") { try? fetcher.fetch(segment: 5, r: 0, count: 200) } }
    for t in threads { t.join() }
    for r in 0..<200 { #expect(try world.read(UInt32(r)) == world.blocks[r]) }
    #expect(world.fetcher.counters.units == 13)
  }

  @Test func sumsAreReadBackOrNotAtAll() throws {
    let world = try World(count: 20)
    let hashes = world.blocks.map { Digest.sha256($0) }
    #expect(BlockSums.read(for: world.entry, in: world.segments.cache) == nil)
    try BlockSums.write(hashes, for: world.entry, in: world.segments.cache)
    #expect(BlockSums.read(for: world.entry, in: world.segments.cache) == hashes)
    let files = HostFiles()
    let file = try files.open(BlockSums.path(world.segments.cache, world.entry), .readWrite)
    try [UInt8](repeating: 1, count: 1).withUnsafeBytes { try files.write(file, $0, at: 77) }
    files.close(file)
    #expect(BlockSums.read(for: world.entry, in: world.segments.cache) == nil)
  }
}
