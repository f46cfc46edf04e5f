import ElideIO
import ElideProjections
import Glibc
import Synchronization
import Testing

@testable import ElideEngine

/// Reads of what only the store has, while the store does not answer.
@Suite struct StoreOutageTests {
  private static let silent: @Sendable (String) -> StoreError? = { .unknown(key: $0, detail: "timed out") }

  private func harness(patience: UInt64 = 3600, blocks: Int = 90) throws -> ReadHarness {
    var configuration = KeeperConfiguration()
    configuration.readPatienceSeconds = patience
    return try ReadHarness(blocks: blocks, configuration: configuration)
  }

  private func turn(_ harness: ReadHarness, seconds: Int) {
    for _ in 0..<seconds * 4 {
      harness.turn()
      harness.world.clock.advance(milliseconds: 250)
    }
    harness.turn()
  }

  @Test func readsWaitUntilItAnswers() throws {
    let harness = try harness()
    harness.read(40, 1, token: 1)
    for _ in 0..<20 where harness.sink.done.isEmpty { harness.turn() }
    #expect(harness.isRight(1, 40) && harness.world.watched.silentSince == nil)
    harness.world.store.getFault.withLock { $0 = Self.silent }
    let since = harness.world.clock.monotonicNanoseconds()
    for token in 2..<22 { harness.read((token * 7) % 80, 3, token: UInt64(token)) }
    harness.turn()
    let begun = harness.world.store.counters.gets
    turn(harness, seconds: 600)
    // What is here is read meanwhile; nothing failed; the store was asked now and then, not all the time.
    harness.read(40, 1, token: 30)
    harness.turn()
    #expect(harness.isRight(30, 40) && harness.sink.done.count < 12 && harness.sink.done.values.allSatisfy { $0 == 0 })
    #expect(harness.world.watched.silentSince == since)
    let asked = harness.world.store.counters.gets - begun
    #expect(asked > 20 && asked < 4 * 20 * 40, "\(asked) requests")
    #expect(harness.desk.faults.count == 0)

    harness.world.store.getFault.withLock { $0 = nil }
    turn(harness, seconds: 31)
    for token in 2..<22 { #expect(harness.isRight(UInt64(token), (token * 7) % 80), "request \(token)") }
    #expect(harness.world.watched.silentSince == nil && harness.desk.deadline == .max)
  }

  /// The lane has four threads for all volumes, and a request may take as long as the store's own patience.
  @Test func aFewAtATimeFindOut() throws {
    let harness = try harness()
    harness.world.store.getFault.withLock { $0 = Self.silent }
    harness.read(0, 1, token: 1)
    turn(harness, seconds: 2)
    harness.most = 0
    for token in 2..<42 { harness.read(token * 2, 1, token: UInt64(token)) }
    turn(harness, seconds: 120)
    #expect(harness.most == 2 && harness.sink.done.isEmpty)
  }

  @Test func patienceEnds() throws {
    let harness = try harness(patience: 90)
    harness.world.store.getFault.withLock { $0 = Self.silent }
    harness.read(0, 1, token: 1)
    turn(harness, seconds: 80)
    #expect(harness.sink.done.isEmpty)
    turn(harness, seconds: 11)
    #expect(harness.sink.done == [1: EIO] && harness.desk.faults.count == 1)
    #expect(harness.desk.faults.last?.contains("segment 5: the store gave no answer for 90 s") == true)
  }

  /// What will not get better by waiting is an error at once, which says of which object.
  @Test func whatIsNotThereIsAnErrorAtOnce() throws {
    let harness = try harness()
    let key = try #require(harness.world.entry.bodyKey)
    harness.world.store.getFault.withLock { $0 = { .refused(key: $0, detail: "denied") } }
    harness.read(0, 1, token: 1)
    harness.turn()
    harness.turn()
    #expect(harness.sink.done == [1: EIO] && harness.desk.faults.last?.contains(key) == true)
    harness.world.store.getFault.withLock { $0 = nil }
    harness.world.store.change(key) { for i in 0..<2000 { $0[i] ^= 1 } }
    harness.read(0, 1, token: 2)
    harness.turn()
    harness.turn()
    #expect(harness.sink.done[2] == EIO && harness.desk.faults.last?.contains(key) == true)
    try harness.world.store.delete(key)
    harness.read(0, 1, token: 3)
    harness.turn()
    harness.turn()
    #expect(harness.sink.done[3] == EIO && harness.desk.faults.count == 3)
    #expect(harness.world.watched.silentSince == nil)
  }

  /// One part of an object that times out again and again does not make the others wait for it.
  @Test func oneThatIsNotAnsweredHoldsUpNoOthers() throws {
    let harness = try harness()
    let odd = Mutex(0)
    // Every other request: whatever is asked first is the one without an answer.
    harness.world.store.getFault.withLock {
      $0 = { key in
        odd.withLock { n in
          n += 1
          return n % 2 == 1 ? .unknown(key: key, detail: "timed out") : nil
        }
      }
    }
    for token in 0..<20 { harness.read((token * 7) % 80, 1, token: UInt64(token)) }
    turn(harness, seconds: 60)
    for token in 0..<20 { #expect(harness.isRight(UInt64(token), (token * 7) % 80), "request \(token)") }
  }

  @Test func aStoreIsSilentFromTheFirstOfTheRequestsThatNobodyAnswered() throws {
    let world = try CacheWorld(count: 4)
    let store = world.watched
    let key = try #require(world.entry.bodyKey)
    #expect(store.silentSince == nil)
    _ = try store.get(key, range: nil)
    world.clock.advance(milliseconds: 1000)
    world.store.getFault.withLock { $0 = Self.silent }
    let first = world.clock.monotonicNanoseconds()
    for _ in 0..<3 {
      #expect(throws: StoreError.self) { try store.get(key, range: nil) }
      world.clock.advance(milliseconds: 1000)
    }
    #expect(store.silentSince == first && !store.answered(since: first))
    // That an object is not there is an answer.
    world.store.getFault.withLock { $0 = nil }
    #expect(throws: StoreError.self) { try store.get("no/such", range: nil) }
    #expect(store.silentSince == nil && store.answered(since: first))
  }
}
