import ElideEvents
import ElideIO

/// What an operator sets for a data directory, in `<data>/elide.toml` (docs/configuration.md). All keys are optional; tables
/// that this program does not know are left to others, keys in its own tables that it does not know are errors.
package struct HostSettings: Equatable, Sendable {
  /// Bytes of disk for the block cache, all volumes together.
  package var cacheBytes: UInt64?
  /// Requests of a process under way at once: that guests wait for, and ahead of them.
  package var fetchThreads: Int?
  package var aheadThreads: Int?
  /// Bytes ahead of a reader, at most.
  package var windowBytes: UInt64?
  package var prefetch: PrefetchPolicy?
  package var smallBytes: UInt64?
  /// Bytes of each volume that the store need not have.
  package var unsentBytes: UInt64?
  /// Seconds for which a read waits for a store that does not answer.
  package var storePatience: UInt64?
  package var unsealedWals: Int?
  /// Seconds between two looks at the log of a name in service.
  package var beat: UInt64?

  package init() {}

  /// Without the file: nothing is set. A file that is wrong is an error that names it.
  package init(_ files: any Files, dataDirectory: String) throws(ElideError) {
    let path = dataDirectory + "/elide.toml"
    var bytes: [UInt8]
    do throws(Errno) { bytes = try files.readFile(path, limit: Entry.maxBytes) } catch {
      if error == .notFound { return }
      throw ElideError(error, doing: "read \(path)")
    }
    // People's editors leave it out.
    if let last = bytes.last, last != UInt8(ascii: "\n") { bytes.append(UInt8(ascii: "\n")) }
    do throws(TOMLError) {
      var root = TOMLFields(try TOMLDocument.parse(bytes, limit: Entry.maxBytes))
      if root.contains("cache") {
        var cache = try root.table("cache")
        cacheBytes = try Self.size("cache.budget", cache.optionalString("budget"), 1 << 20)
        try cache.end()
      }
      if root.contains("fetch") { try takeFetch(root.table("fetch")) }
      if root.contains("limits") { try takeLimits(root.table("limits")) }
    } catch { throw ElideError(.usage, "\(path): \(error)") }
  }

  private mutating func takeFetch(_ table: TOMLFields) throws(TOMLError) {
    var fetch = table
    if fetch.contains("threads") { fetchThreads = Int(try fetch.integer("threads", 1...64)) }
    if fetch.contains("ahead") { aheadThreads = Int(try fetch.integer("ahead", 0...64)) }
    windowBytes = try Self.size("fetch.window", fetch.optionalString("window"), 0)
    if let text = try fetch.optionalString("prefetch") {
      guard let policy = PrefetchPolicy(rawValue: text) else {
        throw TOMLError("fetch.prefetch is '\(text)', not off, small or all")
      }
      prefetch = policy
    }
    smallBytes = try Self.size("fetch.small", fetch.optionalString("small"), 0)
    try fetch.end()
  }

  private mutating func takeLimits(_ table: TOMLFields) throws(TOMLError) {
    var limits = table
    unsentBytes = try Self.size("limits.unsent", limits.optionalString("unsent"), KeeperConfiguration.leastUnsentBytes)
    if let text = try limits.optionalString("patience") {
      guard let seconds = Self.seconds(text) else { throw TOMLError("limits.patience: '\(text)' is no time, such as \"1h\"") }
      storePatience = seconds
    }
    if let text = try limits.optionalString("beat") {
      guard let seconds = Self.seconds(text), (1...60).contains(seconds) else {
        throw TOMLError("limits.beat: '\(text)' is not 1 to 60 seconds, such as \"5s\"")
      }
      beat = seconds
    }
    if limits.contains("wals") { unsealedWals = Int(try limits.integer("wals", 2...1024)) }
    try limits.end()
  }

  private static func size(_ key: String, _ text: String?, _ least: UInt64) throws(TOMLError) -> UInt64? {
    guard let text else { return nil }
    guard let bytes = bytes(text) else { throw TOMLError("\(key): '\(text)' is no size, such as \"100G\"") }
    if bytes < least { throw TOMLError("\(key): '\(text)' is less than \(least) bytes") }
    return bytes
  }

  /// What is set, in place of the defaults.
  func apply(to configuration: inout KeeperConfiguration) {
    if let aheadThreads { configuration.front.readAhead.fetches = aheadThreads }
    if let windowBytes { configuration.front.readAhead.window = windowBytes / 4096 }
    if let prefetch { configuration.prefetch = prefetch }
    if let smallBytes { configuration.smallBytes = smallBytes }
    if let unsentBytes { configuration.unsentBytes = unsentBytes }
    if let storePatience { configuration.readPatienceSeconds = storePatience }
    if let beat { configuration.ownershipMilliseconds = beat * 1000 }
    if let unsealedWals { configuration.unsealedWals = unsealedWals }
  }

  /// nil when fine, else what is wrong with a limit of unsent bytes.
  package static func faultOfUnsent(_ bytes: UInt64) -> String? {
    bytes < KeeperConfiguration.leastUnsentBytes
      ? "\(bytes) bytes are too few: \(KeeperConfiguration.leastUnsentBytes >> 20)M at least" : nil
  }

  /// A time in seconds as people write it: `90`, `90s`, `10m`, `1h`, `2d`.
  package static func seconds(_ text: String) -> UInt64? {
    let digits = text.prefix { $0.isNumber }
    guard let n = UInt64(digits) else { return nil }
    let unit: UInt64
    switch text.dropFirst(digits.count) {
    case "", "s": unit = 1
    case "m": unit = 60
    case "h": unit = 3600
    case "d": unit = 86_400
    default: return nil
    }
    return n <= 36_500 * 86_400 / unit ? n * unit : nil
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
