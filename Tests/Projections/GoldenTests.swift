import ElideIO
import ElideProjections
import Testing

/// Bytes and roots computed by another program from the pages in docs/formats alone. They must hold for ever.
@Suite struct GoldenTests {
  @Test func rootOfAnEmptyMap() {
    #expect(BlockMap(blocks: 1000).root().hex == "7331d6e294a0b0d1f8eb894349340c90eec5bea70afa08a45d529918c96c34da")
  }

  @Test func rootOfAMapOfAllShapes() {
    let map = BlockMap(blocks: 3 << 20)
    map.assign(0, count: 10, handle: BlockHandle(segment: 5, r: 7)) { _, _ in }
    map.assign(10, count: 1, handle: .zero) { _, _ in }
    map.assign(11, count: 20, handle: BlockHandle(segment: 4, r: 100)) { _, _ in }
    map.assign(1025 * 1024, count: 1024, handle: BlockHandle(segment: 6, r: 0)) { _, _ in }
    map.assign(2 << 20, count: 1 << 20, handle: .zero) { _, _ in }
    #expect(map.root().hex == "cada8a2bb760a19f2c412e0edd2ec6b9df701daebd0f2e9a2ae4f251a0bbd95f")
    // The canonical leaf is found in a checkpoint as it is.
    let leaf = decodeHexadecimal("012a0a0e055201a601841f") ?? []
    let rows = [4, 5, 6].map { (n: UInt64) in
      SegmentTableRow(
        number: n, volume: ULID(high: 1, low: 1), blocks: 1 << 20, count: [20, 10, 1024][Int(n) - 4],
        sealed: Point(volume: ULID(high: 1, low: 1), seq: n))
    }
    let bytes = MapCheckpoint(volume: ULID(high: 1, low: 1), seq: 8, map: map, rows: rows, state: []).encode()
    #expect(!leaf.isEmpty && bytes.suffix(leaf.count + 5).prefix(leaf.count).elementsEqual(leaf))
    #expect((try? MapCheckpoint.decode(bytes))?.root == map.root())
  }

  @Test func content() throws {
    let content = SegmentContent(runs: [
      .init(lba: 3, count: 5, kind: .trim), .init(lba: 8, count: 2, kind: .data(r: 0)),
      .init(lba: 10, count: 3, kind: .duplicate(BlockHandle(segment: 7, r: 9))),
    ])
    #expect(hexadecimal(content.encode()) == "656c73630100090303000016080f0e12")
  }

  @Test func encoding() throws {
    func digest(_ b: UInt8) -> Digest { [UInt8](repeating: b, count: 32).withUnsafeBytes { Digest(bytes: $0) } }
    let encoding = SegmentEncoding(
      units: [
        .init(r: 0, blocks: 2, offset: 0, length: 5000, codec: .zstd, digest: digest(1)),
        .init(r: 2, blocks: 1, offset: 5000, length: 4096, codec: .raw, digest: digest(2)),
      ], hashesOffset: 9096, hashesDigest: digest(3))
    let tail = [1, 2, 3].map { String(repeating: "0\($0)", count: 32) }.joined()
    #expect(hexadecimal(encoding.encode()) == "656c736501000d02020188278020010000000000" + tail)
  }

  @Test func list() throws {
    let bytes = SegmentList([1, 2, 303]).encode()
    #expect(hexadecimal(bytes) == "656c736c010005030100ac02")
    #expect(try SegmentList.decode(bytes).numbers == [1, 2, 303])
  }
}
