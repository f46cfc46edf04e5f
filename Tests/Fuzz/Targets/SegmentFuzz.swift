import ElideEngine
import ElideIO
import ElideProjections

/// Contents, encodings and bodies of segments.
enum SegmentFuzz {
  static func content(_ bytes: [UInt8]) {
    if let moves = try? BlockMoves.decode(bytes) { precondition(BlockMoves.encode(moves) == bytes, "moves have two spellings") }
    if let list = try? SegmentList.decode(bytes) {
      precondition((try? SegmentList.decode(list.encode())) == list, "a list reads as another")
    }
    guard let content = try? SegmentContent.decode(bytes) else { return }
    precondition(content.fault == nil, "a content with a fault was let through")
    precondition((try? SegmentContent.decode(content.encode())) == content, "a content reads as another")
    _ = content.targets(besides: 3)
  }

  static func encoding(_ bytes: [UInt8]) {
    guard let encoding = try? SegmentEncoding.decode(bytes) else { return }
    precondition(encoding.fault == nil, "an encoding with a fault was let through")
    precondition((try? SegmentEncoding.decode(encoding.encode())) == encoding, "an encoding reads as another")
    precondition(encoding.bodyLength >= encoding.hashesOffset && encoding.blocks <= 1 << 20)
  }

  /// Input: a length, an encoding of that length, a body. Each unit's digest is made to fit half of the time.
  static func body(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let mends = input.byte() & 1 == 0
    guard let encoding = try? SegmentEncoding.decode(input.take(input.word())), let codec = ZstdCodec() else { return }
    let body = input.rest()
    for var unit in encoding.units.prefix(16) where unit.offset + UInt64(unit.length) <= UInt64(body.count) {
      let stored = body[Int(unit.offset)..<Int(unit.offset) + Int(unit.length)]
      if mends { unit.digest = stored.withUnsafeBytes { Digest.sha256($0) } }
      if let plain = try? BodyDecoder.decode(unit, stored: stored, object: "a body", codec: codec) {
        precondition(plain.count == Int(unit.blocks) * 4096, "a unit of another length")
      }
    }
  }

  // MARK: seeds

  private static let content = SegmentContent(runs: [
    .init(lba: 3, count: 5, kind: .trim), .init(lba: 8, count: 2, kind: .data(r: 0)),
    .init(lba: 10, count: 3, kind: .duplicate(BlockHandle(segment: 7, r: 9))), .init(lba: 20, count: 1 << 20, kind: .zero),
    .init(lba: 1 << 30, count: 4000, kind: .data(r: 2)),
  ])
  static var contents: [[UInt8]] {
    let many = SegmentContent(runs: (0..<300).map { .init(lba: UInt64($0) * 3, count: 1, kind: .data(r: UInt32($0))) })
    let move = BlockMove(lba: 4, count: 2, from: BlockHandle(segment: 1, r: 0), to: BlockHandle(segment: 2, r: 4))
    return [
      content.encode(), many.encode(), SegmentContent(runs: []).encode(), SegmentList([1, 2, 303]).encode(),
      BlockMoves.encode([move, move]),
    ]
  }

  private static var sample: (encoding: SegmentEncoding, body: [UInt8])? {
    guard let codec = ZstdCodec() else { return nil }
    let zeros = [UInt8](repeating: 5, count: 2 * 4096)
    guard let packed = codec.compressed(zeros) else { return nil }
    let plain = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let units = [
      SegmentEncoding.Unit(
        r: 0, blocks: 2, offset: 0, length: UInt32(packed.count), codec: .zstd, digest: Digest.sha256(packed)),
      SegmentEncoding.Unit(
        r: 2, blocks: 1, offset: UInt64(packed.count), length: 4096, codec: .raw, digest: Digest.sha256(plain)),
    ]
    let body = packed + plain
    let hashes = [UInt8](repeating: 1, count: 96)
    return (
      SegmentEncoding(units: units, hashesOffset: UInt64(body.count), hashesDigest: Digest.sha256(hashes)), body + hashes
    )
  }
  static var encodings: [[UInt8]] {
    [sample?.encoding.encode() ?? [], SegmentEncoding(units: [], hashesOffset: 0, hashesDigest: Digest.sha256([])).encode()]
  }
  static var bodies: [[UInt8]] {
    guard let sample else { return [] }
    let blob = sample.encoding.encode()
    return [[0, UInt8(blob.count >> 8), UInt8(blob.count & 255)] + blob + sample.body]
  }
}
