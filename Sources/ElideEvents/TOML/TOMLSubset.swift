/// The part of TOML that Elide's documents use, checked before the TOML library sees a byte.
///
/// The library is for documents one trusts: given bytes that are not TOML it can fail an assertion and end the process,
/// it recurses over nested values and dotted keys, and it hands out text as C strings, which a NUL cuts short. Bytes
/// from a bucket are not trusted. So only documents of this shape get through, and the rest is an error with its line:
///
///     document  = line, one after the other, each ended by a line feed
///     line      = nothing | "[" key "]" | key " = " value
///     key       = 1 to 64 of A-Z a-z 0-9 _ -
///     value     = string | integer | "true" | "false" | "[" [ value { ", " value } ] "]" (of strings and integers)
///     string    = a basic string on one line, without a NUL, raw or escaped
///     integer   = decimal, without a sign but "-", without leading zeros or underscores, at most 19 digits
///
/// More blanks are taken around "=", "," and the brackets of an array. One pass, no allocation.
package enum TOMLSubset {
  /// What is wrong with the bytes; nil when they may be parsed.
  package static func problem(_ bytes: [UInt8]) -> String? {
    guard String(validating: bytes, as: UTF8.self) != nil else { return "not UTF-8" }
    return bytes.withUnsafeBufferPointer { buffer in
      var scan = Scan(bytes: buffer)
      while scan.at < buffer.count {
        scan.line += 1
        guard scan.isLine() else { return "line \(scan.line), byte \(scan.at): not in the form that is read here" }
      }
      return nil
    }
  }

  /// A cursor over the bytes. Each `is…` steps over one thing, or stays in front of what is wrong and says false.
  private struct Scan {
    let bytes: UnsafeBufferPointer<UInt8>
    var at = 0
    var line = 0

    private var byte: UInt8? { at < bytes.count ? bytes[at] : nil }

    private mutating func take(_ c: Unicode.Scalar) -> Bool {
      guard byte == UInt8(ascii: c) else { return false }
      at += 1
      return true
    }
    private mutating func blanks() {
      while byte == UInt8(ascii: " ") { at += 1 }
    }

    mutating func isLine() -> Bool {
      if take("\n") { return true }
      if take("[") { return isKey() && take("]") && take("\n") }
      guard isKey() else { return false }
      blanks()
      guard take("=") else { return false }
      blanks()
      return isValue() && take("\n")
    }

    private mutating func isKey() -> Bool {
      let start = at
      while let c = byte, Self.isKeyByte(c) { at += 1 }
      return (1...64).contains(at - start)
    }

    private static func isKeyByte(_ c: UInt8) -> Bool {
      switch c {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"), UInt8(ascii: "-"): true
      default: false
      }
    }

    private mutating func isValue() -> Bool {
      switch byte {
      case UInt8(ascii: "t"): isWord("true")
      case UInt8(ascii: "f"): isWord("false")
      case UInt8(ascii: "["): isArray()
      default: isScalar()
      }
    }

    private mutating func isWord(_ word: StaticString) -> Bool {
      for i in 0..<word.utf8CodeUnitCount {
        guard byte == word.utf8Start[i] else { return false }
        at += 1
      }
      return true
    }

    private mutating func isArray() -> Bool {
      guard take("[") else { return false }
      blanks()
      if take("]") { return true }
      while true {
        guard isScalar() else { return false }
        blanks()
        if take("]") { return true }
        guard take(",") else { return false }
        blanks()
      }
    }

    private mutating func isScalar() -> Bool { byte == UInt8(ascii: "\"") ? isString() : isInteger() }

    private mutating func isInteger() -> Bool {
      let negative = take("-")
      let start = at
      while let c = byte, (0x30...0x39).contains(c) { at += 1 }
      let digits = at - start
      if digits > 1 && bytes[start] == UInt8(ascii: "0") { return false }
      return (1...19).contains(digits) && !(negative && bytes[start] == UInt8(ascii: "0"))
    }

    private mutating func isString() -> Bool {
      guard take("\"") else { return false }
      while let c = byte {
        switch c {
        case UInt8(ascii: "\""):
          at += 1
          return true
        case UInt8(ascii: "\\"): guard isEscape() else { return false }
        case 0..<0x20, 0x7F: return false
        default: at += 1
        }
      }
      return false
    }

    private mutating func isEscape() -> Bool {
      guard take("\\"), let c = byte else { return false }
      switch c {
      case UInt8(ascii: "b"), UInt8(ascii: "t"), UInt8(ascii: "n"), UInt8(ascii: "f"), UInt8(ascii: "r"), UInt8(ascii: "\""),
        UInt8(ascii: "\\"):
        at += 1
        return true
      case UInt8(ascii: "u"): return isScalarValue(digits: 4)
      case UInt8(ascii: "U"): return isScalarValue(digits: 8)
      default: return false
      }
    }

    /// A Unicode scalar value in hexadecimal, not NUL and not half of a surrogate pair.
    private mutating func isScalarValue(digits: Int) -> Bool {
      at += 1
      var value: UInt32 = 0
      for _ in 0..<digits {
        guard let c = byte, let digit = Self.hexadecimalValue(c) else { return false }
        value = value << 4 | digit
        at += 1
      }
      return value != 0 && Unicode.Scalar(value) != nil
    }

    private static func hexadecimalValue(_ c: UInt8) -> UInt32? {
      switch c {
      case 0x30...0x39: UInt32(c) - 0x30
      case 0x41...0x46: UInt32(c) - 0x41 + 10
      case 0x61...0x66: UInt32(c) - 0x61 + 10
      default: nil
      }
    }
  }
}
