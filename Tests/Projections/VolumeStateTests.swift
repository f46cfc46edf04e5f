import ElideEvents
import ElideIO
import ElideProjections
import Testing

@Suite struct VolumeStateTests {
  let journal = TestJournal()
  let fold: VolumeFold

  init() throws {
    fold = VolumeFold(volume: journal.volume)
    try journal.fold(.created(TestJournal.genesis(size: 1000 * 4096)), into: fold)
  }

  /// Folds what must be legal.
  private func accept(_ event: VolumeEvent, _ place: SourceLocation = #_sourceLocation) throws {
    #expect(try journal.fold(event, into: fold) == nil, sourceLocation: place)
  }
  /// Folds what must not be: it occupies its slot, is recorded, and nothing else changes.
  private func refuse(_ event: VolumeEvent, _ place: SourceLocation = #_sourceLocation) throws {
    var before = fold.state
    let account = fold.base.account
    let root = fold.base.map.root()
    let violation = try journal.fold(event, into: fold)
    #expect(violation != nil, sourceLocation: place)
    #expect(violation?.seq == fold.state.seq, sourceLocation: place)
    before.seq = fold.state.seq
    if let violation { before.violations.append(violation) }
    #expect(before == fold.state, sourceLocation: place)
    #expect(account == fold.base.account && root == fold.base.map.root(), sourceLocation: place)
    #expect(fold.base.seq == fold.state.seq, sourceLocation: place)
  }
  private func wal(_ n: UInt64, _ content: SegmentContent) throws {
    try accept(.walOpened(wal: n))
    try accept(journal.seal(n, content))
  }
  private func upload(_ n: UInt64) throws {
    let e = journal.encoded(n, fold.state)
    try accept(.segmentEncoded(e))
    try accept(.segmentUploaded(segment: n, hash: e.hash))
  }
  private func list(_ numbers: [UInt64]) -> Digest { journal.put(SegmentList(numbers).encode()) }

  @Test func genesisComesFirstAndOnce() throws {
    try refuse(.created(TestJournal.genesis(size: 4096)))
    let other = TestJournal()
    let empty = VolumeFold(volume: other.volume)
    #expect(try other.fold(.walOpened(wal: 1), into: empty) != nil)
    for g in [TestJournal.genesis(size: 1000), TestJournal.genesis(size: 1 << 50 + 512), Genesis(size: 4096, key: [1])] {
      let j = TestJournal()
      let f = VolumeFold(volume: j.volume)
      // What the codec refuses already is no entry at all.
      if let violation = try? j.fold(.created(g), into: f) { #expect(!violation.detail.isEmpty) }
      #expect(f.state.genesis == nil)
    }
  }

  @Test func walsAndSealsInOrder() throws {
    try refuse(.walOpened(wal: 2))
    try refuse(journal.seal(1, .data(0, 1)))
    try accept(.walOpened(wal: 1))
    try refuse(.walOpened(wal: 1))
    try accept(.walOpened(wal: 2))
    try refuse(journal.seal(2, .data(0, 1)))
    try accept(journal.seal(1, .data(0, 1)))
    try refuse(journal.seal(1, .data(0, 1)))
    try refuse(journal.seal(3, .data(0, 1), .import))
    try accept(journal.seal(2, SegmentContent(runs: [])))
    #expect(fold.state.nextSegment == 3)
    #expect(fold.state.checkInvariants() == nil)
  }

  @Test func contentsMustBeWhatTheEntrySays() throws {
    try accept(.walOpened(wal: 1))
    let content = SegmentContent.data(0, 5)
    let digest = journal.put(content.encode())
    try refuse(.segmentSealed(SealedSegment(segment: 1, origin: .wal, blocks: 4, content: digest)))
    try refuse(.segmentSealed(SealedSegment(segment: 1, origin: .wal, blocks: 5, content: journal.put([1, 2, 3]))))
    try refuse(journal.seal(1, .data(999, 2)))
    try accept(journal.seal(1, .data(999, 1)))
    // A blob that cannot be had is no violation: nothing is known, nothing is folded.
    try accept(.walOpened(wal: 2))
    let seq = fold.state.seq
    #expect(throws: FoldError<JournalError>.self) {
      try journal.fold(
        .segmentSealed(SealedSegment(segment: 2, origin: .wal, blocks: 1, content: Digest.sha256([9]))), into: fold)
    }
    #expect(fold.state.seq == seq && fold.base.seq == seq)
  }

  private func duplicate(_ lba: UInt64, _ count: UInt64, _ segment: UInt64, _ r: UInt32) -> SegmentContent {
    SegmentContent(runs: [.init(lba: lba, count: count, kind: .duplicate(BlockHandle(segment: segment, r: r)))])
  }

  @Test func duplicatesNameWhatIsThereAndStays() throws {
    try wal(1, .data(0, 8))
    try wal(2, .data(20, 8))
    try wal(3, .data(40, 8))
    try upload(1)
    try accept(.walOpened(wal: 4))
    try accept(.walOpened(wal: 5))
    try refuse(journal.seal(4, duplicate(100, 4, 1, 5)))  // past the end of 1
    try refuse(journal.seal(4, duplicate(100, 1, 4, 0)))  // of its own, which it has not
    try refuse(journal.seal(4, duplicate(100, 1, 5, 0)))  // not sealed
    try refuse(journal.seal(4, duplicate(100, 1, 77, 0)))
    try refuse(journal.seal(4, duplicate(100, 1, 0, 0)))
    try accept(.compactionPlanned(plan: ULID(high: 1, low: 1), inputs: [1], outputs: [6], reason: "test"))
    try refuse(journal.seal(4, duplicate(100, 2, 1, 0)))  // planned
    try refuse(journal.seal(4, duplicate(100, 2, 6, 0)))  // an output
    try accept(.compactionAbandoned(plan: ULID(high: 1, low: 1)))
    try accept(.segmentsRetired(list: list([2]), count: 1))
    try refuse(journal.seal(4, duplicate(100, 2, 2, 0)))  // retired
    try accept(journal.seal(4, duplicate(100, 4, 1, 4)))
    #expect(fold.base.map.lookup(103) == BlockHandle(segment: 1, r: 7))
    #expect(fold.base.account[1]?.referrers == [4])
    #expect(fold.base.account[1]?.count == 12)
  }

  @Test func encodingsAndUploads() throws {
    try accept(.walOpened(wal: 1))
    try refuse(.segmentEncoded(journal.encoded(1, fold.state)))
    try accept(journal.seal(1, .data(0, 3)))
    try wal(2, SegmentContent(runs: [.init(lba: 0, count: 1, kind: .trim)]))
    let e = journal.encoded(1, fold.state)
    try refuse(.segmentEncoded(journal.encoded(2, fold.state)))
    try refuse(.segmentUploaded(segment: 1, hash: e.hash))
    var wrong = e
    wrong.hash = Digest.sha256([1])
    try refuse(.segmentEncoded(wrong))
    wrong = e
    wrong.length = 32 * 3 - 1
    try refuse(.segmentEncoded(wrong))
    try accept(.segmentEncoded(e))
    // Encoded anew by another library: the last one before the upload counts.
    let encoding = Digest.sha256([5])
    let content = try #require(fold.state.segments[1]).content
    let second = EncodedSegment(
      segment: 1, hash: SegmentEncoding.segmentHash(content: content, encoding: encoding), encoding: encoding, length: 200,
      units: 2)
    try accept(.segmentEncoded(second))
    try refuse(.segmentUploaded(segment: 1, hash: e.hash))
    try accept(.segmentUploaded(segment: 1, hash: second.hash))
    try refuse(.segmentUploaded(segment: 1, hash: second.hash))
    try refuse(.segmentEncoded(e))
  }

  @Test func snapshotsResolveAtTheSealOfTheirWal() throws {
    let a = ULID(high: 1, low: 1)
    let b = ULID(high: 1, low: 2)
    try accept(.walOpened(wal: 1))
    try accept(.walOpened(wal: 2))
    try accept(.snapshotTaken(snapshot: a, label: "a", after: 1))
    try refuse(.snapshotTaken(snapshot: a, label: "again", after: 1))
    try refuse(.snapshotTaken(snapshot: b, label: "a", after: 1))
    try refuse(.snapshotTaken(snapshot: b, label: "b", after: 3))
    #expect(fold.state.snapshots[0].point == nil)
    try accept(journal.seal(1, .data(0, 1)))
    let sealed = fold.state.seq
    #expect(fold.state.snapshots[0].point == sealed)
    try accept(.closed)
    try accept(.snapshotTaken(snapshot: b, label: "b", after: 1))
    #expect(fold.state.snapshots[1].point == sealed)
    try refuse(.snapshotDeleted(snapshot: ULID(high: 9, low: 9)))
    try accept(.snapshotDeleted(snapshot: a))
    #expect(fold.state.snapshots.map(\.id) == [b])
  }

  /// An output of a plan has a higher number than a wal still open, and is sealed before it.
  @Test func aCompactionsOutputResolvesNoSnapshot() throws {
    try wal(1, .data(0, 4))
    try accept(.walOpened(wal: 2))
    try accept(.snapshotTaken(snapshot: ULID(high: 1, low: 1), label: "", after: 2))
    try accept(.compactionPlanned(plan: ULID(high: 2, low: 1), inputs: [1], outputs: [3], reason: ""))
    try accept(journal.seal(3, .data(0, 4), .compaction))
    #expect(fold.state.snapshots[0].point == nil)
    try accept(journal.seal(2, .data(9, 1)))
    #expect(fold.state.snapshots[0].point == fold.state.seq)
  }

  @Test func resizesGrowAtTheirBarrier() throws {
    try accept(.walOpened(wal: 1))
    try accept(.resized(size: 2000 * 4096, after: 1))
    try refuse(.resized(size: 1500 * 4096, after: 1))
    try refuse(.resized(size: 3000 * 4096, after: 2))
    #expect(fold.state.size == 1000 * 4096 && fold.base.map.blocks == 1000)
    try refuse(journal.seal(1, .data(1500, 1)))
    try accept(journal.seal(1, .data(500, 1)))
    #expect(fold.state.size == 2000 * 4096 && fold.base.map.blocks == 2000)
    try wal(2, .data(1500, 1))
    #expect(fold.base.map.lookup(1500) == BlockHandle(segment: 2, r: 0))
  }

  @Test func rootsSpeakOfThePast() throws {
    try refuse(.mapRooted(seq: 500, root: Digest.sha256([1])))
    try accept(.mapRooted(seq: 0, root: fold.base.map.root()))
  }

  @Test func compactionMovesOnlyWhatIsStillThere() throws {
    try wal(1, .data(0, 10))
    try upload(1)
    let plan = ULID(high: 3, low: 3)
    try refuse(.compactionPlanned(plan: plan, inputs: [], outputs: [2], reason: ""))
    try refuse(.compactionPlanned(plan: plan, inputs: [9], outputs: [2], reason: ""))
    try refuse(.compactionPlanned(plan: plan, inputs: [1], outputs: [5], reason: ""))
    try accept(.compactionPlanned(plan: plan, inputs: [1], outputs: [2], reason: ""))
    try refuse(.compactionPlanned(plan: ULID(high: 3, low: 4), inputs: [1], outputs: [3], reason: ""))
    try refuse(.segmentsRetired(list: list([1]), count: 1))
    let move = BlockMove(lba: 0, count: 10, from: BlockHandle(segment: 1, r: 0), to: BlockHandle(segment: 2, r: 0))
    let moves = journal.put(BlockMoves.encode([move]))
    try refuse(.compactionCommitted(plan: plan, moves: moves))  // the output is not sealed
    try accept(journal.seal(2, .data(0, 10), .compaction))
    #expect(fold.base.map.lookup(3) == BlockHandle(segment: 1, r: 3))
    #expect(fold.base.account[2]?.count == 0 && fold.base.account[2]?.death == nil)
    try refuse(.compactionCommitted(plan: plan, moves: moves))  // nor uploaded
    try upload(2)
    try wal(3, .data(4, 2))  // the guest writes meanwhile
    var foreign = move
    foreign.from = BlockHandle(segment: 3, r: 0)
    try refuse(.compactionCommitted(plan: plan, moves: journal.put(BlockMoves.encode([foreign]))))
    try accept(.compactionCommitted(plan: plan, moves: moves))
    #expect(fold.base.map.lookup(3) == BlockHandle(segment: 2, r: 3))
    #expect(fold.base.map.lookup(4) == BlockHandle(segment: 3, r: 0))
    #expect(fold.base.map.lookup(6) == BlockHandle(segment: 2, r: 6))
    #expect(fold.base.account[1]?.death?.seq == fold.state.seq)
    try accept(.segmentsRetired(list: list([1]), count: 1))
    try refuse(.segmentsDeleted(list: list([2]), count: 1, reapSeq: 5))
    try refuse(.segmentsDeleted(list: list([1]), count: 2, reapSeq: 5))
    try accept(.segmentsDeleted(list: list([1]), count: 1, reapSeq: 5))
    #expect(fold.state.segments[1]?.phase == .deleted)
    #expect(fold.base.account.checkInvariants(fold.base.map) == nil)
  }

  @Test func anAbandonedPlansOutputsDie() throws {
    try wal(1, .data(0, 10))
    let plan = ULID(high: 3, low: 3)
    try accept(.compactionPlanned(plan: plan, inputs: [1], outputs: [2], reason: ""))
    try accept(journal.seal(2, .data(0, 10), .compaction))
    try accept(.compactionAbandoned(plan: plan))
    #expect(fold.base.account[2]?.death?.seq == fold.state.seq)
    #expect(fold.base.account[1]?.death == nil)
  }

  @Test func intervalsSurviveResurrection() throws {
    try wal(1, .data(0, 1))
    let s1 = try #require(fold.state.seq)
    try wal(2, .data(0, 1))
    let dead = try #require(fold.state.seq)
    let row = try #require(fold.base.account[1])
    #expect(row.count == 0 && row.death?.seq == dead)
    #expect(row.isNeeded(at: s1, volume: journal.volume) && row.isNeeded(at: dead - 1, volume: journal.volume))
    #expect(!row.isNeeded(at: dead, volume: journal.volume) && !row.isNeeded(at: s1 - 1, volume: journal.volume))
    try wal(3, duplicate(5, 1, 1, 0))
    #expect(fold.base.account[1]?.isNeeded(at: fold.state.seq!, volume: journal.volume) == true)
    try wal(4, SegmentContent(runs: [.init(lba: 5, count: 1, kind: .trim)]))
    #expect(fold.base.account[1]?.death?.seq == fold.state.seq)
    // Given and taken in one entry: no death.
    try wal(5, duplicate(7, 1, 2, 0))
    try wal(
      6,
      SegmentContent(runs: [
        .init(lba: 0, count: 1, kind: .zero), .init(lba: 8, count: 1, kind: .duplicate(BlockHandle(segment: 2, r: 0))),
      ]))
    #expect(fold.base.account[2]?.count == 2 && fold.base.account[2]?.death == nil)
  }

  @Test func theRowRoundTripsAndHostileOnesNeverTrap() throws {
    try snapshotsResolveAtTheSealOfTheirWal()
    try accept(.objectPlanned(key: "maps/1"))
    try accept(.bound(name: "db", nameSeq: 3, epoch: 9))
    try accept(.compactionPlanned(plan: ULID(high: 3, low: 3), inputs: [1], outputs: [3, 4], reason: "why"))
    let bytes = fold.state.encode()
    #expect(try VolumeState.decode(bytes) == fold.state)
    var random = SeededRandom(4)
    for _ in 0..<20_000 {
      var altered = bytes
      for _ in 0...random.below(3) { altered[Int(random.below(UInt64(bytes.count)))] = UInt8(random.below(256)) }
      if random.one(in: 6) { altered.removeLast(Int(random.below(UInt64(bytes.count)))) }
      if let state = try? VolumeState.decode(altered) { _ = state.encode() }
    }
  }
}
