import ElideIO
import Testing

@Suite struct StoreProbeTests {
  /// A store with one thing wrong.
  final class FaultyStore: Store {
    enum Fault: CaseIterable, Sendable {
      case overwrites, twoWinners, staleReads, ignoresRanges, hidesObjects, keepsDeleted, silent
    }
    let store: LocalStore
    let fault: Fault
    init(_ store: LocalStore, _ fault: Fault) { (self.store, self.fault) = (store, fault) }

    var url: String { store.url }
    var counters: StoreCounters { store.counters }
    func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
      if fault == .overwrites {
        try store.put(key, parts: [Array(bytes)])
        return .created
      }
      let outcome = try store.putIfAbsent(key, bytes)
      return fault == .twoWinners && key.contains("race") ? .created : outcome
    }
    func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
      if fault == .staleReads, (try? store.get(key, range: nil)) != nil { return }
      try store.put(key, parts: parts)
    }
    func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
      try store.get(key, range: fault == .ignoresRanges ? nil : range)
    }
    func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
      let found = try store.list(prefix, after: after, limit: limit)
      return fault == .hidesObjects && prefix.contains("/list/") ? found.dropLast() : found
    }
    func delete(_ key: String) throws(StoreError) {
      if fault == .silent { throw .unknown(key: key, detail: "no answer") }
      if fault != .keepsDeleted || !key.hasSuffix("/delete") { try store.delete(key) }
    }
  }

  @Test(arguments: StoreConformanceTests.kinds) func aGoodStoreIsGood(kind: StoreConformanceTests.Kind) throws {
    let store = try StoreConformanceTests.Place(kind).open()
    var probe = StoreProbe(store, world: .host(), rounds: 8)
    let report = try probe.run()
    #expect(report.isUsable, "\(report.findings)")
    #expect(report.findings.map(\.question) == ProbeQuestion.allCases)
    #expect(report.latencies.map(\.count) == [8, 8, 3, 3])
    #expect(try store.list("", after: nil, limit: 10) == [], "nothing is left behind")
  }

  @Test(arguments: FaultyStore.Fault.allCases) func eachFaultIsFound(fault: FaultyStore.Fault) throws {
    let directory = try TemporaryDirectory()
    let store = FaultyStore(try LocalStore(root: directory / "store", world: .host()), fault)
    var probe = StoreProbe(store, world: .host(), rounds: 4)
    let report = try probe.run()
    let bad = report.findings.filter { $0.result == .no || $0.result == .unclear }.map(\.question)
    switch fault {
    case .overwrites: #expect(bad == [.putIfAbsent, .race])
    case .twoWinners: #expect(bad == [.race])
    case .staleReads: #expect(bad.contains(.readAfterWrite))
    case .ignoresRanges: #expect(bad == [.range])
    case .hidesObjects: #expect(bad == [.listAfterWrite])
    case .keepsDeleted: #expect(bad == [.delete])
    case .silent: #expect(bad == [.listAfterWrite, .delete] && report[.delete]?.result == .unclear)
    }
    #expect(report.isUsable == (fault == .hidesObjects))
    for finding in report.findings where finding.result == .no { #expect(!finding.question.meaning(.no).isEmpty) }
  }

  /// A server whose clock is an hour off, and that takes whatever comes.
  @Test func clocksAndChecksumsThatAreNotLookedAt() throws {
    let bench = try S3Bench(clock: StillClock(1_369_353_600_000)) { _, request in
      let date = ["Date": "Fri, 24 May 2013 01:00:00 GMT"]
      if request.method == "GET" && request.target.contains("list-type") {
        return .answer(200, date, Array("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".utf8))
      }
      return request.method == "GET" ? S3Bench.error(404, "NoSuchKey", headers: date) : .answer(200, date)
    }
    var probe = StoreProbe(bench.store, world: World(clock: HostClock(), random: SeededRandom(1), files: HostFiles()), rounds: 4)
    let report = try probe.run()
    #expect(report.clockAheadMilliseconds == -3_600_500)
    #expect(report[.clock]?.detail == "this host's is 3600 s behind")
    for question in [ProbeQuestion.clock, .md5, .payload, .checksum, .policy, .race, .readAfterWrite] {
      #expect(report[question]?.result != .yes, "\(question)")
    }
    #expect(!report.isUsable)
  }
}
