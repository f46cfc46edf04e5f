import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Simulator
import Synchronization
import Testing

/// A clock that moves only when told.
final class ManualClock: Clock {
  private let time = Atomic<UInt64>(1_000_000_000)
  func wallMilliseconds() -> UInt64 { 1_790_000_000_000 + monotonicNanoseconds() / 1_000_000 }
  func monotonicNanoseconds() -> UInt64 { time.load(ordering: .relaxed) }
  func advance(_ nanoseconds: UInt64) { time.wrappingAdd(nanoseconds, ordering: .relaxed) }
}

/// Waiting means that all jobs run, and that a moment passes.
final class StepWaiter: Waiter {
  private let executor: SimExecutor
  private let clock: ManualClock
  init(_ executor: SimExecutor, _ clock: ManualClock) {
    self.executor = executor
    self.clock = clock
  }
  func makeWake() throws(ElideError) -> WakeEvent { .silent() }
  func wait(_ wake: WakeEvent, untilNanoseconds deadline: UInt64, clock: any Clock) {
    if executor.waiting > 0 { return executor.drain() }
    self.clock.advance(5_000_000)
  }
}

/// Hosts with real files, a real store in a directory, and one thread for everything.
final class VolumeWorld {
  let root: String
  let clock = ManualClock()
  let executor = SimExecutor()
  var configuration = KeeperConfiguration()
  /// LMDB wants one object per directory and process.
  private var names: [String: LMDBEnvironment] = [:]

  init() {
    root = NSTemporaryDirectory() + "elide-life-\(UUID().uuidString)"
    configuration.geometry = WALGeometry(fileBlocks: 96, dataBlocks: 64)
  }
  deinit { try? FileManager.default.removeItem(atPath: root) }

  var world: World { World(clock: clock, random: HostRandom(), files: HostFiles()) }
  func store(_ name: String = "store") throws -> LocalStore { try LocalStore(root: "\(root)/\(name)", world: world) }

  /// Takes a name's log and all rows of it away, as if it had never been.
  func forget(_ host: String, _ name: String) throws {
    guard let environment = names[host] else { return }
    let rows = LMDBNameRows(environment)
    for table in NameRowTable.allCases {
      try rows.commit(try rows.scan(table, prefix: Array(name.utf8)).map { NameRowChange(table, $0.key, nil) })
    }
    for prefix in ["events/\(name)/", "names/\(name).toml"] {
      for object in try store().list(prefix, after: nil, limit: 1000) { try store().delete(object.key) }
    }
  }

  /// A host's engine, as a process that has just started would have it.
  func host(_ name: String, store: (any Store)? = nil) throws -> Engine {
    let world = world
    let directory = DataDirectory(root: "\(root)/\(name)")
    try world.files.makeDirectory(directory.root)
    let table = try names[name] ?? LMDBNameTable.environment(directory.names, world.files)
    names[name] = table
    return try Engine(
      world: world, directory: directory, store: try store ?? self.store(),
      names: LMDBNameRows(table), oldNames: LMDBNameTable(table), journals: LMDBJournals(files: world.files), executor: executor,
      configuration: configuration,
      waiter: StepWaiter(executor, clock))
  }
}

/// A guest: writes, flushes and reads whole blocks, and remembers what it wrote.
final class Guest: CompletionSink {
  let opened: OpenedVolume
  var model: [UInt64: [UInt8]]
  private var done: [UInt64: Int32] = [:]
  private var token: UInt64 = 0

  init(_ opened: OpenedVolume, model: [UInt64: [UInt8]] = [:]) {
    self.opened = opened
    self.model = model
    opened.device.sink = self
  }
  func complete(token: UInt64, error: Int32) { done[token] = error }

  static func block(_ seed: UInt64) -> [UInt8] {
    var random = SeededRandom(seed: seed)
    var out: [UInt8] = []
    for _ in 0..<512 { withUnsafeBytes(of: random.next()) { out.append(contentsOf: $0) } }
    return out
  }

  private func run(_ operation: BlockRequest.Operation, _ lba: UInt64, _ blocks: UInt64, _ buffer: UnsafeMutableRawPointer?)
    throws -> Int32
  {
    token += 1
    let mine = token
    let request = BlockRequest(operation: operation, offset: lba * 4096, length: blocks * 4096, buffer: buffer, token: mine)
    if case .done(let error) = opened.device.submit(request) { return error }
    opened.device.commit()
    try opened.pump { done[mine] != nil }
    return try #require(done[mine])
  }

  func write(_ lba: UInt64, _ bytes: [UInt8]) throws {
    var copy = bytes
    let error = try copy.withUnsafeMutableBytes { try run(.write, lba, UInt64(bytes.count / 4096), $0.baseAddress) }
    #expect(error == 0)
    for i in 0..<bytes.count / 4096 { model[lba + UInt64(i)] = Array(bytes[i * 4096..<(i + 1) * 4096]) }
  }
  func trim(_ lba: UInt64, _ count: UInt64) throws {
    #expect(try run(.trim, lba, count, nil) == 0)
    for i in 0..<count { model[lba + i] = [UInt8](repeating: 0, count: 4096) }
  }
  func flush() throws { #expect(try run(.flush, 0, 0, nil) == 0) }
  func read(_ lba: UInt64) throws -> [UInt8] {
    var out = [UInt8](repeating: 0xEE, count: 4096)
    let error = try out.withUnsafeMutableBytes { try run(.read, lba, 1, $0.baseAddress) }
    #expect(error == 0, "reading block \(lba)")
    return out
  }

  /// Every block of the device is what was written last.
  func check(_ comment: Comment? = nil) throws {
    for lba in 0..<opened.device.size / 4096 {
      let expected = model[lba] ?? [UInt8](repeating: 0, count: 4096)
      let found = try read(lba)
      if found != expected { Issue.record("block \(lba) differs \(comment.map { "\($0)" } ?? "")") }
    }
  }

  /// A workload that overlaps, repeats contents, zeroes and trims.
  func work(_ seed: UInt64, operations: Int, flushEvery: Int = 7) throws {
    var random = SeededRandom(seed: seed)
    let blocks = opened.device.size / 4096
    for n in 0..<operations {
      let lba = random.below(blocks - 8)
      switch random.below(10) {
      case 0: try trim(lba, 1 + random.below(UInt64(8)))
      case 1: try write(lba, [UInt8](repeating: 0, count: 8192))
      case 2: try write(lba, Self.block(random.below(UInt64(5))))
      default:
        var bytes: [UInt8] = []
        for _ in 0..<(1 + random.below(4)) { bytes += Self.block(random.next()) }
        try write(lba, bytes)
      }
      if n % flushEvery == flushEvery - 1 { try flush() }
    }
  }
}
