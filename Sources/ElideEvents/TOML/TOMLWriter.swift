import ElideIO

/// Writes TOML documents line by line in the order of its calls, one spelling per value: same calls, same bytes.
///
/// A value that TOML cannot hold (an integer over 2^63-1, text with a NUL) is remembered as `problem`; the document is
/// then not to be used.
package struct TOMLWriter {
  package private(set) var bytes: [UInt8] = []
  package private(set) var problem: String?

  package init() { bytes.reserveCapacity(1024) }

  package mutating func table(_ name: String) { line("[\(name)]") }
  package mutating func integer(_ key: String, _ value: UInt64) {
    if value > UInt64(Int64.max) { problem = "\(key) is \(value), over 2^63-1" }
    line("\(key) = \(value)")
  }
  package mutating func boolean(_ key: String, _ value: Bool) { line("\(key) = \(value)") }
  package mutating func string(_ key: String, _ value: String) { line("\(key) = \(quoted(value, key))") }
  package mutating func string(_ key: String, ifPresent value: String?) {
    if let value { string(key, value) }
  }
  package mutating func ulid(_ key: String, _ value: ULID) { line("\(key) = \"\(value)\"") }
  package mutating func digest(_ key: String, _ value: Digest) { line("\(key) = \"sha256:\(value.hex)\"") }
  package mutating func publicKey(_ key: String, _ value: [UInt8]) {
    if value.count != 32 { problem = "\(key) has \(value.count) bytes, not 32" }
    line("\(key) = \"ed25519:\(hexadecimal(value))\"")
  }
  package mutating func strings(_ key: String, _ values: [String]) {
    line("\(key) = [\(values.map { quoted($0, key) }.joined(separator: ", "))]")
  }
  package mutating func integers(_ key: String, _ values: [UInt64]) {
    if values.contains(where: { $0 > UInt64(Int64.max) }) { problem = "\(key) has a value over 2^63-1" }
    line("\(key) = [\(values.map(String.init).joined(separator: ", "))]")
  }

  private mutating func line(_ text: String) {
    bytes.append(contentsOf: text.utf8)
    bytes.append(UInt8(ascii: "\n"))
  }

  private mutating func quoted(_ text: String, _ key: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\0": problem = "\(key) holds a NUL"
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\u{1}"..<" ", "\u{7F}"..<"\u{A0}", "\u{2028}", "\u{2029}":
        let hex = String(scalar.value, radix: 16, uppercase: true)
        out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }
}
