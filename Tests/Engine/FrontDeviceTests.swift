import ElideIO
import ElideProjections
import Synchronization
import Testing

@testable import ElideEngine

/// Runs jobs when told: the sync lane of a single-threaded test.
final class ManualExecutor: Executor {
  private let jobs = Mutex<[@Sendable () -> Void]>([])
  func submit(_ lane: Lane, _ job: @escaping @Sendable () -> Void) { jobs.withLock { $0.append(job) } }
  var waiting: Int { jobs.withLock { $0.count } }
  func runAll() {
    while true {
      let next = jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
      guard let next else { return }
      next()
    }
  }
}

final class Completions: CompletionSink {
  var done: [UInt64: Int32] = [:]
  func complete(token: UInt64, error: Int32) { done[token] = error }
}

/// A volume without segments, which remembers whose pages were sent.
final class ToldSources: SegmentSources {
  var sent: Set<UInt64> = []
  func source(for segment: UInt64) -> SegmentSource? { nil }
  func quiesce() {}
  func noteSent(_ segment: UInt64) { sent.insert(segment) }
}

/// A device over real files, with the test as its keeper: it prepares files and never seals.
final class FrontHarness {
  let directory = TemporaryDirectory()
  let files = HostFiles()
  let executor = ManualExecutor()
  let fromKeeper = Mailbox<FrontMessage>(capacity: 64)
  let toKeeper = Mailbox<KeeperMessage>(capacity: 64)
  let sink = Completions()
  let volume = ULID(high: 5, low: 6)
  let geometry: WALGeometry
  let size: UInt64
  private(set) var device: VolumeDevice
  var next: UInt64 = 1
  var closed: [UInt64] = []
  var token: UInt64 = 0
  var wantedCredit: [UInt64] = []
  /// Fetches that the device asked for; the test answers them.
  var wanted: [(segment: UInt64, r: UInt32, count: UInt32)] = []
  /// Files are prepared when they are asked for; else the test does it.
  var preparesFiles = true
  private var turns = 0
  /// Of the process that the device stands for.
  private(set) var incarnation = ULID(high: 9, low: 1)
  let sources = ToldSources()

  init(
    size: UInt64, geometry: WALGeometry = WALGeometry(fileBlocks: 64, dataBlocks: 40), map: BlockMap? = nil
  ) throws {
    self.size = size
    self.geometry = geometry
    device = Self.make(
      volume, size, map, sources, files, executor, fromKeeper, toKeeper,
      .init(incarnation: incarnation, geometry: geometry, recovered: RecoveredLog(end: .genesis)))
    device.sink = sink
    try prepare()
  }

  private static func make(
    _ volume: ULID, _ size: UInt64, _ map: BlockMap?, _ sources: ToldSources, _ files: HostFiles, _ executor: ManualExecutor,
    _ from: Mailbox<FrontMessage>, _ to: Mailbox<KeeperMessage>, _ log: VolumeDevice.Log
  ) -> VolumeDevice {
    VolumeDevice(
      .init(
        volume: volume, size: size, map: map ?? BlockMap(blocks: (size + 4095) / 4096), sources: sources,
        files: files, executor: executor, fromKeeper: from, toKeeper: to, wake: .silent()), log: log)
  }

  func prepare() throws {
    let file = try WALFile.create(
      files, directory: directory.path, volume: volume, number: next, geometry: geometry, incarnation: incarnation)
    #expect(fromKeeper.send(.walReady(number: next, file: file)))
    next += 1
  }

  /// One round of everybody.
  func turn() throws {
    device.commit()
    executor.runAll()
    device.poll()
    while let message = toKeeper.receive() {
      switch message {
      case .walHalfFull: if preparesFiles { try prepare() }
      case .creditWanted(let bytes): wantedCredit.append(bytes)
      case .wanted(let segment, let r, let count): wanted.append((segment, r, count))
      case .walClosed(let n, _, _, _): closed.append(n)
      default: break
      }
    }
    device.poll()
    turns += 1
    if turns % 32 == 0 { device.checkInvariants() }
  }

  /// Submits one request and waits for its answer.
  func run(_ op: BlockRequest.Operation, _ offset: UInt64, _ bytes: inout [UInt8], length: UInt64? = nil, fua: Bool = false)
    throws -> Int32
  {
    token += 1
    let id = token
    return try bytes.withUnsafeMutableBytes { b -> Int32 in
      let request = BlockRequest(
        operation: op, forceUnitAccess: fua, offset: offset, length: length ?? UInt64(b.count), buffer: b.baseAddress, token: id)
      if case .done(let error) = device.submit(request) { return error }
      for _ in 0..<50 {
        if let error = sink.done.removeValue(forKey: id) { return error }
        try turn()
      }
      Issue.record("request \(id) was never answered")
      return -1
    }
  }

  /// Drops the device as a kill would, recovers its files, and goes on with a new one.
  func reopen() throws {
    executor.runAll()
    let recovery = WALRecovery(files: files, directory: directory.path, volume: volume, blocks: (size + 4095) / 4096)
    let log = try recovery.recover(wals: Array(1..<next), start: .genesis, marks: [])
    while toKeeper.receive() != nil {}
    while fromKeeper.receive() != nil {}
    incarnation = ULID(high: 9, low: next)
    device = Self.make(
      volume, size, nil, sources, files, executor, fromKeeper, toKeeper,
      .init(incarnation: incarnation, geometry: geometry, recovered: log))
    device.sink = sink
    try prepare()
    try turn()
  }
}

@Suite struct FrontDeviceTests {
  /// Random unaligned requests against a plain array; the device is dropped and recovered now and then.
  @Test(arguments: 0..<12) func behavesLikeAnArrayOfBytes(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let size: UInt64 = 300 * 4096 + (seed % 2 == 0 ? 512 : 0)
    let harness = try FrontHarness(size: size)
    var model = [UInt8](repeating: 0, count: Int(size))
    for step in 0..<400 {
      let offset = UInt64.random(in: 0..<size, using: &random)
      let start = seed % 3 == 0 ? offset & ~4095 : offset
      let length = min(size - start, UInt64.random(in: 1...(step % 7 == 0 ? 200_000 : 9000), using: &random))
      let range = Int(start)..<Int(start + length)
      switch Int.random(in: 0..<10, using: &random) {
      case 0...4:
        var bytes = (0..<Int(length)).map { _ in UInt8.random(in: 0...255, using: &random) }
        model.replaceSubrange(range, with: bytes)
        #expect(try harness.run(.write, start, &bytes, fua: step % 11 == 0) == 0)
      case 5, 6:
        var none: [UInt8] = []
        model.replaceSubrange(range, with: repeatElement(0, count: range.count))
        #expect(try harness.run(step % 2 == 0 ? .writeZeroes : .trim, start, &none, length: length) == 0)
      case 7:
        var none: [UInt8] = []
        #expect(try harness.run(.flush, 0, &none) == 0)
      default:
        var bytes = [UInt8](repeating: 0xAA, count: Int(length))
        #expect(try harness.run(.read, start, &bytes) == 0)
        #expect(bytes.elementsEqual(model[range]), "seed \(seed), step \(step), \(range)")
      }
      if step % 97 == 96 { try harness.reopen() }
    }
    try harness.reopen()
    var all = [UInt8](repeating: 1, count: Int(size))
    #expect(try harness.run(.read, 0, &all) == 0)
    #expect(all.elementsEqual(model))
    #expect(harness.device.counters.walMismatches == 0)
  }

  /// Two writes to halves of one block in one batch: both survive.
  @Test func subBlockWritesOfOneBatchMerge() throws {
    let harness = try FrontHarness(size: 1 << 20)
    try harness.turn()
    let first = [UInt8](repeating: 1, count: 2048)
    let second = [UInt8](repeating: 2, count: 2048)
    first.withUnsafeBytes { a in
      second.withUnsafeBytes { b in
        let pa = UnsafeMutableRawPointer(mutating: a.baseAddress)
        let pb = UnsafeMutableRawPointer(mutating: b.baseAddress)
        #expect(harness.device.submit(.init(operation: .write, offset: 4096, length: 2048, buffer: pa, token: 1)) == .queued)
        #expect(harness.device.submit(.init(operation: .write, offset: 6144, length: 2048, buffer: pb, token: 2)) == .queued)
        harness.device.commit()
      }
    }
    #expect(harness.sink.done == [1: 0, 2: 0])
    var block = [UInt8](repeating: 9, count: 4096)
    #expect(try harness.run(.read, 4096, &block) == 0)
    #expect(block.elementsEqual(first + second))
  }

  @Test func aFailedSyncFailsEveryLaterFlushAndWrite() throws {
    let harness = try FrontHarness(size: 1 << 20)
    var bytes = [UInt8](repeating: 1, count: 4096)
    #expect(try harness.run(.write, 0, &bytes) == 0)
    harness.device.fail(EIO_, wal: 1)
    var none: [UInt8] = []
    #expect(try harness.run(.flush, 0, &none) != 0)
    #expect(try harness.run(.write, 0, &bytes) != 0)
    #expect(try harness.run(.flush, 0, &none) != 0)
    var read = [UInt8](repeating: 0, count: 4096)
    #expect(try harness.run(.read, 0, &read) == 0)
    #expect(read.elementsEqual(bytes))
  }

  /// A thread that has nothing else to do syncs by itself; then nothing is left to any lane, and what is said to be durable is.
  @Test func aShortFlushOfALoneClientIsDoneAtOnce() throws {
    let harness = try FrontHarness(size: 64 * 4096)
    var block = [UInt8](repeating: 7, count: 4096)
    #expect(try harness.run(.write, 8192, &block) == 0)
    #expect(harness.device.submit(BlockRequest(operation: .flush, offset: 0, length: 0, buffer: nil, token: 900)) == .queued)
    harness.device.commit(mayWait: true)
    #expect(harness.sink.done.removeValue(forKey: 900) == 0)
    #expect(harness.executor.waiting == 0 && harness.device.counters.syncRounds == 1)
    #expect(harness.device.durable == 1 && !harness.device.hasDirty)
    // Without that leave it is the lane's.
    #expect(try harness.run(.write, 0, &block) == 0)
    #expect(harness.device.submit(BlockRequest(operation: .flush, offset: 0, length: 0, buffer: nil, token: 901)) == .queued)
    harness.device.commit()
    #expect(harness.sink.done.isEmpty && harness.executor.waiting == 1)
    try harness.turn()
    #expect(harness.sink.done.removeValue(forKey: 901) == 0)
    harness.device.checkInvariants()
  }

  /// A file that was written with zeros beforehand holds no frames, and takes them as any other.
  @Test func aFileWrittenBeforehandIsBlank() throws {
    let harness = try FrontHarness(size: 64 * 4096)
    let file = try WALFile.create(
      harness.files, directory: harness.directory.path, volume: harness.volume, number: 77, geometry: harness.geometry,
      incarnation: harness.incarnation, written: true)
    defer { harness.files.close(file) }
    let blocks = try WALFile.checkHeader(harness.files, file, volume: harness.volume, number: 77)
    #expect(blocks == harness.geometry.fileBlocks)
    let scan = try WALReader.scan(harness.files, file, volume: harness.volume, wal: 77, blocks: blocks)
    #expect(scan.frames.isEmpty && scan.stop == .blank)
    let rest = try harness.files.readBytes(file, at: 4096, count: (blocks - 1) * 4096)
    #expect(rest.allSatisfy { $0 == 0 })
  }

  /// Files in use are read through a view: a block that rots under it, or a disk that takes the place away, is an error with
  /// a count, and all is well again when the bytes are.
  @Test func whatRotsUnderAViewIsAnError() throws {
    let harness = try FrontHarness(size: 64 * 4096)
    var blocks = (0..<3 * 4096).map { UInt8(truncatingIfNeeded: $0 / 5) }
    #expect(try harness.run(.write, 8192, &blocks) == 0)
    let last = harness.device.wals.last
    let wal = try #require(last)
    #expect(wal.pointee.data != nil)
    var out = [UInt8](repeating: 0, count: 3 * 4096)
    #expect(try harness.run(.read, 8192, &out) == 0 && out == blocks)
    var first = [UInt8](repeating: 0, count: 4096)
    // Data lies behind the file's and the frame's header.
    let (file, at) = (wal.pointee.file, UInt64(3 * 4096 + 17))
    let right = try harness.files.readBytes(file, at: at, count: 1)
    try [right[0] ^ 1].withUnsafeBytes { try harness.files.write(file, $0, at: at) }
    #expect(try harness.run(.read, 8192, &out) == EIO_ && harness.device.counters.walMismatches == 1)
    #expect(try harness.run(.read, 8192, &first) == 0 && first.elementsEqual(blocks[..<4096]))
    try right.withUnsafeBytes { try harness.files.write(file, $0, at: at) }
    #expect(try harness.run(.read, 8192, &out) == 0 && out == blocks)
    let size = try harness.files.size(file)
    try harness.files.truncate(file, size: 4096)
    #expect(try harness.run(.read, 8192, &out) == EIO_)
    try harness.files.truncate(file, size: size)
    #expect(try harness.run(.read, 8192, &out) == EIO_, "zeros are not what was written")
  }

  @Test func aDiscardOfTheWholeDeviceIsOneRecord() throws {
    let harness = try FrontHarness(size: 16 << 40)
    var none: [UInt8] = []
    #expect(try harness.run(.trim, 0, &none, length: 16 << 40) == 0)
    #expect(harness.device.counters.bytesAppended == 4096)
    var block = [UInt8](repeating: 9, count: 8192)
    #expect(try harness.run(.read, 8 << 40, &block) == 0)
    #expect(block.allSatisfy { $0 == 0 })
    var extents: [BlockExtent] = []
    harness.device.status(.allocation, offset: 0, length: 1 << 40, limit: 10, into: &extents)
    #expect(extents == [BlockExtent(length: 1 << 40, flags: 3)])
  }

  @Test func filesAreClosedInOrderAndWritesWaitForTheNext() throws {
    let harness = try FrontHarness(size: 4 << 20)
    for i in 0..<200 {
      var bytes = [UInt8](repeating: UInt8(i), count: 8192)
      #expect(try harness.run(.write, UInt64(i % 100) * 8192, &bytes) == 0)
    }
    #expect(harness.closed == Array(1...UInt64(harness.closed.count)) && harness.closed.count >= 8)
  }
}

private let EIO_: Int32 = 5
