import Foundation
import Glibc
import Synchronization
import Testing

@testable import ElideIO

@Suite(.serialized) struct UnixHTTPServerTests {
  private final class Fixture {
    let path = "/tmp/elide-http-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
    let server: UnixHTTPServer

    init(limits: UnixHTTPServer.Limits = .init(), handler: @escaping UnixHTTPServer.Handler) throws {
      server = try UnixHTTPServer(
        listening: [.unix(path: path)], limits: limits, refusal: { Array($0.detail.utf8) }, handler: handler)
      try server.start()
    }
    deinit { server.stop(milliseconds: 1000) }

    func get(_ path: String, take: ((UnsafeRawBufferPointer) -> Bool)? = nil) throws -> HTTPClient.Response {
      try HTTPClient.send("GET", "http://elide\(path)", unixSocket: self.path, timeoutMilliseconds: 20_000, take: take)
    }

    func connect() -> Int32 {
      let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_un(path: path)!
      let connected = address.withAddress { Glibc.connect(fd, $0, $1) }
      #expect(connected == 0)
      return fd
    }

    /// What comes until the other side closes.
    static func rest(_ fd: Int32) -> String {
      var out: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 4096)
      while true {
        let n = recv(fd, &buffer, buffer.count, 0)
        if n <= 0 { return String(decoding: out, as: UTF8.self) }
        out += buffer[..<n]
      }
    }
  }

  @Test func itIsKnownWhoAsks() throws {
    let f = try Fixture { _, peer, responder in
      responder.send(200, Array("\(peer?.user ?? 9999) \(peer?.process ?? 0)".utf8))
    }
    let answer = try f.get("/")
    #expect(answer.status == 200)
    #expect(String(decoding: answer.body, as: UTF8.self) == "\(getuid()) \(getpid())")
  }

  @Test func anAnswerMayGrow() throws {
    let f = try Fixture { _, _, responder in
      responder.begin(200, "application/x-ndjson")
      for i in 0..<100 { responder.write(Array("{\"n\":\(i)}\n".utf8)) }
      responder.end()
    }
    var lines = 0
    _ = try f.get("/") { bytes in
      lines += bytes.filter { $0 == 10 }.count
      return true
    }
    #expect(lines == 100)
  }

  @Test func manyAtOnceAndNotMore() throws {
    var limits = UnixHTTPServer.Limits()
    limits.connections = 4
    let f = try Fixture(limits: limits) { _, _, responder in responder.send(200, [65]) }
    // Each new one makes room for itself: the one that has waited longest goes.
    let idle = (0..<4).map { _ in f.connect() }
    var later: [Int32] = []
    for fd in idle {
      #expect(try f.get("/").status == 200)
      later.append(f.connect())
      #expect(try f.get("/").status == 200)
      #expect(Fixture.rest(fd).isEmpty)
      close(fd)
    }
    for fd in later { close(fd) }
  }

  @Test func slowAndHostileClientsAreDropped() throws {
    var limits = UnixHTTPServer.Limits()
    limits.arrival = 200
    limits.silence = 300
    let f = try Fixture(limits: limits) { _, _, responder in responder.send(200, [65]) }
    let half = f.connect()
    _ = "GET / HT".withCString { send(half, $0, 8, 0) }
    #expect(Fixture.rest(half).hasPrefix("HTTP/1.1 408"))
    close(half)
    let silent = f.connect()
    #expect(Fixture.rest(silent).isEmpty)
    close(silent)
    let bad = f.connect()
    let junk = [UInt8](repeating: 65, count: 100_000)
    _ = send(bad, junk, junk.count, Int32(MSG_NOSIGNAL))
    let answer = Fixture.rest(bad)
    #expect(answer.hasPrefix("HTTP/1.1 431"), "\(answer)")
    close(bad)
    #expect(try f.get("/").status == 200)
  }

  @Test func aClientThatIsGoneIsSeen() throws {
    let seen = Mutex(false)
    let condition = Condition()
    let f = try Fixture { _, _, responder in
      responder.begin(200, "application/x-ndjson")
      responder.write(Array("1\n".utf8))
      let begin = Date()
      while !responder.isGone, Date().timeIntervalSince(begin) < 20 { sched_yield() }
      seen.withLock { $0 = responder.isGone }
      condition.broadcast()
    }
    let count = condition.count
    _ = try? f.get("/") { _ in false }
    condition.wait(after: count, nanoseconds: 20_000_000_000)
    #expect(seen.withLock { $0 })
  }

  @Test func aStopEndsWhatRuns() throws {
    let f = try Fixture { _, _, responder in responder.send(200, [65]) }
    let idle = f.connect()
    #expect(try f.get("/").status == 200)
    f.server.stop(milliseconds: 5000)
    #expect(Fixture.rest(idle).isEmpty)
    close(idle)
    #expect(throws: HTTPClient.Failure.self) { try f.get("/") }
  }
}
