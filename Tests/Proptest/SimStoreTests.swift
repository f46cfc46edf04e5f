import ElideIO
import Simulator
import Testing

@Suite struct SimStoreTests {
  private func put(_ store: SimStore, _ key: String, _ value: UInt8) throws(StoreError) -> PutOutcome {
    var outcome = PutOutcome.exists
    var failure: StoreError?
    [value, value].withUnsafeBytes { b in
      do throws(StoreError) { outcome = try store.putIfAbsent(key, b) } catch { failure = error }
    }
    if let failure { throw failure }
    return outcome
  }

  @Test func aSlotIsOccupiedOnce() throws {
    let bucket = SimBucket()
    let a = SimStore(bucket, seed: 1)
    let b = SimStore(bucket, seed: 2)
    #expect(try put(a, "x/y", 1) == .created)
    #expect(try put(b, "x/y", 2) == .exists)
    #expect(try b.get("x/y", range: nil) == [1, 1])
    #expect(try b.get("x/y", range: 1..<9) == [1])
    #expect(try a.list("x/", after: nil, limit: 10) == [StoredObject(key: "x/y", size: 2)])
    #expect(throws: StoreError.notFound(key: "x/z")) { try a.get("x/z", range: nil) }
  }

  @Test func anUnknownPutHappenedOrDidNot() throws {
    var applied = 0
    var absent = 0
    var late = 0
    for seed in 0..<300 as Range<UInt64> {
      let bucket = SimBucket()
      let store = SimStore(bucket, seed: seed, weather: .stormy)
      store.weather.lostRequest = 16000
      store.weather.lostResponse = 16000
      do {
        _ = try put(store, "k", 1)
      } catch {
        guard case .unknown = error as? StoreError else { continue }
        if bucket.objects["k"] != nil { applied += 1 } else { absent += 1 }
        var random = SeededRandom(seed: seed)
        if bucket.objects["k"] == nil, bucket.deliverDuplicate(&random) { late += 1 }
      }
    }
    #expect(applied > 10 && absent > 10 && late > 10)
  }

  @Test func aCrashCutsBeforeOrAfterTheRequest() throws {
    for phase in CrashPhase.allCases {
      let bucket = SimBucket()
      let faults = SimFaults()
      let store = SimStore(bucket, seed: 1, faults: faults)
      faults.armCrash(after: 1, phase)
      #expect(throws: StoreError.self) { try put(store, "k", 1) }
      #expect(throws: StoreError.self) { try store.get("k", range: nil) }
      #expect((bucket.objects["k"] != nil) == (phase != .before))
    }
  }

  @Test func theSameSeedMakesTheSameWeather() throws {
    func run(_ seed: UInt64) -> [Bool] {
      let store = SimStore(SimBucket(), seed: seed, weather: .stormy)
      return (0..<200).map { i in (try? put(store, "k\(i)", 1)) != nil }
    }
    #expect(run(7) == run(7))
    #expect(run(7) != run(8))
  }
}
