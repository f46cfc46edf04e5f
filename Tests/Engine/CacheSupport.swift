import ElideIO
import ElideProjections
import Foundation
import Glibc
import Simulator
import Synchronization
import Testing

@testable import ElideEngine

/// A store in memory whose objects a test may damage, and whose answers it may replace by errors.
final class MemoryStore: Store {
  let url = "memory:"
  private let objects = Mutex<[String: [UInt8]]>([:])
  private let tallies = Mutex(StoreCounters())
  /// Thrown by the next GETs, first to last; nil lets one pass.
  let getErrors = Mutex<[StoreError?]>([])
  /// Asked in each GET for the key's fate, before that.
  let getFault = Mutex<(@Sendable (String) -> StoreError?)?>(nil)
  /// Called in each GET, before anything else.
  let onGet = Mutex<(@Sendable () -> Void)?>(nil)
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
    onGet.withLock { $0 }?()
    tallies.withLock { $0.gets += 1 }
    if let error = getFault.withLock({ $0 })?(key) { throw error }
    if let error = getErrors.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { throw error }
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

/// Changes one bit of a file, anywhere in the range.
func flipBit(_ path: String, in range: Range<UInt64>? = nil, _ random: inout SeededGenerator) throws {
  let files = HostFiles()
  let file = try files.open(path, .readWrite)
  defer { files.close(file) }
  let at = UInt64.random(in: try range ?? 0..<files.size(file), using: &random)
  var byte = try files.readBytes(file, at: at, count: 1)
  byte[0] ^= 1 << UInt8.random(in: 0..<8, using: &random)
  try byte.withUnsafeBytes { try files.write(file, $0, at: at) }
}

/// Host files on which a call may be made to fail.
final class FaultyFiles: Files {
  enum Operation: Equatable { case open, read, write, allocate, sync, link, rename }
  private let host = HostFiles()
  /// Asked before each of those calls, with the path where there is one.
  let fault = Mutex<(@Sendable (Operation, String?) -> Errno?)?>(nil)

  private func check(_ operation: Operation, _ path: String? = nil) throws(Errno) {
    if let error = fault.withLock({ $0 })?(operation, path) { throw error }
  }
  func open(_ path: String, _ mode: OpenMode) throws(Errno) -> FileID {
    try check(.open, path)
    return try host.open(path, mode)
  }
  func close(_ file: FileID) { host.close(file) }
  func read(_ file: FileID, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
    try check(.read)
    return try host.read(file, into: buffer, at: offset)
  }
  func write(_ file: FileID, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64) throws(Errno) {
    try check(.write)
    try host.write(file, vectors, at: offset)
  }
  func size(_ file: FileID) throws(Errno) -> UInt64 { try host.size(file) }
  func allocate(_ file: FileID, size: UInt64) throws(Errno) {
    try check(.allocate)
    try host.allocate(file, size: size)
  }
  func truncate(_ file: FileID, size: UInt64) throws(Errno) { try host.truncate(file, size: size) }
  func sync(_ file: FileID) throws(Errno) {
    try check(.sync)
    try host.sync(file)
  }
  func startWriteback(_ file: FileID, offset: UInt64, length: UInt64) {}
  func dropCache(_ file: FileID) {}
  func hold(_ file: FileID, alone: Bool) throws(Errno) -> Bool { try host.hold(file, alone: alone) }
  func isLinked(_ file: FileID) throws(Errno) -> Bool { try host.isLinked(file) }
  func makeDirectory(_ path: String) throws(Errno) { try host.makeDirectory(path) }
  func syncDirectory(_ path: String) throws(Errno) { try host.syncDirectory(path) }
  func rename(_ from: String, to: String) throws(Errno) {
    try check(.rename, to)
    try host.rename(from, to: to)
  }
  func link(_ from: String, to: String) throws(Errno) {
    try check(.link, to)
    try host.link(from, to: to)
  }
  func remove(_ path: String) throws(Errno) { try host.remove(path) }
  func list(_ path: String) throws(Errno) -> [String] { try host.list(path) }
  func exists(_ path: String) -> Bool { host.exists(path) }
  func lock(_ path: String) throws(Errno) -> FileID? { try host.lock(path) }
}

/// A segment in a store, and caches over one directory to read it through.
struct CacheWorld {
  final class Encodings: EncodingSource {
    let blobs: [UInt64: [UInt8]]
    let asked = Mutex(0)
    init(_ blobs: [UInt64: [UInt8]]) { self.blobs = blobs }
    func encodingBlob(of entry: SegmentEntry) throws(SegmentError) -> [UInt8] {
      asked.withLock { $0 += 1 }
      guard let blob = blobs[entry.number] else { throw .unknownSegment(entry.number) }
      return blob
    }
  }

  let directory = TemporaryDirectory()
  let store = MemoryStore()
  let clock = SimClock()
  /// The store, as the fetcher of this world has it.
  let watched: WatchedStore
  let files = FaultyFiles()
  let blocks: [[UInt8]]
  let entry: SegmentEntry
  let body: NamedBody
  let encodings: Encodings
  let segments: VolumeSegments
  let fetcher: Fetcher
  let volume = ULID(high: 1, low: 2)

  init(count: Int, seed: UInt64 = 1, budget: UInt64 = 1 << 40) throws {
    var random = SeededGenerator(seed: seed)
    let blocks = (0..<count).map { Self.block($0, &random) }
    self.blocks = blocks
    let flat = blocks.flatMap { $0 }
    let codec = try #require(ZstdCodec())
    let encoded = flat.withUnsafeBytes { p in
      BodyEncoder.encode(count: UInt32(count), hashes: blocks.map { Digest.sha256($0) }, codec: codec) {
        p.baseAddress! + Int($0) * 4096
      }
    }
    body = NamedBody(encoded, volume: volume, segment: 5, content: Digest.sha256([1]))
    entry = SegmentEntry(
      number: 5, volume: volume, blocks: UInt32(count), hash: body.hash, encoding: body.encodingDigest,
      locator: .page(volume: volume, page: 1, offset: 0, length: 1), uploaded: true, bodyLength: encoded.length)
    try Uploader.put(body, to: store)
    encodings = Encodings([5: body.encodingBlob])
    let table = SegmentDirectory()
    table.set(entry)
    segments = VolumeSegments(
      directory: table, cache: SegmentCache(root: directory.path + "/cache", files: files, budget: budget))
    watched = WatchedStore(store, clock: clock)
    fetcher = Fetcher(store: watched, segments: segments, encodings: encodings, retry: RetryPolicy { _ in })
  }

  /// Every third block is random, the others compress.
  private static func block(_ i: Int, _ random: inout SeededGenerator) -> [UInt8] {
    let words = (0..<512).map { _ in i % 3 == 0 ? random.next() : random.next() & 0x0303_0303_0303_0303 }
    return words.withUnsafeBytes { Array($0) }
  }

  var path: String { directory.path + "/cache/\(volume)/0000000000000005" }

  /// As another process of the host would open the same cache.
  func anotherProcess() -> (segments: VolumeSegments, fetcher: Fetcher) {
    let other = VolumeSegments(
      directory: segments.directory, cache: SegmentCache(root: directory.path + "/cache", files: HostFiles()))
    return (other, Fetcher(store: store, segments: other, encodings: encodings, retry: RetryPolicy { _ in }))
  }

  func read(_ r: UInt32) throws -> [UInt8]? { try read(r, segments) }
  func read(_ r: UInt32, _ segments: VolumeSegments) throws -> [UInt8]? {
    let file = try segments.attach(5)
    return read(r, file)
  }
  func read(_ r: UInt32, _ file: CachedSegment) -> [UInt8]? {
    var out = [UInt8](repeating: 0, count: 4096)
    return out.withUnsafeMutableBytes { file.read(r, into: $0.baseAddress!) } ? out : nil
  }
  /// Whatever is read is right or absent; how many are there.
  func countRight(_ segments: VolumeSegments? = nil) throws -> Int {
    var n = 0
    for r in blocks.indices {
      if let bytes = try read(UInt32(r), segments ?? self.segments) {
        #expect(bytes == blocks[r])
        n += 1
      }
    }
    return n
  }
}
