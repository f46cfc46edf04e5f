/// A request of one connection from its first byte until its reply is on the way.
struct RequestSlot {
  enum State: UInt8 {
    case free
    /// With the server: its payload arrives, or its reply waits or is being sent.
    case held
    /// With the device, which uses `buffer`.
    case submitted
  }
  var cookie: UInt64 = 0
  var offset: UInt64 = 0
  var length: UInt64 = 0
  /// On the wire; 0 for none.
  var error: UInt32 = 0
  var command: UInt16 = 0
  var flags: UInt16 = 0
  var state = State.free
  var zeroes = Zeroes.unknown
  /// The next slot of the same list; -1 at the end.
  var next: Int32 = -1
  var buffer = PooledBuffer.none
  /// The reply is out when the outbox has sent this many pieces.
  var end: UInt64 = 0
  /// BLOCK_STATUS: the bytes of each context's part in the buffer; 0 for none.
  var parts: (UInt32, UInt32) = (0, 0)

  /// What is known about zeros in the range of a read.
  enum Zeroes: UInt8 { case unknown, none, all, some }
}

/// A list of slots by their `next`, first in, first out.
struct SlotQueue {
  var first: Int32 = -1
  var last: Int32 = -1
  var isEmpty: Bool { first < 0 }
}

/// The slots of one connection: a fixed number, so that requests in flight are bounded and none is allocated.
struct RequestSlab: ~Copyable {
  let slots: UnsafeMutablePointer<RequestSlot>
  let capacity: Int
  private var free: Int32 = -1
  /// Slots that are not free.
  private(set) var used = 0

  static func memory(_ capacity: Int) -> Int { capacity * MemoryLayout<RequestSlot>.stride }

  /// - Parameter memory: `RequestSlab.memory(capacity)` bytes, aligned to 16, that outlive it.
  init(capacity: Int, memory: UnsafeMutableRawPointer) {
    self.capacity = capacity
    slots = memory.bindMemory(to: RequestSlot.self, capacity: capacity)
    slots.initialize(repeating: RequestSlot(), count: capacity)
    for index in (0..<capacity).reversed() {
      slots[index].next = free
      free = Int32(index)
    }
  }

  var hasFree: Bool { free >= 0 }

  /// There must be a free one.
  @inline(__always) mutating func take(_ request: NBDRequest) -> Int {
    let index = Int(free)
    precondition(index >= 0)
    let slot = slots + index
    free = slot.pointee.next
    used &+= 1
    slot.pointee.cookie = request.cookie
    slot.pointee.offset = request.offset
    slot.pointee.length = request.length
    slot.pointee.command = request.command
    slot.pointee.flags = request.flags
    slot.pointee.error = 0
    slot.pointee.state = .held
    slot.pointee.zeroes = .unknown
    slot.pointee.end = 0
    slot.pointee.next = -1
    return index
  }

  /// The caller has given the buffer back.
  @inline(__always) mutating func release(_ index: Int) {
    let slot = slots + index
    precondition(slot.pointee.state == .held && slot.pointee.buffer.base == nil)
    slot.pointee.state = .free
    slot.pointee.next = free
    free = Int32(truncatingIfNeeded: index)
    used &-= 1
  }

  @inline(__always) func push(_ index: Int, to queue: inout SlotQueue) {
    slots[index].next = -1
    let link = Int32(truncatingIfNeeded: index)
    if queue.isEmpty { queue.first = link } else { slots[Int(queue.last)].next = link }
    queue.last = link
  }

  /// The queue must not be empty.
  @inline(__always) func pop(_ queue: inout SlotQueue) -> Int {
    let index = Int(queue.first)
    queue.first = slots[index].next
    if queue.first < 0 { queue.last = -1 }
    return index
  }
}
