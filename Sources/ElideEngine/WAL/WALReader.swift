import ElideIO

/// One record of a frame, as the sealer and recovery need it.
package struct FrameRecord: Equatable, Sendable {
  package var lba: UInt64
  package var count: UInt64
  package var kind: WALKind
  /// Position of the first data block in the file; for zeros and trims, where the next data block lies.
  package var position: UInt32
  /// Where the CRC-32C of the first block is in `WALScan.blockCRCs`; data only.
  package var firstCRC: Int
  /// The record's own CRC: the state of the chain after it.
  package var crc: UInt32
}

/// One frame: its records are `records[firstRecord ..< firstRecord + recordCount]` of the scan.
package struct ScannedFrame: Equatable, Sendable {
  package var number: UInt64
  /// Position of the header block.
  package var position: Int
  package var previousCRC: UInt32
  package var durable: UInt64
  package var firstRecord: Int
  package var recordCount: Int
  /// CRC of the last record.
  package var crc: UInt32
}

/// What the headers of one write-ahead file say, up to the first place where they stop making sense by themselves.
package struct WALScan: Sendable {
  /// Bytes of data blocks in what was found.
  package var dataBytes: UInt64 { records.reduce(0) { $0 + ($1.kind == .data ? $1.count << 12 : 0) } }
  package enum Stop: Equatable, Sendable {
    /// No room for another frame.
    case full
    /// A block of zeros where the next header would be.
    case blank
    /// A block that is no valid header of this file.
    case damaged
    /// A valid header of the next frame follows, but it continues from another state of the last one.
    case successorDisagrees
  }
  package var wal: UInt64
  package var incarnation: ULID?
  package var frames: [ScannedFrame] = []
  package var records: [FrameRecord] = []
  package var blockCRCs: [UInt32] = []
  /// The position after the last frame's last data block.
  package var endPosition = 1
  package var stop = Stop.full

  package init(wal: UInt64) { self.wal = wal }

  /// The state of the chain after the last frame; nil without frames.
  package var end: WALChain? { frames.last.map { WALChain(frame: $0.number, crc: $0.crc) } }

  /// Forgets every record after the one whose state is `end`. False, and unchanged, when there is none.
  package mutating func cut(at end: WALChain) -> Bool {
    guard let i = frames.firstIndex(where: { $0.number == end.frame }) else { return false }
    let frame = frames[i]
    let range = frame.firstRecord..<frame.firstRecord + frame.recordCount
    guard let r = records[range].firstIndex(where: { $0.crc == end.crc }) else { return false }
    cut(frame: i, keeping: r + 1 - frame.firstRecord)
    return true
  }

  /// Forgets the records of `frames[frame]` from the `keeping`-th on, and all later frames.
  package mutating func cut(frame i: Int, keeping: Int) {
    let last = frames[i].firstRecord + keeping
    frames.removeSubrange((keeping == 0 ? i : i + 1)...)
    if keeping > 0 {
      frames[i].recordCount = keeping
      frames[i].crc = records[last - 1].crc
    }
    records.removeSubrange(last...)
    let data = records.last(where: { $0.kind == .data })
    blockCRCs.removeSubrange((data.map { $0.firstCRC + Int($0.count) } ?? 0)...)
    var position = frames.last.map { $0.position + 1 } ?? 1
    if let f = frames.last {
      for r in records[f.firstRecord...] where r.kind == .data { position += Int(r.count) }
    }
    endPosition = position
  }
}

/// Reads the headers of write-ahead files; data blocks are skipped. Hostile bytes end the scan, they never trap, and
/// what is kept in memory is bounded by the file's 65,535 blocks.
package enum WALReader {
  /// Scans file `wal` from its first frame to the first break. `blocks` is how many blocks of the file may hold frames
  /// (see `WALFile.checkHeader`).
  package static func scan(
    _ files: any Files, _ file: FileID, volume: ULID, wal: UInt64, blocks: Int
  ) throws(WALError) -> WALScan {
    var scan = WALScan(wal: wal)
    let window = HeaderWindow(files: files, file: file, blocks: blocks)
    do {
      // A file that was another's before is full of frames: only those of the process that its header names are its own.
      if let block = try window.block(at: 0),
        case .success(let header) = WALFileHeader.check(block, volume: volume, number: wal)
      {
        scan.incarnation = header.incarnation
      }
      while let header = try window.block(at: scan.endPosition) {
        guard try appendFrame(header, to: &scan, volume: volume, blocks: blocks) else { return scan }
      }
    } catch {
      throw .system(volume: volume, wal: wal, operation: "read", error: error)
    }
    scan.stop = .full
    return scan
  }

  /// Reads a file whose frames are known to end at `end`: what the sealer works from. Throws `.corrupt` when they do not,
  /// or when the first frame does not continue from `start`.
  package static func read(
    _ files: any Files, _ file: FileID, volume: ULID, wal: UInt64, start: WALChain?, end: WALChain
  ) throws(WALError) -> WALScan {
    let blocks = try WALFile.checkHeader(files, file, volume: volume, number: wal)
    var scan = try scan(files, file, volume: volume, wal: wal, blocks: blocks)
    let last = scan.frames.last?.number
    guard scan.cut(at: end) else {
      let detail = "the headers end at frame \(last.map(String.init) ?? "none"), \(end.frame) was the last"
      throw .corrupt(volume: volume, wal: wal, frame: min(end.frame, (last ?? end.frame) + 1), detail: detail)
    }
    if let start, let first = scan.frames.first, first.number != start.frame + 1 || first.previousCRC != start.crc {
      throw .corrupt(volume: volume, wal: wal, frame: start.frame + 1, detail: "does not continue from the file before")
    }
    return scan
  }

  /// What the valid headers of a file behind a break still prove about the frames before it.
  struct Beyond {
    /// The highest durable mark, and how many headers there are.
    var durable: UInt64 = 0
    var headers: UInt64 = 0
    /// The next frame is there, and continues from another state of the last: records of that one are lost, and with them
    /// the place where the next was looked for.
    var disagrees = false
  }

  /// Looks at every block of the file at or after `position`; `last` is where the chain stands.
  static func marksBeyond(
    _ files: any Files, _ file: FileID, volume: ULID, wal: UInt64, blocks: Int, incarnation: ULID?, from position: Int,
    last: WALChain
  ) throws(WALError) -> Beyond {
    let window = HeaderWindow(files: files, file: file, blocks: blocks)
    window.sequential = true
    var found = Beyond()
    do {
      for p in stride(from: position, to: blocks, by: 1) {
        guard let block = try window.block(at: p) else { break }
        guard let (h, _) = FrameHeader.decode(block), h.volume == volume, h.wal == wal else { continue }
        if let incarnation, h.incarnation != incarnation { continue }
        found.durable = max(found.durable, h.durable)
        found.headers += 1
        if h.frame == last.frame &+ 1 && h.previousCRC != last.crc { found.disagrees = true }
      }
    } catch {
      throw .system(volume: volume, wal: wal, operation: "read", error: error)
    }
    return found
  }

  /// Takes in the frame whose header block is given; false when it ends the scan, whose `stop` then says why.
  private static func appendFrame(
    _ block: UnsafeRawPointer, to scan: inout WALScan, volume: ULID, blocks: Int
  ) throws(Errno) -> Bool {
    guard let (h, crc) = FrameHeader.decode(block) else {
      scan.stop = isZero(block) ? .blank : .damaged
      return false
    }
    guard h.volume == volume, h.wal == scan.wal, scan.incarnation == nil || scan.incarnation == h.incarnation else {
      scan.stop = .damaged
      return false
    }
    if let last = scan.frames.last, h.number(after: last) == false || h.previousCRC != last.crc {
      scan.stop = h.number(after: last) ? .successorDisagrees : .damaged
      return false
    }
    let position = scan.endPosition
    let first = scan.records.count
    var next = position + 1
    var seed = crc
    var offset = WALFormat.fixedBytes
    while let r = RawRecord.decode(block, at: offset, seed: seed, room: blocks - next) {
      let firstCRC = scan.blockCRCs.count
      for i in 0..<r.dataBlocks { scan.blockCRCs.append(load32(block + (offset + 16 + 4 * i))) }
      scan.records.append(
        FrameRecord(lba: r.lba, count: r.count, kind: r.kind, position: UInt32(next), firstCRC: firstCRC, crc: r.crc))
      next += r.dataBlocks
      seed = r.crc
      offset += r.length
    }
    guard scan.records.count > first else {
      scan.stop = .damaged
      return false
    }
    scan.incarnation = h.incarnation
    scan.frames.append(
      ScannedFrame(
        number: h.frame, position: position, previousCRC: h.previousCRC, durable: h.durable, firstRecord: first,
        recordCount: scan.records.count - first, crc: seed))
    scan.endPosition = next
    return true
  }

  private static func isZero(_ block: UnsafeRawPointer) -> Bool {
    for i in stride(from: 0, to: WALFormat.block, by: 8) where load64(block + i) != 0 { return false }
    return true
  }
}

extension FrameHeader {
  fileprivate func number(after last: ScannedFrame) -> Bool {
    let (n, overflow) = last.number.addingReportingOverflow(1)
    return !overflow && frame == n
  }
}

/// Header blocks of a file, read one at a time where frames are long and many at a time where they are short.
private final class HeaderWindow {
  private let files: any Files
  private let file: FileID
  private let blocks: Int
  private let buffer: UnsafeMutableRawBufferPointer
  private var first = 0
  private var held = 0
  private var lastWanted = 0
  /// Every block will be asked for.
  var sequential = false

  static let capacity = 64

  init(files: any Files, file: FileID, blocks: Int) {
    self.files = files
    self.file = file
    self.blocks = blocks
    buffer = .allocate(byteCount: Self.capacity * WALFormat.block, alignment: WALFormat.block)
  }
  deinit { buffer.deallocate() }

  /// The block at `position`, valid until the next call; nil when it lies beyond the file.
  func block(at position: Int) throws(Errno) -> UnsafeRawPointer? {
    guard position >= 0, position < blocks, let base = buffer.baseAddress else { return nil }
    if position < first || position >= first + held {
      let near = sequential || position - lastWanted <= 16
      let want = min(near ? Self.capacity : 1, blocks - position)
      let part = UnsafeMutableRawBufferPointer(start: base, count: want * WALFormat.block)
      let got = try files.read(file, into: part, at: UInt64(position) * UInt64(WALFormat.block))
      first = position
      held = got / WALFormat.block
      if held == 0 { return nil }
    }
    lastWanted = position
    return UnsafeRawPointer(base + (position - first) * WALFormat.block)
  }
}
