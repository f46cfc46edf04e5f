import ElideIO
import ElideProjections
import Foundation
import Glibc
import Testing

@testable import ElideEngine

/// Processor time of this thread: figures of a busy machine are of use too.
private func cpuNanoseconds() -> UInt64 {
  var t = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t)
  return UInt64(t.tv_sec) * 1_000_000_000 + UInt64(t.tv_nsec)
}

/// Figures for docs/performance.md, per core: `ELIDE_MEASURE=1 swift test -c release --filter SealMeasureTests`.
@Suite(.serialized, .enabled(if: ProcessInfo.processInfo.environment["ELIDE_MEASURE"] != nil)) struct SealMeasureTests {
  private static let blocks = 8192

  /// A write-ahead file of 32 MiB in records of 8 blocks: half of each block random, half zeros.
  private func filled() throws -> (SealingVolume, WALScribe) {
    let volume = SealingVolume()
    let scribe = try WALScribe(
      volume: volume.volume, number: 1, directory: volume.directory.path + "/wal", blocks: 9216)
    var random = SeededGenerator(seed: 1)
    for i in 0..<Self.blocks / 8 {
      let data = (0..<8).map { _ in
        let words = (0..<512).map { $0 % 64 < 32 ? random.next() : 0 }
        return words.withUnsafeBytes { Array($0) }
      }
      try scribe.write(UInt64(i * 5 % (Self.blocks / 8)) * 8, data)
    }
    return (volume, scribe)
  }

  private func measure(_ name: String, bytes: Int = blocks * 4096, _ body: () throws -> Void) rethrows {
    var best = Double.infinity
    for _ in 0..<5 {
      let start = cpuNanoseconds()
      try body()
      best = min(best, Double(cpuNanoseconds() - start) / 1e9)
    }
    print("\(name): \(Int(Double(bytes) / best / 1e6)) MB/s (\(String(format: "%.1f", best * 1000)) ms)")
  }

  @Test func sealEncodeDecode() throws {
    let (volume, scribe) = try filled()
    let scan = try scribe.scan()
    let sealer = Sealer(files: HostFiles(), volume: volume.volume)
    measure("scan") { _ = try? scribe.scan() }
    measure("visible blocks") { _ = VisibleBlocks(scan) }
    try measure("seal") { _ = try sealer.seal(scan, file: scribe.file, dedup: { volume.dedup[$0] }, keep: { _, _ in }) }
    let sealed = try volume.seal(scribe)
    let file = try volume.segments.attach(1)
    let codec = try #require(ZstdCodec())
    var body: EncodedBody?
    try measure("encode, level 1") { body = try BodyEncoder.encode(file, number: 1, hashes: sealed.hashes, codec: codec).body }
    try measure("encode, level -1") {
      _ = try BodyEncoder.encode(file, number: 1, hashes: sealed.hashes, level: -1, codec: codec)
    }
    try measure("encode, hashes anew") { _ = try BodyEncoder.encode(file, number: 1, codec: codec) }
    try measure("seal and encode") {
      let sealed = try sealer.seal(scan, file: scribe.file, dedup: { _ in nil }, keep: { _, _ in })
      _ = try BodyEncoder.encode(file, number: 1, hashes: sealed.hashes, codec: codec)
    }
    let encoded = try #require(body)
    print("stored: \(encoded.length * 100 / UInt64(Self.blocks * 4096)) %, \(encoded.encoding.encode().count) bytes of encoding")
    let parts = encoded.parts
    try measure("verify and decode") {
      for (i, unit) in encoded.encoding.units.enumerated() {
        _ = try BodyDecoder.decode(unit, stored: parts[i][...], object: "body", codec: codec)
      }
    }
    var block = [UInt8](repeating: 0, count: 65536)
    measure("read 64 KiB, checked") {
      block.withUnsafeMutableBytes { b in
        for r in stride(from: 0, to: Self.blocks, by: 16) { _ = file.read(UInt32(r), count: 16, into: b.baseAddress!) }
      }
    }
    try fetchAll(encoded, volume.volume)
  }

  private func fetchAll(_ encoded: EncodedBody, _ volume: ULID) throws {
    let named = NamedBody(encoded, volume: volume, segment: 1, content: Digest.sha256([1]))
    let store = MemoryStore()
    try Uploader.put(named, to: store)
    let table = SegmentDirectory()
    table.set(
      SegmentEntry(
        number: 1, volume: volume, blocks: UInt32(Self.blocks), hash: named.hash, encoding: named.encodingDigest, uploaded: true))
    try measure("fetch into an empty cache, 128 KiB at a time") {
      let directory = TemporaryDirectory()
      let segments = VolumeSegments(directory: table, cache: SegmentCache(root: directory.path, files: HostFiles()))
      let fetcher = Fetcher(store: store, segments: segments, encodings: CacheWorld.Encodings([1: named.encodingBlob]))
      for r in stride(from: 0, to: Self.blocks, by: 32) { try fetcher.fetch(segment: 1, r: UInt32(r), count: 32) }
    }
  }

  @Test func dedupIndex() {
    var index = DedupIndex(limit: 1 << 19)
    var random = SeededGenerator(seed: 3)
    let hashes = (0..<64).map { _ in
      (0..<8192).map { _ in Digest(words: (random.next(), random.next(), random.next(), random.next())) }
    }
    let n = 64 * 8192
    func each(_ name: String, _ body: () -> Void) {
      let start = cpuNanoseconds()
      body()
      print("dedup \(name): \((cpuNanoseconds() - start) / UInt64(n)) ns")
    }
    each("insert") { for (i, h) in hashes.enumerated() { index.insert(segment: UInt64(i), hashes: h) } }
    var hits = 0
    each("hit") { for h in hashes { for d in h where index[d] != nil { hits += 1 } } }
    each("miss") {
      for h in hashes { for d in h where index[Digest(words: (d.words.1, d.words.0, d.words.2, d.words.3))] != nil { hits += 1 } }
    }
    each("insert into a full one") { for (i, h) in hashes.enumerated() { index.insert(segment: UInt64(100 + i), hashes: h) } }
    #expect(hits == n)
  }
}
