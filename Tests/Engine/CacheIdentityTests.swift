import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

/// A number that a crash freed is used again: files of the sealing before must not pass for the one after. And files that the
/// disk takes away under a reader.
@Suite struct CacheIdentityTests {
  /// The words of write-ahead blocks come from their records' CRCs: they are those of the bytes.
  @Test func wordsWithoutTouchingTheBlocks() {
    var random = SeededGenerator(seed: 4)
    for i in 0..<200 {
      let block = (0..<512).flatMap { _ in withUnsafeBytes(of: i == 0 ? 0 : random.next()) { Array($0) } }
      let (seed, r) = (UInt32(truncatingIfNeeded: random.next()), UInt32(truncatingIfNeeded: random.next()) % (1 << 20))
      block.withUnsafeBytes {
        #expect(BlockWords.shared.word(seed: seed, r: r, crc: crc32c($0)) == blockWord(seed: seed, r: r, $0.baseAddress!))
      }
    }
  }

  /// Uploaded, cached; then the seal was lost with the journal's end, and other blocks were sealed under the same number.
  @Test func aCacheFileOfAnotherSealingIsThrownAway() throws {
    let old = try CacheWorld(count: 20, seed: 1)
    try old.fetcher.fetch(segment: 5, r: 0, count: 20)
    let new = try CacheWorld(count: 20, seed: 2)
    let cache = SegmentCache(root: old.directory.path + "/cache", files: HostFiles())
    let segments = VolumeSegments(directory: new.segments.directory, cache: cache)
    let file = try segments.attach(5)
    #expect((0..<20).allSatisfy { !file.isPresent($0) } && cache.counters.filesDiscarded == 1)
    try Fetcher(store: new.store, segments: segments, encodings: new.encodings).fetch(segment: 5, r: 0, count: 20)
    #expect(try new.countRight(segments) == 20)
    // Who has the old one open reads on in it, and sees that it is gone.
    #expect(try old.segments.attached(5)?.isGone == true && old.read(3, old.segments.attached(5)!) == old.blocks[3])
  }

  /// Though a header lied, no block of one sealing verifies as one of another.
  @Test func wordsAreOfOneSealing() {
    let volume = ULID(high: 1, low: 2)
    let (a, b) = (Digest.sha256([1]), Digest.sha256([2]))
    let block = [UInt8](repeating: 7, count: 4096)
    let words = [a, b].map { seal in
      block.withUnsafeBytes { blockWord(seed: segmentSeed(volume: volume, segment: 5, seal: seal), r: 3, $0.baseAddress!) }
    }
    #expect(words[0] != words[1])
  }

  /// The same file sealed again may find other duplicates, and then every r is another block. The map of the first time has
  /// as many blocks, and each of them verifies.
  @Test func aMapOfAnotherSealingIsMadeAgain() throws {
    let volume = SealingVolume()
    let scribe = try volume.scribe(1)
    try scribe.write(0, [numberedBlock(1), numberedBlock(2), numberedBlock(3)])
    func seal(without duplicate: Int) throws -> SealedWAL {
      try Sealer(files: HostFiles(), volume: volume.volume).seal(try scribe.scan(), file: scribe.file) {
        $0 == Digest.sha256(numberedBlock(duplicate)) ? BlockHandle(segment: 0, r: 0) : nil
      } keep: { _, _ in
      }
    }
    let (lost, kept) = (try seal(without: 1), try seal(without: 3))
    #expect(lost.blocks == kept.blocks && lost.content != kept.content)
    let cache = volume.segments.cache
    let entry = SegmentEntry(number: 1, volume: volume.volume, blocks: 2)
    try cache.writeMap(cache.placed(entry, seal: try volume.seal(of: lost, scribe), file: scribe.file, lost.places))
    #expect(try cache.openSealed(entry, seal: try volume.seal(of: kept, scribe), walPath: scribe.path) == nil)
    #expect(try cache.openSealed(entry, seal: try volume.seal(of: lost, scribe), walPath: scribe.path) != nil)
  }

  /// What an adopted file is, its map says by the hash of the body.
  @Test func anAdoptedFileOfAnotherBodyIsThrownAway() throws {
    let volume = SealingVolume()
    let scribe = try volume.scribe(1)
    try scribe.write(0, [numberedBlock(1), numberedBlock(2)])
    try volume.seal(scribe)
    volume.segments.directory.update(1) {
      $0.uploaded = true
      $0.hash = Digest.sha256([1])
    }
    try volume.segments.adopt(1, walPath: scribe.path)
    var other = try #require(volume.segments.directory[1])
    #expect(try volume.segments.cache.open(other).isPresent(0))
    other.hash = Digest.sha256([2])
    #expect(try !volume.segments.cache.open(other).isPresent(0))
  }

  /// A file that becomes shorter under its reader, as one whose pages the disk cannot give back: a miss, not the end of the
  /// process (which an access beyond a mapping's file is).
  @Test func aFileThatIsTakenAwayUnderAReaderIsAMiss() throws {
    let world = try CacheWorld(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    let file = try world.segments.attach(5)
    let other = try HostFiles().open(world.path, .readWrite)
    defer { HostFiles().close(other) }
    try HostFiles().truncate(other, size: 0)
    #expect((0..<20).allSatisfy { world.read($0, file) == nil })
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    #expect(try world.countRight() == 20)
  }

  /// A disk that gives nothing back of a cache file: it is made anew.
  @Test func aTableThatCannotBeReadIsAMiss() throws {
    let world = try CacheWorld(count: 20)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    world.segments.detach(5)
    let once = Once()
    world.files.fault.withLock { $0 = { op, _ in op == .read && once.first ? .io : nil } }
    let file = try world.segments.attach(5)
    #expect(!file.isPresent(0) && world.segments.cache.counters.filesDiscarded == 1)
    try world.fetcher.fetch(segment: 5, r: 0, count: 20)
    #expect(try world.countRight() == 20)
    // One that reads nothing at all: the store answers, through memory.
    world.segments.detach(5)
    world.files.fault.withLock { $0 = { op, _ in op == .read ? .io : nil } }
    #expect(try world.fetcher.fetch(segment: 5, r: 3, count: 2) == world.blocks[3] + world.blocks[4])
  }
}
