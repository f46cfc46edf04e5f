import Glibc

/// Bytes on their way out of one socket: short pieces that are written into its own memory, and long ones that are
/// sent from where they lie. Fixed size; the caller asks for room first.
struct Outbox: ~Copyable {
  enum Progress: Equatable {
    /// Nothing is left.
    case empty
    /// The peer does not read fast enough.
    case blocked
    case broken(Errno)
  }

  static let textCapacity = 64 << 10
  /// What one `sendmsg` takes.
  static let pieceCapacity = 1024
  /// Bytes of memory that `init` wants.
  static let memory = textCapacity + pieceCapacity * MemoryLayout<iovec>.stride

  private let text: UnsafeMutableRawPointer
  private let pieces: UnsafeMutablePointer<iovec>
  private var textUsed = 0
  private var first = 0
  private var last = 0
  /// Pieces before `first`, counted from the beginning of the connection.
  private(set) var sent: UInt64 = 0

  /// - Parameter memory: `Outbox.memory` bytes that outlive it.
  init(memory: UnsafeMutableRawPointer) {
    text = memory
    pieces = (memory + Self.textCapacity).bindMemory(to: iovec.self, capacity: Self.pieceCapacity)
  }

  var isEmpty: Bool { first == last }

  @inline(__always) func hasRoom(text bytes: Int, pieces count: Int) -> Bool {
    textUsed &+ bytes <= Self.textCapacity && last &+ count <= Self.pieceCapacity
  }

  /// Queues `count` bytes that the caller writes to the address given, at once. There must be room.
  @inline(__always) mutating func write(_ count: Int) -> UnsafeMutableRawPointer {
    let target = text + textUsed
    textUsed &+= count
    if last > first {
      let previous = pieces + (last &- 1)
      if let base = previous.pointee.iov_base, base + previous.pointee.iov_len == target {
        previous.pointee.iov_len &+= count
        return target
      }
    }
    pieces[last] = iovec(iov_base: target, iov_len: count)
    last &+= 1
    return target
  }

  /// Queues bytes that stay in place until `sent` has reached the number returned. There must be room.
  @inline(__always) mutating func append(_ bytes: UnsafeMutableRawPointer, _ count: Int) -> UInt64 {
    pieces[last] = iovec(iov_base: bytes, iov_len: count)
    last &+= 1
    return sent &+ UInt64(last &- first)
  }

  /// Sends what the socket takes.
  mutating func send(to descriptor: Int32) -> Progress {
    while first < last {
      var message = msghdr()
      message.msg_iov = pieces + first
      message.msg_iovlen = last - first
      let n = sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      if n < 0 {
        if errno == EINTR { continue }
        return errno == EAGAIN ? .blocked : .broken(Errno.current)
      }
      advance(n)
    }
    reset()
    return .empty
  }

  /// Encrypts pieces from the front, which may go then, and returns how many bytes; 0 when none is left, nil when the session
  /// is of no use.
  mutating func encrypt(_ channel: TLSChannel) -> Int? {
    if first == last {
      reset()
      return 0
    }
    guard let n = channel.send(pieces + first, count: last - first) else { return nil }
    advance(n)
    return n
  }

  private mutating func reset() {
    first = 0
    last = 0
    textUsed = 0
  }

  private mutating func advance(_ count: Int) {
    var count = count
    while count > 0 {
      let piece = pieces + first
      guard count < piece.pointee.iov_len else {
        count &-= piece.pointee.iov_len
        first &+= 1
        sent &+= 1
        continue
      }
      piece.pointee.iov_base = piece.pointee.iov_base.map { $0 + count }
      piece.pointee.iov_len &-= count
      return
    }
  }
}
