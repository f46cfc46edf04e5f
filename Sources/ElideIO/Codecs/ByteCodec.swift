/// Writes binary formats: little-endian fixed-width integers, LEB128 variable-width ones, raw bytes.
package struct ByteWriter {
  package private(set) var bytes: [UInt8] = []
  package init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

  package mutating func u8(_ v: UInt8) { bytes.append(v) }
  package mutating func u16(_ v: UInt16) { withUnsafeBytes(of: v.littleEndian) { bytes.append(contentsOf: $0) } }
  package mutating func u32(_ v: UInt32) { withUnsafeBytes(of: v.littleEndian) { bytes.append(contentsOf: $0) } }
  package mutating func u64(_ v: UInt64) { withUnsafeBytes(of: v.littleEndian) { bytes.append(contentsOf: $0) } }
  /// Unsigned LEB128: seven bits a byte, low first, shortest form only.
  package mutating func varint(_ v: UInt64) {
    var v = v
    while v >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: v) | 0x80)
      v >>= 7
    }
    bytes.append(UInt8(v))
  }
  package mutating func raw(_ b: some Sequence<UInt8>) { bytes.append(contentsOf: b) }
  package mutating func digest(_ d: Digest) { raw(d.bytes) }
  package mutating func ulid(_ u: ULID) {
    withUnsafeBytes(of: u.high.bigEndian) { bytes.append(contentsOf: $0) }
    withUnsafeBytes(of: u.low.bigEndian) { bytes.append(contentsOf: $0) }
  }
  /// A count as varint, then that many bytes.
  package mutating func string(_ s: String) {
    varint(UInt64(s.utf8.count))
    raw(s.utf8)
  }
  package mutating func padding(to multiple: Int) {
    while bytes.count % multiple != 0 { bytes.append(0) }
  }
}

/// What a binary decoder found wrong: which format, at which byte, what.
package struct FormatError: Error, Equatable, Sendable, CustomStringConvertible {
  package let what: String
  package let offset: Int
  package let detail: String
  package init(_ what: String, offset: Int, _ detail: String) {
    self.what = what
    self.offset = offset
    self.detail = detail
  }
  package var description: String { "\(what): \(detail) (at byte \(offset))" }
}

/// Reads what `ByteWriter` writes. Hostile bytes give errors, never traps; counts are bounded by the caller before
/// anything is allocated.
package struct ByteReader {
  package let what: String
  private let bytes: ArraySlice<UInt8>
  package private(set) var position: Int

  package init(_ bytes: ArraySlice<UInt8>, what: String) {
    self.bytes = bytes
    self.what = what
    position = bytes.startIndex
  }
  package init(_ bytes: [UInt8], what: String) { self.init(bytes[...], what: what) }

  package var remaining: Int { bytes.endIndex - position }
  package var offset: Int { position - bytes.startIndex }
  package func error(_ detail: String) -> FormatError { FormatError(what, offset: offset, detail) }

  private mutating func take(_ n: Int) throws(FormatError) -> ArraySlice<UInt8> {
    guard n >= 0, n <= remaining else { throw error("ends early: \(n) more bytes wanted, \(remaining) left") }
    defer { position += n }
    return bytes[position..<position + n]
  }
  private mutating func integer<T: FixedWidthInteger>(_: T.Type) throws(FormatError) -> T {
    let s = try take(MemoryLayout<T>.size)
    var v: T = 0
    for b in s.reversed() { v = v << 8 | T(truncatingIfNeeded: b) }
    return v
  }
  package mutating func u8() throws(FormatError) -> UInt8 { try take(1).first! }
  package mutating func u16() throws(FormatError) -> UInt16 { try integer(UInt16.self) }
  package mutating func u32() throws(FormatError) -> UInt32 { try integer(UInt32.self) }
  package mutating func u64() throws(FormatError) -> UInt64 { try integer(UInt64.self) }
  package mutating func varint() throws(FormatError) -> UInt64 {
    var v: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let b = try u8()
      if shift == 63 && b > 1 { throw error("variable-width integer over 64 bits") }
      v |= UInt64(b & 0x7F) << shift
      if b < 0x80 {
        if b == 0 && shift > 0 { throw error("variable-width integer not in shortest form") }
        return v
      }
      shift += 7
      if shift > 63 { throw error("variable-width integer over 64 bits") }
    }
  }
  /// A varint that must not exceed `limit`; `name` says what it counts.
  package mutating func count(_ name: String, limit: Int) throws(FormatError) -> Int {
    let v = try varint()
    guard v <= UInt64(limit) else { throw error("\(name) is \(v), more than \(limit)") }
    return Int(v)
  }
  package mutating func raw(_ n: Int) throws(FormatError) -> [UInt8] { Array(try take(n)) }
  package mutating func digest() throws(FormatError) -> Digest { try take(32).withUnsafeBytes { Digest(bytes: $0) } }
  package mutating func ulid() throws(FormatError) -> ULID {
    var high: UInt64 = 0
    var low: UInt64 = 0
    for b in try take(8) { high = high << 8 | UInt64(b) }
    for b in try take(8) { low = low << 8 | UInt64(b) }
    return ULID(high: high, low: low)
  }
  package mutating func string(limit: Int) throws(FormatError) -> String {
    let n = try count("string length", limit: limit)
    guard let s = String(validating: try take(n), as: UTF8.self) else { throw error("text is not UTF-8") }
    return s
  }
  package func end() throws(FormatError) {
    if remaining != 0 { throw error("\(remaining) bytes too many") }
  }
}
