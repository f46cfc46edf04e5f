import CElide
import ElideIO
import Glibc

/// Gathers the writes of a batch into the open frame and appends them: the one place where bytes enter the write-ahead
/// log. It assigns positions; overlay entries are made by the device after `write` returned.
///
/// The header block is kept in memory. A new frame goes out in one call, header and data being neighbours; an extension
/// takes two, data first, then the new records. Nothing is allocated after `init`.
struct Appender: ~Copyable {
  enum Step: Equatable {
    /// So many blocks were gathered.
    case took(UInt64)
    /// The frame takes no more: `write`, then try again.
    case frameFull
    /// The file takes no more, or none is open: `write`, then open the next.
    case fileFull
  }

  /// A record gathered and not yet written.
  struct Gathered {
    var lba: UInt64
    var count: UInt64
    var kind: WALKind
    var position: Int
    var ordinal: Int
    /// The block CRCs, in the header block.
    var crcs: UnsafeMutableRawPointer
  }

  static let maxVectors = 512

  let volume: ULID
  let incarnation: ULID
  let geometry: WALGeometry
  /// After the last record written.
  private(set) var chain: WALChain

  /// The open file; `.none` between files.
  private(set) var file = FileID.none
  private(set) var wal: UInt64 = 0
  /// The position after what is written.
  private(set) var next = 1
  private(set) var dataBlocks = 0
  private(set) var records = 0

  private var header: UnsafeMutableRawPointer
  private var frameOpen = false
  private var framePosition = 0
  /// Bytes of the header that are used, and that are in the file.
  private var used = 0
  private var written = 0
  private var seed: UInt32 = 0

  let gathered: UnsafeMutablePointer<Gathered>
  private(set) var gatheredCount = 0
  private var gatheredBlocks = 0
  private var vectors: UnsafeMutablePointer<iovec>
  private var vectorCount = 1

  init(volume: ULID, incarnation: ULID, geometry: WALGeometry, chain: WALChain) {
    self.volume = volume
    self.incarnation = incarnation
    self.geometry = geometry
    self.chain = chain
    header = .allocate(byteCount: WALFormat.block, alignment: WALFormat.block)
    gathered = .allocate(capacity: Self.maxVectors)
    vectors = .allocate(capacity: Self.maxVectors + 1)
  }

  deinit {
    header.deallocate()
    gathered.deallocate()
    vectors.deallocate()
  }

  var isOpen: Bool { file != .none }
  /// Half of the open file is used, by whichever measure fills it first.
  var isHalfFull: Bool {
    dataBlocks * 2 >= geometry.dataBlocks || next * 2 >= geometry.fileBlocks || records * 2 >= WALFormat.maxRecords
  }

  /// Begins to append to a prepared, empty file.
  mutating func open(wal: UInt64, file: FileID) {
    precondition(gatheredCount == 0 && !frameOpen && wal > self.wal, "files are used in rising order, one at a time")
    self.wal = wal
    self.file = file
    next = 1
    dataBlocks = 0
    records = 0
  }

  /// No more is added to the file.
  mutating func closeFile() {
    closeFrame()
    file = .none
  }

  /// Gives up what was gathered, and appends nothing more: the log ended with an error.
  mutating func abandon() {
    gatheredCount = 0
    gatheredBlocks = 0
    vectorCount = 1
    frameOpen = false
    file = .none
  }

  /// The header will not be touched again: a sync is about to be issued, or it is full.
  mutating func closeFrame() {
    precondition(gatheredCount == 0, "a frame is closed between writes")
    frameOpen = false
  }

  /// Whether a gathered record holds the block, so that a read of it must wait for `write`.
  func gathers(_ lba: UInt64) -> Bool {
    for i in 0..<gatheredCount where lba >= gathered[i].lba && lba - gathered[i].lba < gathered[i].count { return true }
    return false
  }

  /// Takes up to `count` blocks from `lba` on into the frame; `bytes` (data only) must stay in place until `write`.
  mutating func add(lba: UInt64, count: UInt64, kind: WALKind, bytes: UnsafeRawPointer?, durable: UInt64) -> Step {
    if !isOpen { return .fileFull }
    let isData = kind == .data
    if !frameOpen {
      let room = geometry.fileBlocks - next - (isData ? 1 : 0)
      if room < 1 || records >= WALFormat.maxRecords || (isData && dataBlocks >= geometry.dataBlocks) { return .fileFull }
      beginFrame(durable: durable)
    }
    if gatheredCount >= Self.maxVectors { return .frameFull }
    if records + gatheredCount >= WALFormat.maxRecords { return .fileFull }
    let bytesLeft = WALFormat.block &- used
    if bytesLeft < WALFormat.recordBytes &+ (isData ? 4 : 0) { return .frameFull }
    var n = count
    if isData {
      let fits = (bytesLeft &- WALFormat.recordBytes) / 4
      let start = written == 0 ? framePosition &+ 1 : next
      let room = geometry.fileBlocks &- start &- gatheredBlocks
      let target = geometry.dataBlocks &- dataBlocks &- gatheredBlocks
      if room < 1 || target < 1 { return .fileFull }
      n = min(n, UInt64(min(fits, min(room, target))))
    } else {
      n = min(n, WALFormat.maxCount)
    }
    gather(lba: lba, count: n, kind: kind, bytes: bytes)
    return .took(n)
  }

  private mutating func beginFrame(durable: UInt64) {
    memset(header, 0, WALFormat.block)
    let fixed = FrameHeader(
      previousCRC: chain.crc, volume: volume, wal: wal, frame: chain.frame + 1, incarnation: incarnation, durable: durable)
    seed = fixed.encode(into: header)
    used = WALFormat.fixedBytes
    written = 0
    framePosition = next
    frameOpen = true
  }

  @inline(__always)
  private mutating func gather(lba: UInt64, count: UInt64, kind: WALKind, bytes: UnsafeRawPointer?) {
    let p = header + used
    let start = written == 0 ? framePosition &+ 1 : next
    let position = start &+ gatheredBlocks
    var blocks = 0
    if kind == .data, let bytes {
      blocks = Int(count)
      // In host order, which is little-endian on every machine this is built for (see `WALFormat`).
      elide_crc32c_blocks(bytes, blocks, p + 16)
      let last = vectors + (vectorCount &- 1)
      let base = UnsafeMutableRawPointer(mutating: bytes)
      if vectorCount > 1, let from = last.pointee.iov_base, from + last.pointee.iov_len == base {
        last.pointee.iov_len &+= blocks &* WALFormat.block
      } else {
        vectors[vectorCount] = iovec(iov_base: base, iov_len: blocks &* WALFormat.block)
        vectorCount &+= 1
      }
    }
    seed = RawRecord.encode(p, lba: lba, count: count, kind: kind, seed: seed)
    gathered[gatheredCount] = Gathered(
      lba: lba, count: count, kind: kind, position: position, ordinal: records &+ gatheredCount, crcs: p + 16)
    gatheredCount &+= 1
    gatheredBlocks &+= blocks
    used &+= WALFormat.recordLength(dataBlocks: blocks)
  }

  /// What a `write` put into the file.
  struct Written {
    var records: Int
    var dataBlocks: Int
    var bytes: Int
    var newFrame: Bool
  }

  /// Appends what was gathered. The records stay listed in `gathered` until `forget`. After an error nothing more may be
  /// appended: what the file holds behind the last success is unknown.
  mutating func write(_ files: any Files) throws(Errno) -> Written {
    let block = WALFormat.block
    let isNew = written == 0
    if isNew {
      vectors[0] = iovec(iov_base: header, iov_len: block)
      try files.write(file, UnsafeBufferPointer(start: vectors, count: vectorCount), at: UInt64(framePosition &* block))
      next = framePosition &+ 1
    } else {
      if vectorCount > 1 {
        try files.write(file, UnsafeBufferPointer(start: vectors + 1, count: vectorCount &- 1), at: UInt64(next &* block))
      }
      vectors[0] = iovec(iov_base: header + written, iov_len: used &- written)
      let at = UInt64(framePosition &* block &+ written)
      try files.write(file, UnsafeBufferPointer(start: vectors, count: 1), at: at)
    }
    let result = Written(
      records: gatheredCount, dataBlocks: gatheredBlocks,
      bytes: gatheredBlocks &* block &+ (isNew ? block : used &- written), newFrame: isNew)
    next &+= gatheredBlocks
    dataBlocks &+= gatheredBlocks
    records &+= gatheredCount
    chain = WALChain(frame: isNew ? chain.frame &+ 1 : chain.frame, crc: seed)
    written = used
    return result
  }

  /// Ends the batch. A frame that takes no further record is closed.
  mutating func forget() {
    gatheredCount = 0
    gatheredBlocks = 0
    vectorCount = 1
    if WALFormat.block &- used < WALFormat.recordBytes &+ 4 { frameOpen = false }
  }
}
