/// What a TOML document must satisfy before a parser sees it, so that hostile bytes cost no more than honest ones.
///
/// The parser recurses over nested arrays and inline tables, builds one table per part of a dotted key and frees them
/// recursively, and hands out text as C strings. So: valid UTF-8, no NUL (raw or escaped: it would cut a string short,
/// and two different documents would read the same), and bounded nesting and key length. One pass, no allocation.
package enum TOMLGuard {
  /// Levels of `[` and `{` outside strings, table headers included. The formats here use two.
  package static let maxNesting = 8
  /// Dots in one key.
  package static let maxDots = 8

  /// What is wrong with the bytes; nil when they may be parsed.
  package static func problem(_ bytes: [UInt8]) -> String? {
    guard String(validating: bytes, as: UTF8.self) != nil else { return "not UTF-8" }
    var scan = Scan()
    var i = 0
    while i < bytes.count {
      if let problem = scan.step(bytes, &i) { return problem }
    }
    return nil
  }

  /// Where the scan is: outside strings, in a comment, or in a string that ends with `quote` (three times if `long`).
  private struct Scan {
    var quote: UInt8 = 0
    var long = false
    var comment = false
    var depth = 0
    var dots = 0

    mutating func step(_ bytes: [UInt8], _ i: inout Int) -> String? {
      let c = bytes[i]
      if c == 0 { return "holds a NUL byte" }
      if quote != 0 { return inString(bytes, &i, c) }
      i += 1
      if comment {
        if c == UInt8(ascii: "\n") { comment = false }
        return nil
      }
      return outside(bytes, &i, c)
    }

    private mutating func outside(_ bytes: [UInt8], _ i: inout Int, _ c: UInt8) -> String? {
      switch c {
      case UInt8(ascii: "#"): comment = true
      case UInt8(ascii: "\""), UInt8(ascii: "'"):
        quote = c
        long = i + 1 < bytes.count && bytes[i] == c && bytes[i + 1] == c
        if long { i += 2 }
      case UInt8(ascii: "["), UInt8(ascii: "{"):
        depth += 1
        dots = 0
        if depth > TOMLGuard.maxNesting { return "nested deeper than \(TOMLGuard.maxNesting)" }
      case UInt8(ascii: "]"), UInt8(ascii: "}"):
        depth = max(0, depth - 1)
        dots = 0
      case UInt8(ascii: "\n"), UInt8(ascii: "="), UInt8(ascii: ","): dots = 0
      case UInt8(ascii: "."):
        dots += 1
        if dots > TOMLGuard.maxDots { return "a key of more than \(TOMLGuard.maxDots + 1) parts" }
      default: break
      }
      return nil
    }

    private mutating func inString(_ bytes: [UInt8], _ i: inout Int, _ c: UInt8) -> String? {
      i += 1
      // A short string cannot span lines: whatever follows is read as outside, so nothing hides behind a stray quote.
      if !long && c == UInt8(ascii: "\n") { quote = 0 }
      if c == UInt8(ascii: "\\") && quote == UInt8(ascii: "\"") { return escape(bytes, &i) }
      guard c == quote else { return nil }
      if !long {
        quote = 0
      } else if i + 1 < bytes.count, bytes[i] == c, bytes[i + 1] == c {
        i += 2
        // Up to two more quotes may belong to the string's end.
        while i < bytes.count, bytes[i] == c { i += 1 }
        quote = 0
        long = false
      }
      return nil
    }

    /// After a backslash: steps over what is escaped, and refuses an escaped NUL.
    private func escape(_ bytes: [UInt8], _ i: inout Int) -> String? {
      guard i < bytes.count else { return nil }
      let digits =
        switch bytes[i] {
        case UInt8(ascii: "u"): 4
        case UInt8(ascii: "U"): 8
        case UInt8(ascii: "x"): 2
        default: 0
        }
      // A line break stays for the caller: it ends a short string.
      if bytes[i] != UInt8(ascii: "\n") { i += 1 }
      guard digits > 0, i + digits <= bytes.count else { return nil }
      let zeros = bytes[i..<i + digits].allSatisfy { $0 == UInt8(ascii: "0") }
      return zeros ? "holds an escaped NUL" : nil
    }
  }
}
