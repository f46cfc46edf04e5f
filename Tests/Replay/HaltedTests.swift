import ElideEngine
import ElideIO
import ElideProjections
import Foundation
import Glibc
import Simulator
import Testing

/// A volume that can accept no more writes goes on answering reads of what it has.
@Suite struct HaltedTests {
  static let size: UInt64 = 128 * 4096

  /// Bytes that are no page of this volume lie where its next page must go: whoever wrote them, this process must stop.
  private func contradict(_ world: VolumeWorld, _ opened: OpenedVolume) throws {
    let next = try #require(opened.port?.status.page) + 1
    try world.store().put(StoreLayout.page(opened.volume, next), parts: [[1, 2, 3]])
  }

  @Test func aStoreThatContradictsEndsWritesAndNotReads() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let port = try #require(opened.port)
    let guest = Guest(opened)
    try guest.work(1, operations: 150)
    let first = port.cut()
    try opened.pump { first.poll() != nil }
    // Some blocks are in the store alone, some in the cache, some in files that are not sealed.
    let tables = try #require(opened.tables)
    for segment in tables.state.ordered where segment.uploadedSeq != nil && segment.number % 2 == 0 {
      engine.cache.evict(volume: volume, segment: segment.number)
    }
    world.clock.advance(2_000_000_000)
    try guest.work(2, operations: 30)
    try contradict(world, opened)
    let second = port.cut()
    try opened.pump { second.poll() != nil }
    #expect(throws: ElideError.self) { try second.poll()?.get() }
    opened.device.poll()

    #expect(port.status.state == .halted && port.status.reason?.contains("page") == true)
    try guest.check("halted")
    #expect(port.status.counters.fetches > 0)
    var block = Guest.block(7)
    for operation in [BlockRequest.Operation.write, .trim, .writeZeroes, .flush] {
      let answer = block.withUnsafeMutableBytes {
        opened.device.submit(
          BlockRequest(operation: operation, offset: 0, length: 4096, buffer: $0.baseAddress, token: 1 << 40))
      }
      #expect(answer == .done(EIO), "\(operation)")
    }
    try guest.check("after writes were refused")
    opened.device.checkInvariants()
    #expect(throws: ElideError.self) { try opened.close(ship: true) }
  }

  /// Requests that wait when the volume halts: writes end, reads go on.
  @Test func whatWaitsWhenItHalts() throws {
    let world = VolumeWorld()
    let engine = try world.host("a")
    let volume = try engine.createVolume(name: "vm", size: Self.size).volume
    let opened = try engine.openLocal(volume)
    let guest = Guest(opened)
    for lba in 0..<UInt64(60) { try guest.write(lba, Guest.block(lba)) }
    let port = try #require(opened.port)
    let cut = port.cut()
    try opened.pump { cut.poll() != nil }
    let tables = try #require(opened.tables)
    for s in tables.state.ordered where s.uploadedSeq != nil { engine.cache.evict(volume: volume, segment: s.number) }
    // The keeper looks once a second for what was evicted.
    world.clock.advance(2_000_000_000)
    try guest.write(100, Guest.block(100))
    while opened.stepKeeper() {}
    opened.device.poll()

    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
    defer { buffer.deallocate() }
    var answers: [UInt64: Int32] = [:]
    let sink = Answers { answers[$0] = $1 }
    opened.device.sink = sink
    let read = BlockRequest(operation: .read, offset: 5 * 4096, length: 4096, buffer: buffer.baseAddress, token: 1)
    #expect(opened.device.submit(read) == .queued)
    let half = UnsafeMutableRawBufferPointer.allocate(byteCount: 512, alignment: 512)
    defer { half.deallocate() }
    let partial = BlockRequest(operation: .write, offset: 6 * 4096, length: 512, buffer: half.baseAddress, token: 2)
    #expect(opened.device.submit(partial) == .queued)
    opened.device.commit()
    try contradict(world, opened)
    // The fetches come back after it has halted.
    let second = port.cut()
    var random = SeededRandom(seed: 1)
    for _ in 0..<200 where second.poll() == nil {
      for lane in [Lane.sync, .seal, .overdue, .ship] { world.executor.run(lane, &random) }
      while opened.stepKeeper() {}
      opened.device.poll()
    }
    #expect(port.status.state == .halted)
    try opened.pump { answers.count == 2 }
    #expect(answers == [1: 0, 2: EIO])
    #expect(buffer.elementsEqual(Guest.block(5)))
    opened.device.checkInvariants()
    opened.abandon()
  }
}

private final class Answers: CompletionSink {
  private let body: (UInt64, Int32) -> Void
  init(_ body: @escaping (UInt64, Int32) -> Void) { self.body = body }
  func complete(token: UInt64, error: Int32) { body(token, error) }
}
