import Testing

@testable import ElideIO

@Suite struct NBDBufferTests {
  @Test func sizeClasses() {
    #expect(
      [1, 4096, 4097, 65536, 1 << 20, (16 << 20) + 1].map { BufferPool.rounded($0) } == [
        4096, 4096, 8192, 65536, 1 << 20, 32 << 20,
      ])
  }

  /// Buffers never overlap, whatever is taken and given back, and are counted right.
  @Test func buffersAreDisjointAndRecycled() throws {
    var pool = BufferPool(cacheLimit: 1 << 20)
    var random = Seeded(4)
    var held: [(buffer: PooledBuffer, length: Int, mark: UInt8)] = []
    for step in 0..<4000 {
      if held.count < 60 && Bool.random(using: &random) {
        let length = 1 << Int.random(in: 0...18, using: &random) + Int.random(in: 0...2, using: &random)
        let taken = pool.take(length)
        let buffer = try #require(taken)
        let mark = UInt8(truncatingIfNeeded: step)
        let base = try #require(buffer.base)
        base.storeBytes(of: mark, as: UInt8.self)
        base.storeBytes(of: mark, toByteOffset: length - 1, as: UInt8.self)
        held.append((buffer, length, mark))
      } else if !held.isEmpty {
        let (buffer, length, mark) = held.remove(at: Int.random(in: 0..<held.count, using: &random))
        let base = try #require(buffer.base)
        #expect(base.load(as: UInt8.self) == mark && base.load(fromByteOffset: length - 1, as: UInt8.self) == mark)
        pool.give(buffer)
      }
      #expect(pool.used == held.reduce(0) { $0 + $1.buffer.size })
    }
    for (buffer, _, _) in held { pool.give(buffer) }
    #expect(pool.used == 0)
    let last = pool.take(5000)
    let again = try #require(last?.base)
    pool.give(PooledBuffer(base: again, sizeClass: 13))
    let recycled = pool.take(5000)
    #expect(recycled?.base == again)
  }
}
