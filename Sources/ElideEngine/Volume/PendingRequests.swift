import ElideIO
import ElideProjections

/// A request that the device holds on to. Plain memory in a slab.
struct PendingRequest {
  var request: BlockRequest
  /// Bytes from the start of the request that are dealt with.
  var done: UInt64 = 0
  var next: Int32 = -1
  /// Rises with each write: of two that touch a block, the later must not overtake.
  var serial: UInt64 = 0
  /// Waits for a fetch of `missing`, the handle that block `missingLBA` had in the base.
  var isMissing = false
  var missing = BlockHandle.unwritten
  var missingLBA: UInt64 = 0
  /// Answered fetches that did not help.
  var retries: UInt8 = 0
  /// A fetch was answered: with this error, if not 0.
  var answered = false
  var fetchError: Int32 = 0
  /// Nothing was asked, since too much is asked for already; or what came could not be used yet, and may be gone.
  var unsent = false
  /// A write that may take place in the log, see `VolumeDevice.admits`.
  var isAdmitted = false

  init(_ request: BlockRequest) { self.request = request }

  /// The blocks that it touches.
  var firstBlock: UInt64 { request.offset >> 12 }
  var endBlock: UInt64 { (request.offset + request.length + 4095) >> 12 }
}

/// Bounds of one device. What meets `fetches` or `fetchBlocks` waits until an answer comes; a request beyond `requests` is
/// refused, with ENOMEM.
package struct FrontLimits: Equatable, Sendable {
  /// Requests that the device holds. The transports' own limits are below it: 128 connections of 128 requests.
  package var requests = 16_384
  /// Fetches asked for and not answered, and the blocks in them: what the disk does not take is in memory meanwhile.
  package var fetches = 64
  package var fetchBlocks: UInt32 = 16_384
  package var readAhead = ReadAheadLimits()
  package init() {}
}

/// Blocks [r, …) of a segment, in memory.
struct LentBlocks {
  var segment: UInt64
  var r: UInt32
  var bytes: [UInt8]
  var count: UInt32 { UInt32(bytes.count / 4096) }
}

/// A list threaded through the slab.
struct RequestList {
  var head: Int32 = -1
  var tail: Int32 = -1
  var count = 0
  var isEmpty: Bool { head < 0 }
}

/// All requests in flight. Grows by doubling when the transports have more in flight than ever before, so in the steady
/// state nothing is allocated; they bound it.
struct RequestSlab: ~Copyable {
  private var items: UnsafeMutablePointer<PendingRequest>
  private var capacity: Int
  private var firstFree: Int32
  private(set) var used = 0

  init(capacity: Int) {
    precondition(capacity > 0)
    self.capacity = capacity
    items = .allocate(capacity: capacity)
    firstFree = -1
    thread(from: 0)
  }

  deinit { items.deallocate() }

  private mutating func thread(from first: Int) {
    var blank = PendingRequest(BlockRequest(operation: .flush, offset: 0, length: 0, buffer: nil, token: 0))
    for i in stride(from: capacity - 1, through: first, by: -1) {
      blank.next = firstFree
      (items + i).initialize(to: blank)
      firstFree = Int32(i)
    }
  }

  /// Valid until the next `take`.
  subscript(i: Int32) -> UnsafeMutablePointer<PendingRequest> {
    @inline(__always) get { items + Int(i) }
  }

  mutating func take(_ request: PendingRequest) -> Int32 {
    if firstFree < 0 {
      let old = capacity
      capacity *= 2
      let more = UnsafeMutablePointer<PendingRequest>.allocate(capacity: capacity)
      more.moveInitialize(from: items, count: old)
      items.deallocate()
      items = more
      thread(from: old)
    }
    let i = firstFree
    firstFree = items[Int(i)].next
    items[Int(i)] = request
    items[Int(i)].next = -1
    used &+= 1
    return i
  }

  mutating func release(_ i: Int32) {
    items[Int(i)].next = firstFree
    firstFree = i
    used &-= 1
  }

  @inline(__always)
  func append(_ i: Int32, to list: inout RequestList) {
    items[Int(i)].next = -1
    if list.tail >= 0 { items[Int(list.tail)].next = i } else { list.head = i }
    list.tail = i
    list.count &+= 1
  }

  /// Puts a write where its serial belongs in a list that is in the order of serials. Nearly always that is the end.
  func insert(_ i: Int32, into list: inout RequestList) {
    let serial = items[Int(i)].serial
    if list.tail < 0 || items[Int(list.tail)].serial < serial { return append(i, to: &list) }
    var before: Int32 = -1
    var at = list.head
    while at >= 0, items[Int(at)].serial < serial {
      before = at
      at = items[Int(at)].next
    }
    items[Int(i)].next = at
    if before >= 0 { items[Int(before)].next = i } else { list.head = i }
    list.count &+= 1
  }

  /// Puts all of `more` behind `list`.
  func join(_ more: RequestList, behind list: inout RequestList) {
    if more.isEmpty { return }
    if list.tail >= 0 { items[Int(list.tail)].next = more.head } else { list.head = more.head }
    list.tail = more.tail
    list.count &+= more.count
  }

  @inline(__always)
  func popFirst(_ list: inout RequestList) -> Int32? {
    let i = list.head
    if i < 0 { return nil }
    list.head = items[Int(i)].next
    if list.head < 0 { list.tail = -1 }
    list.count &-= 1
    return i
  }
}
