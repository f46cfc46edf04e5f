import ArgumentParser

/// A size in bytes as people write it: `4096`, `512M`, `10G`, `1.5T`. Units are powers of 1024; `KiB`, `MiB` … and the
/// bare letters mean the same.
struct ByteSize: Equatable, ExpressibleByArgument {
  let bytes: UInt64

  init(bytes: UInt64) { self.bytes = bytes }

  init?(argument: String) {
    let text = argument.lowercased()
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
    if let whole = UInt64(digits) {
      guard whole <= UInt64.max >> shift else { return nil }
      bytes = whole << shift
    } else {
      guard let value = Double(digits), value >= 0, value < 1e9 else { return nil }
      bytes = UInt64(value * Double(UInt64(1) << shift))
    }
  }

  /// "1.5 GiB": three significant digits at most.
  static func text(_ bytes: UInt64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    var value = Double(bytes)
    var unit = 0
    while value >= 1024 && unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    if unit == 0 || value >= 100 || value == value.rounded() { return "\(Int(value.rounded())) \(units[unit])" }
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10) \(units[unit])"
  }
}
