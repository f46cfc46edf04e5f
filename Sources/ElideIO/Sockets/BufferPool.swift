import Glibc

/// A piece of memory from a `BufferPool`. Not freed by itself: it goes back by `give`.
struct PooledBuffer {
  var base: UnsafeMutableRawPointer?
  var sizeClass: UInt8 = 0
  /// Bytes held; what is accounted for.
  var size: Int { base == nil ? 0 : 1 << Int(sizeClass) }
  static var none: PooledBuffer { PooledBuffer(base: nil) }
}

/// Memory for requests in powers of two from 4 KiB to 32 MiB, mapped from the system and recycled, so that a steady
/// state allocates nothing. Owned by one thread.
///
/// Small buffers are cut from mappings of 1 MiB that live as long as the pool; of buffers from 64 KiB up, at most
/// `cacheLimit` bytes are kept, and the rest returns to the system.
struct BufferPool: ~Copyable {
  private static let smallest = 12
  private static let largest = 25
  private static let firstMappedAlone = 16
  private static let chunk = 1 << 20

  /// The first free buffer of each class; a free buffer begins with the address of the next.
  private let free = UnsafeMutablePointer<UnsafeMutableRawPointer?>.allocate(capacity: largest + 1)
  private var chunks: [UnsafeMutableRawPointer] = []
  private let cacheLimit: Int
  /// Bytes of free buffers that were mapped alone.
  private var cached = 0
  /// Bytes in use.
  private(set) var used = 0

  init(cacheLimit: Int) {
    self.cacheLimit = cacheLimit
    free.initialize(repeating: nil, count: Self.largest + 1)
  }

  deinit {
    for sizeClass in Self.firstMappedAlone...Self.largest {
      while let buffer = free[sizeClass] {
        free[sizeClass] = buffer.load(as: UnsafeMutableRawPointer?.self)
        munmap(buffer, 1 << sizeClass)
      }
    }
    for chunk in chunks { munmap(chunk, Self.chunk) }
    free.deallocate()
  }

  @inline(__always) static func sizeClass(_ length: Int) -> Int {
    max(smallest, Int.bitWidth - (length - 1).leadingZeroBitCount)
  }
  /// The bytes that a buffer for `length` bytes takes.
  @inline(__always) static func rounded(_ length: Int) -> Int { 1 << sizeClass(length) }

  /// A buffer of at least `length` bytes (1 to 32 MiB), with anything in it; nil when the system has no memory.
  mutating func take(_ length: Int) -> PooledBuffer? {
    precondition(length > 0 && length <= 1 << Self.largest)
    let sizeClass = Self.sizeClass(length)
    if free[sizeClass] == nil && !refill(sizeClass) { return nil }
    guard let base = free[sizeClass] else { return nil }
    free[sizeClass] = base.load(as: UnsafeMutableRawPointer?.self)
    if sizeClass >= Self.firstMappedAlone { cached -= 1 << sizeClass }
    used += 1 << sizeClass
    return PooledBuffer(base: base, sizeClass: UInt8(sizeClass))
  }

  mutating func give(_ buffer: PooledBuffer) {
    guard let base = buffer.base else { return }
    let sizeClass = Int(buffer.sizeClass)
    used -= 1 << sizeClass
    if sizeClass >= Self.firstMappedAlone {
      if cached + 1 << sizeClass > cacheLimit {
        munmap(base, 1 << sizeClass)
        return
      }
      cached += 1 << sizeClass
    }
    base.storeBytes(of: free[sizeClass], as: UnsafeMutableRawPointer?.self)
    free[sizeClass] = base
  }

  private mutating func refill(_ sizeClass: Int) -> Bool {
    let isAlone = sizeClass >= Self.firstMappedAlone
    let length = isAlone ? 1 << sizeClass : Self.chunk
    guard let base = mapMemory(length) else { return false }
    if isAlone { cached += length } else { chunks.append(base) }
    for offset in stride(from: 0, to: length, by: 1 << sizeClass).reversed() {
      (base + offset).storeBytes(of: free[sizeClass], as: UnsafeMutableRawPointer?.self)
      free[sizeClass] = base + offset
    }
    return true
  }
}

/// Zeroed pages; nil when the system has none. They are taken up when they are touched.
func mapMemory(_ length: Int) -> UnsafeMutableRawPointer? {
  let base = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
  return base == MAP_FAILED ? nil : base
}
