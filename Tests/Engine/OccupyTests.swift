import ElideEngine
import ElideIO
import Simulator
import Testing

/// Documents whose place is their own, through a store that loses requests and answers.
@Suite struct OccupyTests {
  @Test func aLostAnswerIsResolvedByReading() throws {
    var weather = StoreWeather.clear
    weather.lostRequest = 65536 / 5
    weather.lostResponse = 65536 / 5
    var done = 0
    for seed in 0..<100 as Range<UInt64> {
      let bucket = SimBucket()
      let store = SimStore(bucket, seed: seed, weather: weather)
      let reader = SimStore(bucket, seed: 0)
      do throws(StoreError) {
        try store.occupy("hosts/a/host.pub", [1, 2, 3])
        done += 1
        #expect(try reader.get("hosts/a/host.pub", range: nil) == [1, 2, 3], "seed \(seed)")
        // Whoever comes second finds what is there.
        try reader.occupy("hosts/a/host.pub", [9])
        #expect(try reader.get("hosts/a/host.pub", range: nil) == [1, 2, 3], "seed \(seed)")
      } catch {
        guard case .unknown = error else {
          Issue.record("\(error), seed \(seed)")
          continue
        }
      }
    }
    #expect(done > 90)
  }
}
