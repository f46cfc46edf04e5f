import Glibc

/// How much a randomised suite does. `ELIDE_SEED=n` runs only that seed; `ELIDE_OPS=n` does as many operations;
/// `ELIDE_SOAK_MINUTES=n` is for the soak suite.
package struct Budget: Sendable {
  package let seeds: [UInt64]
  /// Guest operations after which no further seed is begun.
  package let operations: Int

  package init(seeds: Range<UInt64>, operations: Int) {
    if let only = Self.number("ELIDE_SEED") {
      self.seeds = [UInt64(only)]
    } else {
      self.seeds = Array(seeds)
    }
    #if DEBUG
      self.operations = Self.number("ELIDE_OPS") ?? operations / 10
    #else
      self.operations = Self.number("ELIDE_OPS") ?? operations
    #endif
  }

  package static func number(_ name: String) -> Int? {
    guard let text = getenv(name) else { return nil }
    return Int(String(cString: text))
  }
  package static var soakMinutes: Int? { number("ELIDE_SOAK_MINUTES") }

  /// The command that repeats a seed.
  package static func again(_ suite: String, _ seed: UInt64) -> String {
    "repeat with: ELIDE_SEED=\(seed) swift test --filter \(suite)"
  }
}
