import ElideIO
import ElideProjections

/// Map checkpoints and the state in them.
enum CheckpointFuzz {
  /// As it is, and with digests made to fit, so that index, table and leaves are reached.
  static func run(_ bytes: [UInt8]) {
    look(bytes)
    look(mended(bytes))
  }

  private static func look(_ bytes: [UInt8]) {
    guard let read = try? MapCheckpoint.decode(bytes) else { return }
    precondition(read.map.checkInvariants().isEmpty, "a map with a fault was let through")
    guard let again = try? MapCheckpoint.decode(read.encode()) else { preconditionFailure("what was written is not read") }
    precondition(again.root == read.root && again.rows == read.rows && again.state == read.state, "it reads as another")
  }

  static func state(_ bytes: [UInt8]) {
    guard let state = try? VolumeState.decode(bytes) else { return }
    guard let again = try? VolumeState.decode(state.encode()) else { preconditionFailure("what was written is not read") }
    precondition(again.encode() == state.encode(), "a state reads as another")
    _ = state.checkInvariants()
  }

  /// The header at 256 bytes: lengths of four sections at 96, digests of three at 128, its own at 224. The index ends
  /// with a digest for each leaf; the leaves' lengths stand in its columns, when those are plain.
  private static func mended(_ given: [UInt8]) -> [UInt8] {
    guard given.count > 256 else { return given }
    var bytes = given
    var at = 256
    var sections: [Range<Int>] = []
    for i in 0..<4 {
      let field = bytes[96 + 8 * i..<104 + 8 * i]
      let length = field.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      guard length <= UInt64(bytes.count - at) else { return given }
      sections.append(at..<at + Int(length))
      at += Int(length)
    }
    mendLeaves(&bytes, index: sections[0], leaves: sections[3])
    for i in 0..<3 {
      let digest = bytes[sections[i]].withUnsafeBytes { Digest.sha256($0) }
      bytes.replaceSubrange(128 + 32 * i..<160 + 32 * i, with: digest.bytes)
    }
    let digest = bytes[..<224].withUnsafeBytes { Digest.sha256($0) }
    bytes.replaceSubrange(224..<256, with: digest.bytes)
    return bytes
  }

  private static func mendLeaves(_ bytes: inout [UInt8], index: Range<Int>, leaves: Range<Int>) {
    var lengths: [Int] = []
    do {
      var r = ByteReader(bytes[index], what: "index")
      guard try r.raw(6)[5] == 0 else { return }
      let columns = try r.count("columns", limit: r.remaining)
      let digests = index.lowerBound + r.offset + columns
      for _ in 0..<(try r.count("items", limit: columns)) {
        let item = try r.varint()
        if item & 3 == 2 { lengths.append(Int(clamping: item >> 2)) }
      }
      var at = leaves.lowerBound
      for (i, length) in lengths.enumerated() {
        guard length <= leaves.upperBound - at, digests + 32 * i + 32 <= index.upperBound else { return }
        let digest = bytes[at..<at + length].withUnsafeBytes { Digest.sha256($0) }
        bytes.replaceSubrange(digests + 32 * i..<digests + 32 * i + 32, with: digest.bytes)
        at += length
      }
    } catch {}
  }

  // MARK: seeds

  static var seeds: [[UInt8]] {
    let volume = ULID(high: 1, low: 1)
    let map = BlockMap(blocks: 3 << 20)
    map.assign(0, count: 10, handle: BlockHandle(segment: 5, r: 7)) { _, _ in }
    map.assign(10, count: 1, handle: .zero) { _, _ in }
    map.assign(11, count: 20, handle: BlockHandle(segment: 4, r: 100)) { _, _ in }
    map.assign(1025 * 1024, count: 1024, handle: BlockHandle(segment: 6, r: 0)) { _, _ in }
    map.assign(2 << 20, count: 1 << 20, handle: .zero) { _, _ in }
    var rows = [4, 5, 6].map { (n: UInt64) in
      SegmentTableRow(
        number: n, volume: volume, blocks: 1 << 20, count: [20, 10, 1024][Int(n) - 4], sealed: Point(volume: volume, seq: n))
    }
    rows[1].referrers = [6, 900]
    rows[2].death = Point(volume: volume, seq: 9)
    rows[2].count = 1024
    rows[0].body = BodyLocator(
      hash: Digest.sha256([1]), length: 5000, encoding: Digest.sha256([2]), page: 3, offset: 700, frameLength: 90)
    return [
      MapCheckpoint(volume: volume, seq: 8, map: map, rows: rows, state: [1, 2, 3]).encode(),
      MapCheckpoint(volume: volume, seq: 1, map: BlockMap(blocks: 1), rows: [], state: []).encode(),
    ]
  }

  static var states: [[UInt8]] {
    var bare = VolumeState(volume: ULID(high: 1, low: 2))
    bare.size = 1 << 30
    var full = bare
    full.boundName = "db"
    full.plannedObjects = ["volumes/x/maps/1"]
    full.openWALs = [3, 4]
    return [bare.encode(), full.encode()]
  }
}
