import ElideIO
import Glibc

/// A block device in memory for tests of transports, with each of the ways in which a device may complete requests.
/// Owned by the transport's thread.
package final class MemoryDevice: BlockDevice {
  package enum Manner: String, Sendable, CaseIterable {
    /// All is done when `submit` returns.
    case immediate
    /// Reads are done at once, all else at `commit`.
    case committed
    /// Everything is done at some `poll`, in an order drawn from a seed.
    case shuffled
  }

  /// What is asked for and done, for tests to look at after the transport has ended.
  package struct Counts: Equatable, Sendable {
    package var submissions = 0
    package var commits = 0
    package var flushes = 0
    package var forced = 0
    package var prefetches = 0
    package var noHoles = 0
    package var inPlace = 0
  }

  private enum BlockState { static let hole: UInt8 = 0, data: UInt8 = 1, zeroes: UInt8 = 2 }
  private static let block = 4096

  package let size: UInt64
  package let isReadOnly: Bool
  package weak var sink: (any CompletionSink)?
  package var wakeDescriptor: Int32 { wake?.descriptor ?? -1 }
  package private(set) var counts = Counts()
  /// Decides on the errno of a request; 0 lets it happen.
  package var failure: ((BlockRequest) -> Int32)?
  /// While true nothing that is queued completes.
  package var isHeld = false { didSet { wake?.signal() } }

  /// With a file: how long the extents of a read are, in turn; empty for "no read is sent in place".
  package var extentLengths: [Int] = []
  /// With a file: its descriptor.
  package let file: Int32
  private let manner: Manner
  private let wake: WakeEvent?
  private let memory: UnsafeMutableRawPointer
  private let states: UnsafeMutablePointer<UInt8>
  private let blocks: Int
  private var queue: [BlockRequest] = []
  private var random: UInt64

  /// - Parameter inFile: its memory is a file without a name.
  package init(
    size: UInt64, isReadOnly: Bool = false, manner: Manner = .immediate, seed: UInt64 = 1, inFile: Bool = false
  ) throws {
    self.size = size
    self.isReadOnly = isReadOnly
    self.manner = manner
    wake = manner == .shuffled ? try WakeEvent() : nil
    random = seed | 1
    let length = max(Int(size), 1)
    file = inFile ? try Self.unnamedFile(length) : -1
    let flags = inFile ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    guard let memory = mmap(nil, length, PROT_READ | PROT_WRITE, flags, file, 0), memory != MAP_FAILED
    else { throw Errno.current }
    self.memory = memory
    blocks = (length + Self.block - 1) / Self.block
    states = .allocate(capacity: blocks)
    states.initialize(repeating: BlockState.hole, count: blocks)
    queue.reserveCapacity(4096)
  }

  deinit {
    munmap(memory, max(Int(size), 1))
    states.deallocate()
    if file >= 0 { close(file) }
  }

  private static func unnamedFile(_ length: Int) throws -> Int32 {
    var path = Array("/tmp/elide-memory-XXXXXX".utf8CString)
    let file = mkstemp(&path)
    guard file >= 0 else { throw Errno.current }
    unlink(path)
    guard ftruncate(file, off_t(length)) == 0 else {
      close(file)
      throw Errno.current
    }
    return file
  }

  /// As a device would whose blocks lie in a file here and there.
  package func extents(offset: UInt64, length: UInt64, into extents: UnsafeMutablePointer<FileExtent>, limit: Int) -> Int {
    var count = 0
    var at = 0
    while at < Int(length) && !extentLengths.isEmpty {
      if count == limit { return 0 }
      let n = min(extentLengths[count % extentLengths.count], Int(length) - at)
      let from = Int(offset) + at
      extents[count] = FileExtent(descriptor: file, offset: UInt64(from), length: n, address: UnsafeRawPointer(memory + from))
      count += 1
      at += n
    }
    counts.inPlace += count > 0 ? 1 : 0
    return count
  }

  package func submit(_ request: BlockRequest) -> Submission {
    counts.submissions += 1
    let isQueued = manner == .shuffled || manner == .committed && request.operation != .read
    if !isQueued { return .done(execute(request)) }
    queue.append(request)
    wake?.signal()
    return .queued
  }

  package func commit() {
    counts.commits += 1
    if manner == .committed { completeAll() }
  }

  package func poll() {
    wake?.clear()
    for index in queue.indices {
      random ^= random << 13
      random ^= random >> 7
      random ^= random << 17
      queue.swapAt(index, index + Int(random % UInt64(queue.count - index)))
    }
    completeAll()
  }

  private func completeAll() {
    if isHeld { return }
    for request in queue { sink?.complete(token: request.token, error: execute(request)) }
    queue.removeAll(keepingCapacity: true)
  }

  private func execute(_ request: BlockRequest) -> Int32 {
    if let error = failure?(request), error != 0 { return error }
    let offset = Int(request.offset)
    let length = Int(request.length)
    if request.forceUnitAccess { counts.forced += 1 }
    switch request.operation {
    case .read: request.buffer.map { _ = memcpy($0, memory + offset, length) }
    case .write:
      request.buffer.map { _ = memcpy(memory + offset, $0, length) }
      mark(offset, length, BlockState.data)
    case .flush: counts.flushes += 1
    case .prefetch: counts.prefetches += 1
    case .trim, .writeZeroes:
      if request.noHole { counts.noHoles += 1 }
      clear(offset, length, request.noHole ? BlockState.zeroes : BlockState.hole)
    }
    return 0
  }

  private func mark(_ offset: Int, _ length: Int, _ state: UInt8) {
    if length == 0 { return }
    for block in offset / Self.block...(offset + length - 1) / Self.block { states[block] = state }
  }

  /// Blocks that become zero as a whole are zero from then on; the edges only in part.
  private func clear(_ offset: Int, _ length: Int, _ state: UInt8) {
    memset(memory + offset, 0, length)
    let first = (offset + Self.block - 1) / Self.block
    let end = offset + length == Int(size) ? blocks : (offset + length) / Self.block
    if first < end { mark(first * Self.block, (end - first) * Self.block, state) }
  }

  package func status(
    _ context: StatusContext, offset: UInt64, length: UInt64, limit: Int, into runs: inout [BlockExtent]
  ) {
    var position = offset
    let end = offset + length
    let first = runs.count
    while position < end {
      let block = Int(position) / Self.block
      let next = min(UInt64(block + 1) * UInt64(Self.block), end)
      // Every other MiB is far away.
      let far: UInt32 = (position >> 20) & 1 == 1 ? 1 : 0
      let flags: UInt32 =
        context == .residency ? far : states[block] == BlockState.hole ? 3 : states[block] == BlockState.zeroes ? 2 : 0
      if runs.count > first && runs[runs.count - 1].flags == flags {
        runs[runs.count - 1].length += next - position
      } else {
        if runs.count - first == limit { return }
        runs.append(BlockExtent(length: next - position, flags: flags))
      }
      position = next
    }
  }
}

/// Exports by name, in order.
package final class MemoryExports: ExportProvider {
  private let exports: [(name: String, info: ExportInfo)]
  package init(_ exports: [(name: String, info: ExportInfo)]) { self.exports = exports }
  package func names() -> [String] { exports.map(\.name) }
  package func open(_ name: String) -> ExportInfo? { exports.first { $0.name == name }?.info }
}
