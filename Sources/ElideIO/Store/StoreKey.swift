/// The rules for object keys, the same for every store: they must be file names in a directory and path segments in a URL
/// without any escaping.
package enum StoreKey {
  package static let maxBytes = 512

  /// nil when the key is fine, else what is wrong with it.
  package static func fault(_ key: String) -> String? {
    if key.isEmpty { return "is empty" }
    if key.utf8.count > maxBytes { return "is longer than \(maxBytes) bytes" }
    for part in key.split(separator: "/", omittingEmptySubsequences: false) {
      if part.isEmpty { return "has an empty part" }
      if part.utf8.first == UInt8(ascii: ".") { return "has a part that begins with a dot" }
      for c in part.utf8 where !isAllowed(c) { return "has a character other than A-Z a-z 0-9 . _ -" }
    }
    return nil
  }

  private static func isAllowed(_ c: UInt8) -> Bool {
    switch c {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
    default: false
    }
  }
}
