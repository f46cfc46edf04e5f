/// Reads the XML that S3 answers with: elements that hold elements or text, a few entities, a prolog. No attributes are
/// kept, nothing is looked up, nothing nests deeper than it has to. Hostile input gives nil.
package enum XMLLeaves {
  package static let maxDepth = 16

  /// Calls `visit` at the end of each element, in order, with the names from the root to it and its text (without that of the
  /// elements in it). False when the bytes are not such a document.
  package static func walk(_ bytes: [UInt8], _ visit: (_ path: [String], _ text: String) -> Void) -> Bool {
    var path: [String] = []
    var text: [UInt8] = []
    var i = 0
    var roots = 0
    while i < bytes.count {
      guard bytes[i] == UInt8(ascii: "<") else {
        let end = bytes[i...].firstIndex(of: UInt8(ascii: "<")) ?? bytes.count
        if !path.isEmpty { text += bytes[i..<end] } else if !bytes[i..<end].allSatisfy(isBlank) { return false }
        i = end
        continue
      }
      guard let close = bytes[i...].firstIndex(of: UInt8(ascii: ">")) else { return false }
      let tag = bytes[(i + 1)..<close]
      i = close + 1
      guard let first = tag.first else { return false }
      switch first {
      case UInt8(ascii: "?"), UInt8(ascii: "!"):
        // A prolog, or a comment without ">" in it. A document type could define entities: no.
        if tag.starts(with: "!DOCTYPE".utf8) || tag.starts(with: "![".utf8) { return false }
      case UInt8(ascii: "/"):
        guard let open = path.last, name(tag.dropFirst()) == open, let value = unescaped(text) else { return false }
        visit(path, value)
        path.removeLast()
        text = []
      default:
        guard let name = name(tag), path.count < maxDepth, !path.isEmpty || roots == 0 else { return false }
        if path.isEmpty { roots += 1 }
        path.append(name)
        text = []
        if tag.last == UInt8(ascii: "/") {
          visit(path, "")
          path.removeLast()
        }
      }
    }
    return path.isEmpty && roots == 1
  }

  private static func isBlank(_ c: UInt8) -> Bool { c == 0x20 || (0x09...0x0D).contains(c) }

  /// The name at the beginning of a tag.
  private static func name(_ tag: ArraySlice<UInt8>) -> String? {
    let name = tag.prefix { !isBlank($0) && $0 != UInt8(ascii: "/") }
    guard !name.isEmpty, name.count <= 64 else { return nil }
    return String(validating: name, as: UTF8.self)
  }

  private static func unescaped(_ text: [UInt8]) -> String? {
    guard text.contains(UInt8(ascii: "&")) else { return String(validating: text, as: UTF8.self) }
    var out: [UInt8] = []
    var rest = text[...]
    while let mark = rest.firstIndex(of: UInt8(ascii: "&")) {
      out += rest[..<mark]
      guard let end = rest[mark...].prefix(12).firstIndex(of: UInt8(ascii: ";")),
        let character = entity(String(decoding: rest[(mark + 1)..<end], as: UTF8.self))
      else { return nil }
      out += Array(String(character).utf8)
      rest = rest[(end + 1)...]
    }
    out += rest
    return String(validating: out, as: UTF8.self)
  }

  private static func entity(_ name: String) -> Character? {
    switch name {
    case "amp": return "&"
    case "lt": return "<"
    case "gt": return ">"
    case "quot": return "\""
    case "apos": return "'"
    default:
      let digits = name.hasPrefix("#x") ? name.dropFirst(2) : name.dropFirst(1)
      guard name.hasPrefix("#"), !digits.isEmpty, digits.allSatisfy(\.isHexDigit),
        let value = UInt32(digits, radix: name.hasPrefix("#x") ? 16 : 10), let scalar = Unicode.Scalar(value)
      else { return nil }
      return Character(scalar)
    }
  }
}
