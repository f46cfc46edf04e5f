import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

/// Where a read lies in files, for a transport that sends it from there: right, complete, and never written again.
@Suite struct ReadInPlaceTests {
  private func extents(_ device: VolumeDevice, _ offset: UInt64, _ length: UInt64, limit: Int = 64) -> [FileExtent] {
    let found = UnsafeMutablePointer<FileExtent>.allocate(capacity: limit)
    defer { found.deallocate() }
    return (0..<device.extents(offset: offset, length: length, into: found, limit: limit)).map { found[$0] }
  }

  /// What the files hold there, and what is mapped.
  private func bytes(_ extents: [FileExtent]) throws -> [UInt8] {
    try extents.flatMap { extent in
      let read = try HostFiles().readBytes(FileID(raw: extent.descriptor), at: extent.offset, count: extent.length)
      #expect(read == Array(UnsafeRawBufferPointer(start: extent.address, count: extent.length)))
      return read
    }
  }

  private func blocks(_ numbers: Range<Int>) -> [UInt8] { numbers.flatMap { numberedBlock($0 + 1) } }

  @Test func blocksOfWriteAheadFiles() throws {
    let harness = try FrontHarness(size: 64 * 4096)
    var first = blocks(0..<20)
    #expect(try harness.run(.write, 0, &first) == 0)
    #expect(try bytes(extents(harness.device, 0, 20 * 4096)) == first)
    #expect(extents(harness.device, 0, 20 * 4096).count == 1 && harness.sources.sent == [1])
    #expect(harness.device.counters.reads == 2 && harness.device.counters.bytesRead == 2 * 20 * 4096)
    var more = blocks(40..<43)
    #expect(try harness.run(.write, 5 * 4096, &more) == 0)
    let split = extents(harness.device, 0, 20 * 4096)
    #expect(split.map { $0.length / 4096 } == [5, 3, 12])
    #expect(try bytes(split) == Array(first[..<20480]) + more + Array(first[32768...]))
    #expect(extents(harness.device, 0, 20 * 4096, limit: 2).isEmpty, "too many")
    #expect(extents(harness.device, 0, 21 * 4096).isEmpty, "a hole")
    #expect(extents(harness.device, 512, 4096).isEmpty && extents(harness.device, 4096, 512).isEmpty, "parts of blocks")
    #expect(extents(harness.device, 64 * 4096, 4096).isEmpty && extents(harness.device, 0, 0).isEmpty)
    harness.device.fence()
    #expect(extents(harness.device, 0, 4096).isEmpty)
  }

  /// What is short is copied before anything else happens: its file may be used again.
  @Test func shortExtentsAreNotHeldOnTo() throws {
    let harness = try FrontHarness(size: 64 * 4096)
    var data = blocks(0..<16)
    #expect(try harness.run(.write, 0, &data) == 0)
    #expect(extents(harness.device, 0, 7 * 4096).count == 1 && harness.sources.sent.isEmpty)
    #expect(extents(harness.device, 0, 8 * 4096).count == 1 && harness.sources.sent == [1])
  }

  @Test func damageIsNotSent() throws {
    let harness = try FrontHarness(size: 64 * 4096)
    var data = blocks(0..<16)
    #expect(try harness.run(.write, 0, &data) == 0)
    let whole = try #require(extents(harness.device, 0, 16 * 4096).first)
    let path = WALFormat.path(directory: harness.directory.path, number: 1)
    let file = try harness.files.open(path, .readWrite)
    defer { harness.files.close(file) }
    try [UInt8(0xFF)].withUnsafeBytes { try harness.files.write(file, $0, at: whole.offset + 9 * 4096 + 77) }
    #expect(extents(harness.device, 0, 16 * 4096).isEmpty)
    #expect(try bytes(extents(harness.device, 0, 9 * 4096)) == blocks(0..<9))
    try harness.files.truncate(file, size: whole.offset + 4096)
    #expect(extents(harness.device, 0, 9 * 4096).isEmpty, "a file that ends early")
  }

  /// A sealed write-ahead file in the cache may become another: its own volume says that it was sent, and another volume, whose
  /// process its own does not hear, does not send it.
  @Test func segmentsOfThisVolumeAndOfOthers() throws {
    let volume = SealingVolume()
    let scribe = try volume.scribe(1)
    for i in 0..<30 { try scribe.write(UInt64(i), [numberedBlock(i + 1)]) }
    try volume.seal(scribe)
    let entry = try #require(volume.segments.directory[1])
    func device(of other: ULID) -> VolumeDevice {
      let map = BlockMap(blocks: 64)
      map.assign(0, count: 30, handle: BlockHandle(segment: 1, r: 0)) { _, _ in }
      return VolumeDevice(
        .init(
          volume: other, size: 64 * 4096, map: map, sources: volume.segments, files: HostFiles(), executor: ManualExecutor(),
          fromKeeper: Mailbox(capacity: 8), toKeeper: Mailbox(capacity: 8), wake: .silent()), log: nil)
    }
    #expect(extents(device(of: ULID(high: 77, low: 7)), 0, 30 * 4096).isEmpty)
    #expect(!volume.segments.wasSent(1))
    #expect(try bytes(extents(device(of: entry.volume), 0, 30 * 4096)) == blocks(0..<30))
    #expect(volume.segments.wasSent(1) && !volume.segments.wasSent(2))
  }

  /// What was fetched is never written again with anything else, whoever's it is.
  @Test func fetchedSegments() throws {
    let world = try CacheWorld(count: 64)
    let (segments, fetcher) = world.anotherProcess()
    let map = BlockMap(blocks: 64)
    map.assign(0, count: 64, handle: BlockHandle(segment: 5, r: 0)) { _, _ in }
    let device = VolumeDevice(
      .init(
        volume: ULID(high: 77, low: 7), size: 64 * 4096, map: map, sources: segments, files: HostFiles(),
        executor: ManualExecutor(), fromKeeper: Mailbox(capacity: 8), toKeeper: Mailbox(capacity: 8), wake: .silent()), log: nil)
    #expect(extents(device, 0, 64 * 4096).isEmpty, "not here")
    try fetcher.fetch(segment: 5, r: 0, count: 32)
    #expect(try bytes(extents(device, 0, 32 * 4096)) == world.blocks[..<32].flatMap { $0 })
    #expect(extents(device, 0, 33 * 4096).isEmpty && !segments.wasSent(5))
  }
}
