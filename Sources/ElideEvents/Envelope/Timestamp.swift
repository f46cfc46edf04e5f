/// Wall-clock times as entries write them: RFC 3339, UTC, exactly three digits of milliseconds. For people and for
/// retention; nothing is ordered by them.
package enum Timestamp {
  /// Milliseconds since 1970 as "2026-01-31T12:00:00.000Z". Years beyond 9999 show as the last moment of 9999.
  package static func text(milliseconds: UInt64) -> String {
    let ms = min(milliseconds, 253_402_300_799_999)
    let (days, inDay) = (Int(ms / 86_400_000), Int(ms % 86_400_000))
    let (y, m, d) = civil(days)
    return "\(pad(y, 4))-\(pad(m, 2))-\(pad(d, 2))T\(pad(inDay / 3_600_000, 2)):\(pad(inDay / 60_000 % 60, 2)):"
      + "\(pad(inDay / 1000 % 60, 2)).\(pad(inDay % 1000, 3))Z"
  }

  /// Milliseconds since 1970 of such a text; nil when it is not one, or names no day that exists.
  package static func milliseconds(_ text: String) -> UInt64? {
    let b = Array(text.utf8)
    guard isWellFormed(text) else { return nil }
    func number(_ r: Range<Int>) -> Int { b[r].reduce(0) { $0 * 10 + Int($1) - 48 } }
    let (y, m, d) = (number(0..<4), number(5..<7), number(8..<10))
    let (h, min, s, ms) = (number(11..<13), number(14..<16), number(17..<19), number(20..<23))
    guard y >= 1970, (1...12).contains(m), (1...31).contains(d), h < 24, min < 60, s < 60 else { return nil }
    let days = daysSince1970(y, m, d)
    guard civil(days) == (y, m, d) else { return nil }
    return UInt64(days) * 86_400_000 + UInt64(((h * 60 + min) * 60 + s) * 1000 + ms)
  }

  package static func isWellFormed(_ text: String) -> Bool {
    let shape = Array("dddd-dd-ddTdd:dd:dd.dddZ".utf8)
    let b = Array(text.utf8)
    return b.count == shape.count
      && zip(b, shape).allSatisfy { c, s in s == UInt8(ascii: "d") ? (0x30...0x39).contains(c) : c == s }
  }

  private static func pad(_ v: Int, _ width: Int) -> String {
    let digits = String(v)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  // Days and dates of the Gregorian calendar, by 400-year eras that begin on 1 March.
  private static func civil(_ days: Int) -> (Int, Int, Int) {
    let z = days + 719_468
    let era = z / 146_097
    let dayOfEra = z % 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
  }

  private static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let yearOfEra = y % 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return y / 400 * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }
}
