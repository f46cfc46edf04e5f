import ElideIO
import Glibc
import Testing

@testable import ElideEngine

/// The generator of these tests: the same seed gives the same workload.
struct Dice: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1 }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}

/// A directory on tmpfs (else in /tmp) that is gone after the test.
final class MemoryDirectory {
  let path: String
  init() {
    let parent = HostFiles().exists("/dev/shm") ? "/dev/shm" : "/tmp"
    var template = Array("\(parent)/elide-test-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { b in
      b.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) } ?? parent
    }
  }
  deinit {
    let files = HostFiles()
    for name in (try? files.list(path)) ?? [] { try? files.remove(path + "/" + name) }
    rmdir(path)
  }
}

/// Writes logs through the real appender, and remembers what it wrote.
final class LogWriter {
  struct Record: Equatable {
    var wal: UInt64
    var frame: UInt64
    var lba: UInt64
    var count: UInt64
    var kind: WALKind
    var position: Int
    var crc: UInt32
  }

  static let blocks: UInt64 = 1 << 20
  let files = HostFiles()
  /// In memory where that is to be had: recovery syncs every file, and these tests recover thousands of times.
  let directory = MemoryDirectory()
  let volume = ULID(high: 7, low: 8)
  let geometry = WALGeometry(fileBlocks: 64, dataBlocks: 24)
  private(set) var appender: Appender
  private(set) var wals: [UInt64] = []
  private(set) var records: [Record] = []
  private(set) var durable: UInt64 = 0
  private var open: FileID?
  private var nextWAL: UInt64

  init(chain: WALChain = .genesis, firstWAL: UInt64 = 1) {
    nextWAL = firstWAL
    appender = Appender(volume: volume, incarnation: ULID(high: 1, low: firstWAL), geometry: geometry, chain: chain)
    durable = chain.frame
  }

  /// Goes on in the same directory as another process would after recovery.
  func reopened(_ chain: WALChain) {
    appender = Appender(volume: volume, incarnation: ULID(high: 1, low: nextWAL), geometry: geometry, chain: chain)
    durable = chain.frame
  }

  func roll() throws {
    if appender.isOpen { appender.closeFile() }
    let file = try WALFile.create(
      files, directory: directory.path, volume: volume, number: nextWAL, geometry: geometry,
      incarnation: appender.incarnation)
    appender.open(wal: nextWAL, file: file)
    wals.append(nextWAL)
    nextWAL += 1
  }

  /// Appends whole records, one batch; the data of a block says what it is.
  func append(_ batch: [(lba: UInt64, count: UInt64, kind: WALKind)]) throws {
    var bytes: [[UInt8]] = []
    for b in batch {
      bytes.append(b.kind == .data ? (0..<Int(b.count) * 4096).map { UInt8(truncatingIfNeeded: Int(b.lba) &* 31 &+ $0 / 7) } : [])
    }
    if !appender.isOpen { try roll() }
    for (i, b) in batch.enumerated() {
      var lba = b.lba
      var left = b.count
      while left > 0 {
        let offset = Int(b.count - left) * 4096
        let step = bytes[i].withUnsafeBytes { p in
          appender.add(lba: lba, count: left, kind: b.kind, bytes: p.baseAddress.map { $0 + offset }, durable: durable)
        }
        switch step {
        case .took(let n):
          lba += n
          left -= n
          // The buffers of this helper do not outlive the closure.
          try bytes[i].withUnsafeBytes { _ in try flushGather() }
        case .frameFull: try flushGather()
        case .fileFull: try roll()
        }
      }
    }
  }

  private func flushGather() throws {
    guard appender.gatheredCount > 0 else { return }
    let n = appender.gatheredCount
    let kept = (0..<n).map { appender.gathered[$0] }
    _ = try appender.write(files)
    for g in kept {
      records.append(
        Record(
          wal: appender.wal, frame: appender.chain.frame, lba: g.lba, count: g.count, kind: g.kind, position: g.position,
          crc: appender.chain.crc))
    }
    appender.forget()
  }

  func flush() throws {
    appender.closeFrame()
    if appender.isOpen { try files.sync(appender.file) }
    durable = appender.chain.frame
  }

  func recover(
    wals some: [UInt64]? = nil, start: WALChain = .genesis, marks: [OpenedMark] = []
  ) throws(WALError) -> RecoveredLog {
    let recovery = WALRecovery(files: files, directory: directory.path, volume: volume, blocks: Self.blocks)
    let log = try recovery.recover(wals: some ?? wals, start: start, marks: marks)
    for w in log.wals { files.close(w.file) }
    return log
  }

  func path(_ wal: UInt64) -> String { WALFormat.path(directory: directory.path, number: wal) }

  /// Changes bytes of a file and returns what undoes it.
  func damage(_ wal: UInt64, at offset: Int, _ bytes: [UInt8]) throws -> () throws -> Void {
    let file = try files.open(path(wal), .readWrite)
    defer { files.close(file) }
    let before = try files.readBytes(file, at: UInt64(offset), count: bytes.count)
    try bytes.withUnsafeBytes { try files.write(file, $0, at: UInt64(offset)) }
    return { [files, path = path(wal)] in
      let file = try files.open(path, .readWrite)
      defer { files.close(file) }
      try before.withUnsafeBytes { try files.write(file, $0, at: UInt64(offset)) }
    }
  }
  func flip(_ wal: UInt64, at offset: Int) throws -> () throws -> Void {
    let file = try files.open(path(wal), .read)
    let byte = try files.readBytes(file, at: UInt64(offset), count: 1)[0]
    files.close(file)
    return try damage(wal, at: offset, [byte ^ 0x40])
  }
}

extension RecoveredLog {
  /// What is kept, in the words of the writer.
  var records: [LogWriter.Record] {
    wals.flatMap { w in
      w.scan.frames.flatMap { f in
        w.scan.records[f.firstRecord..<f.firstRecord + f.recordCount].map {
          LogWriter.Record(
            wal: w.number, frame: f.number, lba: $0.lba, count: $0.count, kind: $0.kind, position: Int($0.position), crc: $0.crc)
        }
      }
    }
  }
}
