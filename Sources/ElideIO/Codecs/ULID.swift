/// A 128-bit identifier: 48 bits of wall-clock milliseconds, 80 random bits. Shown as 26 digits of Crockford's base 32,
/// upper case, whose order is the order of the value. The time is for people; nothing is ordered by it.
package struct ULID: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let high: UInt64
  package let low: UInt64

  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  package init(clock: any Clock, random: any Randomness) {
    var r: (UInt64, UInt64) = (0, 0)
    withUnsafeMutableBytes(of: &r) { random.fill($0) }
    high = clock.wallMilliseconds() << 16 | (r.0 & 0xFFFF)
    low = r.1
  }

  /// The wall clock of whoever made it, milliseconds since 1970.
  package var milliseconds: UInt64 { high >> 16 }

  private static let digits = Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ".utf8)

  package var description: String {
    var out = [UInt8](repeating: 0, count: 26)
    var h = high
    var l = low
    for i in stride(from: 25, through: 0, by: -1) {
      out[i] = Self.digits[Int(l & 31)]
      l = l >> 5 | h << 59
      h >>= 5
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// From its 26 digits, upper case only; nil otherwise.
  package init?(_ text: some StringProtocol) {
    guard text.utf8.count == 26 else { return nil }
    var h: UInt64 = 0
    var l: UInt64 = 0
    for (i, c) in text.utf8.enumerated() {
      guard let v = Self.digits.firstIndex(of: c) else { return nil }
      if i == 0 && v > 7 { return nil }
      h = h << 5 | l >> 59
      l = l << 5 | UInt64(v)
    }
    high = h
    low = l
  }

  package static func < (a: ULID, b: ULID) -> Bool { (a.high, a.low) < (b.high, b.low) }
}
