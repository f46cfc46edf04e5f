/// Writes the addresses by which NBD clients find an export.
package enum NBDURI {
  /// `nbd+unix:///NAME?socket=PATH`
  package static func unix(path: String, export: String = "") -> String {
    "nbd+unix:///\(escape(export))?socket=\(escape(path, keeping: "/"))"
  }

  /// `nbd://HOST:PORT/NAME`; an IPv6 address is put in brackets.
  package static func tcp(host: String, port: UInt16, export: String = "") -> String {
    let host = host.contains(":") ? "[\(host)]" : host
    return "nbd://\(host):\(port)/\(escape(export))"
  }

  /// Percent-encodes all but the characters that RFC 3986 never reserves, and those of `keeping`.
  static func escape(_ text: String, keeping kept: String = "") -> String {
    let digits = Array("0123456789ABCDEF")
    var result = ""
    for byte in text.utf8 {
      let scalar = Character(UnicodeScalar(byte))
      let isPlain = byte < 0x80 && (scalar.isLetter || scalar.isNumber || "-._~".contains(scalar) || kept.contains(scalar))
      if isPlain {
        result.append(scalar)
      } else {
        result.append("%")
        result.append(digits[Int(byte >> 4)])
        result.append(digits[Int(byte & 15)])
      }
    }
    return result
  }
}
