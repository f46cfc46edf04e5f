import CCurl
import Glibc
import Synchronization

/// HTTP/1.1 through libcurl for many threads: blocking calls over kept connections, at most so many at a time, each with a
/// deadline, and a second try side by side ("hedge") for reads that dawdle. No redirects, no retries.
///
/// A *lane* is a multi handle with its connections, used by one thread at a time. The lane that was used last is used next,
/// so connections stay warm. Certificates are checked, and there is no way to turn that off. Proxies are those of the
/// environment (`http_proxy`, `https_proxy`, `no_proxy`), as libcurl reads it.
package final class HTTPTransport: Sendable {
  private struct Pool {
    var idle: [HTTPLane] = []
    var made = 0
  }
  private let pool = Mutex(Pool())
  private let freed = Condition()
  private let clock: any Clock
  private let caFile: String?
  package let connections: Int

  /// Once per process, before any handle; never undone.
  private static let started: Bool = curl_global_init(Int(CURL_GLOBAL_ALL)) == CURLE_OK

  /// - Parameters:
  ///   - caFile: certificates to trust instead of the system's.
  ///   - connections: requests in flight at most; further callers wait.
  package init(clock: any Clock, caFile: String? = nil, connections: Int = 16) {
    precondition(connections > 0)
    self.clock = clock
    self.caFile = caFile
    self.connections = connections
  }

  /// Sends a request and waits for its answer, whatever its status.
  package func send(_ request: HTTPExchange) throws(HTTPFault) -> HTTPAnswer {
    let lane = try take()
    defer { give(lane) }
    return try lane.run(request, clock: clock, caFile: caFile)
  }

  private func take() throws(HTTPFault) -> HTTPLane {
    guard Self.started else { throw .unreachable("libcurl does not start") }
    while true {
      let seen = freed.count
      let (lane, mayMake) = pool.withLock { pool -> (HTTPLane?, Bool) in
        if let lane = pool.idle.popLast() { return (lane, false) }
        if pool.made == connections { return (nil, false) }
        pool.made += 1
        return (nil, true)
      }
      if let lane { return lane }
      if mayMake {
        if let lane = HTTPLane() { return lane }
        pool.withLock { $0.made -= 1 }
        throw .unreachable("libcurl has no handle to give")
      }
      freed.wait(after: seen)
    }
  }

  private func give(_ lane: HTTPLane) {
    pool.withLock { $0.idle.append(lane) }
    freed.signal()
  }
}

/// A multi handle, two easy handles, and the connections they keep.
private final class HTTPLane: @unchecked Sendable {  // the pool gives it to one thread at a time
  private let multi: UnsafeMutableRawPointer
  private let easies: [UnsafeMutableRawPointer]
  private let sockets = LaneSockets()

  init?() {
    guard let multi = curl_multi_init() else { return nil }
    guard let first = curl_easy_init() else {
      curl_multi_cleanup(multi)
      return nil
    }
    guard let second = curl_easy_init() else {
      curl_easy_cleanup(first)
      curl_multi_cleanup(multi)
      return nil
    }
    self.multi = multi
    easies = [first, second]
    _ = elide_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, 2)
  }
  deinit {
    for easy in easies { curl_easy_cleanup(easy) }
    curl_multi_cleanup(multi)
  }

  /// Where a request stands.
  private struct Flight {
    var running: [HTTPTransfer] = []
    let begun: UInt64
    var lastMove: UInt64
    var moved = 0
    var firstByte: UInt64?
    var sent = 0
    /// What the first of two brought, when it was nothing good and the other may still be better.
    var poor: Result<HTTPAnswer, HTTPFault>?
  }

  func run(_ request: HTTPExchange, clock: any Clock, caFile: String?) throws(HTTPFault) -> HTTPAnswer {
    let now = clock.monotonicNanoseconds()
    var flight = Flight(begun: now, lastMove: now)
    defer { for transfer in flight.running { curl_multi_remove_handle(multi, transfer.handle) } }
    try start(request, caFile, &flight)
    while true {
      var alive: Int32 = 0
      guard curl_multi_perform(multi, &alive) == CURLM_OK else { throw .interrupted("libcurl cannot go on") }
      sockets.acknowledgeAtOnce()
      let now = clock.monotonicNanoseconds()
      note(now, &flight)
      if let result = reap(&flight) { return try result.get() }
      let wait = try patience(request, now, &flight, caFile)
      curl_multi_poll(multi, nil, 0, Int32(clamping: wait / 1_000_000 + 1), nil)
    }
  }

  private func start(_ request: HTTPExchange, _ caFile: String?, _ flight: inout Flight) throws(HTTPFault) {
    let transfer = HTTPTransfer(easies[flight.sent], request, caFile: caFile, sockets: sockets)
    flight.sent += 1
    guard curl_multi_add_handle(multi, transfer.handle) == CURLM_OK else { throw .unreachable("libcurl takes no request") }
    flight.running.append(transfer)
  }

  private func note(_ now: UInt64, _ flight: inout Flight) {
    let moved = flight.running.reduce(0) { $0 + $1.moved }
    if moved != flight.moved { (flight.moved, flight.lastMove) = (moved, now) }
    if flight.firstByte == nil, flight.running.contains(where: \.answered) { flight.firstByte = now &- flight.begun }
  }

  /// Takes what has ended. An answer is final when it is good, or when no other is awaited.
  private func reap(_ flight: inout Flight) -> Result<HTTPAnswer, HTTPFault>? {
    var left: Int32 = 0
    while let message = curl_multi_info_read(multi, &left) {
      guard message.pointee.msg == CURLMSG_DONE else { continue }
      let (easy, code) = (message.pointee.easy_handle, message.pointee.data.result)
      guard let index = flight.running.firstIndex(where: { $0.handle == easy }) else { continue }
      let transfer = flight.running[index]
      let result = transfer.result(code, firstByte: flight.firstByte ?? 0, sent: flight.sent)
      curl_multi_remove_handle(multi, transfer.handle)
      flight.running.remove(at: index)
      if case .success(let response) = result, response.status < 500 { return result }
      if flight.running.isEmpty {
        if case .success? = flight.poor { return flight.poor }
        return result
      }
      flight.poor = result
    }
    return nil
  }

  /// How long to wait for something to happen; throws when it has been too long, and sends the hedge when it is due.
  private func patience(
    _ request: HTTPExchange, _ now: UInt64, _ flight: inout Flight, _ caFile: String?
  ) throws(HTTPFault) -> UInt64 {
    let elapsed = now &- flight.begun
    let still = now &- flight.lastMove
    if elapsed >= request.timeoutNanoseconds {
      throw .timedOut("no complete answer within \(request.timeoutNanoseconds / 1_000_000) ms")
    }
    if still >= request.stallNanoseconds { throw .timedOut("nothing moved for \(request.stallNanoseconds / 1_000_000) ms") }
    var wait = min(request.timeoutNanoseconds - elapsed, request.stallNanoseconds - still, 1_000_000_000)
    if let hedge = request.hedgeNanoseconds, flight.sent == 1, flight.firstByte == nil {
      if elapsed >= hedge { try start(request, caFile, &flight) } else { wait = min(wait, hedge - elapsed) }
    }
    return wait
  }
}

/// The open connections of a lane. A server that sends the head and the body of an answer apart, and waits for the head to be
/// acknowledged (Nagle's algorithm; a RADOS gateway does), costs 40 ms an answer when acknowledgements are delayed. Linux
/// forgets the wish with each request that is sent, so it is said again.
final class LaneSockets {
  private var open: [Int32] = []

  func watch(_ handle: UnsafeMutableRawPointer) {
    _ = elide_curl_set_sockets(handle, Self.opened, Self.close, Unmanaged.passUnretained(self).toOpaque())
  }

  func acknowledgeAtOnce() {
    var yes: Int32 = 1
    for socket in open { setsockopt(socket, Int32(IPPROTO_TCP), TCP_QUICKACK, &yes, socklen_t(MemoryLayout<Int32>.size)) }
  }

  private static let opened: curl_sockopt_callback = { context, socket, _ in
    if let context { Unmanaged<LaneSockets>.fromOpaque(context).takeUnretainedValue().open.append(socket) }
    return Int32(CURL_SOCKOPT_OK)
  }
  private static let close: curl_closesocket_callback = { context, socket in
    if let context { Unmanaged<LaneSockets>.fromOpaque(context).takeUnretainedValue().open.removeAll { $0 == socket } }
    return Glibc.close(socket)
  }
}
