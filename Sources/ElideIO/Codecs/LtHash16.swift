import COpenSSL

/// A sum over a multiset of byte strings that does not depend on order and from which elements can be taken away again:
/// LtHash16 of Bellare and Micciancio, 1024 lanes of 16 bits, each element expanded by SHAKE-256. Two sums that are
/// equal hold the same multiset, as far as anyone can compute.
package struct LtHash16: Equatable, Sendable {
  /// Size of the serialised sum.
  package static let byteCount = 2048
  private var lanes: [UInt16]

  /// The sum of nothing.
  package init() { lanes = [UInt16](repeating: 0, count: 1024) }

  /// From its 2048 bytes; nil for any other count.
  package init?(bytes: [UInt8]) {
    guard bytes.count == Self.byteCount else { return nil }
    lanes = (0..<1024).map { UInt16(bytes[2 * $0]) | UInt16(bytes[2 * $0 + 1]) << 8 }
  }

  /// Lanes in order, little-endian.
  package var bytes: [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(Self.byteCount)
    for lane in lanes {
      out.append(UInt8(truncatingIfNeeded: lane))
      out.append(UInt8(lane >> 8))
    }
    return out
  }

  package mutating func add(_ element: [UInt8]) {
    Self.expand(element) { i, v in lanes[i] &+= v }
  }
  package mutating func remove(_ element: [UInt8]) {
    Self.expand(element) { i, v in lanes[i] &-= v }
  }
  package static func + (a: LtHash16, b: LtHash16) -> LtHash16 {
    var sum = a
    for i in 0..<1024 { sum.lanes[i] &+= b.lanes[i] }
    return sum
  }

  private static func expand(_ element: [UInt8], _ body: (Int, UInt16) -> Void) {
    var stream = [UInt8](repeating: 0, count: byteCount)
    let context = EVP_MD_CTX_new()
    defer { EVP_MD_CTX_free(context) }
    precondition(
      context != nil && EVP_DigestInit_ex(context, EVP_shake256(), nil) == 1
        && EVP_DigestUpdate(context, element, element.count) == 1
        && EVP_DigestFinalXOF(context, &stream, stream.count) == 1, "OpenSSL cannot hash: out of memory")
    for i in 0..<1024 { body(i, UInt16(stream[2 * i]) | UInt16(stream[2 * i + 1]) << 8) }
  }
}
