import ElideEvents
import ElideIO
import Testing

/// The journal store as arrays, with a fault to inject: what `Journal` does around a store is tested on it.
final class ArrayStore: JournalStore, @unchecked Sendable {  // used by one thread of one test
  var raws: [[UInt8]] = []
  var blobs: [Digest: [UInt8]] = [:]
  var rows: [String: [UInt8]] = [:]
  var failure: JournalError?
  var head: JournalHead? { raws.last.map { JournalHead(seq: UInt64(raws.count - 1), hash: Digest.sha256($0)) } }
  func entry(_ seq: UInt64) throws(JournalError) -> [UInt8]? { seq < UInt64(raws.count) ? raws[Int(seq)] : nil }
  func blob(_ digest: Digest) throws(JournalError) -> [UInt8] {
    guard let b = blobs[digest] else { throw .missingBlob(digest) }
    return b
  }
  func row(_ key: String) throws(JournalError) -> [UInt8]? { rows[key] }
  func commit(entries: [Entry], blobs new: [[UInt8]], rows: [(key: String, value: [UInt8]?)]) throws(JournalError) {
    if let failure { throw failure }
    raws += entries.map(\.raw)
    for b in new { blobs[Digest.sha256(b)] = b }
    for (key, value) in rows { self.rows[key] = value }
  }
  func close() {}
}

@Suite struct JournalTests {
  private func journal(_ store: ArrayStore) -> Journal {
    Journal(store: store, log: Samples.log, identity: Samples.identity, clock: FixedClock(), random: SeededRandom(5))
  }
  private func filled() throws -> ArrayStore {
    let store = ArrayStore()
    let journal = journal(store)
    _ = try journal.append([.created(Samples.genesis)])
    _ = try journal.append((1...9).map { .walOpened(wal: $0) })
    return store
  }
  private func replay(_ raws: [[UInt8]], after: JournalHead? = nil) throws -> [VolumeEvent] {
    var replay = JournalReplay(log: Samples.log, after: after)
    return try raws.compactMap { try replay.next($0)?.event }
  }

  @Test func appendsOneChainThatReplays() throws {
    let store = ArrayStore()
    let journal = journal(store)
    let one = try journal.append([.created(Samples.genesis)], context: AppendContext(request: "r1"))
    let more = try journal.append([.walOpened(wal: 1), .closed], rows: [("cut", [1, 2])])
    #expect((one + more).map(\.seq) == [0, 1, 2])
    #expect(one[0].envelope.request == "r1" && more[0].envelope.prev == one[0].hash && more[1].envelope.prev == more[0].hash)
    #expect(journal.head == JournalHead(seq: 2, hash: more[1].hash))
    #expect(try journal.row("cut") == [1, 2])
    var replay = StoreReplay(store, log: Samples.log)
    for c in one + more {
      let got = try replay.next()
      #expect(got?.seq == c.seq && got?.event == c.event && got?.hash == c.hash && got?.envelope == c.envelope)
    }
    #expect(try replay.next() == nil)
  }

  @Test func replayStartsAnywhereWithTheRightHash() throws {
    let store = try filled()
    let hash = Digest.sha256(store.raws[4])
    var replay = StoreReplay(store, log: Samples.log, after: JournalHead(seq: 4, hash: hash), through: 6)
    #expect(try replay.next()?.seq == 5)
    #expect(try replay.next()?.seq == 6)
    #expect(try replay.next() == nil)
    var wrong = StoreReplay(store, log: Samples.log, after: JournalHead(seq: 4, hash: Samples.digest(9)))
    #expect(throws: ReplayError.brokenChain(seq: 5, expected: Samples.digest(9), found: hash)) { try wrong.next() }
  }

  @Test func violationsAreFoundWhereTheyAre() throws {
    let raws = try filled().raws
    var edited = raws
    edited[3] = Array(String(decoding: raws[3], as: UTF8.self).replacing("wal = 3", with: "wal = 4").utf8)
    #expect(throws: ReplayError.brokenChain(seq: 4, expected: Digest.sha256(edited[3]), found: Digest.sha256(raws[3]))) {
      try replay(edited)
    }
    var gap = raws
    gap.remove(at: 5)
    #expect(throws: ReplayError.wrongSeq(expected: 5, found: 6)) { try replay(gap) }
    var reordered = raws
    reordered.swapAt(2, 3)
    #expect(throws: ReplayError.wrongSeq(expected: 2, found: 3)) { try replay(reordered) }
    var twice = raws
    twice.insert(raws[7], at: 8)
    #expect(throws: ReplayError.wrongSeq(expected: 8, found: 7)) { try replay(twice) }
    var foreign = JournalReplay(log: "volume/\(Samples.other)")
    #expect(throws: ReplayError.wrongLog(seq: 0, found: Samples.log)) { try foreign.next(raws[0]) }
    #expect(throws: ReplayError.self) { try replay([raws[0], [UInt8]("x = ".utf8)]) }
  }

  @Test func unknownKindsEndReplayUnlessIgnorable() throws {
    let raws = try filled().raws
    let text = String(decoding: raws[1], as: UTF8.self).replacing("kind = \"wal_opened\"", with: "kind = \"novel\"")
    #expect(throws: ReplayError.unknownKind(seq: 1, kind: "novel", schema: 1)) { try replay([raws[0], Array(text.utf8)]) }
    let ignorable = Array(text.replacing("ignorable = false", with: "ignorable = true").utf8)
    #expect(try replay([raws[0], ignorable]).count == 1)
  }

  @Test func afterAnUnknownOutcomeNothingMoreIsAppended() throws {
    let store = try filled()
    let journal = journal(store)
    store.failure = .noSpace("full")
    #expect(throws: JournalError.noSpace("full")) { try journal.append([.closed]) }
    store.failure = nil
    #expect(try journal.append([.closed]).count == 1)
    store.failure = .unknown("EIO")
    #expect(throws: JournalError.unknown("EIO")) { try journal.append([.closed]) }
    store.failure = nil
    #expect(journal.isHalted)
    let error = #expect(throws: JournalError.self) { try journal.append([.closed]) }
    guard case .halted = error else { Issue.record("halted"); return }
    #expect(store.raws.count == 11)
  }

  @Test func anEntryNeverNamesABlobThatIsNotThere() throws {
    let store = try filled()
    let journal = journal(store)
    let blob: [UInt8] = [1, 2, 3]
    let sealed = VolumeEvent.segmentSealed(
      SealedSegment(segment: 1, origin: .wal, blocks: 1, content: Digest.sha256(blob)))
    #expect(throws: JournalError.missingBlob(Digest.sha256(blob))) { try journal.append([sealed]) }
    #expect(try journal.append([sealed], blobs: [blob]).count == 1)
    #expect(try journal.append([sealed]).count == 1)
    #expect(try journal.blob(Digest.sha256(blob)) == blob)
  }

  @Test func whatCannotBeWrittenIsRefusedAndTheJournalGoesOn() throws {
    let journal = journal(try filled())
    let error = #expect(throws: JournalError.self) { try journal.append([.fenced(nameSeq: UInt64.max)]) }
    guard case .refused = error else { Issue.record("refused"); return }
    #expect(try journal.append([.closed]).count == 1)
  }
}
