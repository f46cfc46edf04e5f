import ElideEvents
import ElideIO
import Glibc
import Testing

/// Figures, not verdicts: run with ELIDE_MEASURE=1, in a release build.
@Suite(.enabled(if: getenv("ELIDE_MEASURE") != nil)) struct MeasureTests {
  @Test func entriesVerified() throws {
    let store = ArrayStore()
    let journal = Journal(
      store: store, log: Samples.log, identity: Samples.identity, clock: FixedClock(), random: SeededRandom(5))
    _ = try journal.append([.created(Samples.genesis)])
    let clock = HostClock()
    let start = clock.monotonicNanoseconds()
    for n in 0..<50 {
      let blob = [UInt8(n)]
      _ = try journal.append(
        (0..<1000).map {
          .segmentSealed(SealedSegment(segment: UInt64(n * 1000 + $0), origin: .wal, blocks: 8192, content: Digest.sha256(blob)))
        }, blobs: [blob])
    }
    let written = clock.monotonicNanoseconds()
    let resident = Self.residentBytes()
    for _ in 0..<2 {
      var replay = JournalReplay(log: Samples.log)
      for raw in store.raws { _ = try replay.next(raw) }
    }
    let read = clock.monotonicNanoseconds()
    let count = store.raws.count
    print("entries written per second: \(UInt64(count) * 1_000_000_000 / (written - start))")
    print("entries verified per second: \(UInt64(2 * count) * 1_000_000_000 / (read - written))")
    print("bytes kept per entry read: \((Self.residentBytes() - resident) / (2 * count))")
  }

  private static func residentBytes() -> Int {
    guard let text = try? HostFiles().open("/proc/self/statm", .read) else { return 0 }
    var bytes = [UInt8](repeating: 0, count: 100)
    let n = bytes.withUnsafeMutableBytes { (try? HostFiles().read(text, into: $0, at: 0)) ?? 0 }
    HostFiles().close(text)
    let fields = String(decoding: bytes[..<n], as: UTF8.self).split(separator: " ")
    return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * 4096
  }
}
