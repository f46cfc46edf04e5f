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
  /// Appends runs that cover [offset, offset+length), at most `limit` of them (the tail may be left out).
  func status(_ context: StatusContext, offset: UInt64, length: UInt64, limit: Int, into: inout [BlockExtent])
}

extension BlockDevice {
  package func commit(mayWait: Bool) { commit() }
}
