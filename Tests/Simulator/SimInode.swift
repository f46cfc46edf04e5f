import Glibc

/// Which of the things that were not durable survive a power loss.
enum Survivors {
  case none, all, prefix(Int), most, some(UInt64)

  /// Extremes are as likely as mixtures: many bugs need "nothing but the last".
  static func draw(_ random: inout SeededRandom, count: Int) -> Survivors {
    switch random.below(6) {
    case 0: .none
    case 1: .all
    case 2: .prefix(random.below(count + 1))
    case 3: .most
    default: .some(1 + random.below(15 as UInt64))
    }
  }
  func keeps(_ index: Int, of count: Int, _ random: inout SeededRandom) -> Bool {
    switch self {
    case .none: false
    case .all: true
    case .prefix(let n): index < n
    case .most: !random.chance(1, in: UInt64(max(2, count)))
    case .some(let sixteenths): random.chance(sixteenths, in: 16)
    }
  }
}

/// The contents of one simulated file, twice: what readers see, and what the disk holds.
///
/// Both images are reserved address space that is filled as touched.
final class SimInode {
  static let sector = 512

  let capacity: Int
  private let visible: UnsafeMutableRawPointer
  private let durable: UnsafeMutableRawPointer
  private(set) var size = 0
  private var durableSize = 0
  /// Written and not synced. In `lost` a sync failed: readers see the new bytes, the disk has the old, the system thinks
  /// that all is well.
  private var dirty = SectorSet()
  private var lost = SectorSet()
  var lockedBy: Int32 = -1
  /// Handles that hold it together, and the one that holds it alone.
  var heldBy: Set<Int32> = []
  var heldAloneBy: Int32 = -1
  /// 4 KiB pages with disk space behind them.
  private var pages = SectorSet()
  private let meter: SpaceMeter
  private var charged = 0

  init(capacity: Int, meter: SpaceMeter) {
    self.capacity = capacity
    self.meter = meter
    visible = Self.reserve(capacity)
    durable = Self.reserve(capacity)
  }
  /// A file with the contents that readers see in `other`, all of it on disk.
  convenience init(copyOf other: SimInode, meter: SpaceMeter, _ random: inout SeededRandom) {
    self.init(capacity: other.capacity, meter: meter)
    _ = write(UnsafeRawBufferPointer(start: other.visible, count: other.size), at: 0, &random)
    sync()
  }
  deinit {
    meter.used -= charged
    munmap(visible, capacity)
    munmap(durable, capacity)
  }

  private static func reserve(_ bytes: Int) -> UnsafeMutableRawPointer {
    let p = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let p, p != MAP_FAILED else { preconditionFailure("no address space for a simulated file") }
    return p
  }

  // MARK: what the process does

  /// As flock does: what the handle held before is gone, also when it does not get what it wants now.
  func hold(_ handle: Int32, alone: Bool) -> Bool {
    letGo(handle)
    if heldAloneBy >= 0 || alone && !heldBy.isEmpty { return false }
    if alone { heldAloneBy = handle } else { heldBy.insert(handle) }
    return true
  }
  func letGo(_ handle: Int32) {
    heldBy.remove(handle)
    if heldAloneBy == handle { heldAloneBy = -1 }
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
    let n = max(0, min(buffer.count, size - offset))
    if n > 0 { memcpy(buffer.baseAddress!, visible + offset, n) }
    return n
  }

  /// Writes what fits the disk; false when it is full. Now and then the version that is written over reached the disk.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int, _ random: inout SeededRandom) -> Bool {
    if bytes.isEmpty { return true }
    let end = offset + bytes.count
    for page in (offset >> 12)...((end - 1) >> 12) where !charge(page) { return false }
    for s in (offset / Self.sector)...((end - 1) / Self.sector) {
      if dirty.contains(s), random.chance(1, in: 4) { toDisk(s) }
      dirty.insert(s)
      lost.remove(s)
    }
    memcpy(visible + offset, bytes.baseAddress!, bytes.count)
    size = max(size, end)
    return true
  }

  private func charge(_ page: Int) -> Bool {
    if pages.contains(page) { return true }
    guard meter.used + 4096 <= meter.limit else { return false }
    pages.insert(page)
    meter.used += 4096
    charged += 4096
    return true
  }

  func allocate(_ bytes: Int) -> Bool {
    if bytes > 0 { for page in 0...((bytes - 1) >> 12) where !charge(page) { return false } }
    size = max(size, bytes)
    return true
  }

  func truncate(_ bytes: Int) {
    if bytes < size {
      for s in (bytes / Self.sector)...(max(0, size - 1) / Self.sector) { dirty.insert(s) }
      memset(visible + bytes, 0, size - bytes)
    }
    size = bytes
  }

  // MARK: what the disk does

  private func toDisk(_ s: Int) { memcpy(durable + s * Self.sector, visible + s * Self.sector, Self.sector) }
  private func fromDisk(_ s: Int) { memcpy(visible + s * Self.sector, durable + s * Self.sector, Self.sector) }
  private func resizeOnDisk(_ bytes: Int) {
    if bytes < durableSize { memset(durable + bytes, 0, durableSize - bytes) }
    durableSize = bytes
  }

  func sync() {
    resizeOnDisk(size)
    for s in dirty.members { toDisk(s) }
    dirty.removeAll()
  }

  /// A sync that failed: each sector got there or not, and all are taken for clean.
  func failSync(_ random: inout SeededRandom) {
    let members = dirty.members
    let survivors = Survivors.draw(&random, count: members.count)
    if survivors.keeps(0, of: 1, &random) { resizeOnDisk(size) }
    for (i, s) in members.enumerated() {
      if survivors.keeps(i, of: members.count, &random) { toDisk(s) } else { lost.insert(s) }
    }
    dirty.removeAll()
  }

  /// Some of a range reaches the disk now; none of it may be relied upon.
  func startWriteback(_ range: Range<Int>, _ random: inout SeededRandom) {
    for s in dirty.members where range.contains(s * Self.sector) && random.chance(1, in: 2) { toDisk(s) }
  }

  /// Readers see what the disk holds of sectors that the system takes for clean.
  func dropCache() {
    for s in lost.members { fromDisk(s) }
    lost.removeAll()
  }

  /// The machine stops: afterwards both images hold what the disk got, any subset of the unsynced sectors.
  func losePower(_ random: inout SeededRandom) {
    let members = dirty.members
    let survivors = Survivors.draw(&random, count: members.count)
    if size != durableSize {
      let keep: Bool
      switch survivors {
      case .none: keep = false
      case .all: keep = true
      default: keep = random.chance(1, in: 2)
      }
      if keep { resizeOnDisk(size) }
    }
    for (i, s) in members.enumerated() where survivors.keeps(i, of: members.count, &random) { toDisk(s) }
    // Beyond the end there is nothing.
    let top = min(capacity, max(size, durableSize) + Self.sector)
    if durableSize < top { memset(durable + durableSize, 0, top - durableSize) }
    for s in members { fromDisk(s) }
    for s in lost.members { fromDisk(s) }
    if size > durableSize { memset(visible + durableSize, 0, size - durableSize) }
    if size < durableSize { memcpy(visible + size, durable + size, durableSize - size) }
    size = durableSize
    dirty.removeAll()
    lost.removeAll()
  }

  /// For tests: what the disk would give back if nothing more got there.
  var onDisk: [UInt8] { [UInt8](UnsafeRawBufferPointer(start: durable, count: durableSize)) }
}

/// Disk space of a host, in bytes.
final class SpaceMeter {
  var used = 0
  var limit = Int.max
}
