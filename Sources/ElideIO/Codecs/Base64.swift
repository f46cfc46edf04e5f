/// Base 64 with padding.
package func base64(_ bytes: [UInt8]) -> String {
  let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  var out: [UInt8] = []
  for i in stride(from: 0, to: bytes.count, by: 3) {
    let n = min(3, bytes.count - i)
    var group: UInt32 = 0
    for k in 0..<3 { group = group << 8 | (k < n ? UInt32(bytes[i + k]) : 0) }
    for k in 0..<4 { out.append(k <= n ? digits[Int(group >> (18 - 6 * UInt32(k)) & 63)] : UInt8(ascii: "=")) }
  }
  return String(decoding: out, as: UTF8.self)
}

/// Bytes from base 64 with padding; nil for anything else. One spelling per value: bits that say nothing are zeros.
package func decodeBase64(_ text: some StringProtocol) -> [UInt8]? {
  let utf8 = Array(text.utf8)
  guard utf8.count % 4 == 0 else { return nil }
  var out: [UInt8] = []
  out.reserveCapacity(utf8.count / 4 * 3)
  for i in stride(from: 0, to: utf8.count, by: 4) {
    var group: UInt32 = 0
    var padding = 0
    for k in 0..<4 {
      let c = utf8[i + k]
      if c == UInt8(ascii: "=") {
        guard i + 4 == utf8.count, k >= 2 else { return nil }
        padding += 1
        group <<= 6
      } else {
        guard padding == 0, let value = base64Value(c) else { return nil }
        group = group << 6 | UInt32(value)
      }
    }
    guard group & (padding == 0 ? 0 : padding == 1 ? 0xFF : 0xFFFF) == 0 else { return nil }
    for k in 0..<(3 - padding) { out.append(UInt8(truncatingIfNeeded: group >> (16 - 8 * UInt32(k)))) }
  }
  return out
}

private func base64Value(_ c: UInt8) -> UInt8? {
  switch c {
  case UInt8(ascii: "A")...UInt8(ascii: "Z"): c - UInt8(ascii: "A")
  case UInt8(ascii: "a")...UInt8(ascii: "z"): c - UInt8(ascii: "a") + 26
  case UInt8(ascii: "0")...UInt8(ascii: "9"): c - UInt8(ascii: "0") + 52
  case UInt8(ascii: "+"): 62
  case UInt8(ascii: "/"): 63
  default: nil
  }
}
