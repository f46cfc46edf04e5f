import ElideEvents
import ElideIO
import ElideProjections
import Testing

/// A volume's life drawn from a seed: legal and illegal entries, folded live; then folded again from 0.
@Suite struct FoldTests {
  @Test(arguments: 0..<16) func foldingAgainGivesTheSameBytes(seed: Int) throws {
    var random = SeededRandom(UInt64(seed))
    let journal = TestJournal()
    let fold = VolumeFold(volume: journal.volume)
    let blocks: UInt64 = seed % 2 == 0 ? 3000 : 1 << 22
    try journal.fold(.created(TestJournal.genesis(size: blocks * 4096)), into: fold)
    var model = MapModel(blocks: blocks)
    for _ in 0..<120 {
      let event = next(&random, journal, fold.state)
      let violation = try journal.fold(event, into: fold)
      if violation == nil, case .segmentSealed(let s) = event, let blob = journal.blobs[s.content] {
        for run in try SegmentContent.decode(blob).runs {
          switch run.kind {
          case .data(let r): model.assign(run.lba, run.count, BlockHandle(segment: s.segment, r: r))
          case .zero: model.assign(run.lba, run.count, .zero)
          case .trim: model.assign(run.lba, run.count, .unwritten)
          case .duplicate(let target): model.assign(run.lba, run.count, target)
          }
        }
      }
      #expect(fold.state.checkInvariants() == nil)
      #expect(fold.base.account.checkInvariants(fold.base.map) == nil)
    }
    #expect(fold.base.map.allRuns() == model.runs)
    #expect(fold.base.map.checkInvariants() == [])
    #expect(!fold.state.violations.isEmpty && fold.state.segments.count > 10)
    let again = try journal.refold()
    #expect(again.state.encode() == fold.state.encode())
    #expect(again.base.account.encode() == fold.base.account.encode())
    #expect(again.base.map.root() == fold.base.map.root())
    // And from a checkpoint in the middle of life, the rest folds to the same.
    let half = VolumeFold(volume: journal.volume)
    var replay = JournalReplay(log: "volume/\(journal.volume)")
    for bytes in journal.raw[..<60] {
      try half.apply(try #require(try replay.next(bytes))) { (d) throws(JournalError) in try journal.blob(d) }
    }
    let object = MapCheckpoint(
      volume: journal.volume, seq: 59, map: half.base.map, rows: half.base.account.ordered, state: half.state.encode()
    ).encode()
    let read = try MapCheckpoint.decode(object)
    let rest = VolumeFold(
      state: try VolumeState.decode(read.state),
      base: BaseState(map: read.map, account: SpaceAccount(volume: read.volume, rows: read.rows), seq: read.seq))
    for bytes in journal.raw[60...] {
      try rest.apply(try #require(try replay.next(bytes))) { (d) throws(JournalError) in try journal.blob(d) }
    }
    #expect(rest.state == fold.state)
    #expect(rest.base.account.encode() == fold.base.account.encode())
    #expect(rest.base.map.root() == fold.base.map.root())
  }

  private func next(_ random: inout SeededRandom, _ journal: TestJournal, _ state: VolumeState) -> VolumeEvent {
    switch random.below(12) {
    case 0, 1, 2: return .walOpened(wal: state.nextSegment + (random.one(in: 12) ? 1 : 0))
    case 3, 4, 5, 6:
      let n = state.openWALs.first ?? state.nextSegment
      // Blocks up to 90 are named: mostly such as exist.
      let targets = state.ordered.filter { $0.blocks >= 90 }.map(\.number) + (random.one(in: 10) ? [n, 1, 999] : [])
      let content = randomContent(&random, number: n, blocks: state.size / 4096, targets: targets, runs: Int(random.below(30)))
      return journal.seal(n, content)
    case 7:
      let n = state.segments.keys.sorted().first { state.segments[$0]?.encoded == nil } ?? 1
      return .segmentEncoded(journal.encoded(n, state))
    case 8:
      let n = state.segments.keys.sorted().first { state.segments[$0]?.uploadedSeq == nil } ?? 1
      return .segmentUploaded(segment: n, hash: state.segments[n]?.encoded?.hash ?? Digest.sha256([1]))
    case 9:
      return .snapshotTaken(snapshot: ULID(high: 1, low: random.below(40)), label: "", after: random.below(state.nextSegment + 1))
    case 10: return random.one(in: 2) ? .opened(wal: 1, lastFrame: 3, lastHeaderCRC: 4, discarded: 0) : .closed
    default: return .snapshotDeleted(snapshot: ULID(high: 1, low: random.below(40)))
    }
  }
}
