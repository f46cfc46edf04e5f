import CElide
import Glibc
import Synchronization

/// Who is at the other end of a Unix socket, as the kernel says (SO_PEERCRED): the process that connected, at that time.
package struct PeerCredentials: Equatable, Sendable {
  package let process: Int32
  package let user: UInt32
  package let group: UInt32
  /// Its other groups (SO_PEERGROUPS); empty where the kernel does not say.
  package let groups: [UInt32]

  package init(process: Int32, user: UInt32, group: UInt32, groups: [UInt32] = []) {
    self.process = process
    self.user = user
    self.group = group
    self.groups = groups
  }

  /// nil for a socket of another kind.
  init?(_ descriptor: Int32) {
    // struct ucred: process, user, group; Glibc shows it to those only who define _GNU_SOURCE.
    var credentials: [UInt32] = [0, 0, 0]
    var length = socklen_t(12)
    guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0, length == 12, credentials[0] > 0 else {
      return nil
    }
    var groups = [gid_t](repeating: 0, count: 256)
    var bytes = socklen_t(groups.count * MemoryLayout<gid_t>.size)
    let soPeerGroups: Int32 = 59
    let count = getsockopt(descriptor, SOL_SOCKET, soPeerGroups, &groups, &bytes) == 0 ? Int(bytes) / MemoryLayout<gid_t>.size : 0
    self.init(
      process: Int32(bitPattern: credentials[0]), user: credentials[1], group: credentials[2], groups: Array(groups.prefix(count))
    )
  }
}

/// The answer to one request, sent by the thread that handles it: `send` once, or `begin`, `write` and `end` for one that grows.
/// A client that is gone or does not read makes the calls return false; what is written after that goes nowhere.
package final class HTTPResponder {
  private let descriptor: Int32
  fileprivate private(set) var hasAnswered = false
  fileprivate private(set) var isWhole = false
  fileprivate private(set) var isBroken = false
  fileprivate var isKept: Bool

  fileprivate init(_ descriptor: Int32, isKept: Bool) {
    self.descriptor = descriptor
    self.isKept = isKept
  }

  @discardableResult
  package func send(_ status: Int, _ body: [UInt8], type: String = "application/json") -> Bool {
    precondition(!hasAnswered, "one answer for a request")
    hasAnswered = true
    isWhole = true
    return put(Array((head(status, type) + "Content-Length: \(body.count)\r\n\r\n").utf8) + body)
  }

  /// Begins an answer whose length nobody knows yet.
  @discardableResult
  package func begin(_ status: Int, _ type: String) -> Bool {
    precondition(!hasAnswered, "one answer for a request")
    hasAnswered = true
    return put(Array((head(status, type) + "Transfer-Encoding: chunked\r\n\r\n").utf8))
  }

  @discardableResult
  package func write(_ bytes: [UInt8]) -> Bool {
    if bytes.isEmpty { return !isBroken }
    return put(Array((String(bytes.count, radix: 16) + "\r\n").utf8) + bytes + [13, 10])
  }

  @discardableResult
  package func end() -> Bool {
    isWhole = true
    return put(Array("0\r\n\r\n".utf8))
  }

  /// The client has closed its end, or the connection is broken. Does not wait.
  package var isGone: Bool {
    if isBroken { return true }
    let pollRDHUP: Int16 = 0x2000
    var p = pollfd(fd: descriptor, events: pollRDHUP, revents: 0)
    return poll(&p, 1, 0) > 0 && p.revents != 0
  }

  private func head(_ status: Int, _ type: String) -> String {
    "HTTP/1.1 \(status) \(Self.reason(status))\r\nContent-Type: \(type)\r\nCache-Control: no-store\r\n"
      + (isKept ? "" : "Connection: close\r\n")
  }

  private func put(_ bytes: [UInt8]) -> Bool {
    if isBroken { return false }
    var sent = 0
    while sent < bytes.count {
      let n = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL)) }
      if n > 0 {
        sent += n
      } else if n < 0, errno == EINTR {
        continue
      } else {
        // Gone, or it has not read anything for the time that sends are given.
        isBroken = true
        return false
      }
    }
    return true
  }

  private static func reason(_ status: Int) -> String {
    switch status {
    case 100: "Continue"
    case 200: "OK"
    case 202: "Accepted"
    case 400: "Bad Request"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 413: "Content Too Large"
    case 431: "Request Header Fields Too Large"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 505: "HTTP Version Not Supported"
    default: status < 500 ? "Refused" : "Failed"
    }
  }
}

/// HTTP/1.1 over a Unix socket, for what waits: each connection has a thread, and there are only so many. It is known who asks.
///
/// Bounds: connections, bytes of a request, the time for a request to arrive, the time for an answer to be taken. A handler
/// runs on its connection's thread and may take as long as it likes. All members may be called from any thread.
package final class UnixHTTPServer: Sendable {
  package struct Limits: Sendable {
    package var request = HTTPRequestParser.Limits()
    package var connections = 64
    /// Milliseconds in which a request that has begun must have come, a client may be silent between requests, and must take
    /// something of an answer.
    package var arrival: UInt64 = 10_000
    package var silence: UInt64 = 60_000
    package var taking = 10_000
    package init() {}
  }
  package typealias Handler = @Sendable (HTTPRequest, PeerCredentials?, HTTPResponder) -> Void

  private struct Client {
    var thread: JoinableThread?
    /// Since when it has waited for bytes of a request; nil while it is answered.
    var waitingSince: UInt64?
    /// It was told to go.
    var isLeaving = false
  }
  private struct State {
    var isStopping = false
    var open: [Int32: Client] = [:]
    var over: [JoinableThread] = []
  }
  private let listeners: [Listening]
  private let limits: Limits
  private let handler: Handler
  /// Connections that were told to go and are still on their way.
  private static let leaving = 64
  private let refusal: @Sendable (HTTPRequestParser.Refusal) -> [UInt8]
  private let state = Mutex(State())
  private let ended = Condition()
  private let wake: WakeEvent
  private let thread = Mutex<JoinableThread?>(nil)

  private final class Listening: @unchecked Sendable {  // used by the accepting thread, after init
    let listener: Listener
    init(_ listener: Listener) { self.listener = listener }
  }

  /// - Parameters:
  ///   - mode: permission bits of a socket file that is made.
  ///   - refusal: the body that tells why a request was not read.
  package init(
    listening addresses: [ListenAddress], mode: UInt32 = 0o600, limits: Limits = Limits(),
    refusal: @escaping @Sendable (HTTPRequestParser.Refusal) -> [UInt8], handler: @escaping Handler
  ) throws(ListenError) {
    var made: [Listening] = []
    for address in addresses {
      let listener = try Listener(address)
      if case .unix(let path) = address { chmod(path, mode) }
      made.append(Listening(listener))
    }
    listeners = made
    self.limits = limits
    self.handler = handler
    self.refusal = refusal
    do throws(Errno) { wake = try WakeEvent() } catch {
      throw ListenError(address: addresses[0], detail: error.description)
    }
  }

  /// Answers from now on, until `stop`.
  package func start() throws(Errno) {
    let started = try spawnThread(name: "elide-http") { [self] in accept() }
    thread.withLock { $0 = started }
  }

  /// Takes no more connections, lets the handlers that run end their answers within `milliseconds`, and returns.
  package func stop(milliseconds: UInt64 = 5000) {
    state.withLock { $0.isStopping = true }
    wake.signal()
    thread.withLock { $0.take() }?.join()
    for listening in listeners { listening.listener.end() }
    // Whoever waits for a request is woken; whoever answers goes on for a while.
    state.withLock { s in for descriptor in s.open.keys { shutdown(descriptor, Int32(SHUT_RD)) } }
    let begin = Self.now
    while true {
      let seen = ended.count
      let left = state.withLock { $0.open.count }
      if left == 0 || Self.now - begin >= milliseconds { break }
      ended.wait(after: seen, nanoseconds: 50_000_000)
    }
    state.withLock { s in for descriptor in s.open.keys { shutdown(descriptor, Int32(SHUT_RDWR)) } }
    for thread in state.withLock({ s in s.over }) { thread.join() }
    state.withLock { $0.over = [] }
  }

  package var isStopping: Bool { state.withLock { $0.isStopping } }

  private static var now: UInt64 {
    var t = timespec()
    clock_gettime(CLOCK_MONOTONIC, &t)
    return UInt64(t.tv_sec) * 1000 + UInt64(t.tv_nsec) / 1_000_000
  }

  private func accept() {
    var polled = [pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)]
    for l in listeners { polled.append(pollfd(fd: l.listener.descriptor, events: Int16(POLLIN), revents: 0)) }
    while !isStopping {
      _ = poll(&polled, nfds_t(polled.count), 1000)
      for thread in state.withLock({ s in
        defer { s.over = [] }
        return s.over
      }) {
        thread.join()
      }
      for p in polled.dropFirst() where p.revents != 0 {
        while !isStopping {
          let descriptor = elide_accept(p.fd)
          if descriptor < 0 { break }
          take(descriptor)
        }
      }
    }
  }

  private func take(_ descriptor: Int32) {
    let flags = fcntl(descriptor, F_GETFL)
    _ = fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK)
    var time = timeval(tv_sec: limits.taking / 1000, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    let isFull = state.withLock { s in
      if s.open.count >= limits.connections + Self.leaving { return true }
      let staying = s.open.filter { !$0.value.isLeaving }
      if staying.count >= limits.connections {
        // Whoever has waited longest makes room; a connection that is answered keeps its place.
        let waiting = staying.compactMap { client in client.value.waitingSince.map { (since: $0, descriptor: client.key) } }
        guard let longest = waiting.min(by: { $0.since < $1.since }) else { return true }
        s.open[longest.descriptor]?.isLeaving = true
        shutdown(longest.descriptor, Int32(SHUT_RDWR))
      }
      s.open[descriptor] = Client(thread: nil, waitingSince: Self.now)
      return false
    }
    if isFull {
      HTTPResponder(descriptor, isKept: false).send(
        503, refusal(HTTPRequestParser.Refusal(status: 503, detail: "too many clients are connected; try again")))
      close(descriptor)
      return
    }
    do throws(Errno) {
      let started = try spawnThread(name: "elide-http") { [self] in
        serve(descriptor)
        // Its number may be another connection's as soon as it is closed.
        state.withLock { s in if let thread = s.open.removeValue(forKey: descriptor)?.thread { s.over.append(thread) } }
        close(descriptor)
        ended.broadcast()
      }
      state.withLock { s in
        // It may have ended already: then it is joined with the others.
        if s.open[descriptor] != nil { s.open[descriptor]?.thread = started } else { s.over.append(started) }
      }
    } catch {
      state.withLock { _ = $0.open.removeValue(forKey: descriptor) }
      close(descriptor)
    }
  }

  /// One connection, from its first request to its last.
  private func serve(_ descriptor: Int32) {
    let peer = PeerCredentials(descriptor)
    var parser = HTTPRequestParser(limits: limits.request)
    var began = Self.now
    while !isStopping {
      let step: HTTPRequestParser.Step
      do throws(HTTPRequestParser.Refusal) { step = try parser.next() } catch {
        HTTPResponder(descriptor, isKept: false).send(error.status, refusal(error))
        // What was sent and not read would take the answer away with it.
        shutdown(descriptor, Int32(SHUT_WR))
        drainBriefly(descriptor)
        return
      }
      switch step {
      case .request(let request):
        let responder = HTTPResponder(descriptor, isKept: request.isKept)
        state.withLock { $0.open[descriptor]?.waitingSince = nil }
        handler(request, peer, responder)
        if !responder.hasAnswered {
          responder.send(500, refusal(HTTPRequestParser.Refusal(status: 500, detail: "no answer was given")))
        }
        if !request.isKept || !responder.isWhole || responder.isBroken { return }
        began = Self.now
        state.withLock { $0.open[descriptor]?.waitingSince = began }
      case .wantsContinue:
        let line = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
        if line.withUnsafeBytes({ Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }) < 0 { return }
      case .needsMore:
        let limit = began + (parser.isIdle ? limits.silence : limits.arrival)
        let now = Self.now
        if now >= limit || !receive(descriptor, &parser, &began, milliseconds: limit - now) {
          if !parser.isIdle {
            HTTPResponder(descriptor, isKept: false).send(
              408, refusal(HTTPRequestParser.Refusal(status: 408, detail: "the request did not come in time")))
          }
          return
        }
      }
    }
  }

  /// False when nothing came in time, or the client has gone.
  private func receive(
    _ descriptor: Int32, _ parser: inout HTTPRequestParser, _ began: inout UInt64, milliseconds: UInt64
  ) -> Bool {
    var p = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&p, 1, Int32(clamping: milliseconds)) > 0 else { return false }
    let wasIdle = parser.isIdle
    return withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 8) { buffer in
      let n = recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
      if n < 0 { return errno == EINTR || errno == EAGAIN }
      if n == 0 { return false }
      if wasIdle { began = Self.now }
      parser.feed(UnsafeRawBufferPointer(rebasing: buffer[..<n]))
      return true
    }
  }

  private func drainBriefly(_ descriptor: Int32) {
    let end = Self.now + 200
    withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 8) { buffer in
      var left = 64
      while left > 0, Self.now < end {
        var p = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&p, 1, 50) > 0, recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT)) > 0 else { return }
        left -= 1
      }
    }
  }
}
