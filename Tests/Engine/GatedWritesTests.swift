import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

/// Writes that wait for a block to merge into, for a file, or for each other, on a device some of whose blocks are in no
/// local file. The test answers fetches and prepares files when it likes.
private final class GatedHarness {
  let front: FrontHarness
  /// What the base holds: blocks [0, far) are in segment 1, at r = lba.
  let base: [UInt8]
  private var buffers: [UInt64: UnsafeMutableRawBufferPointer] = [:]
  private var token: UInt64 = 1000

  init(blocks: Int, geometry: WALGeometry) throws {
    let map = BlockMap(blocks: UInt64(blocks))
    for lba in 0..<UInt64(blocks) { map.assign(lba, count: 1, handle: BlockHandle(segment: 1, r: UInt32(lba))) { _, _ in } }
    base = (0..<blocks * 4096).map { UInt8(truncatingIfNeeded: $0 / 4096 &* 3 &+ $0 % 251) }
    front = try FrontHarness(size: UInt64(blocks) * 4096, geometry: geometry, map: map)
    front.preparesFiles = false
    front.device.poll()
  }
  deinit { for (_, b) in buffers { b.deallocate() } }

  func write(_ offset: Int, _ bytes: [UInt8]) -> UInt64 {
    token += 1
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 4096)
    buffer.copyBytes(from: bytes)
    buffers[token] = buffer
    let request = BlockRequest(
      operation: .write, offset: UInt64(offset), length: UInt64(bytes.count), buffer: buffer.baseAddress, token: token)
    if case .done(let error) = front.device.submit(request) { front.sink.done[token] = error }
    return token
  }

  /// Answers the fetch at an index, with its blocks or an error.
  func answer(_ index: Int, error: Int32 = 0) {
    let (segment, r, count) = front.wanted.remove(at: index)
    let bytes = error == 0 ? Array(base[Int(r) * 4096..<Int(r + count) * 4096]) : []
    #expect(front.fromKeeper.send(.fetched(segment: segment, r: r, count: count, error: error, bytes: bytes)))
  }

  func isDone(_ token: UInt64) -> Bool { front.sink.done[token] != nil }

  /// Reads everything, answering whatever is asked for.
  func contents() throws -> [UInt8] {
    var all = [UInt8](repeating: 0xEE, count: base.count)
    let token = UInt64(1)
    try all.withUnsafeMutableBytes { b in
      let request = BlockRequest(operation: .read, offset: 0, length: UInt64(b.count), buffer: b.baseAddress, token: token)
      if case .done(let error) = front.device.submit(request) { front.sink.done[token] = error }
      for _ in 0..<2000 where !isDone(token) {
        try front.turn()
        while !front.wanted.isEmpty { answer(0) }
      }
    }
    #expect(front.sink.done.removeValue(forKey: token) == 0)
    return all
  }
}

@Suite struct GatedWritesTests {
  /// A write waits for its first block, then for a file, then for its last block; a later one that touches that block came
  /// while it waited the first time. It is still the later one.
  @Test func aWriteThatWaitsAgainIsNotOvertaken() throws {
    let harness = try GatedHarness(blocks: 16, geometry: WALGeometry(fileBlocks: 16, dataBlocks: 8))
    let first = harness.write(100, [UInt8](repeating: 1, count: 10 * 4096 - 100 + 200))
    let second = harness.write(10 * 4096, [UInt8](repeating: 2, count: 4096))
    try harness.front.turn()
    #expect(harness.front.wanted.map(\.r) == [0])
    harness.answer(0)
    try harness.front.turn()
    #expect(harness.front.device.counters.stalls == 1 && harness.front.wanted.isEmpty)
    try harness.front.prepare()
    try harness.front.turn()
    #expect(harness.front.wanted.map(\.r) == [10])
    #expect(!harness.isDone(first) && !harness.isDone(second))
    harness.answer(0)
    try harness.front.turn()
    #expect(harness.front.sink.done[first] == 0 && harness.front.sink.done[second] == 0)
    let all = try harness.contents()
    #expect(all[10 * 4096..<11 * 4096].allSatisfy { $0 == 2 })
    #expect(all[9 * 4096..<10 * 4096].allSatisfy { $0 == 1 })
  }

  /// Overlapping writes, answers in any order, files late or early: each is answered, and what is there in the end is what
  /// the writes make one after the other.
  @Test(arguments: 0..<40) func nothingIsStrandedOrOvertaken(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let blocks = 24
    let harness = try GatedHarness(blocks: blocks, geometry: WALGeometry(fileBlocks: 16, dataBlocks: 6))
    let front = harness.front
    var model = harness.base
    var tokens: [UInt64] = []
    for step in 0..<120 {
      switch Int.random(in: 0..<10, using: &random) {
      case 0...3:
        let offset = Int.random(in: 0..<blocks * 4096, using: &random)
        let start = Bool.random(using: &random) ? offset & ~4095 : offset
        let length = min(blocks * 4096 - start, Int.random(in: 1...30_000, using: &random))
        let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: step + 1), count: length)
        model.replaceSubrange(start..<start + length, with: bytes)
        tokens.append(harness.write(start, bytes))
      case 4...6:
        guard let i = front.wanted.indices.randomElement(using: &random) else { continue }
        harness.answer(i)
      case 7 where front.next < 400: try front.prepare()
      default: try front.turn()
      }
    }
    // Whoever waits has somebody who wakes it: fetches that were asked for, or the next file.
    for _ in 0..<4000 where !tokens.allSatisfy({ harness.isDone($0) }) {
      let before = front.sink.done.count
      try front.turn()
      if let i = front.wanted.indices.randomElement(using: &random) {
        harness.answer(i)
      } else if front.sink.done.count == before, !front.device.stalled.isEmpty {
        try front.prepare()
      }
    }
    for token in tokens { #expect(front.sink.done[token] == 0, "seed \(seed): request \(token)") }
    front.device.checkInvariants()
    let all = try harness.contents()
    let wrong = all.indices.first { all[$0] != model[$0] }
    #expect(wrong == nil, "seed \(seed): byte \(wrong ?? 0)")
  }
}
