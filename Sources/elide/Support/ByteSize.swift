import ArgumentParser
import ElideEngine

/// A size in bytes as people write it: `4096`, `512M`, `10G`, `1.5T`. Units are powers of 1024; `KiB`, `MiB` … and the
/// bare letters mean the same.
struct ByteSize: Equatable, ExpressibleByArgument {
  let bytes: UInt64

  init(bytes: UInt64) { self.bytes = bytes }

  init?(argument: String) {
    guard let bytes = HostSettings.bytes(argument) else { return nil }
    self.bytes = bytes
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
