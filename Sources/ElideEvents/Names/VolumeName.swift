import ElideIO

/// What may be a name: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`, and nothing that somebody could read as a volume's ULID, so that
/// the two never mix.
package enum VolumeName {
  package static let maxBytes = 63

  /// nil when `name` is fine, else what is wrong with it.
  package static func fault(_ name: String) -> String? {
    if name.isEmpty { return "is empty" }
    if name.utf8.count > maxBytes { return "is longer than \(maxBytes) bytes" }
    if looksLikeULID(name) { return "looks like a volume's ULID" }
    for (i, c) in name.utf8.enumerated() {
      switch c {
      case 0x61...0x7A, 0x41...0x5A, 0x30...0x39: continue
      case 0x2D, 0x2E, 0x5F: if i > 0 { continue } else { return "begins with '\(Character(UnicodeScalar(c)))'" }
      default: return "has a character other than A-Z a-z 0-9 . _ -"
      }
    }
    return nil
  }

  /// Readers of Crockford's digits take either case, and I, L and O for digits: such a text is no name.
  private static func looksLikeULID(_ name: String) -> Bool {
    guard name.utf8.count == 26, let first = name.utf8.first, (0x30...0x37).contains(first) || "iIlLoO".utf8.contains(first)
    else { return false }
    return name.utf8.allSatisfy { c in
      switch c {
      case 0x30...0x39: true
      case 0x41...0x5A, 0x61...0x7A: c | 0x20 != UInt8(ascii: "u")
      default: false
      }
    }
  }
}
