import ElideIO
import Glibc
import Testing

/// Answers that no decent server gives: each ends in time, in bounded memory, and in an error that names the object.
@Suite struct S3HostileTests {
  private static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
  private static let many = [UInt8](repeating: UInt8(ascii: "x"), count: 1 << 16)

  struct Case: CustomTestStringConvertible, Sendable {
    let name: String
    let reaction: FakeHTTPServer.Reaction
    /// Words that the error has.
    let says: String
    init(_ name: String, _ reaction: FakeHTTPServer.Reaction, says: String = "") {
      (self.name, self.reaction, self.says) = (name, reaction, says)
    }
    var testDescription: String { name }
  }

  static let whole: [Case] = [
    Case("closed", .close, says: "broke off"),
    Case("silence", .hang(), says: "nothing moved"),
    Case("silence after the head", .hang(bytes("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")), says: "nothing moved"),
    Case("too short", .raw(bytes("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")), says: "broke off"),
    Case("cut in a chunk", .raw(bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nab")), says: "broke off"),
    Case("no length", .raw(bytes("HTTP/1.1 200 OK\r\n\r\nab")), says: "without its length"),
    Case("cut in the head", .raw(bytes("HTTP/1.1 200 OK\r\nConten")), says: "in its headers"),
    Case("not HTTP", .raw(bytes("SSH-2.0-OpenSSH_9.2\r\n")), says: "broke off"),
    Case("a lying length", .raw(bytes("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab"))),
    Case("a negative length", .raw(bytes("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nab"))),
    Case(
      "larger than allowed", .endless(head: bytes("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"), many),
      says: "larger than"),
    Case("no end", .endless(head: bytes("HTTP/1.1 200 OK\r\n\r\n"), many), says: "larger than"),
    Case("headers without end", .endless(head: bytes("HTTP/1.1 200 OK\r\n"), bytes("X-A: b\r\n")), says: "headers"),
    Case("an endless page instead of an error", .endless(head: bytes("HTTP/1.1 403 No\r\n\r\n"), many), says: "endpoint right"),
    Case("one header without end", .endless(head: bytes("HTTP/1.1 200 OK\r\nX-A: "), many)),
    Case("a page", .answer(404, [:], bytes("<html><body>Not here</body></html>")), says: "is the endpoint right?"),
    Case("a login", .answer(302, ["Location": "http://192.0.2.1/login"], bytes("<html></html>")), says: "is the endpoint right?"),
    Case("bad XML", .answer(403, [:], bytes("<Error><Code>AccessDenied</Error>")), says: "is the endpoint right?"),
    Case(
      "entities", .answer(403, [:], bytes("<!DOCTYPE x [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>")),
      says: "endpoint right"),
    Case(
      "control characters", .answer(403, [:], bytes("<Error><Code>Odd</Code><Message>a\u{1b}[31m\r\nb</Message></Error>")),
      says: "a[31mb"),
  ]

  @Test(arguments: whole) func aWholeRead(one: Case) throws {
    let bench = try S3Bench(waitMilliseconds: 300) { _, _ in one.reaction }
    let error = storeError { () throws(StoreError) in _ = try bench.store.get("some/object", range: nil) }
    let told = try #require(error)
    #expect("\(told)".contains("'some/object'"), "\(told)")
    #expect(one.says.isEmpty || "\(told)".contains(one.says), "\(told)")
    #expect(!"\(told)".contains { $0.isNewline } && !"\(told)".contains("\u{1b}"))
    #expect(bench.server.requests.count <= 20)
  }

  static let ranged: [Case] = [
    Case("the whole", .answer(200, [:], [0, 1, 2, 3, 4]), says: "knows no ranges"),
    Case("more than the range", .answer(200, [:], many), says: "larger than"),
    Case("another range", .answer(206, ["Content-Range": "bytes 0-9/100"], [UInt8](repeating: 0, count: 10)), says: "asked for"),
    Case("fewer", .answer(206, ["Content-Range": "bytes 10-14/100"], [UInt8](repeating: 0, count: 5)), says: "asked for"),
    Case(
      "called otherwise", .answer(206, ["Content-Range": "bytes 10-19/100"], [UInt8](repeating: 0, count: 5)), says: "asked for"),
    Case("no range", .answer(206, [:], [UInt8](repeating: 0, count: 10)), says: "knows no ranges"),
    Case(
      "many ranges", .answer(206, ["Content-Type": "multipart/byteranges"], [UInt8](repeating: 0, count: 10)),
      says: "knows no ranges"),
    Case("nonsense", .answer(206, ["Content-Range": "bytes 19-10/5"], [UInt8](repeating: 0, count: 10)), says: "knows no ranges"),
  ]

  @Test(arguments: ranged) func aRangedRead(one: Case) throws {
    let bench = try S3Bench(waitMilliseconds: 300) { _, _ in one.reaction }
    let error = storeError { () throws(StoreError) in _ = try bench.store.get("some/object", range: 10..<20) }
    let told = try #require(error)
    #expect("\(told)".contains("'some/object'") && "\(told)".contains(one.says), "\(told)")
  }

  static let lists: [Case] = [
    Case("nothing", .answer(200), says: "is not one"),
    Case("not XML", .answer(200, [:], bytes("{}")), says: "is not one"),
    Case("another document", .answer(200, [:], bytes("<Other><IsTruncated>false</IsTruncated></Other>")), says: "is not one"),
    Case("cut off", .answer(200, [:], bytes("<ListBucketResult><IsTruncated>false</IsTruncated>")), says: "is not one"),
    Case(
      "no end in sight", .answer(200, [:], bytes("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>")),
      says: "go on"),
    Case("not in order", .answer(200, [:], listing(["b", "a"])), says: "in order"),
    Case("twice the same", .answer(200, [:], listing(["a", "a"])), says: "in order"),
    Case(
      "of another store",
      .answer(
        200, [:],
        bytes(
          "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>q/a</Key><Size>1</Size></Contents></ListBucketResult>"
        )),
      says: "is not one"),
    Case(
      "no size",
      .answer(
        200, [:],
        bytes(
          "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>")
      ),
      says: "is not one"),
    Case("deep", .answer(200, [:], bytes(String(repeating: "<a>", count: 100_000))), says: "is not one"),
    Case("absent", S3Bench.error(404, "NoSuchKey"), says: "status 404"),
  ]

  static func listing(_ keys: [String], truncated: Bool = false) -> [UInt8] {
    bytes(
      "<ListBucketResult><IsTruncated>\(truncated)</IsTruncated>"
        + keys.map { "<Contents><Key>p/\($0)</Key><Size>1</Size></Contents>" }.joined() + "</ListBucketResult>")
  }

  @Test(arguments: lists) func aList(one: Case) throws {
    let bench = try S3Bench(prefix: "p", waitMilliseconds: 300) { _, _ in one.reaction }
    let error = storeError { () throws(StoreError) in _ = try bench.store.list("", after: nil, limit: 10) }
    let told = try #require(error)
    #expect("\(told)".contains(one.says), "\(told)")
  }

  /// A server that says the same page for ever, in order or not, does not keep anybody for ever.
  @Test func aListThatDoesNotMoveOn() throws {
    let bench = try S3Bench(prefix: "p") { _, _ in .answer(200, [:], Self.listing(["a", "b"], truncated: true)) }
    guard case .corrupt? = storeError({ () throws(StoreError) in _ = try bench.store.list("", after: nil, limit: 1000) }) else {
      Issue.record("it went on")
      return
    }
    #expect(bench.server.requests.count == 2)
  }

  @Test(arguments: [
    FakeHTTPServer.Reaction.close, .hang(), .raw(bytes("HTTP/1.1 200 OK\r\nContent-Le")),
    .raw(bytes("HTTP/1.1 100 Continue\r\n\r\n")),
    .raw(bytes("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")),
  ])
  func aPutWhoseAnswerIsLostIsUnknown(reaction: FakeHTTPServer.Reaction) throws {
    let bench = try S3Bench(waitMilliseconds: 300) { _, _ in reaction }
    let error = storeError { () throws(StoreError) in _ = try bench.store.putIfAbsent("slot", [1, 2, 3]) }
    guard case .unknown(key: "slot", _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(bench.server.requests.count == 1)
  }

  /// A server that sends what it likes in answer to small requests must not make this process large.
  @Test func memoryStaysBounded() throws {
    let before = residentBytes()
    let bench = try S3Bench(maxObjectBytes: 1 << 20) { _, _ in
      .endless(head: Self.bytes("HTTP/1.1 200 OK\r\nContent-Length: 900000000000\r\n\r\n"), Self.many)
    }
    for _ in 0..<20 {
      guard case .corrupt(key: "k", _)? = storeError({ () throws(StoreError) in _ = try bench.store.get("k", range: nil) }) else {
        Issue.record("it was taken")
        return
      }
    }
    #expect(residentBytes() < before + 256 << 20)
  }

  private func residentBytes() -> Int {
    guard let text = try? HostFiles().readFile("/proc/self/statm") else { return 0 }
    return (String(decoding: text, as: UTF8.self).split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 4096
  }

  /// Random and mutated documents: an answer or nil, never a stop.
  @Test func documentsOfAllKinds() {
    let random = SeededRandom(42)
    let good = Self.listing(["a/b", "c&amp;d", "x&#x41;&#66;"])
    var parsed = 0
    for _ in 0..<4000 {
      var bytes = good
      for _ in 0..<random.below(4) + 1 {
        switch random.below(3) {
        case 0: bytes[random.below(bytes.count)] = UInt8(random.below(256))
        case 1: bytes.remove(at: random.below(bytes.count))
        default: bytes.insert("<>&;/#x\u{0}".utf8.randomElement() ?? 0, at: random.below(bytes.count))
        }
      }
      if S3Listing(bytes, prefix: "p/") != nil { parsed += 1 }
      _ = S3Listing(random.bytes(random.below(200)), prefix: "")
    }
    #expect(parsed > 0 && parsed < 4000)
    #expect(S3Listing(good, prefix: "p/")?.objects.map(\.key) == ["a/b", "c&d", "xAB"])
  }
}
