import ElideEvents
import ElideIO

/// What people write to name a volume, or a point of one: `name`, `<ULID>`, either with `@label` for a snapshot,
/// `@<ULID>:<seq>` or `:<seq>` for a published cut.
package struct VolumeSource: Equatable, Sendable, CustomStringConvertible {
  package enum Base: Equatable, Sendable {
    case name(String)
    case volume(ULID)
  }
  package enum Point: Equatable, Sendable {
    /// The newest: of a local volume what it holds now, of a remote one its newest published cut.
    case newest
    case snapshot(label: String)
    case seq(UInt64)
  }
  package var base: Base
  package var point: Point

  package init(base: Base, point: Point = .newest) {
    self.base = base
    self.point = point
  }

  package init(_ text: String) throws(ElideError) {
    let halves = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
    guard let first = halves.first else { throw ElideError(.usage, "'' names no volume") }
    var point = Point.newest
    var base = first
    if let colon = first.lastIndex(of: ":") {
      point = .seq(try Self.seq(first[first.index(after: colon)...], in: text))
      base = first[..<colon]
    }
    if halves.count > 1 {
      guard point == .newest else { throw ElideError(.usage, "'\(text)' names two points") }
      (self.base, self.point) = try Self.parsePoint(halves[1], of: try Self.parseBase(base, in: text), in: text)
      return
    }
    self.base = try Self.parseBase(base, in: text)
    self.point = point
  }

  private static func parseBase(_ text: Substring, in whole: String) throws(ElideError) -> Base {
    if let volume = ULID(text) { return .volume(volume) }
    if let fault = VolumeName.fault(String(text)) { throw ElideError(.usage, "'\(whole)': the name '\(text)' \(fault)") }
    return .name(String(text))
  }

  private static func parsePoint(_ text: Substring, of base: Base, in whole: String) throws(ElideError) -> (Base, Point) {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    if parts.count == 2, let volume = ULID(parts[0]) { return (.volume(volume), .seq(try seq(parts[1], in: whole))) }
    if let fault = SnapshotLabel.fault(String(text)) { throw ElideError(.usage, "'\(whole)': the label '\(text)' \(fault)") }
    return (base, .snapshot(label: String(text)))
  }

  private static func seq(_ text: Substring, in whole: String) throws(ElideError) -> UInt64 {
    guard let n = UInt64(text), n <= UInt64(Int64.max) else {
      throw ElideError(.usage, "'\(whole)': '\(text)' is no number of an entry")
    }
    return n
  }

  package var description: String {
    let start =
      switch base {
      case .name(let name): name
      case .volume(let volume): volume.description
      }
    return switch point {
    case .newest: start
    case .snapshot(let label): "\(start)@\(label)"
    case .seq(let n): "\(start):\(n)"
    }
  }
}

/// What may be a snapshot's label: a letter, then letters, digits and . _ -, 63 bytes at most.
package enum SnapshotLabel {
  /// nil when fine, else what is wrong.
  package static func fault(_ label: String) -> String? {
    if label.isEmpty { return "is empty" }
    if label.utf8.count > 63 { return "is longer than 63 bytes" }
    for (i, c) in label.utf8.enumerated() {
      switch c {
      case 0x61...0x7A, 0x41...0x5A: continue
      case 0x30...0x39, 0x2D, 0x2E, 0x5F: if i > 0 { continue } else { return "does not begin with a letter" }
      default: return "has a character other than letters, digits and . _ -"
      }
    }
    return nil
  }
}
