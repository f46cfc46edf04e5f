import ElideIO
import Glibc
import Testing

@testable import ElideEngine

@Suite struct WritePressureTests {
  private let pressure = WritePressure(limit: 8 << 30, easeSeconds: 60)

  @Test func ratesFallSmoothlyFromHalfOfTheLimitOn() throws {
    #expect(pressure.verdict(unsent: 0, hasFailed: true) == .free)
    #expect(pressure.verdict(unsent: 4 << 30 - 1, hasFailed: true) == .free)
    var last = UInt64.max
    for part in 0..<4096 as Range<UInt64> {
      guard case .slowed(let rate) = pressure.verdict(unsent: (4 << 30) + part << 20, hasFailed: true) else {
        Issue.record("not slowed at \(part)")
        return
      }
      #expect(rate <= last && rate > 0)
      // Never a step to less than half of what it was, but right at the beginning, where it is beyond any disk.
      if last < 10 << 30 { #expect(rate * 2 >= last, "at \(part) MiB: \(rate) after \(last)") }
      last = rate
    }
    #expect(last > 1 << 20 && last < 16 << 20)
    #expect(pressure.verdict(unsent: 8 << 30, hasFailed: false) == .held)
    #expect(pressure.verdict(unsent: 8 << 30, hasFailed: true) == .refused)
    #expect(pressure.verdict(unsent: .max, hasFailed: true) == .refused)
  }

  /// A guest that takes all it gets reaches the limit in minutes, and one behind a slow store stays below it.
  @Test func whatAGuestGets() {
    for shipped in [0, 20 << 20] as [UInt64] {
      var unsent: UInt64 = 4 << 30
      var seconds = 0
      while seconds < 3600, case .slowed(let rate) = pressure.verdict(unsent: unsent, hasFailed: false) {
        unsent += min(rate, 400 << 20)
        unsent -= shipped
        seconds += 1
      }
      if shipped == 0 { #expect((100...400).contains(seconds), "\(seconds) s") } else { #expect(seconds == 3600) }
    }
  }

  @Test(arguments: [1, 1000, 100_000, 10_000_000, 3_000_000_000] as [UInt64]) func grantsKeepToTheRate(_ rate: UInt64) throws {
    var grants = PacedGrants()
    var random = SeededGenerator(seed: rate)
    let begin: UInt64 = 7_000_000_000_000
    var now = begin
    var given: UInt64 = 0
    for _ in 0..<2000 {
      // Requests are larger than a grant now and then.
      let wanted = UInt64.random(in: 1...20_000, using: &random)
      if let bytes = grants.grant(wanted, rate: rate, room: .max, now: now) {
        #expect(bytes >= wanted)
        given += bytes
      } else {
        #expect(grants.due(rate: rate) > now)
        now = Bool.random(using: &random) ? grants.due(rate: rate) : now + 1_000_000
      }
    }
    let allowed = Double(now - begin) * Double(rate) / 1e9
    #expect(Double(given) <= allowed * 1.01 + Double(PacedGrants.most) + 20_000)
    if rate <= 10_000_000 { #expect(Double(given) >= allowed * 0.5) }
  }

  // MARK: the device

  private func write(
    _ harness: FrontHarness, _ lba: UInt64, _ buffer: UnsafeMutableRawPointer, token: UInt64, blocks: UInt64 = 1
  ) {
    let request = BlockRequest(
      operation: .write, offset: lba * 4096, length: blocks * 4096, buffer: buffer, token: token)
    if case .done(let error) = harness.device.submit(request) { harness.sink.done[token] = error }
  }

  private func tell(_ harness: FrontHarness, _ message: FrontMessage) { #expect(harness.fromKeeper.send(message)) }

  @Test func aSlowedDeviceWritesOnCreditAndInOrder() throws {
    let harness = try FrontHarness(size: 1 << 20)
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 4096)
    defer { buffer.deallocate() }
    memset(buffer, 3, 1 << 16)
    tell(harness, .allowance(.slowed(0)))
    try harness.turn()
    for token in 0..<6 as Range<UInt64> { write(harness, token, buffer, token: token) }
    // A trim brings no data, but what it follows waits.
    #expect(harness.device.submit(.init(operation: .trim, offset: 0, length: 4096, buffer: nil, token: 10)) == .queued)
    for _ in 0..<4 { try harness.turn() }
    #expect(harness.sink.done.isEmpty && harness.wantedCredit == [1])
    tell(harness, .allowance(.slowed(1)))
    try harness.turn()
    // One block is begun for one byte; the next ask pays for it.
    #expect(harness.sink.done == [0: 0] && harness.wantedCredit == [1, 4096])
    tell(harness, .allowance(.slowed(3 * 4096)))
    try harness.turn()
    #expect(harness.sink.done.keys.sorted() == [0, 1, 2, 3])
    // Flushes and reads go on.
    var bytes = [UInt8](repeating: 0, count: 4096)
    #expect(try harness.run(.flush, 0, &bytes) == 0)
    #expect(try harness.run(.read, 4096, &bytes) == 0)
    #expect(bytes.allSatisfy { $0 == 3 })
    tell(harness, .allowance(.free))
    try harness.turn()
    #expect(harness.sink.done.keys.sorted() == [0, 1, 2, 3, 4, 5, 10])
    harness.device.checkInvariants()
  }

  @Test func aRefusingDeviceSaysNoSpaceAndRecovers() throws {
    let harness = try FrontHarness(size: 1 << 20)
    var bytes = [UInt8](repeating: 5, count: 8192)
    #expect(try harness.run(.write, 0, &bytes) == 0)
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 4096)
    defer { buffer.deallocate() }
    tell(harness, .allowance(.slowed(0)))
    try harness.turn()
    for token in 0..<3 as Range<UInt64> { write(harness, token, buffer, token: token) }
    #expect(harness.device.submit(.init(operation: .trim, offset: 65536, length: 4096, buffer: nil, token: 10)) == .queued)
    tell(harness, .allowance(.refused))
    try harness.turn()
    // Those that waited, and those that come; not what needs no room in the store.
    #expect(harness.sink.done == [0: ENOSPC, 1: ENOSPC, 2: ENOSPC, 10: 0])
    #expect(try harness.run(.write, 8192, &bytes) == ENOSPC)
    #expect(try harness.run(.flush, 0, &bytes) == 0)
    #expect(try harness.run(.trim, 4096, &bytes, length: 4096) == 0)
    #expect(try harness.run(.read, 0, &bytes) == 0)
    #expect(bytes[0] == 5 && bytes[4096] == 0)
    tell(harness, .allowance(.slowed(0)))
    tell(harness, .allowance(.slowed(100_000)))
    try harness.turn()
    #expect(try harness.run(.write, 8192, &bytes) == 0)
    #expect(harness.device.counters.refusals == 4)
    harness.device.checkInvariants()
  }

  /// What waits for a file that the disk has no room for fails; when one comes all goes on.
  @Test func withoutAFileWritesFailAndTheOthersGoOn() throws {
    let harness = try FrontHarness(size: 1 << 20, geometry: WALGeometry(fileBlocks: 16, dataBlocks: 8))
    harness.preparesFiles = false
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 4096)
    defer { buffer.deallocate() }
    memset(buffer, 7, 1 << 16)
    try harness.turn()
    for token in 0..<3 as Range<UInt64> { write(harness, token * 5, buffer, token: token, blocks: 5) }
    try harness.turn()
    #expect(harness.sink.done == [0: 0])
    tell(harness, .noFile(error: ENOSPC))
    try harness.turn()
    #expect(harness.sink.done == [0: 0, 1: ENOSPC, 2: ENOSPC])
    var bytes = [UInt8](repeating: 1, count: 4096)
    #expect(try harness.run(.write, 0, &bytes) == ENOSPC)
    #expect(try harness.run(.flush, 0, &bytes) == 0)
    #expect(try harness.run(.read, 0, &bytes) == 0)
    #expect(bytes.allSatisfy { $0 == 7 })
    try harness.prepare()
    try harness.turn()
    #expect(try harness.run(.write, 0, &bytes) == 0)
    harness.device.checkInvariants()
  }
}

@Suite struct SpaceReserveTests {
  @Test func itIsSpentOnceAndMadeAgainWhenThereIsRoom() throws {
    let directory = TemporaryDirectory()
    let files = FaultyFiles()
    let path = directory.path + "/reserve"
    let reserve = SpaceReserve(path: path, files: files, bytes: 1 << 20)
    #expect(!reserve.spend())
    try reserve.refill()
    let file = try files.open(path, .read)
    #expect(try files.size(file) == 1 << 20)
    files.close(file)
    // Another process of the host looks at the same file.
    #expect(SpaceReserve(path: path, files: files, bytes: 1 << 20).spend() && !files.exists(path))
    #expect(!reserve.spend())
    files.fault.withLock { $0 = { op, _ in op == .allocate ? .noSpace : nil } }
    #expect(throws: Errno.noSpace) { try reserve.refill() }
    #expect(!files.exists(path))
    files.fault.withLock { $0 = nil }
    try reserve.refill()
    #expect(files.exists(path) && reserve.spend() && !reserve.spend())
  }
}
