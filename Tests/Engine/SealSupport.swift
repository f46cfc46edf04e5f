import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

/// Writes a write-ahead file frame by frame, as the appender lays it out.
final class WALScribe {
  let volume: ULID
  let number: UInt64
  let directory: String
  let files = HostFiles()
  let file: FileID
  private let blocks: Int
  private static let incarnation = ULID(high: 9, low: 9)
  private var position = 1
  private var header = [UInt8](repeating: 0, count: 4096)
  private var headerPosition = 0
  private var offset = 0
  private var chain: WALChain

  init(volume: ULID, number: UInt64, directory: String, blocks: Int = 2048, chain: WALChain = .genesis) throws {
    self.volume = volume
    self.number = number
    self.directory = directory
    self.blocks = blocks
    self.chain = chain
    try files.makeDirectory(directory)
    file = try WALFile.create(
      files, directory: directory, volume: volume, number: number, geometry: WALGeometry(fileBlocks: blocks, dataBlocks: blocks),
      incarnation: Self.incarnation)
  }
  deinit { files.close(file) }

  var path: String { WALFormat.path(directory: directory, number: number) }

  /// Blocks that still fit, whatever the frames.
  var room: Int { blocks - position - 2 }

  /// The next record begins a frame of its own.
  func closeFrame() { offset = 0 }

  func write(_ lba: UInt64, _ data: [[UInt8]]) throws {
    try record(lba, UInt64(data.count), .data, data)
  }
  func zero(_ lba: UInt64, _ count: UInt64) throws { try record(lba, count, .zero, []) }
  func trim(_ lba: UInt64, _ count: UInt64) throws { try record(lba, count, .trim, []) }

  private func record(_ lba: UInt64, _ count: UInt64, _ kind: WALKind, _ data: [[UInt8]]) throws {
    let length = WALFormat.recordLength(dataBlocks: data.count)
    if offset == 0 || offset + length > 4096 { openFrame() }
    for block in data {
      try block.withUnsafeBytes { try files.write(file, $0, at: UInt64(position) * 4096) }
      position += 1
    }
    let seed = chain.crc
    chain.crc = header.withUnsafeMutableBytes { b in
      let p = b.baseAddress! + offset
      for (i, block) in data.enumerated() {
        p.storeBytes(of: block.withUnsafeBytes { crc32c($0) }, toByteOffset: 16 + 4 * i, as: UInt32.self)
      }
      return RawRecord.encode(p, lba: lba, count: count, kind: kind, seed: seed)
    }
    offset += length
    try header.withUnsafeBytes { try files.write(file, $0, at: UInt64(headerPosition) * 4096) }
  }

  private func openFrame() {
    header = [UInt8](repeating: 0, count: 4096)
    headerPosition = position
    position += 1
    let fixed = FrameHeader(
      previousCRC: chain.crc, volume: volume, wal: number, frame: chain.frame + 1, incarnation: Self.incarnation, durable: 0)
    chain = WALChain(frame: chain.frame + 1, crc: header.withUnsafeMutableBytes { fixed.encode(into: $0.baseAddress!) })
    offset = WALFormat.fixedBytes
  }

  func scan() throws -> WALScan {
    try WALReader.scan(files, file, volume: volume, wal: number, blocks: blocks)
  }
}

/// A volume that seals file after file, and the device that its contents amount to.
final class SealingVolume {
  enum Cell: Equatable {
    case block(BlockHandle), zero, trim
  }
  let directory = TemporaryDirectory()
  let volume: ULID
  let segments: VolumeSegments
  var dedup: DedupIndex
  /// What folding the contents says of each block.
  var base: [UInt64: Cell] = [:]
  /// What the guest wrote; zeros where it wrote zeros or trimmed.
  var model: [UInt64: [UInt8]] = [:]
  var sealed: [UInt64: SealedWAL] = [:]
  var scribes: [UInt64: WALScribe] = [:]

  init(volume: ULID = ULID(high: 5, low: 6), dedupLimit: Int = 1 << 16) {
    self.volume = volume
    segments = VolumeSegments(
      directory: SegmentDirectory(), cache: SegmentCache(root: directory.path + "/cache", files: HostFiles()))
    dedup = DedupIndex(limit: dedupLimit)
  }

  func scribe(_ number: UInt64) throws -> WALScribe {
    let scribe = try WALScribe(volume: volume, number: number, directory: directory.path + "/wal")
    scribes[number] = scribe
    return scribe
  }

  @discardableResult
  func seal(_ scribe: WALScribe) throws -> SealedWAL {
    let result = try Sealer(files: HostFiles(), volume: volume).seal(try scribe.scan(), file: scribe.file) {
      self.dedup[$0]
    } keep: { handle, bytes in
      _ = self.segments.keep(segment: handle.segment, r: handle.r, bytes)
    }
    sealed[scribe.number] = result
    if result.blocks > 0 {
      let entry = SegmentEntry(number: scribe.number, volume: volume, blocks: result.blocks)
      segments.directory.set(entry)
      let mapped = segments.cache.placed(
        entry, seal: try seal(of: result, scribe), file: scribe.file, result.places)
      try segments.cache.writeMap(mapped)
      segments.attach(scribe.number, mapped)
      dedup.insert(segment: scribe.number, hashes: result.hashes)
    }
    fold(result)
    return result
  }

  /// What the file is known by.
  func seal(of result: SealedWAL, _ scribe: WALScribe) throws -> Digest {
    CacheFormat.seal(content: Digest.sha256(result.content.encode()), end: try #require(try scribe.scan().end))
  }

  private func fold(_ result: SealedWAL) {
    for run in result.content.runs {
      for i in 0..<min(run.count, 4096) {
        base[run.lba + i] =
          switch run.kind {
          case .data(let r): .block(BlockHandle(segment: result.number, r: r + UInt32(i)))
          case .zero: .zero
          case .trim: .trim
          case .duplicate(let handle): .block(handle.advanced(by: i))
          }
      }
    }
  }

  /// The block as a guest reads it from the sealed segments; nil when it is not readable.
  func read(_ lba: UInt64) -> [UInt8]? {
    switch base[lba] {
    case nil, .zero, .trim: return [UInt8](repeating: 0, count: 4096)
    case .block(let handle):
      guard let file = try? segments.attach(handle.segment) else { return nil }
      var out = [UInt8](repeating: 0, count: 4096)
      return out.withUnsafeMutableBytes { file.read(handle.r, into: $0.baseAddress!) } ? out : nil
    }
  }
}

/// A block whose contents are `number`; 0 is zeros.
func numberedBlock(_ number: Int) -> [UInt8] {
  var block = [UInt8](repeating: 0, count: 4096)
  if number != 0 {
    for i in 0..<512 {
      block[i * 8] = UInt8(truncatingIfNeeded: number &+ i); block[i * 8 + 1] = UInt8(truncatingIfNeeded: number >> 8)
    }
  }
  return block
}
