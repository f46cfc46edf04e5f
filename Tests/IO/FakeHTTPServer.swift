import ElideIO
import Glibc
import Synchronization

/// A server that answers as it is told to, byte by byte: for answers that no decent server gives. One thread per connection;
/// what came is kept.
final class FakeHTTPServer: Sendable {
  struct Request: Sendable {
    let method: String
    /// With the query.
    let target: String
    let headers: [String: String]
    let body: [UInt8]
    /// Which connection it came on, from 0.
    let connection: Int
  }

  enum Reaction: Sendable {
    /// A proper answer; the connection is kept.
    case answer(Int, [String: String] = [:], [UInt8] = [])
    /// These bytes, and then the connection is closed.
    case raw([UInt8])
    /// These bytes, and then nothing, until the server stops.
    case hang([UInt8] = [])
    /// Closed without a word.
    case close
    /// As much as the client takes, over and over.
    case endless(head: [UInt8], [UInt8])
  }

  private struct State {
    var requests: [Request] = []
    var open: Set<Int32> = []
    var connections = 0
    var stopped = false
    var threads: [JoinableThread] = []
  }
  private let listener: Int32
  private let state = Mutex(State())
  private let react: @Sendable (Int, Request) -> Reaction
  let port: UInt16

  /// `react` is given the number of the request, from 0, and the request.
  init(_ react: @escaping @Sendable (Int, Request) -> Reaction) throws {
    self.react = react
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) { p in
      p.withMemoryRebound(to: sockaddr.self, capacity: 1) { a in
        bind(listener, a, length) == 0 && listen(listener, 64) == 0 && getsockname(listener, a, &length) == 0
      }
    }
    guard bound else { throw Errno.current }
    self.listener = listener
    port = UInt16(bigEndian: address.sin_port)
    let thread = try spawnThread(name: "fake-http") { [listener, weak self] in
      while true {
        let descriptor = accept(listener, nil, nil)
        guard descriptor >= 0 else { return }
        guard let self else {
          Glibc.close(descriptor)
          return
        }
        self.serve(descriptor)
      }
    }
    state.withLock { $0.threads.append(thread) }
  }

  var requests: [Request] { state.withLock { $0.requests } }
  var connections: Int { state.withLock { $0.connections } }
  var endpoint: String { "http://127.0.0.1:\(port)" }

  /// Ends all connections. Whoever made the server calls it, once.
  func stop() {
    shutdown(listener, Int32(SHUT_RDWR))
    let threads = state.withLock { s -> [JoinableThread] in
      s.stopped = true
      for descriptor in s.open { shutdown(descriptor, Int32(SHUT_RDWR)) }
      return s.threads
    }
    for thread in threads { thread.join() }
    Glibc.close(listener)
  }

  private func serve(_ descriptor: Int32) {
    let number = state.withLock { s -> Int in
      s.open.insert(descriptor)
      s.connections += 1
      return s.connections - 1
    }
    let thread = try? spawnThread(name: "fake-http-c") {
      self.talk(descriptor, number)
      self.state.withLock { _ = $0.open.remove(descriptor) }
      Glibc.close(descriptor)
    }
    state.withLock { if let thread { $0.threads.append(thread) } }
  }

  private func talk(_ descriptor: Int32, _ number: Int) {
    var buffer: [UInt8] = []
    while !state.withLock({ $0.stopped }), let request = read(descriptor, &buffer, number) {
      let index = state.withLock { s -> Int in
        s.requests.append(request)
        return s.requests.count - 1
      }
      switch react(index, request) {
      case .answer(let status, let headers, let body):
        var text = "HTTP/1.1 \(status) X\r\n"
        for (name, value) in headers { text += "\(name): \(value)\r\n" }
        if headers["Content-Length"] == nil { text += "Content-Length: \(body.count)\r\n" }
        if !write(descriptor, Array((text + "\r\n").utf8) + body) { return }
      case .raw(let bytes):
        _ = write(descriptor, bytes)
        return
      case .hang(let bytes):
        _ = write(descriptor, bytes)
        while receive(descriptor, &buffer) {}
        return
      case .close: return
      case .endless(let head, let bytes):
        guard write(descriptor, head) else { return }
        while write(descriptor, bytes) {}
        return
      }
    }
  }

  private func receive(_ descriptor: Int32, _ buffer: inout [UInt8]) -> Bool {
    var chunk = [UInt8](repeating: 0, count: 65536)
    let n = recv(descriptor, &chunk, chunk.count, 0)
    if n > 0 { buffer += chunk[..<n] }
    return n > 0
  }

  private func read(_ descriptor: Int32, _ buffer: inout [UInt8], _ number: Int) -> Request? {
    let blank = Array("\r\n\r\n".utf8)
    while true {
      if let end = buffer.firstRange(of: blank) {
        let lines = String(decoding: buffer[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
        let first = (lines.first ?? "").split(separator: " ")
        guard first.count == 3 else { return nil }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
          let halves = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
          if halves.count == 2 { headers[halves[0].lowercased()] = String(halves[1].drop { $0 == " " }) }
        }
        let length = headers["content-length"].flatMap { Int($0) } ?? 0
        while buffer.count < end.upperBound + length { guard receive(descriptor, &buffer) else { return nil } }
        let body = Array(buffer[end.upperBound..<end.upperBound + length])
        buffer.removeFirst(end.upperBound + length)
        return Request(
          method: String(first[0]), target: String(first[1]), headers: headers, body: body, connection: number)
      }
      guard receive(descriptor, &buffer) else { return nil }
    }
  }

  private func write(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
    var done = 0
    while done < bytes.count {
      let n = bytes[done...].withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if n <= 0 { return false }
      done += n
    }
    return true
  }
}
