import Glibc

/// What a transport asks of a device. Fixed size, no references: lives in the transport's request slab.
package struct BlockRequest {
  package enum Operation: UInt8 { case read, write, flush, trim, writeZeroes, prefetch }
  package var operation: Operation
  /// The write is durable before it completes (FUA).
  package var forceUnitAccess: Bool
  /// WRITE_ZEROES that must stay allocated (NO_HOLE).
  package var noHole: Bool
  /// Bytes. The transport has checked offset + length ≤ size of the export.
  package var offset: UInt64
  package var length: UInt64
  /// READ: filled by the time of completion. WRITE: the payload, unchanged and in place until completion.
  package var buffer: UnsafeMutableRawPointer?
  /// Comes back with the completion; the device does not look inside.
  package var token: UInt64

  @inlinable package init(
    operation: Operation, forceUnitAccess: Bool = false, noHole: Bool = false, offset: UInt64, length: UInt64,
    buffer: UnsafeMutableRawPointer?, token: UInt64
  ) {
    self.operation = operation
    self.forceUnitAccess = forceUnitAccess
    self.noHole = noHole
    self.offset = offset
    self.length = length
    self.buffer = buffer
    self.token = token
  }
}

/// Whether a request is already finished when `submit` returns.
package enum Submission: Equatable {
  /// Finished: 0, or an errno.
  case done(Int32)
  /// Will be completed through the sink: writes at the next `commit` at the earliest.
  case queued
}

/// Where a device reports queued requests as finished, on the I/O thread, from inside `commit` or `poll`.
package protocol CompletionSink: AnyObject {
  func complete(token: UInt64, error: Int32)
}

/// A run of a status query.
package struct BlockExtent: Equatable {
  package var length: UInt64
  package var flags: UInt32
  package init(length: UInt64, flags: UInt32) {
    self.length = length
    self.flags = flags
  }
}

package enum StatusContext: UInt8, Sendable {
  /// base:allocation: bit 0 hole, bit 1 reads as zeros.
  case allocation
  /// elide:residency: bit 0 set where reading needs the store.
  case residency
}

/// Bytes of a device that lie in a file as they are.
package struct FileExtent {
  /// Open for reading.
  package var descriptor: Int32
  /// Bytes from the file's beginning, and how many.
  package var offset: UInt64
  package var length: Int
  /// The same bytes, mapped: for `elide_copy_mapped`, and for the system's calls.
  package var address: UnsafeRawPointer
  /// Whether its pages may go into a socket as they are. Shorter extents are copied before the device is called again.
  package var isShared: Bool { length >= 32 << 10 }
  package init(descriptor: Int32, offset: UInt64, length: Int, address: UnsafeRawPointer) {
    self.descriptor = descriptor
    self.offset = offset
    self.length = length
    self.address = address
  }
}

/// A block device as seen by one I/O thread. Every member is called on that thread only.
///
/// The thread's round: take what the sockets hold, `submit` each request, `commit` once (this appends the batch of
/// writes and completes them), then `poll` when `wakeDescriptor` became readable. No member but `commit(mayWait:)` waits for
/// the disk's flush, and none for the network or another thread.
package protocol BlockDevice: AnyObject {
  /// Bytes; may grow while served.
  var size: UInt64 { get }
  var isReadOnly: Bool { get }
  var sink: (any CompletionSink)? { get set }
  /// Readable when `poll` has something to do.
  var wakeDescriptor: Int32 { get }
  func submit(_ request: BlockRequest) -> Submission
  func commit()
  /// The same for a thread that has nothing else to do before this device's requests are complete: the device may wait for
  /// a short sync right here, which spares two changes of thread.
  func commit(mayWait: Bool)
  func poll()
  /// Reads [offset, offset+length), a range as in a request, without reading: where it lies in files, checked and in order, in at
  /// most `limit` pieces. 0, and nothing has happened, when it does not lie so; then `submit` reads it.
  ///
  /// Extents are valid until the next call of any member, but for the pages of shared ones, which clients may read at any time
  /// later: the device does not write over them again, also when the file is of no use to it any more, and after it has ended.
  func extents(offset: UInt64, length: UInt64, into extents: UnsafeMutablePointer<FileExtent>, limit: Int) -> Int
  /// Appends runs that cover [offset, offset+length), at most `limit` of them (the tail may be left out).
  func status(_ context: StatusContext, offset: UInt64, length: UInt64, limit: Int, into: inout [BlockExtent])
}

extension BlockDevice {
  package func commit(mayWait: Bool) { commit() }
  package func extents(offset: UInt64, length: UInt64, into extents: UnsafeMutablePointer<FileExtent>, limit: Int) -> Int { 0 }
}
