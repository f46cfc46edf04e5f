import ElideIO

/// Some bytes of each block of a unit, which tell at a thirtieth of the cost whether compressing the whole is worth it. A
/// function of the bytes, so that a segment that is encoded again becomes the same body.
struct UnitSample {
  /// Of each block.
  static let bytes = 128
  /// For units of which little can be had: for a quarter of the time it saves nearly as much of those, though not of others.
  static let fast: Int32 = -5

  private let unit: UnsafeRawBufferPointer

  /// - Parameter unit: plain blocks, at least one.
  init(_ unit: UnsafeRawBufferPointer) { self.unit = unit }

  /// The level to compress the unit at, where `level` is what was asked for; nil for not at all.
  func level(_ level: Int32, _ codec: ZstdCodec) -> Int32? {
    let blocks = unit.count / 4096
    let size = blocks * Self.bytes
    let sampled = withUnsafeTemporaryAllocation(byteCount: size + ZstdCodec.bound(size), alignment: 16) { scratch -> Int? in
      guard let from = unit.baseAddress, let to = scratch.baseAddress else { return nil }
      for i in 0..<blocks {
        // Not the same place in each: pages of databases and file systems have headers, and room in their middle.
        (to + i * Self.bytes).copyMemory(from: from + i * 4096 + i % 4 * 1024 + i % 3 * 256, byteCount: Self.bytes)
      }
      let sample = UnsafeRawBufferPointer(start: to, count: size)
      return codec.compress(sample, into: UnsafeMutableRawBufferPointer(rebasing: scratch[size...]), level: 1)
    }
    guard let sampled else { return level }
    if sampled >= size - size / 32 { return nil }
    return sampled >= size - size / 5 ? min(level, Self.fast) : level
  }
}
