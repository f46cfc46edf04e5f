import CElide
import ElideIO
import Glibc
import Testing

/// Checksums and digests of whole blocks, which take other ways than those of short pieces.
@Suite struct BlockSumTests {
  private let data = SeededRandom(77).bytes(70_000)

  private func slow(_ b: ArraySlice<UInt8>) -> UInt32 {
    var c = ~UInt32(0)
    for byte in b {
      c ^= UInt32(byte)
      for _ in 0..<8 { c = c & 1 == 1 ? c >> 1 ^ 0x82F6_3B78 : c >> 1 }
    }
    return ~c
  }

  /// Lengths around whole blocks, at any alignment, against the definition.
  @Test(arguments: [4095, 4096, 4097, 8191, 8192, 12_300]) func crcOfBlocksMatchesItsDefinition(length: Int) {
    for start in [0, 1, 7, 64] {
      let part = data[start..<start + length]
      #expect(part.withUnsafeBytes { crc32c($0) } == slow(part))
      let (a, b) = (part.prefix(1000), part.dropFirst(1000))
      #expect(b.withUnsafeBytes { crc32c($0, seed: slow(a)) } == slow(part), "continued")
    }
  }

  /// Two at once are the same as one by one, whatever their lengths.
  @Test func pairsOfDigests() {
    data.withUnsafeBytes { all in
      for (i, length) in [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 4096, 5000, 60_000].enumerated() {
        for other in [0, 3, 56, 64, 4096, 9999] {
          let a = UnsafeRawBufferPointer(rebasing: all[i..<i + length])
          let b = UnsafeRawBufferPointer(rebasing: all[100..<100 + other])
          let pair = Digest.sha256(a, b)
          #expect(pair == (Digest.sha256(a), Digest.sha256(b)), "\(length) and \(other)")
        }
      }
    }
  }

  private func word(_ r: UInt32, _ block: ArraySlice<UInt8>) -> UInt32 {
    var prefix = r.littleEndian
    let seed = elide_crc32c(5, &prefix, 4)
    return block.withUnsafeBytes { crc32c($0, seed: seed) }
  }

  /// What is copied out of a mapping is checked as copied, up to the first block that is not what its word says; and a file that
  /// can no longer be read there is an answer, not the end of the process.
  @Test func copiesOutOfAMappingAreChecked() throws {
    let directory = try TemporaryDirectory()
    let files = HostFiles()
    let file = try files.open(directory.path + "/f", .createNew)
    defer { files.close(file) }
    try data[..<16_384].withUnsafeBytes { try files.write(file, $0, at: 0) }
    let map = try #require(files.view(file, length: 16_384))
    defer { files.endView(map, length: 16_384) }
    var words = (0..<4).map { word(7 + UInt32($0), data[($0 * 4096)..<($0 * 4096 + 4096)]) }
    var out = [UInt8](repeating: 0, count: 16_384)
    #expect(elide_copy_matching(&out, map, 4, 5, 7, words) == 4)
    #expect(out[...] == data[..<16_384])
    #expect(elide_copy_matching(&out, map, 4, 5, 8, words) == 0, "blocks of another place")
    words[2] ^= 1
    #expect(elide_copy_matching(&out, map, 4, 5, 7, words) == 2)
    #expect(elide_words_matching(5, 7, out, 4, words) == 2)
    try files.truncate(file, size: 4096)
    for _ in 0..<3 { #expect(elide_copy_matching(&out, map, 4, 5, 7, words) == -1) }
    #expect(elide_copy_matching(&out, map, 1, 5, 7, words) == 1, "what is there can still be read")
  }

  /// Pieces from all over, of both kinds, come out one behind the other, up to the first block that is wrong or cannot be read.
  @Test func piecesAreCopiedInOrder() throws {
    let directory = try TemporaryDirectory()
    let files = HostFiles()
    let file = try files.open(directory.path + "/f", .createNew)
    defer { files.close(file) }
    try data[..<49_152].withUnsafeBytes { try files.write(file, $0, at: 0) }
    let map = try #require(files.view(file, length: 49_152))
    defer { files.endView(map, length: 49_152) }
    func bytes(_ block: Int, _ count: Int = 1) -> ArraySlice<UInt8> { data[block * 4096..<(block + count) * 4096] }
    var words = (0..<3).map { word(7 + UInt32($0), bytes(4 + $0)) }
    let crcs = [bytes(11), bytes(0), bytes(1)].map { $0.withUnsafeBytes { crc32c($0) } }
    func copied(_ out: inout [UInt8]) -> Int64 {
      words.withUnsafeBytes { w in
        crcs.withUnsafeBytes { c in
          let pieces = [
            elide_piece(from: map + 11 * 4096, words: c.baseAddress, count: 1, seed: 0, r: 0, are_crcs: 1),
            elide_piece(from: map + 4 * 4096, words: w.baseAddress, count: 3, seed: 5, r: 7, are_crcs: 0),
            elide_piece(from: map, words: c.baseAddress.map { $0 + 4 }, count: 2, seed: 0, r: 0, are_crcs: 1),
          ]
          let right = elide_copy_pieces(&out, pieces, pieces.count)
          #expect(elide_check_pieces(pieces, pieces.count) == right, "where they lie they are as right as in the copy")
          return right
        }
      }
    }
    var out = [UInt8](repeating: 0, count: 6 * 4096)
    #expect(copied(&out) == 6)
    #expect(out == Array(bytes(11) + bytes(4, 3) + bytes(0, 2)))
    words[1] ^= 1
    #expect(copied(&out) == 2)
    words[1] ^= 1
    try files.truncate(file, size: 5 * 4096)
    #expect(copied(&out) == 0, "the first piece is gone")
    #expect(elide_copy_mapped(&out, map, 4096) == 0 && out[..<4096] == bytes(0))
    #expect(elide_copy_mapped(&out, map + 4096, 20_480) == -1, "the second is cut off")
    #expect(elide_copy_pieces(&out, [], 0) == 0)
  }
}
