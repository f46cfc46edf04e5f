import Testing

@testable import ElideIO

@Suite struct HTTPRequestTests {
  private func read(_ text: String, limits: HTTPRequestParser.Limits = .init()) throws -> [HTTPRequest] {
    var parser = HTTPRequestParser(limits: limits)
    parser.feed(Array(text.utf8))
    var out: [HTTPRequest] = []
    while case .request(let r) = try parser.next() { out.append(r) }
    return out
  }

  private func refused(_ text: String, _ status: Int, limits: HTTPRequestParser.Limits = .init(), at line: Int = #line) {
    do throws(HTTPRequestParser.Refusal) {
      var parser = HTTPRequestParser(limits: limits)
      parser.feed(Array(text.utf8))
      let step = try parser.next()
      Issue.record("line \(line): not refused but \(step)")
    } catch { #expect(error.status == status, "line \(line): \(error.detail)") }
  }

  @Test func aRequestIsRead() throws {
    let text =
      "POST /v1/names/vm%2d1/events?after=3&follow HTTP/1.1\r\nHost: elide\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.0\r\n\r\n"
    let requests = try read(text)
    #expect(requests.count == 2)
    #expect(requests[0].method == "POST")
    #expect(requests[0].path == ["v1", "names", "vm-1", "events"])
    #expect(requests[0].query == ["after": "3", "follow": ""])
    #expect(requests[0].headers == ["host": "elide", "content-length": "4"])
    #expect(requests[0].body == Array("body".utf8))
    #expect(requests[0].isKept)
    #expect(requests[1].path.isEmpty)
    #expect(!requests[1].isKept)
  }

  @Test func bytesMayComeOneByOne() throws {
    let text = Array("PUT /a HTTP/1.1\r\nContent-Length: 3\r\nX: y\r\n\r\nabc".utf8)
    var parser = HTTPRequestParser()
    for (i, b) in text.enumerated() {
      #expect(i == 0 || !parser.isIdle)
      parser.feed([b])
      let step = try parser.next()
      if i < text.count - 1 {
        #expect(step == .needsMore)
      } else {
        guard case .request(let r) = step else {
          Issue.record("no request")
          return
        }
        #expect(r.body == Array("abc".utf8))
      }
    }
    #expect(parser.isIdle)
  }

  @Test func aBodyIsAskedForOnce() throws {
    var parser = HTTPRequestParser()
    parser.feed(Array("PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n".utf8))
    #expect(try parser.next() == .wantsContinue)
    #expect(try parser.next() == .needsMore)
    parser.feed([65])
    guard case .request = try parser.next() else {
      Issue.record("no request")
      return
    }
  }

  @Test func whatMayBeReadInTwoWaysIsRefused() {
    refused("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400)
    refused("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", 501)
    refused("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400)
    refused("GET / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", 400)
    refused("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400)
    refused("GET / HTTP/1.1\r\nContent-Length : 1\r\n\r\n", 400)
    refused("GET / HTTP/1.1\r\n folded\r\n\r\n", 400)
    refused("GET / HTTP/1.1\nHost: x\r\n\r\n", 400)
    refused("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 400)
    refused("GET  / HTTP/1.1\r\n\r\n", 400)
    refused("GET / HTTP/2.0\r\n\r\n", 505)
    refused("GET http://x/ HTTP/1.1\r\n\r\n", 400)
    refused("GET /a/../b HTTP/1.1\r\n\r\n", 400)
    refused("GET /%2e%2e HTTP/1.1\r\n\r\n", 400)
    refused("GET /%00 HTTP/1.1\r\n\r\n", 400)
    refused("GET /%ff HTTP/1.1\r\n\r\n", 400)
    refused("GET /%4 HTTP/1.1\r\n\r\n", 400)
    refused("GET / HTTP/1.1\r\nA: \u{1}\r\n\r\n", 400)
    refused("\r\n\r\n", 400)
  }

  @Test func whatIsHeldIsBounded() {
    var limits = HTTPRequestParser.Limits()
    limits.head = 256
    limits.headers = 4
    limits.body = 10
    refused("GET /" + String(repeating: "a", count: 300), 431, limits: limits)
    refused("GET / HTTP/1.1\r\nA: " + String(repeating: "a", count: 300) + "\r\n\r\n", 431, limits: limits)
    refused("GET / HTTP/1.1\r\n" + String(repeating: "A: b\r\n", count: 5) + "\r\n", 431, limits: limits)
    refused("GET / HTTP/1.1\r\nContent-Length: 11\r\n\r\n", 413, limits: limits)
  }

  /// Nothing that is made of broken pieces of requests stops the parser.
  @Test func anyBytesGiveAnAnswer() {
    let pieces = [
      "GET", " ", "/", "HTTP/1.1", "\r\n", "\r", "\n", ":", "Content-Length", "%", "?", "&", "=", "\u{0}", "5", "é", "Host",
    ]
    var state: UInt64 = 42
    func draw() -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33)
    }
    for _ in 0..<20_000 {
      var parser = HTTPRequestParser()
      for _ in 0..<(draw() % 24) { parser.feed(Array(pieces[draw() % pieces.count].utf8)) }
      do throws(HTTPRequestParser.Refusal) {
        for _ in 0..<40 { if try parser.next() == .needsMore { break } }
      } catch { #expect((400...505).contains(error.status)) }
    }
  }
}
