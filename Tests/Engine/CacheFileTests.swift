import ElideIO
import ElideProjections
import Synchronization
import Testing

@testable import ElideEngine

@Suite struct CacheFileTests {
  /// A flipped bit anywhere in a cache file costs a block, never yields a wrong one.
  @Test(arguments: 0..<60) func damagedCacheFilesAreMisses(seed: UInt64) throws {
    let world = try CacheWorld(count: 20, seed: 3)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    world.segments.detach(5)
    var random = SeededGenerator(seed: seed)
    // Every third in the header, every third in the words, the others anywhere.
    let range: Range<UInt64>? = seed % 3 == 0 ? 0..<128 : seed % 3 == 1 ? 4096..<4176 : nil
    try flipBit(world.path, in: range, &random)
    #expect(try world.countRight() <= 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    #expect(try world.countRight() == 20)
    #expect(world.segments.cache.counters.filesDiscarded == (seed % 3 == 0 ? 1 : 0))
  }

  @Test func shortAndForeignFilesAreDiscarded() throws {
    for size in [0, 3, 4096, 8192] as [UInt64] {
      let world = try CacheWorld(count: 20)
      try world.fetcher.fetch(segment: 5, r: 0, count: 20)
      world.segments.detach(5)
      let files = HostFiles()
      let file = try files.open(world.path, .readWrite)
      try files.truncate(file, size: size)
      files.close(file)
      #expect(try world.countRight() == 0)
      #expect(world.segments.cache.counters.filesDiscarded == 1)
    }
    let world = try CacheWorld(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    var other = world.entry
    other.number = 6
    try HostFiles().link(world.path, to: world.path.dropLast() + "6")
    let opened = try world.segments.cache.open(other)
    #expect(!opened.isPresent(0) && world.segments.cache.counters.filesDiscarded == 1)
  }

  /// Running out of descriptors says nothing about a file.
  @Test func anErrorThatIsNotTheFilesLeavesItAlone() throws {
    let world = try CacheWorld(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    world.segments.detach(5)
    for failing in [FaultyFiles.Operation.open, .read] {
      world.files.fault.withLock { $0 = { op, _ in op == failing ? Errno(24) : nil } }
      #expect(throws: Errno(24)) { try world.segments.attach(5) }
    }
    world.files.fault.withLock { $0 = nil }
    #expect(try world.countRight() == 20)
    #expect(world.segments.cache.counters.filesDiscarded == 0)
  }

  @Test func aBlockDiscardedAfterAMismatchIsFetchedAnew() throws {
    let world = try CacheWorld(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    try world.segments.attach(5).discard(4)
    #expect(try world.read(4) == nil)
    try world.fetcher.fetch(segment: 5, r: 4, count: 1)
    #expect(try world.read(4) == world.blocks[4])
  }

  /// The word says present, the bytes are others: a fetch must not take the word's word for it.
  @Test func aDamagedBlockIsFetchedAnewThoughItsWordStands() throws {
    let world = try CacheWorld(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    var random = SeededGenerator(seed: 1)
    let data = UInt64(CacheFormat.dataOffset(blocks: 20))
    try flipBit(world.path, in: data + 7 * 4096..<data + 8 * 4096, &random)
    #expect(try world.read(7) == nil && (try world.segments.attach(5).isPresent(7)))
    try world.fetcher.fetch(segment: 5, r: 7, count: 1)
    #expect(try world.read(7) == world.blocks[7])
    // Only the block that was damaged is written again.
    #expect(world.store.counters.gets == 2)
  }

  @Test func processesShareOneFile() throws {
    let world = try CacheWorld(count: 40)
    let other = world.anotherProcess()
    try world.fetcher.fetch(segment: 5, r: 0, count: 1)
    try other.fetcher.fetch(segment: 5, r: 0, count: 16)
    #expect(other.fetcher.counters.hits == 1 && world.store.counters.gets == 1)
    try other.fetcher.fetch(segment: 5, r: 20, count: 1)
    // Open before the other stored: seen at the next miss, which asks the file first, and the store for nothing.
    #expect(try world.read(20) == nil)
    try world.fetcher.fetch(segment: 5, r: 20, count: 1)
    #expect(try world.read(20) == world.blocks[20])
    #expect(world.store.counters.gets == 2)
    #expect(try world.countRight(other.segments) == 32)
    #expect(
      try HostFiles().list(world.directory.path + "/cache/\(world.volume)") == ["0000000000000005", "0000000000000005.encoding"])
  }

  /// Both make the file at once: the loser opens the winner's.
  @Test func theLoserOpensTheWinnersFile() throws {
    let world = try CacheWorld(count: 20)
    let other = world.anotherProcess()
    let once = Once()
    world.files.fault.withLock { fault in
      fault = { op, _ in
        if op == .link, once.first { _ = try? other.fetcher.fetch(segment: 5, r: 0, count: 16) }
        return nil
      }
    }
    #expect(try world.countRight() == 16)
    #expect(world.segments.cache.counters.filesMade == 0 && other.segments.cache.counters.filesMade == 1)
    #expect(try HostFiles().list(world.directory.path + "/cache/\(world.volume)").filter { $0.contains(".new-") } == [])
  }

  @Test func evictionLeavesReadersTheirBytes() throws {
    let world = try CacheWorld(count: 20)
    let other = world.anotherProcess()
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    let open = try world.segments.attach(5)
    #expect(other.segments.cache.evict(volume: world.volume, segment: 5) == UInt64(8192 + 20 * 4096))
    #expect(world.read(3, open) == world.blocks[3])
    #expect(open.isGone)
    // The next attach is a new file; the old one stays readable for who holds it.
    #expect(try world.read(3) == nil)
    #expect(world.read(3, open) == world.blocks[3])
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    #expect(try world.countRight(other.segments) == 20)
  }

  /// What the I/O thread may still read through is closed after it let go, not before.
  @Test func aDetachedFileIsClosedAfterTheReaderQuiesced() throws {
    let world = try CacheWorld(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    weak let file = try world.segments.attach(5)
    let source = try #require(world.segments.source(for: 5))
    world.segments.cache.evict(volume: world.volume, segment: 5)
    world.segments.sweep()
    #expect(world.segments.source(for: 5) == nil && file != nil)
    #expect(try HostFiles().readBytes(source.file, at: source.dataOffset + 3 * 4096, count: 4096) == world.blocks[3])
    world.segments.quiesce()
    world.segments.sweep()
    #expect(file == nil)
  }

  @Test func evictionTakesWhatWasNotUsedAndStopsAtTheBudget() throws {
    let directory = TemporaryDirectory()
    let cache = SegmentCache(root: directory.path + "/cache", files: HostFiles())
    let volume = ULID(high: 3, low: 4)
    let block = [UInt8](repeating: 7, count: 4096)
    var open: [CachedSegment] = []
    for n in 0..<10 as Range<UInt64> {
      let segment = try cache.open(
        SegmentEntry(number: n, volume: volume, blocks: 64, hash: Digest.sha256([UInt8(n)]), uploaded: true))
      try block.withUnsafeBytes { _ = try segment.store(UInt32(n), count: 1, $0.baseAddress!) }
      open.append(segment)
    }
    let each = UInt64(8192 + 4096)
    #expect(cache.usage().map(\.bytes) == Array(repeating: each, count: 10))
    // All were just made: the first round only clears the marks, the second takes from the hand on.
    #expect(cache.trim(to: 8 * each) == 2 * each)
    #expect(cache.usage().map(\.segment) == [2, 3, 4, 5, 6, 7, 8, 9])
    for segment in [open[2], open[4]] {
      segment.touch()
      #expect(segment.takeUsed() && !segment.takeUsed())
      cache.noteUsed(segment)
    }
    #expect(cache.trim(to: 5 * each) == 3 * each)
    #expect(cache.usage().map(\.segment) == [2, 4, 7, 8, 9])
    #expect(cache.trim(to: 5 * each) == 0 && cache.counters.filesEvicted == 5)
    #expect(cache.trim(to: 0) == 5 * each && cache.usage().isEmpty)
  }

  @Test func whatTheStoreLacksIsNeverEvicted() throws {
    let world = try CacheWorld(count: 20)
    world.segments.directory.update(5) { $0.uploaded = false }
    var imported = world.entry
    imported.uploaded = false
    imported.hash = nil
    let file = try world.segments.cache.openKept(imported, seal: Digest.sha256([1]))
    try world.blocks[3].withUnsafeBytes { _ = try file.store(3, count: 1, $0.baseAddress!) }
    let other = world.anotherProcess().segments.cache
    #expect(other.usage().map(\.isKept) == [true])
    #expect(other.trim(to: 0) == 0 && other.evict(volume: world.volume, segment: 5) == 0)
    #expect(!file.isGone && world.read(3, file) == world.blocks[3])
    // Now anybody may read it, by the hash of the upload.
    file.release(try #require(world.entry.hash))
    #expect(world.read(3, try other.open(world.entry)) == world.blocks[3])
    #expect(other.trim(to: 0) > 0)
    #expect(file.isGone)
  }

  @Test func fetchesKeepTheCacheWithinItsBudget() throws {
    let world = try CacheWorld(count: 640, budget: 256 << 10)
    for unit in [0, 9, 3, 21, 33, 12, 27, 6, 30, 18, 15, 1] as [UInt32] {
      try world.fetcher.fetch(segment: 5, r: unit * 16, count: 1)
      #expect(try world.countRight() >= 0)
    }
    let used = world.segments.cache.usage().reduce(0) { $0 + $1.bytes }
    #expect(used <= 256 << 10 + 64 << 10)
    #expect(world.segments.cache.counters.filesEvicted > 0)
  }

  /// Hashes and encoding count, go after the blocks, and go.
  @Test func whatIsKeptBesideBlocksIsEvictedToo() throws {
    let world = try CacheWorld(count: 20)
    let cache = world.segments.cache
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    try BlockSums.write(world.blocks.map { Digest.sha256($0) }, for: world.entry, in: cache)
    let before = try #require(cache.usage().first)
    #expect(before.sidecars > 128 + 20 * 32 && before.total == before.bytes + before.sidecars)
    #expect(cache.trim(to: before.sidecars) == before.bytes)
    #expect(cache.usage().map(\.sidecars) == [before.sidecars] && cache.usage().map(\.bytes) == [0])
    #expect(BlockSums.read(for: world.entry, in: cache) != nil)
    #expect(cache.trim(to: 0) == before.sidecars)
    #expect(try cache.usage().isEmpty && HostFiles().list(world.directory.path + "/cache/\(world.volume)") == [])
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    #expect(cache.trim(to: 0) > 0 && cache.usage().isEmpty)
  }

  @Test func onlyOneProcessEvictsAtATime() throws {
    let world = try CacheWorld(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    let files = HostFiles()
    let lock = try #require(try files.lock(world.directory.path + "/cache/lock"))
    #expect(world.segments.cache.trim(to: 0) == 0)
    files.close(lock)
    #expect(world.segments.cache.trim(to: 0) > 0)
  }

  @Test func sumsAreReadBackOrNotAtAll() throws {
    let world = try CacheWorld(count: 20)
    let cache = world.segments.cache
    let hashes = world.blocks.map { Digest.sha256($0) }
    #expect(BlockSums.read(for: world.entry, in: cache) == nil)
    try BlockSums.write(hashes, for: world.entry, in: cache)
    #expect(BlockSums.read(for: world.entry, in: cache) == hashes)
    // Sealed anew, with other duplicates: every r is another.
    var again = world.entry
    again.hash = Digest.sha256([9])
    #expect(BlockSums.read(for: again, in: cache) == nil)
    for seed in 0..<40 as Range<UInt64> {
      try BlockSums.write(hashes, for: world.entry, in: cache)
      var random = SeededGenerator(seed: seed)
      try flipBit(BlockSums.path(cache, world.entry), in: seed % 2 == 0 ? 0..<128 : 128..<768, &random)
      #expect(BlockSums.read(for: world.entry, in: cache) == nil)
    }
  }
}

/// True once.
final class Once: Sendable {
  private let passed = Mutex(false)
  var first: Bool {
    passed.withLock { done in
      defer { done = true }
      return !done
    }
  }
}
