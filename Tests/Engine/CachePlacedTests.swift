import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

/// A sealed write-ahead file as its segment's local copy.
@Suite struct CachePlacedTests {
  /// One sealed file of 30 blocks in falling order, so that positions are not r.
  private func world() throws -> (volume: SealingVolume, scribe: WALScribe, entry: SegmentEntry) {
    let volume = SealingVolume()
    let scribe = try volume.scribe(1)
    for i in (0..<30).reversed() {
      if i % 7 == 0 { scribe.closeFrame() }
      try scribe.write(UInt64(i), [numberedBlock(i + 1)])
    }
    try volume.seal(scribe)
    volume.segments.directory.update(1) {
      $0.uploaded = true
      $0.hash = Digest.sha256([1])
    }
    return (volume, scribe, try #require(volume.segments.directory[1]))
  }

  /// Reads are right or absent; how many are right.
  private func countRight(_ file: CachedSegment) -> Int {
    var block = [UInt8](repeating: 0, count: 4096)
    return (0..<file.source.blocks).filter { r in
      let found = block.withUnsafeMutableBytes { file.read(r, into: $0.baseAddress!) }
      if found { #expect(block == numberedBlock(Int(r) + 1)) }
      return found
    }.count
  }

  @Test func theFileMovesIntoTheCacheWithoutACopy() throws {
    let (volume, scribe, entry) = try world()
    let before = try volume.segments.attach(1)
    #expect(countRight(before) == 30)
    try volume.segments.adopt(1, walPath: scribe.path)
    #expect(!HostFiles().exists(scribe.path))
    let after = try volume.segments.attach(1)
    #expect(after !== before && countRight(after) == 30 && countRight(before) == 30)
    #expect(after.source.placement != nil)
    // Another process reads the same file.
    let other = SegmentCache(root: volume.segments.cache.root, files: HostFiles())
    #expect(countRight(try other.open(entry)) == 30)
    #expect(volume.segments.cache.usage().map(\.isPlaced) == [true])
    // Again, as after a crash.
    try volume.segments.adopt(1, walPath: scribe.path)
    #expect(countRight(try volume.segments.attach(1)) == 30)
  }

  @Test func whatTheStoreLacksIsNotAdopted() throws {
    let (volume, scribe, _) = try world()
    volume.segments.directory.update(1) { $0.uploaded = false }
    #expect(throws: Errno.invalid) { try volume.segments.adopt(1, walPath: scribe.path) }
    #expect(HostFiles().exists(scribe.path))
    #expect(volume.segments.cache.trim(to: 0) == 0)
    #expect(countRight(try volume.segments.attach(1)) == 30)
  }

  /// A fork's process makes an empty cache file while the map of the owner's file lies beside it: the map is not its.
  @Test func aCacheFileBesideAMapIsNotReadByIt() throws {
    let (volume, scribe, entry) = try world()
    let fork = SegmentCache(root: volume.segments.cache.root, files: HostFiles())
    let made = try fork.open(entry)
    #expect(made.source.placement == nil && countRight(made) == 0)
    try numberedBlock(4).withUnsafeBytes { _ = try made.store(3, count: 1, $0.baseAddress!) }
    let again = try fork.open(entry)
    #expect(again.source.placement == nil && countRight(again) == 1)
    // The owner's file takes its place; who has the other open is told.
    try volume.segments.adopt(1, walPath: scribe.path)
    #expect(made.isGone && countRight(made) == 1)
    #expect(countRight(try fork.open(entry)) == 30)
  }

  @Test(arguments: 0..<60) func damageCostsBlocksAndNeverLies(seed: UInt64) throws {
    let (volume, scribe, entry) = try world()
    try volume.segments.adopt(1, walPath: scribe.path)
    volume.segments.detach(1)
    let path = volume.segments.cache.path(entry)
    var random = SeededGenerator(seed: seed)
    switch seed % 5 {
    case 0: try flipBit(path + ".map", in: 0..<128, &random)
    case 1: try flipBit(path + ".map", in: 4096..<4096 + 120, &random)
    case 2: try flipBit(path + ".map", in: 8192..<8192 + 60, &random)
    case 3: try flipBit(path, in: 0..<48, &random)
    default: try flipBit(path, &random)
    }
    let cache = SegmentCache(root: volume.segments.cache.root, files: HostFiles())
    let file = try cache.open(entry)
    #expect(countRight(file) <= 30)
    #expect(cache.counters.filesDiscarded == ([0, 2, 3].contains(seed % 5) ? 1 : 0))
    // Repairable by fetching, whatever it is.
    for r in 0..<30 as Range<UInt32> where !file.holds(r, count: 1, forgetting: true) {
      try numberedBlock(Int(r) + 1).withUnsafeBytes { _ = try file.store(r, count: 1, $0.baseAddress!) }
    }
    #expect(countRight(file) == 30)
  }

  @Test func aMapThatACrashLostIsMadeAgain() throws {
    let (volume, scribe, entry) = try world()
    volume.segments.detach(1)
    let mapPath = volume.segments.cache.path(entry) + ".map"
    let sealed = try #require(volume.sealed[1])
    let seal = try volume.seal(of: sealed, scribe)
    #expect(countRight(try #require(try volume.segments.cache.openSealed(entry, seal: seal, walPath: scribe.path))) == 30)
    let before = try HostFiles().readFile(mapPath)
    try HostFiles().remove(mapPath)
    #expect(try volume.segments.cache.openSealed(entry, seal: seal, walPath: scribe.path) == nil)
    let places = try Sealer(files: HostFiles(), volume: volume.volume)
      .places(of: sealed.content, try scribe.scan(), file: scribe.file)
    let mapped = volume.segments.cache.placed(entry, seal: seal, file: scribe.file, places)
    try volume.segments.cache.writeMap(mapped)
    #expect(countRight(mapped) == 30)
    #expect(try HostFiles().readFile(mapPath) == before)
  }

  /// A read that fails, or bytes that are wrong, must not make a block absent whose only copy this is: the next read may
  /// succeed. Once the store has the block it may.
  @Test func whatOnlyThisFileHasIsNeverForgotten() throws {
    let (volume, scribe, entry) = try world()
    volume.segments.directory.update(1) { $0.uploaded = false }
    let fetcher = Fetcher(store: MemoryStore(), segments: volume.segments, encodings: CacheWorld.Encodings([:]))
    let file = try volume.segments.attach(1)
    let at = UInt64(try #require(volume.sealed[1]?.placement[17])) * 4096
    let wrong = [UInt8](repeating: 9, count: 4096)
    try wrong.withUnsafeBytes { try HostFiles().write(scribe.file, $0, at: at) }
    #expect(throws: SegmentError.self) { _ = try fetcher.fetch(segment: 1, r: 17, count: 1) }
    #expect(countRight(file) == 29 && file.isPresent(17))
    try numberedBlock(18).withUnsafeBytes { try HostFiles().write(scribe.file, $0, at: at) }
    #expect(try fetcher.fetch(segment: 1, r: 17, count: 1) == nil)
    #expect(countRight(file) == 30)
    // A map with a hole, as a version of before may have left it, is made again.
    file.discard(4)
    volume.segments.detach(1)
    try volume.segments.cache.writeMap(file)
    #expect(
      try volume.segments.cache.openSealed(entry, seal: file.header.seal, walPath: scribe.path) == nil)
  }

  /// The journal lost the entry that says "uploaded", the move into the cache is still there.
  @Test func aFileThatMovedTooEarlyIsTakenBack() throws {
    let (volume, scribe, entry) = try world()
    let cache = volume.segments.cache
    #expect(try !cache.takeBack(entry, walPath: scribe.path))
    try volume.segments.adopt(1, walPath: scribe.path)
    volume.segments.detach(1)
    #expect(try cache.takeBack(entry, walPath: scribe.path))
    #expect(!HostFiles().exists(cache.path(entry)))
    let seal = try volume.seal(of: try #require(volume.sealed[1]), scribe)
    #expect(countRight(try #require(try cache.openSealed(entry, seal: seal, walPath: scribe.path))) == 30)
    // A cache file of the same segment is no write-ahead file.
    try HostFiles().remove(scribe.path)
    _ = try cache.open(entry)
    #expect(try !cache.takeBack(entry, walPath: scribe.path))
  }

  /// The disk fails while the map is made: there is none, or a whole one, and no leavings.
  @Test func mapsAreMadeWholeOrNotAtAll() throws {
    for failing in [FaultyFiles.Operation.open, .write, .sync, .rename] {
      let (volume, scribe, entry) = try world()
      let sealed = try #require(volume.sealed[1])
      let files = FaultyFiles()
      let cache = SegmentCache(root: volume.directory.path + "/second", files: files)
      files.fault.withLock { $0 = { op, _ in op == failing ? .io : nil } }
      // The blocks are readable all the same.
      let placed = cache.placed(entry, seal: Digest.sha256([3]), file: scribe.file, sealed.places)
      #expect(throws: Errno.io) { try cache.writeMap(placed) }
      #expect(try HostFiles().list(cache.directory(entry.volume)) == [] && countRight(placed) == 30)
    }
  }

  @Test func evictionTakesFileAndMap() throws {
    let (volume, scribe, entry) = try world()
    try volume.segments.adopt(1, walPath: scribe.path)
    let open = try volume.segments.attach(1)
    let size = UInt64(2048 * 4096 + 4096 * 3)
    #expect(volume.segments.cache.usage().map(\.bytes) == [size])
    #expect(volume.segments.cache.trim(to: 0) == size)
    #expect(open.isGone && countRight(open) == 30)
    #expect(try HostFiles().list(volume.segments.cache.directory(entry.volume)) == [])
    #expect(countRight(try volume.segments.attach(1)) == 0)
  }

  /// Sealed, encoded from the file it was written to, put, fetched by a host that has nothing.
  @Test func fromFramesToAnotherHost() throws {
    let (volume, _, entry) = try world()
    let codec = try #require(ZstdCodec())
    let (body, hashes) = try BodyEncoder.encode(try volume.segments.attach(1), number: 1, codec: codec)
    #expect(hashes == volume.sealed[1]?.hashes)
    let given = try BodyEncoder.encode(try volume.segments.attach(1), number: 1, hashes: hashes, codec: codec).body
    #expect(given.parts == body.parts && given.encoding == body.encoding)
    let named = NamedBody(body, volume: entry.volume, segment: 1, content: Digest.sha256([7]))
    let store = MemoryStore()
    try Uploader.put(named, to: store)
    try Uploader.put(named, to: store)
    var published = entry
    (published.hash, published.encoding, published.bodyLength) = (named.hash, named.encodingDigest, body.length)
    let table = SegmentDirectory()
    table.set(published)
    let directory = TemporaryDirectory()
    let segments = VolumeSegments(directory: table, cache: SegmentCache(root: directory.path, files: HostFiles()))
    let fetcher = Fetcher(store: store, segments: segments, encodings: CacheWorld.Encodings([1: named.encodingBlob]))
    try fetcher.fetch(segment: 1, r: 0, count: 30)
    #expect(countRight(try segments.attach(1)) == 30)
  }

  @Test func nothingLeavesThatIsNotWhatWasSealed() throws {
    let (volume, scribe, _) = try world()
    var random = SeededGenerator(seed: 2)
    let position = UInt64(try #require(volume.sealed[1]?.placement[17]))
    try flipBit(scribe.path, in: position * 4096..<position * 4096 + 4096, &random)
    let codec = try #require(ZstdCodec())
    do {
      _ = try BodyEncoder.encode(try volume.segments.attach(1), number: 1, codec: codec)
      Issue.record("a damaged block was encoded")
    } catch {
      guard case .damaged("segment 1", let detail) = try #require(error as? SegmentError) else { throw error }
      #expect(detail.contains("block 17 "))
    }
  }
}
