import ElideIO
import Glibc

/// What the device keeps of one write-ahead file until its entries left the overlay: the CRC of each block, to check
/// reads, and the blocks written, to drop them.
struct FrontWAL {
  struct Range {
    var lba: UInt64
    var count: UInt64
  }

  let number: UInt64
  let file: FileID
  /// By position. Zero where no data block lies.
  let crcs: UnsafeMutablePointer<UInt32>
  let blocks: Int
  /// The file's blocks in a view (`Files.view`), `blocks` of them; nil where it is read by calls.
  var data: UnsafeRawPointer?
  let ranges: UnsafeMutablePointer<Range>
  let rangeCapacity: Int
  var rangeCount = 0
  /// Some records went to the overlay's long runs.
  var hasLongRuns = false

  var end: WALChain
  /// Frames up to this are durable.
  var synced: UInt64
  var closed = false
  /// `.walClosed` was said.
  var announced = false
  var halfSaid = false
  /// `.walBegun` was said.
  var begunSaid = false
  /// Of data, until `.walClosed`.
  var bytes: UInt64 = 0
  var dropping = false
  var dropCursor = 0

  init(number: UInt64, file: FileID, blocks: Int, records: Int, chain: WALChain, files: any Files) {
    self.number = number
    self.file = file
    self.blocks = blocks
    data = files.view(file, length: blocks << 12)
    crcs = zeroed(blocks * 4).bindMemory(to: UInt32.self, capacity: blocks)
    rangeCapacity = max(1, records)
    ranges = zeroed(rangeCapacity * MemoryLayout<Range>.stride).bindMemory(to: Range.self, capacity: rangeCapacity)
    end = chain
    synced = chain.frame
  }

  func deallocate(_ files: any Files) {
    if let data { files.endView(data, length: blocks << 12) }
    free(crcs)
    free(ranges)
  }

  var isDirty: Bool { end.frame > synced }

  /// Notes a record that went to the overlay.
  @inline(__always)
  mutating func note(lba: UInt64, count: UInt64, kind: WALKind) {
    if kind != .data && count > Overlay.longRun {
      hasLongRuns = true
      return
    }
    if rangeCount > 0, ranges[rangeCount &- 1].lba &+ ranges[rangeCount &- 1].count == lba {
      ranges[rangeCount &- 1].count &+= count
      return
    }
    precondition(rangeCount < rangeCapacity)
    ranges[rangeCount] = Range(lba: lba, count: count)
    rangeCount &+= 1
  }
}

/// The device's write-ahead files in rising order of number: few, so they are searched from the newest on.
struct FrontWALs: ~Copyable {
  private var items: UnsafeMutablePointer<FrontWAL>
  private var capacity = 64
  private(set) var count = 0
  private let files: any Files

  init(_ files: any Files) {
    self.files = files
    items = .allocate(capacity: capacity)
  }
  deinit {
    for i in 0..<count { items[i].deallocate(files) }
    items.deallocate()
  }

  subscript(i: Int) -> UnsafeMutablePointer<FrontWAL> {
    @inline(__always) get { items + i }
  }

  @inline(__always)
  func find(_ number: UInt64) -> UnsafeMutablePointer<FrontWAL>? {
    var i = count &- 1
    while i >= 0 {
      if items[i].number == number { return items + i }
      i &-= 1
    }
    return nil
  }

  /// The newest; valid until `append` or `remove`.
  var last: UnsafeMutablePointer<FrontWAL>? { count > 0 ? items + (count - 1) : nil }

  mutating func append(_ wal: FrontWAL) {
    precondition(count == 0 || items[count - 1].number < wal.number)
    if count == capacity {
      let more = UnsafeMutablePointer<FrontWAL>.allocate(capacity: capacity * 2)
      more.moveInitialize(from: items, count: count)
      items.deallocate()
      items = more
      capacity *= 2
    }
    (items + count).initialize(to: wal)
    count += 1
  }

  mutating func remove(_ number: UInt64) {
    guard let i = (0..<count).first(where: { items[$0].number == number }) else { return }
    items[i].deallocate(files)
    for j in i..<(count - 1) { items[j] = items[j + 1] }
    count -= 1
  }
}
