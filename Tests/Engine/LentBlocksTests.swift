import ElideIO
import ElideProjections
import Glibc
import Testing

@testable import ElideEngine

/// A device that only reads, all of whose blocks are in the store; the test says when fetches run.
final class ReadHarness {
  let world: CacheWorld
  let executor = ManualExecutor()
  let device: VolumeDevice
  let desk: ReadDesk
  let sink = Completions()
  private var buffers: [UInt64: UnsafeMutableRawBufferPointer] = [:]
  /// The most fetches that were under way at once, and of blocks in them.
  var most = 0

  init(
    blocks: Int, limits: FrontLimits = FrontLimits(), configuration: KeeperConfiguration = KeeperConfiguration()
  ) throws {
    world = try CacheWorld(count: blocks)
    let size = UInt64(blocks) * 4096
    let front = Mailbox<FrontMessage>(capacity: 4096)
    desk = ReadDesk(
      fetcher: world.fetcher, store: world.watched, segments: world.segments, executor: executor, front: front,
      clock: world.clock, configuration: configuration
    ) {}
    let map = BlockMap(blocks: UInt64(blocks))
    // Backwards, so that a request of several blocks needs several fetches.
    for lba in 0..<UInt64(blocks) {
      map.assign(lba, count: 1, handle: BlockHandle(segment: 5, r: UInt32(lba % 2 == 0 ? lba : UInt64(blocks) - lba))) { _, _ in }
    }
    device = VolumeDevice(
      .init(
        volume: world.volume, size: size, map: map, sources: world.segments, files: world.files, executor: executor,
        fromKeeper: front, toKeeper: desk.inbox, wake: .silent(), limits: limits), log: nil)
    device.sink = sink
  }
  deinit { for (_, b) in buffers { b.deallocate() } }

  func block(_ lba: Int) -> [UInt8] { world.blocks[lba % 2 == 0 ? lba : world.blocks.count - lba] }

  func read(_ lba: Int, _ count: Int, token: UInt64) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count * 4096, alignment: 4096)
    buffer.initializeMemory(as: UInt8.self, repeating: 0xEE)
    buffers[token] = buffer
    let request = BlockRequest(
      operation: .read, offset: UInt64(lba) * 4096, length: UInt64(buffer.count), buffer: buffer.baseAddress, token: token)
    if case .done(let error) = device.submit(request) { sink.done[token] = error }
  }

  func turn() {
    device.commit()
    while desk.step() {}
    most = max(most, executor.waiting)
    executor.runAll()
    device.poll()
    device.checkInvariants()
  }

  /// Whether the request came back whole and right.
  func isRight(_ token: UInt64, _ lba: Int) -> Bool {
    guard let buffer = buffers[token], sink.done[token] == 0 else { return false }
    return (0..<buffer.count / 4096).allSatisfy { i in
      UnsafeRawBufferPointer(rebasing: buffer[i * 4096..<(i + 1) * 4096]).elementsEqual(block(lba + i))
    }
  }
}

/// What a read wants and the disk does not take.
@Suite struct LentBlocksTests {
  @Test(arguments: [FaultyFiles.Operation.write, .allocate, .open, .link, .read], [Errno.noSpace, Errno(EDQUOT), .io])
  func aFullCacheDiskIsReadFromMemory(_ operation: FaultyFiles.Operation, _ error: Errno) throws {
    let harness = try ReadHarness(blocks: 90)
    harness.world.files.fault.withLock { $0 = { op, _ in op == operation ? error : nil } }
    for (i, lba) in [0, 7, 20, 50, 60].enumerated() { harness.read(lba, 1 + 7 * i, token: UInt64(i)) }
    for _ in 0..<200 where harness.sink.done.count < 5 { harness.turn() }
    for (i, lba) in [0, 7, 20, 50, 60].enumerated() { #expect(harness.isRight(UInt64(i), lba), "request \(i)") }
    #expect(harness.world.fetcher.counters.failures == 0 && harness.world.fetcher.counters.uncached > 0)
    // Nothing of it is kept: the next read asks again, and finds room.
    harness.world.files.fault.withLock { $0 = nil }
    let before = harness.world.store.counters.gets
    harness.read(0, 4, token: 100)
    for _ in 0..<50 where harness.sink.done[100] == nil { harness.turn() }
    #expect(harness.isRight(100, 0) && harness.world.store.counters.gets > before)
  }

  @Test func damageInTheStoreIsStillAnError() throws {
    let harness = try ReadHarness(blocks: 40)
    harness.world.files.fault.withLock { $0 = { op, _ in op == .write ? .noSpace : nil } }
    harness.world.store.change(try #require(harness.world.entry.bodyKey)) { for i in 0..<2000 { $0[i] ^= 1 } }
    harness.read(0, 1, token: 1)
    for _ in 0..<20 where harness.sink.done.isEmpty { harness.turn() }
    #expect(harness.sink.done == [1: EIO])
  }

  @Test func fetchesUnderWayAreLimited() throws {
    var limits = FrontLimits()
    limits.fetches = 3
    limits.readAhead.fetches = 0
    let harness = try ReadHarness(blocks: 200, limits: limits)
    for token in 0..<60 { harness.read((token * 37) % 190, 1 + token % 9, token: UInt64(token)) }
    let prefetch = BlockRequest(operation: .prefetch, offset: 0, length: 200 * 4096, buffer: nil, token: 99)
    #expect(harness.device.submit(prefetch) == .done(0))
    for _ in 0..<400 where harness.sink.done.count < 60 { harness.turn() }
    for token in 0..<60 { #expect(harness.isRight(UInt64(token), (token * 37) % 190), "request \(token)") }
    #expect(harness.most == 3)
  }

  @Test func blocksUnderWayAreLimited() throws {
    var limits = FrontLimits()
    limits.fetchBlocks = 1
    limits.readAhead.fetches = 0
    let harness = try ReadHarness(blocks: 80, limits: limits)
    for token in 0..<10 { harness.read(token * 8, 8, token: UInt64(token)) }
    for _ in 0..<400 where harness.sink.done.count < 10 { harness.turn() }
    for token in 0..<10 { #expect(harness.isRight(UInt64(token), token * 8), "request \(token)") }
    #expect(harness.most == 1)
  }

  @Test func requestsInADeviceAreLimited() throws {
    var limits = FrontLimits()
    limits.requests = 4
    let harness = try ReadHarness(blocks: 80, limits: limits)
    for token in 0..<6 { harness.read(token * 8, 8, token: UInt64(token)) }
    #expect(harness.sink.done == [4: ENOMEM, 5: ENOMEM])
    for _ in 0..<400 where harness.sink.done.count < 6 { harness.turn() }
    for token in 0..<4 { #expect(harness.isRight(UInt64(token), token * 8), "request \(token)") }
    harness.read(0, 1, token: 7)
    for _ in 0..<50 where harness.sink.done[7] == nil { harness.turn() }
    #expect(harness.isRight(7, 0))
  }
}
