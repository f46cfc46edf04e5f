import ElideEvents
import ElideIO

/// What an operator sets for a data directory, in `<data>/elide.toml`:
///
///     [cache]
///     budget = "100G"
///
/// Tables that this program does not know are left to others.
package struct HostSettings: Equatable, Sendable {
  /// Bytes of disk for the block cache, all volumes together.
  package var cacheBytes: UInt64?

  package init() {}

  /// Without the file: nothing is set. A file that is wrong is an error that names it.
  package init(_ files: any Files, dataDirectory: String) throws(ElideError) {
    let path = dataDirectory + "/elide.toml"
    let bytes: [UInt8]
    do throws(Errno) { bytes = try files.readFile(path, limit: Entry.maxBytes) } catch {
      if error == .notFound { return }
      throw ElideError(error, doing: "read \(path)")
    }
    do throws(TOMLError) {
      var root = TOMLFields(try TOMLDocument.parse(bytes, limit: Entry.maxBytes))
      guard root.contains("cache") else { return }
      var cache = try root.table("cache")
      if let text = try cache.optionalString("budget") {
        guard let bytes = Self.bytes(text) else { throw TOMLError("cache.budget: '\(text)' is no size, such as \"100G\"") }
        cacheBytes = bytes
      }
      try cache.end()
    } catch { throw ElideError(.usage, "\(path): \(error)") }
  }

  /// A size in bytes as people write it: `4096`, `512M`, `10G`, `1.5T`. Units are powers of 1024; `KiB`, `MiB` … and the
  /// bare letters mean the same.
  package static func bytes(_ text: String) -> UInt64? {
    let text = text.lowercased()
    let digits = text.prefix { $0.isNumber || $0 == "." }
    let shift: UInt64
    switch text.dropFirst(digits.count) {
    case "", "b": shift = 0
    case "k", "kib": shift = 10
    case "m", "mib": shift = 20
    case "g", "gib": shift = 30
    case "t", "tib": shift = 40
    default: return nil
    }
    if let whole = UInt64(digits) { return whole <= UInt64.max >> shift ? whole << shift : nil }
    guard let value = Double(digits), value >= 0, value < 1e9, value * Double(UInt64(1) << shift) < 1e19 else { return nil }
    return UInt64(value * Double(UInt64(1) << shift))
  }
}
