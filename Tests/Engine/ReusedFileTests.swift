import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

/// Write-ahead files made of files that have been others': what they held counts for nothing, and nobody else's is taken.
@Suite struct ReusedFileTests {
  private let other = ULID(high: 3, low: 3)

  private func reuse(_ log: LogWriter, _ old: UInt64, as number: UInt64, by incarnation: ULID) throws {
    let path = log.path(number)
    if old != number { try log.files.rename(log.path(old), to: path) }
    let file = try log.files.open(path, .readWrite)
    defer { log.files.close(file) }
    try WALFile.reuse(
      log.files, file, directory: log.directory.path, volume: log.volume, number: number, geometry: log.geometry,
      incarnation: incarnation)
  }

  /// The frames in it are whole and of this volume. They are of another number.
  @Test func framesOfAnotherNumberAreNotTaken() throws {
    let log = LogWriter()
    for i in 0..<6 { try log.append([(UInt64(i), 3, .data)]) }
    try log.flush()
    #expect(log.wals == [1])
    let before = try log.recover()
    try reuse(log, 1, as: 2, by: other)
    let found = try log.recover(wals: [2], start: before.end)
    #expect(found.records.isEmpty && found.end == before.end && found.discarded == 0)
  }

  /// A disk lied: the journal has lost that this file was ever used, and the number is given again, to the same file. Its
  /// frames continue from where the chain stands, and one says that others were durable. They are of another process.
  @Test func framesOfALostTimeAreNotTaken() throws {
    let log = LogWriter()
    for i in 0..<6 { try log.append([(UInt64(i), 3, .data)]) }
    try log.flush()
    try log.append([(40, 2, .data)])
    #expect(try log.recover().records.count == 7)
    try reuse(log, 1, as: 1, by: other)
    let found = try log.recover()
    #expect(found.records.isEmpty && found.end == .genesis && found.discarded == 0)
  }

  /// Files of before there was an incarnation in their header are read as they were.
  @Test func headersOfVersionOneAreRead() throws {
    let log = LogWriter()
    try log.append([(7, 2, .data)])
    let file = try log.files.open(log.path(1), .readWrite)
    defer { log.files.close(file) }
    var header = try log.files.readBytes(file, at: 0, count: 64)
    header[8] = 1
    header.replaceSubrange(48..<64, with: repeatElement(0, count: 16))
    let crc = header[..<44].withUnsafeBytes { crc32c($0) }
    withUnsafeBytes(of: crc.littleEndian) { header.replaceSubrange(44..<48, with: $0) }
    try header.withUnsafeBytes { try log.files.write(file, $0, at: 0) }
    #expect(try log.recover().records == log.records)
  }

  // MARK: Taking files out of the cache

  /// An uploaded segment in the cache, which nobody has open.
  private func adopted() throws -> (volume: SealingVolume, entry: SegmentEntry, size: UInt64) {
    let volume = SealingVolume()
    let scribe = try volume.scribe(1)
    for i in 0..<30 { try scribe.write(UInt64(i), [numberedBlock(i + 1)]) }
    try volume.seal(scribe)
    volume.segments.directory.update(1) {
      $0.uploaded = true
      $0.hash = Digest.sha256([1])
    }
    let size = try HostFiles().size(scribe.file)
    try volume.segments.adopt(1, walPath: scribe.path)
    volume.segments.detach(1)
    volume.segments.quiesce()
    volume.segments.closeRetired()
    // Its descriptor goes with the scribe.
    volume.scribes = [:]
    return (volume, try #require(volume.segments.directory[1]), size)
  }

  private func isRight(_ file: CachedSegment, _ r: UInt32) -> Bool {
    var block = [UInt8](repeating: 0, count: 4096)
    return block.withUnsafeMutableBytes { file.read(r, into: $0.baseAddress!) } && block == numberedBlock(Int(r) + 1)
  }

  @Test func aFileThatNobodyReadsIsTaken() throws {
    let (volume, entry, size) = try adopted()
    let cache = volume.segments.cache
    let target = volume.directory.path + "/next"
    #expect(cache.takeAway(volume: entry.volume, segment: 1, size: size + 4096, to: target) == nil, "another size")
    #expect(cache.isPlaced(entry.volume, 1))
    let file = try #require(cache.takeAway(volume: entry.volume, segment: 1, size: size, to: target))
    defer { HostFiles().close(file) }
    #expect(HostFiles().exists(target) && cache.usage().allSatisfy { $0.bytes == 0 } && cache.counters.filesReused == 1)
    #expect(!cache.isPlaced(entry.volume, 1))
    // Who wants the segment now begins with an empty file.
    #expect(try !cache.open(entry).isPresent(0))
  }

  /// A fork's process reads the file. It is not written while it does; it is evicted.
  @Test func aFileThatIsReadIsNotTaken() throws {
    let (volume, entry, size) = try adopted()
    let fork = try SegmentCache(root: volume.segments.cache.root, files: HostFiles()).open(entry)
    let target = volume.directory.path + "/next"
    #expect(volume.segments.cache.takeAway(volume: entry.volume, segment: 1, size: size, to: target) == nil)
    #expect(!HostFiles().exists(target) && fork.isGone)
    #expect((0..<30).allSatisfy { isRight(fork, $0) })
  }

  /// A client may still read from its pages.
  @Test func aFileThatWasSentIsNotTaken() throws {
    let (volume, entry, size) = try adopted()
    let cache = volume.segments.cache
    let target = volume.directory.path + "/next"
    #expect(cache.takeAway(volume: entry.volume, segment: 1, size: size, to: target, mayBeWritten: { false }) == nil)
    #expect(!HostFiles().exists(target) && !HostFiles().exists(cache.path(entry)) && cache.counters.filesEvicted == 1)
  }

  /// Between the look at the name and the lock: whoever finds the file held alone leaves it.
  @Test func aFileThatIsBeingTakenIsNotOpened() throws {
    let (volume, entry, _) = try adopted()
    let cache = volume.segments.cache
    let taker = try HostFiles().open(cache.path(entry), .readWrite)
    #expect(try HostFiles().hold(taker, alone: true))
    #expect(throws: Errno.io) { _ = try cache.open(entry) }
    HostFiles().close(taker)
    #expect(isRight(try cache.open(entry), 3))
  }
}
