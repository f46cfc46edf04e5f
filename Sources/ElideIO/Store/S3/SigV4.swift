import Glibc

/// AWS Signature Version 4, in a header. Own code, since what libcurl signs differs between its releases
/// (docs/decisions/0016-own-request-signer.md), and since the time comes from outside.
package struct SigV4: Sendable {
  package let credentials: S3Credentials
  package let region: String
  package let service: String

  package init(credentials: S3Credentials, region: String, service: String = "s3") {
    self.credentials = credentials
    self.region = region
    self.service = service
  }

  /// The value of the `Authorization` header.
  ///
  /// - Parameters:
  ///   - path: escaped, as it goes out.
  ///   - query: unescaped pairs, in any order.
  ///   - headers: those that are signed, by lower-case name, the host among them; blanks at the ends are not signed.
  ///   - payload: SHA-256 of the body in hexadecimal, or `UNSIGNED-PAYLOAD`.
  ///   - date: as in the `x-amz-date` header, `20130524T000000Z`.
  package func authorization(
    method: String, path: String, query: [(name: String, value: String)], headers: [(name: String, value: String)],
    payload: String, date: String
  ) -> String {
    let sorted = headers.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    let names = sorted.map(\.name).joined(separator: ";")
    let canonical = [
      method, path, Self.canonicalQuery(query), sorted.map { "\($0.name):\(Self.trimmed($0.value))\n" }.joined(), names, payload,
    ].joined(separator: "\n")
    let day = String(date.prefix(8))
    let scope = "\(day)/\(region)/\(service)/aws4_request"
    let text = "AWS4-HMAC-SHA256\n\(date)\n\(scope)\n\(Digest.sha256(Array(canonical.utf8)).hex)"
    var key = Array("AWS4\(credentials.secretKey.reveal())".utf8)
    for part in [day, region, service, "aws4_request"] { key = hmacSHA256(key: key, Array(part.utf8)).bytes }
    let signature = hmacSHA256(key: key, Array(text.utf8)).hex
    return "AWS4-HMAC-SHA256 Credential=\(credentials.accessKey)/\(scope),SignedHeaders=\(names),Signature=\(signature)"
  }

  /// Escaped and sorted, as it is signed and as it goes out.
  package static func canonicalQuery(_ query: [(name: String, value: String)]) -> String {
    query.map { (escaped($0.name), escaped($0.value)) }
      .sorted { $0.0 == $1.0 ? $0.1.utf8.lexicographicallyPrecedes($1.1.utf8) : $0.0.utf8.lexicographicallyPrecedes($1.0.utf8) }
      .map { "\($0.0)=\($0.1)" }.joined(separator: "&")
  }

  /// All but the unreserved characters as %XX.
  package static func escaped(_ text: String, keepingSlashes: Bool = false) -> String {
    var out: [UInt8] = []
    let digits = Array("0123456789ABCDEF".utf8)
    for c in text.utf8 {
      switch c {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
        out.append(c)
      case UInt8(ascii: "/") where keepingSlashes: out.append(c)
      default: out += [UInt8(ascii: "%"), digits[Int(c >> 4)], digits[Int(c & 15)]]
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// Without blanks at the ends, and runs of them inside as one.
  private static func trimmed(_ value: String) -> String { value.split(separator: " ").joined(separator: " ") }

  /// `20130524T000000Z`, from milliseconds since 1970.
  package static func date(milliseconds: UInt64) -> String {
    var seconds = time_t(milliseconds / 1000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func two(_ n: Int32) -> String { n < 10 ? "0\(n)" : "\(n)" }
    let day = "\(parts.tm_year + 1900)\(two(parts.tm_mon + 1))\(two(parts.tm_mday))"
    return "\(day)T\(two(parts.tm_hour))\(two(parts.tm_min))\(two(parts.tm_sec))Z"
  }
}

/// HMAC-SHA-256 (RFC 2104).
package func hmacSHA256(key: [UInt8], _ message: [UInt8]) -> Digest {
  var block = key.count > 64 ? Digest.sha256(key).bytes : key
  block += [UInt8](repeating: 0, count: 64 - block.count)
  let inner = Digest.sha256(block.map { $0 ^ 0x36 } + message)
  return Digest.sha256(block.map { $0 ^ 0x5C } + inner.bytes)
}
