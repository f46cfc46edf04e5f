import FlyingSocks
import Glibc
import Synchronization

/// Bounds of one control socket. Only the user whom the directory lets in reaches it; it must not hang or starve all the same.
struct ControlLimits: Sendable {
  /// Connections that wait for their peer. One more ends the one that has waited longest.
  var idleConnections = 32
  /// Requests that wait for the keeper, each with a thread. One more is told to try later.
  var waitingRequests = 16
}

/// A pool of sockets in which only so many connections wait at once.
final class BoundedPool<Inner: AsyncSocketPool>: AsyncSocketPool {
  private struct State {
    var next: UInt64 = 0
    /// In the order of their coming.
    var waiting: [(id: UInt64, task: Task<Void, any Error>)] = []
  }
  private let inner: Inner
  private let limit: Int
  private let state = Mutex(State())

  init(_ inner: Inner, limit: Int) {
    self.inner = inner
    self.limit = limit
  }

  func prepare() async throws { try await inner.prepare() }
  func run() async throws { try await inner.run() }

  func suspendSocket(_ socket: Socket, untilReadyFor events: Socket.Events) async throws {
    if Self.isListening(socket) { return try await inner.suspendSocket(socket, untilReadyFor: events) }
    let task = Task { [inner] in try await inner.suspendSocket(socket, untilReadyFor: events) }
    let (id, longest) = state.withLock { s -> (UInt64, Task<Void, any Error>?) in
      s.next += 1
      s.waiting.append((s.next, task))
      return (s.next, s.waiting.count > limit ? s.waiting.removeFirst().task : nil)
    }
    defer { state.withLock { s in s.waiting.removeAll { $0.id == id } } }
    longest?.cancel()
    try await withTaskCancellationHandler {
      try await task.value
    } onCancel: {
      task.cancel()
    }
  }

  private static func isListening(_ socket: Socket) -> Bool {
    var value: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    return getsockopt(socket.file.rawValue, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value != 0
  }
}

/// Takes so many at once, and no more.
final class Turnstile: Sendable {
  private let limit: Int
  private let inside = Mutex(0)
  init(_ limit: Int) { self.limit = limit }

  /// False when all places are taken.
  func enter() -> Bool {
    inside.withLock { n in
      if n >= limit { return false }
      n += 1
      return true
    }
  }
  func leave() { inside.withLock { $0 -= 1 } }
}
