/// A request as a server reads it.
package struct HTTPRequest: Equatable, Sendable {
  package var method: String
  /// Decoded parts between the slashes; none of them is empty, `.` or `..`.
  package var path: [String]
  package var query: [String: String] = [:]
  /// By lower-case name; a repeated one has its values joined by ", ".
  package var headers: [String: String] = [:]
  package var body: [UInt8] = []
  /// The connection is to be kept.
  package var isKept = true
}

/// Reads HTTP/1.1 requests (RFC 9112) from the bytes of one connection: bytes in, requests or a refusal out. What it holds is
/// bounded by its limits, whatever is sent. Bodies come with a length; chunked ones are refused, and so is everything that two
/// readers might read in two ways.
package struct HTTPRequestParser {
  package struct Limits: Sendable {
    /// Bytes of the request line and the headers together.
    package var head = 16 << 10
    package var headers = 64
    package var body = 256 << 10
    package init() {}
  }

  /// A request that is answered with `status` and ends the connection.
  package struct Refusal: Error, Equatable, Sendable {
    package let status: Int
    package let detail: String
  }

  package enum Step: Equatable, Sendable {
    case needsMore
    /// The head has come, and the client waits to be told that the body may: "100 Continue".
    case wantsContinue
    case request(HTTPRequest)
  }

  private let limits: Limits
  private var buffer: [UInt8] = []
  private var head: HTTPRequest?
  private var length = 0
  private var hasContinued = false

  package init(limits: Limits = Limits()) { self.limits = limits }

  /// Nothing of a next request has come.
  package var isIdle: Bool { buffer.isEmpty && head == nil }

  package mutating func feed(_ bytes: UnsafeRawBufferPointer) { buffer.append(contentsOf: bytes) }
  package mutating func feed(_ bytes: [UInt8]) { buffer.append(contentsOf: bytes) }

  /// The next request in what was fed. Feed at most 64 KiB between two calls.
  package mutating func next() throws(Refusal) -> Step {
    if head == nil {
      guard let end = endOfHead() else {
        if buffer.count > limits.head { throw Refusal(status: 431, detail: "the head has more than \(limits.head) bytes") }
        return .needsMore
      }
      if end > limits.head { throw Refusal(status: 431, detail: "the head has more than \(limits.head) bytes") }
      let request = try parse(Array(buffer[..<end]))
      buffer.removeFirst(end)
      head = request
      hasContinued = false
    }
    guard var request = head else { return .needsMore }
    if buffer.count < length {
      if request.headers["expect"]?.lowercased() == "100-continue", !hasContinued {
        hasContinued = true
        return .wantsContinue
      }
      return .needsMore
    }
    request.body = Array(buffer[..<length])
    buffer.removeFirst(length)
    head = nil
    length = 0
    return .request(request)
  }

  /// The index after the empty line.
  private func endOfHead() -> Int? {
    // Whole only: a lone LF ends no line here.
    guard buffer.count >= 4 else { return nil }
    let limit = min(buffer.count, limits.head + 4)
    var i = 3
    while i < limit {
      if buffer[i] == 10, buffer[i - 1] == 13, buffer[i - 2] == 10, buffer[i - 3] == 13 { return i + 1 }
      i += 1
    }
    return nil
  }

  private mutating func parse(_ bytes: [UInt8]) throws(Refusal) -> HTTPRequest {
    for (i, b) in bytes.enumerated() {
      let isEnd = b == 10 && i > 0 && bytes[i - 1] == 13 || b == 13 && i + 1 < bytes.count && bytes[i + 1] == 10
      if (b < 32 && b != 9 && !isEnd) || b >= 127 { throw Refusal(status: 400, detail: "a byte that no head may have") }
    }
    var lines = String(decoding: bytes.dropLast(4), as: UTF8.self).split(separator: "\r\n", omittingEmptySubsequences: false)
    var request = try parse(line: lines.removeFirst())
    if lines.count > limits.headers { throw Refusal(status: 431, detail: "more than \(limits.headers) headers") }
    for line in lines {
      guard let colon = line.firstIndex(of: ":"), colon != line.startIndex else {
        throw Refusal(status: 400, detail: "a header without a name")
      }
      let name = line[..<colon].lowercased()
      guard name.utf8.allSatisfy(Self.isToken) else { throw Refusal(status: 400, detail: "a header's name is not one") }
      let value = String(Self.trimmed(line[line.index(after: colon)...]))
      if let earlier = request.headers[name] {
        if name == "content-length" || name == "host" { throw Refusal(status: 400, detail: "\(name) twice") }
        request.headers[name] = earlier + ", " + value
      } else {
        request.headers[name] = value
      }
    }
    if request.headers["transfer-encoding"] != nil {
      throw Refusal(status: 501, detail: "bodies come with Content-Length here, not in chunks")
    }
    length = 0
    if let text = request.headers["content-length"] {
      guard !text.isEmpty, text.utf8.count <= 18, text.utf8.allSatisfy({ (48...57).contains($0) }), let n = Int(text) else {
        throw Refusal(status: 400, detail: "Content-Length is no number")
      }
      if n > limits.body { throw Refusal(status: 413, detail: "the body has more than \(limits.body) bytes") }
      length = n
    }
    if let connection = request.headers["connection"]?.lowercased() {
      if connection.contains("close") { request.isKept = false }
      if connection.contains("keep-alive") { request.isKept = true }
    }
    return request
  }

  private func parse(line: Substring) throws(Refusal) -> HTTPRequest {
    let parts = line.split(separator: " ", omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, parts[0].utf8.allSatisfy(Self.isToken) else {
      throw Refusal(status: 400, detail: "the first line is no request line")
    }
    guard parts[2] == "HTTP/1.1" || parts[2] == "HTTP/1.0" else {
      throw Refusal(status: 505, detail: "this is HTTP/1.1")
    }
    guard parts[1].hasPrefix("/") else { throw Refusal(status: 400, detail: "the target is no path") }
    let target = parts[1].split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    var request = HTTPRequest(method: String(parts[0]), path: [])
    request.isKept = parts[2] == "HTTP/1.1"
    for part in target[0].split(separator: "/") {
      guard let text = Self.decoded(part), text != ".", text != "..", !text.utf8.contains(0) else {
        throw Refusal(status: 400, detail: "the path is none")
      }
      request.path.append(text)
    }
    if target.count == 2 {
      for pair in target[1].split(separator: "&") {
        let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = Self.decoded(sides[0]), let value = sides.count == 2 ? Self.decoded(sides[1]) : "" else {
          throw Refusal(status: 400, detail: "the query is none")
        }
        request.query[name] = value
      }
    }
    return request
  }

  /// Percent-decoded; nil when that is not UTF-8.
  private static func decoded(_ text: Substring) -> String? {
    var out: [UInt8] = []
    var bytes = Array(text.utf8)[...]
    while let b = bytes.popFirst() {
      guard b == UInt8(ascii: "%") else {
        out.append(b)
        continue
      }
      guard let high = bytes.popFirst().flatMap(nibble), let low = bytes.popFirst().flatMap(nibble) else { return nil }
      out.append(high << 4 | low)
    }
    return String(validating: out, as: UTF8.self)
  }

  private static func nibble(_ b: UInt8) -> UInt8? {
    switch b {
    case 48...57: b - 48
    case 65...70: b - 55
    case 97...102: b - 87
    default: nil
    }
  }

  private static func isToken(_ b: UInt8) -> Bool {
    switch b {
    case 48...57, 65...90, 97...122: true
    default: "!#$%&'*+-.^_`|~".utf8.contains(b)
    }
  }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text
    while let c = text.first, c == " " || c == "\t" { text.removeFirst() }
    while let c = text.last, c == " " || c == "\t" { text.removeLast() }
    return text
  }
}
