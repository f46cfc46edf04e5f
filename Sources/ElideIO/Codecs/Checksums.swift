import CElide
import COpenSSL

/// CRC-32C of a buffer, continuing from `seed`.
@inlinable package func crc32c(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
  elide_crc32c(seed, bytes.baseAddress, bytes.count)
}

/// A SHA-256 digest: 32 bytes as four words, so that it is copied without reference counting. Word 0 holds the first
/// eight bytes, most significant first, so the order of words is the order of bytes.
package struct Digest: Hashable, Comparable, Sendable, CustomStringConvertible {
  package var words: (UInt64, UInt64, UInt64, UInt64)

  package init(words: (UInt64, UInt64, UInt64, UInt64)) { self.words = words }

  /// From exactly 32 bytes.
  package init(bytes: UnsafeRawBufferPointer) {
    precondition(bytes.count == 32)
    words = (
      UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
      UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
      UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)),
      UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
    )
  }

  /// SHA-256 of `bytes`.
  package static func sha256(_ bytes: UnsafeRawBufferPointer) -> Digest {
    withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { out in
      _ = SHA256(
        bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count, out.baseAddress!.assumingMemoryBound(to: UInt8.self))
      return Digest(bytes: UnsafeRawBufferPointer(out))
    }
  }
  /// SHA-256 of two buffers, at once where the processor can.
  package static func sha256(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> (Digest, Digest) {
    let both = withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { out -> (Digest, Digest)? in
      guard let p = a.baseAddress, let q = b.baseAddress, let o = out.baseAddress,
        elide_sha256_two(p, a.count, q, b.count, o, o + 32) != 0
      else { return nil }
      return (
        Digest(bytes: UnsafeRawBufferPointer(rebasing: out[..<32])), Digest(bytes: UnsafeRawBufferPointer(rebasing: out[32...]))
      )
    }
    return both ?? (sha256(a), sha256(b))
  }
  /// SHA-256 of each whole block of 4096 bytes.
  package static func ofBlocks(_ bytes: UnsafeRawBufferPointer) -> [Digest] {
    let count = bytes.count / 4096
    func block(_ i: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[i * 4096..<(i + 1) * 4096]) }
    var out: [Digest] = []
    out.reserveCapacity(count)
    while out.count + 1 < count {
      let (a, b) = sha256(block(out.count), block(out.count + 1))
      out.append(a)
      out.append(b)
    }
    if out.count < count { out.append(sha256(block(out.count))) }
    return out
  }
  package static func sha256(_ bytes: [UInt8]) -> Digest { bytes.withUnsafeBytes { sha256($0) } }

  package var bytes: [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(32)
    for w in [words.0, words.1, words.2, words.3] { withUnsafeBytes(of: w.bigEndian) { out.append(contentsOf: $0) } }
    return out
  }

  /// 64 lower-case hexadecimal digits.
  package var hex: String { hexadecimal(bytes) }
  package var description: String { hex }

  package init?(hex: some StringProtocol) {
    guard let bytes = decodeHexadecimal(hex), bytes.count == 32 else { return nil }
    self = bytes.withUnsafeBytes { Digest(bytes: $0) }
  }

  package static func == (a: Digest, b: Digest) -> Bool { a.words == b.words }
  package static func < (a: Digest, b: Digest) -> Bool { a.words < b.words }
  package func hash(into hasher: inout Hasher) { hasher.combine(words.0) }
}

/// Lower-case hexadecimal of bytes.
package func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789abcdef".utf8)
  var out: [UInt8] = []
  for b in bytes {
    out.append(digits[Int(b >> 4)])
    out.append(digits[Int(b & 15)])
  }
  return String(decoding: out, as: UTF8.self)
}

/// Bytes from hexadecimal of even length; nil for anything else. Lower case only: one spelling per value.
package func decodeHexadecimal(_ text: some StringProtocol) -> [UInt8]? {
  func value(_ c: UInt8) -> UInt8? {
    switch c {
    case 0x30...0x39: c - 0x30
    case 0x61...0x66: c - 0x61 + 10
    default: nil
    }
  }
  let utf8 = Array(text.utf8)
  guard utf8.count % 2 == 0 else { return nil }
  var out: [UInt8] = []
  out.reserveCapacity(utf8.count / 2)
  for i in stride(from: 0, to: utf8.count, by: 2) {
    guard let high = value(utf8[i]), let low = value(utf8[i + 1]) else { return nil }
    out.append(high << 4 | low)
  }
  return out
}
