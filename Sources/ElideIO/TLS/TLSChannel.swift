import Glibc

/// A TLS session on a non-blocking socket: its bytes on their way in and out. Owned by the server's thread.
final class TLSChannel {
  enum Received: Equatable {
    case some(Int)
    case nothing
    /// The peer has said that it is done.
    case ended
    /// The stream ended in the middle: cut off, or a peer without manners.
    case truncated
    case failed(String)
  }

  /// A peer that makes the session answer this much without reading the answers is not read from.
  static let outputLimit = 128 << 10
  private static let outgoingCapacity = 80 << 10

  let session: TLSSession
  private let memory: UnsafeMutableRawPointer
  private var outgoing: UnsafeMutableRawPointer { memory + TLSSession.pieceSize }
  private var first = 0
  private var last = 0
  /// The session needs more than it holds: what it holds is a part of a record.
  private var isDry = true
  /// Why it is of no use any more.
  private(set) var failure: String?

  /// nil when there is no memory.
  init?(_ context: TLSContext) {
    guard let session = TLSSession(context), let memory = mapMemory(TLSSession.pieceSize + Self.outgoingCapacity) else {
      return nil
    }
    self.session = session
    self.memory = memory
  }

  deinit { munmap(memory, TLSSession.pieceSize + Self.outgoingCapacity) }

  var hasOutput: Bool { first < last || session.outputCount > 0 }
  var canReceive: Bool { session.outputCount <= Self.outputLimit }
  /// Something may be received without the socket having anything.
  var hasPending: Bool { !isDry && session.hasPending }

  /// Goes on with the handshake, with what was pulled.
  func shakeHands() -> TLSSession.Step {
    let step = session.shakeHands()
    if step == .needsInput { isDry = true }
    return step
  }

  /// Takes over what the socket holds, without looking at it.
  func pull(_ descriptor: Int32) -> Received {
    let room = session.room
    if room == 0 { return .some(0) }
    let count = recv(descriptor, memory, room, 0)
    guard count > 0 else {
      if count == 0 { return .truncated }
      return errno == EAGAIN || errno == EINTR ? .nothing : .failed("\(Errno.current)")
    }
    isDry = false
    session.feed(UnsafeRawBufferPointer(start: memory, count: count))
    return .some(count)
  }

  /// Decrypts into `target`, from the socket as far as need be.
  func receive(_ descriptor: Int32, _ target: UnsafeMutableRawBufferPointer) -> Received {
    if target.isEmpty { return .nothing }
    while true {
      var count = 0
      switch session.receive(target, count: &count) {
      case .done: return .some(count)
      case .ended: return .ended
      case .failed(let reason):
        failure = reason
        // With luck the peer learns why.
        _ = flush(descriptor)
        return .failed(reason)
      case .needsInput:
        isDry = true
        // It has taken all its input by now, so there is room.
        let pulled = pull(descriptor)
        guard case .some = pulled else { return pulled }
      }
    }
  }

  /// Encrypts from the front of the pieces, to be sent by `flush`. nil when the session broke.
  func send(_ pieces: UnsafePointer<iovec>, count: Int) -> Int? { session.send(pieces, count: count) }

  /// Sends what is encrypted, as far as the socket takes it.
  func flush(_ descriptor: Int32) -> Outbox.Progress {
    while true {
      if first == last {
        first = 0
        last = session.takeOutput(UnsafeMutableRawBufferPointer(start: outgoing, count: Self.outgoingCapacity))
        if last == 0 { return .empty }
      }
      let n = Glibc.send(descriptor, outgoing + first, last - first, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      if n < 0 {
        if errno == EINTR { continue }
        return errno == EAGAIN ? .blocked : .broken(Errno.current)
      }
      first += n
    }
  }

  /// Says goodbye, if the socket takes it now.
  func finish(_ descriptor: Int32) {
    session.finish()
    _ = flush(descriptor)
  }
}
