import ElideIO
import ElideProjections
import Simulator
import Testing

@testable import ElideEngine

/// What becomes of a body's units: which are stored as they are, how each is checked, and at what level others are compressed.
@Suite struct BodyUnitTests {
  private let codec: ZstdCodec
  init() throws { codec = try #require(ZstdCodec()) }

  private func random(_ count: Int, seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
  }

  /// Of each block so many bytes are random, the rest one byte: about as much of it remains.
  private func block(_ random: Int, seed: UInt64) -> [UInt8] {
    // In turns of 64 bytes, so that every sample sees its share.
    let bytes = self.random(4096, seed: seed)
    return (0..<4096).map { $0 % 64 < random / 64 ? bytes[$0] : 7 }
  }

  private func encode(_ blocks: [[UInt8]], level: Int32 = 1) -> EncodedBody {
    let flat = blocks.flatMap { $0 }
    return flat.withUnsafeBytes { p in
      BodyEncoder.encode(
        count: UInt32(blocks.count), hashes: blocks.map { Digest.sha256($0) }, level: level, codec: codec
      ) { p.baseAddress! + Int($0) * 4096 }
    }
  }

  /// Three units of sixteen blocks: random, text, half random; and one of a single random block.
  private var mixed: [[UInt8]] {
    (0..<16).map { block(4096, seed: $0) } + (0..<16).map { block(64, seed: $0) } + (0..<16).map { block(2048, seed: $0) }
      + [block(4096, seed: 99)]
  }

  @Test func whatDoesNotShrinkIsStoredAsItIs() throws {
    let blocks = mixed
    let body = encode(blocks)
    #expect(body.encoding.units.map(\.codec) == [.hashed, .zstd, .zstd, .hashed])
    #expect(body.encoding.fault(blocks: 49, bodyLength: body.length) == nil)
    #expect(try SegmentEncoding.decode(body.encoding.encode(codec), codec) == body.encoding)
    // The digest of such a unit is that of its blocks' hashes.
    let hashes = blocks[..<16].flatMap { Digest.sha256($0).bytes }
    #expect(body.encoding.units[0].digest == Digest.sha256(hashes))
    #expect(body.encoding.units[3].digest == Digest.sha256(Digest.sha256(blocks[48]).bytes))
    for (unit, part) in zip(body.encoding.units, body.parts) {
      let plain = try BodyDecoder.decode(unit, stored: part[...], object: "body", codec: codec)
      #expect(plain == Array(blocks[Int(unit.r)..<Int(unit.r + unit.blocks)].joined()))
    }
    // All at once, in pairs of whatever kinds.
    let stored = body.parts[..<4].flatMap { $0 }
    for first in 0..<4 {
      for end in first + 1...4 {
        let units = Array(body.encoding.units[first..<end])
        let from = Int(units[0].offset)
        #expect(stored[from...].withUnsafeBytes { BodyDecoder.areRight(units, $0) } == units.map { _ in true })
      }
    }
  }

  @Test func everyFlippedBitIsSeen() throws {
    let blocks = mixed
    let body = encode(blocks)
    var generator = SeededGenerator(seed: 5)
    for (i, unit) in body.encoding.units.enumerated() {
      for _ in 0..<20 {
        var damaged = body.parts[i]
        damaged[Int(generator.next() % UInt64(damaged.count))] ^= 1 << UInt8(generator.next() % 8)
        #expect(throws: SegmentError.self) {
          try BodyDecoder.decode(unit, stored: damaged[...], object: "body", codec: codec)
        }
        var stored = body.parts[..<4].flatMap { $0 }
        stored.replaceSubrange(Int(unit.offset)..<Int(unit.offset) + damaged.count, with: damaged)
        let right = stored.withUnsafeBytes { BodyDecoder.areRight(body.encoding.units, $0) }
        #expect(right == (0..<4).map { $0 != i })
      }
      // Blocks in another order, a block less, and bytes that are no blocks.
      if unit.codec == .hashed {
        let part = body.parts[i]
        for other in [Array(part.reversed()), Array(part.dropLast(4096)), Array(part.dropLast()), []] {
          #expect(throws: SegmentError.self) {
            try BodyDecoder.decode(unit, stored: other[...], object: "body", codec: codec)
          }
        }
      }
    }
  }

  /// What the journal's format says of such a unit: as long as its blocks.
  @Test func aUnitOfHashesIsAsLongAsItsBlocks() throws {
    var encoding = encode([block(4096, seed: 1), block(4096, seed: 2)]).encoding
    #expect(encoding.fault == nil)
    encoding.units[0].length -= 4096
    encoding.hashesOffset -= 4096
    #expect(encoding.fault != nil)
  }

  @Test func theSampleTellsWhatCompressingIsWorth() {
    func level(_ blocks: [[UInt8]], _ asked: Int32 = 1) -> Int32? {
      blocks.flatMap { $0 }.withUnsafeBytes { UnitSample($0).level(asked, codec) }
    }
    for count in [1, 2, 7, 16] {
      let seeds = 0..<UInt64(count)
      #expect(level(seeds.map { block(4096, seed: $0) }) == nil)
      if count > 2 {
        #expect(level(seeds.map { block(3328, seed: $0) }) == UnitSample.fast, "\(count) blocks of which little can be had")
      }
      #expect(level(seeds.map { block(2048, seed: $0) }, 3) == 3)
      #expect(level(seeds.map { block(64, seed: $0) }, -3) == -3)
    }
    // Who asks for a faster level still gets it.
    #expect(level((0..<16).map { block(3328, seed: $0) }, -9) == -9)
    // One block of sixteen that shrinks to nothing is seen.
    #expect(level((0..<15).map { block(4096, seed: $0) } + [block(0, seed: 1)]) == UnitSample.fast)
  }
}
