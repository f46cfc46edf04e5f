import ElideIO
import ElideProjections

/// A segment's body, ready to leave: its parts in order, and what the journal will say of it.
package struct EncodedBody: Sendable {
  package var parts: [[UInt8]]
  package var encoding: SegmentEncoding
  package var length: UInt64
  package init(parts: [[UInt8]], encoding: SegmentEncoding, length: UInt64) {
    self.parts = parts
    self.encoding = encoding
    self.length = length
  }
}

/// Makes bodies: units of neighbouring blocks, compressed where that pays, then the blocks' hashes. Memory is bounded by
/// one segment: its parts are at most its plain size and the hashes. Format: docs/formats/body.md.
package enum BodyEncoder {
  /// Blocks per unit: 64 KiB. Larger units compress a little better, and make every small read fetch more.
  package static let unitBlocks: UInt32 = 16

  /// - Parameters:
  ///   - count: blocks of the segment, at least 1.
  ///   - level: zstd level; negative levels are faster.
  ///   - hashes: SHA-256 of each block, in r order.
  ///   - block: the plain bytes of block r.
  package static func encode(
    count: UInt32, hashes: [Digest], level: Int32 = 1, codec: ZstdCodec, block: (UInt32) -> UnsafeRawPointer
  ) -> EncodedBody {
    precondition(hashes.count == Int(count), "\(count) blocks with \(hashes.count) hashes")
    var builder = BodyBuilder(codec: codec, level: level)
    for r in stride(from: 0, to: count, by: Int(unitBlocks)) {
      let blocks = min(unitBlocks, count - r)
      builder.add(blocks) { (unit) throws(Never) in
        for i in 0..<unit.count / 4096 { (unit.baseAddress! + i * 4096).copyMemory(from: block(r + UInt32(i)), byteCount: 4096) }
        return hashes[Int(r)..<Int(r + blocks)]
      }
    }
    return builder.finish(hashes)
  }

  /// Encodes a segment from its local file, such as the write-ahead file it was sealed from. Every block is checked by its
  /// word; one that is absent or damaged ends it with an error that names it, and nothing leaves.
  ///
  /// - Parameter hashes: as the seal had them; nil after a restart: then they are made anew.
  /// - Returns: the body, and the hashes.
  package static func encode(
    _ segment: CachedSegment, number: UInt64, hashes: [Digest]? = nil, level: Int32 = 1, codec: ZstdCodec
  ) throws(SegmentError) -> (body: EncodedBody, hashes: [Digest]) {
    let count = segment.source.blocks
    precondition(hashes == nil || hashes?.count == Int(count), "\(count) blocks with \(hashes?.count ?? 0) hashes")
    var builder = BodyBuilder(codec: codec, level: level)
    var made: [Digest] = []
    for r in stride(from: 0, to: count, by: Int(unitBlocks)) {
      let blocks = min(unitBlocks, count - r)
      try builder.add(blocks) { (unit) throws(SegmentError) in
        guard let base = unit.baseAddress else { return [] }
        let right = segment.read(r, count: blocks, into: base)
        guard right == blocks else {
          throw .damaged(
            object: "segment \(number)", detail: "block \(r + right) is not in its local file, or not what was sealed")
        }
        if let hashes { return hashes[Int(r)..<Int(r + blocks)] }
        made += Digest.ofBlocks(UnsafeRawBufferPointer(unit))
        return made[Int(r)...]
      }
    }
    let all = hashes ?? made
    return (builder.finish(all), all)
  }
}

/// A body as it grows, unit by unit.
private struct BodyBuilder {
  let codec: ZstdCodec
  let level: Int32
  private var parts: [[UInt8]] = []
  private var units: [SegmentEncoding.Unit] = []
  private var offset: UInt64 = 0
  private var next: UInt32 = 0
  private var plain: [UInt8] = []
  private var frame = [UInt8](repeating: 0, count: ZstdCodec.bound(Int(BodyEncoder.unitBlocks) * 4096))
  /// The last compressed unit, whose digest waits for another one: two at once are quicker.
  private var undigested: Int?

  init(codec: ZstdCodec, level: Int32) {
    self.codec = codec
    self.level = level
  }

  /// Adds the next unit; `fill` gets its plain bytes to write, and returns the blocks' hashes.
  mutating func add<E: Error>(
    _ blocks: UInt32, _ fill: (UnsafeMutableRawBufferPointer) throws(E) -> ArraySlice<Digest>
  ) throws(E) {
    let size = Int(blocks) * 4096
    // A unit that is stored as it is becomes a part without being copied; then the next one needs a new array.
    if plain.count != size { plain = [UInt8](unsafeUninitializedCapacity: size) { $1 = size } }
    let hashes = try plain.withUnsafeMutableBufferPointer { (p) throws(E) in try fill(UnsafeMutableRawBufferPointer(p)) }
    let stored = compressed()
    let codec: SegmentEncoding.Codec = stored == nil ? .hashed : .zstd
    let length = stored?.count ?? size
    units.append(
      SegmentEncoding.Unit(
        r: next, blocks: blocks, offset: offset, length: UInt32(length), codec: codec,
        digest: stored == nil ? SegmentEncoding.digest(of: hashes) : Digest(words: (0, 0, 0, 0))))
    offset += UInt64(length)
    next += blocks
    if let stored {
      parts.append(stored)
      digest(units.count - 1)
    } else {
      parts.append(plain)
      plain = []
    }
  }

  /// The unit in `plain` as a zstd frame; nil when that is not worth decompressing at every read.
  private mutating func compressed() -> [UInt8]? {
    let size = plain.count
    let n = plain.withUnsafeBytes { p in
      frame.withUnsafeMutableBytes { f -> Int? in
        guard let level = UnitSample(p).level(level, codec) else { return nil }
        return codec.compress(p, into: f, level: level)
      }
    }
    guard let n, n < size - size / 16 else { return nil }
    return Array(frame[..<n])
  }

  private mutating func digest(_ last: Int) {
    guard let first = undigested else {
      undigested = last
      return
    }
    let (a, b) = parts[first].withUnsafeBytes { p in parts[last].withUnsafeBytes { q in Digest.sha256(p, q) } }
    units[first].digest = a
    units[last].digest = b
    undigested = nil
  }

  consuming func finish(_ hashes: [Digest]) -> EncodedBody {
    if let last = undigested { units[last].digest = Digest.sha256(parts[last]) }
    var table = ByteWriter(capacity: hashes.count * 32)
    for hash in hashes { table.digest(hash) }
    let encoding = SegmentEncoding(units: units, hashesOffset: offset, hashesDigest: Digest.sha256(table.bytes))
    return EncodedBody(parts: parts + [table.bytes], encoding: encoding, length: offset + UInt64(hashes.count * 32))
  }
}
