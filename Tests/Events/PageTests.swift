import ElideEvents
import ElideIO
import Testing

/// A small journal whose entries name blobs, and pages over it.
struct PageSample {
  let key = SigningKey(secret: [UInt8](repeating: 7, count: 32))!
  let store = ArrayStore()
  /// Compressible, incompressible, empty.
  let blobs: [[UInt8]]

  init() throws {
    blobs = [[UInt8](repeating: 9, count: 100_000), SeededRandom(11).bytes(5000), [], [1, 2, 3]]
    let journal = Journal(
      store: store, log: Samples.log, identity: Samples.identity, clock: FixedClock(), random: SeededRandom(3))
    _ = try journal.append([.created(Genesis(size: 1 << 30, key: key.publicKey))])
    _ = try journal.append(
      blobs.enumerated().flatMap { i, blob -> [VolumeEvent] in
        [
          .segmentSealed(SealedSegment(segment: UInt64(i), origin: .wal, blocks: 1, content: Digest.sha256(blob))),
          .segmentEncoded(
            EncodedSegment(
              segment: UInt64(i), hash: Samples.digest(1), encoding: Digest.sha256(blobs[(i + 1) % blobs.count]), length: 1,
              units: 1)),
        ]
      }, blobs: blobs)
  }

  func header(_ contents: PageContents, page: UInt64, previous: Digest?, cut: UInt64) -> PageHeader {
    PageHeader(
      volume: Samples.volume, page: page, previous: previous, firstSeq: contents.firstSeq,
      previousEntry: contents.previousEntry, cut: cut, epoch: 0, incarnation: Samples.other, at: 1_769_860_800_000)
  }

  /// Pages of two and seven entries.
  func pages() throws -> [PageWriter.Built] {
    let one = try PageContents.gather(store, from: 0, through: 1)
    let first = try PageWriter.build(
      header(one, page: 0, previous: nil, cut: 0), entries: one.entries, fold: one.fold, other: one.other, sign: key.sign)
    let rest = try PageContents.gather(store, from: 2, through: 8)
    var h = header(rest, page: 1, previous: first.hash, cut: 5)
    h.checkpoints = [
      CheckpointLocator(
        volume: Samples.other, key: "volumes/x/maps/0", seq: 17, root: Samples.digest(2), length: 4096, digest: Samples.digest(3))
    ]
    h.tail = [TailPage(page: 0, firstSeq: 0, lastSeq: 1, length: UInt64(first.foldLength), hash: first.hash)]
    h.sums.uploaded.add(SetSums.element(volume: Samples.volume, segment: 1, hash: Samples.digest(1)))
    let second = try PageWriter.build(h, entries: rest.entries, fold: rest.fold, other: rest.other, sign: key.sign)
    return [first, second]
  }
}

@Suite struct PageTests {
  @Test func headsComeBackAsTheyWentIn() throws {
    let sample = try PageSample()
    let built = try sample.pages()[1]
    let page = try JournalPage.parse(built.bytes)
    #expect(try JournalPage.parse(Array(built.bytes[..<built.headLength])) == page)
    #expect(page.hash == built.hash && page.headLength == built.headLength && page.foldLength == built.foldLength)
    #expect(page.totalLength == built.bytes.count && page.header.page == 1 && page.header.cut == 5)
    #expect(page.header.firstSeq == 2 && page.lastSeq == 8 && page.nextSeq == 9)
    #expect(page.header.checkpoints.count == 1 && page.header.tail.count == 1 && page.header.tail[0].page == 0)
    #expect(page.header.sums.uploaded != LtHash16() && page.header.sums.deleted == LtHash16())
    try page.verify(key: sample.key.publicKey)
    #expect(try page.entries() == Array(sample.store.raws[2...8]))
  }

  @Test func aPrefixSaysHowMuchItTakes() throws {
    let built = try PageSample().pages()[1]
    for n in [0, 7, JournalPage.prologueBytes - 1] {
      #expect(throws: PageError.short(need: JournalPage.prologueBytes)) { try JournalPage.parse(Array(built.bytes[..<n])) }
    }
    for n in [JournalPage.prologueBytes, built.headLength - 1] {
      #expect(throws: PageError.short(need: built.headLength)) { try JournalPage.parse(Array(built.bytes[..<n])) }
    }
  }

  @Test func oneFrameIsVerifiedAlone() throws {
    let sample = try PageSample()
    let built = try sample.pages()[1]
    let page = try JournalPage.parse(Array(built.bytes[..<built.headLength]))
    for blob in sample.blobs {
      let frame = try #require(page.frame(Digest.sha256(blob)))
      #expect(frame.length == UInt32(blob.count) && frame.storedLength <= frame.length)
      var stored = Array(built.bytes[Int(frame.offset)..<Int(frame.range.upperBound)])
      #expect(try JournalPage.blob(frame, stored: stored) == blob)
      #expect(try page.blob(frame.digest, in: built.bytes) == blob)
      for i in stored.indices.prefix(40) {
        stored[i] ^= 0x01
        // The digest is of the blob: bits that zstd does not look at may change, the blob may not.
        let got = try? JournalPage.blob(frame, stored: stored)
        #expect((got == nil) || (frame.codec == .zstd && got == blob))
        stored[i] ^= 0x01
      }
      #expect(throws: PageError.damagedFrame(frame.digest)) { try JournalPage.blob(frame, stored: stored + [0]) }
    }
    #expect(throws: PageError.missingFrame(Samples.digest(99))) { try page.blob(Samples.digest(99), in: built.bytes) }
  }

  /// What the fold needs comes first, so that one ranged GET brings it.
  @Test func foldBlobsLieBeforeTheFoldLength() throws {
    let sample = try PageSample()
    let built = try sample.pages()[0]
    let page = try JournalPage.parse(built.bytes)
    let content = Digest.sha256(sample.blobs[0])
    #expect(try #require(page.frame(content)).range.upperBound <= UInt64(page.foldLength))
    #expect(try page.blob(content, in: Array(built.bytes[..<page.foldLength])) == sample.blobs[0])
    #expect(page.foldLength > page.headLength)
  }

  @Test func pagesReplayTheJournal() throws {
    let sample = try PageSample()
    var chain = PageChain(volume: Samples.volume, key: sample.key.publicKey)
    var replay = PageReplay(volume: Samples.volume)
    var seqs: [UInt64] = []
    var pages: [JournalPage] = []
    for built in try sample.pages() {
      let page = try JournalPage.parse(built.bytes)
      try chain.accept(page)
      seqs += try replay.events(page, through: 7).map(\.seq)
      pages.append(page)
    }
    #expect(seqs == Array(0...7))
    var late = PageReplay(volume: Samples.volume, from: pages[1])
    #expect(try late.events(pages[1]).map(\.seq) == Array(2...8))
    #expect(late.position == sample.store.head)
  }

  @Test func chainViolationsAreFound() throws {
    let sample = try PageSample()
    let built = try sample.pages()
    let pages = try built.map { try JournalPage.parse($0.bytes) }
    func chain(_ last: PageChain.Link? = nil, volume: ULID = Samples.volume, key: [UInt8]? = nil) -> PageChain {
      PageChain(volume: volume, key: key ?? sample.key.publicKey, after: last)
    }
    let good = PageChain.Link(pages[0])
    var accepting = chain(good)
    try accepting.accept(pages[1])
    func refuses(_ make: PageChain, _ page: JournalPage, _ comment: Comment) {
      var c = make
      #expect(throws: PageError.self, comment) { try c.accept(page) }
      #expect(c.last == make.last)
    }
    refuses(chain(), pages[1], "page 0 is due")
    refuses(chain(good), pages[0], "page 0 again")
    refuses(chain(volume: Samples.other), pages[0], "another volume")
    refuses(chain(key: [UInt8](repeating: 1, count: 32)), pages[0], "another key")
    var link = good
    link.hash = Samples.digest(1)
    refuses(chain(link), pages[1], "another page 0")
    link = good
    link.nextSeq = 3
    refuses(chain(link), pages[1], "a gap in the entries")
    link = good
    link.cut = 6
    refuses(chain(link), pages[1], "the cut falls")
    link = good
    link.isTerminal = true
    refuses(chain(link), pages[1], "after the end")
  }

  @Test func aTerminalPageIsSignedByTheHostItNames() throws {
    let sample = try PageSample()
    let host = SigningKey(secret: [UInt8](repeating: 8, count: 32))!
    let first = try sample.pages()[0]
    var header = PageHeader(
      volume: Samples.volume, page: 1, previous: first.hash, firstSeq: 2,
      previousEntry: Digest.sha256(sample.store.raws[1]), cut: 0, incarnation: Samples.other, at: 0)
    header.end = PageEnd(name: "db", seq: 12, by: host.publicKey)
    let built = try PageWriter.build(header, entries: [], fold: [], other: [], sign: host.sign)
    let page = try JournalPage.parse(built.bytes)
    #expect(page.header == header && page.lastSeq == nil)
    var chain = PageChain(volume: Samples.volume, key: sample.key.publicKey)
    try chain.accept(try JournalPage.parse(first.bytes))
    try chain.accept(page)
    #expect(chain.last?.isTerminal == true)
    let forged = try PageWriter.build(header, entries: [], fold: [], other: [], sign: sample.key.sign)
    #expect(throws: PageError.badSignature(page: 1)) { try JournalPage.parse(forged.bytes).verify(key: sample.key.publicKey) }
  }

  /// Any change to a head is noticed by the parser or by the signature; nothing traps.
  @Test func noChangedHeadVerifies() throws {
    let sample = try PageSample()
    let built = try sample.pages()[1]
    let head = Array(built.bytes[..<built.headLength])
    var random = SeededRandom(2026)
    for round in 0..<4000 {
      var bytes = head
      switch round % 4 {
      case 0: bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
      case 1: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
      case 2:
        let at = Int.random(in: 0..<fixedPartBytes, using: &random)
        for i in at..<min(at + 8, bytes.count) { bytes[i] = UInt8.random(in: 0...255, using: &random) }
      default:
        let at = Int.random(in: 0..<bytes.count, using: &random)
        bytes.insert(contentsOf: bytes[at..<min(at + 41, bytes.count)], at: at)
      }
      if bytes.starts(with: head) { continue }
      do {
        let page = try JournalPage.parse(bytes)
        #expect(throws: PageError.badSignature(page: page.page)) { try page.verify(key: sample.key.publicKey) }
        _ = try? page.entries()
      } catch { #expect(!error.description.isEmpty) }
    }
  }

  /// The volume's own key over hostile bytes: the reader may say no, or yield what is there; it does not trap, and what it
  /// allocates is bounded by what it was given and by the limits.
  @Test func signedNonsenseNeverTraps() throws {
    let sample = try PageSample()
    var random = SeededRandom(77)
    var accepted = 0
    for built in try sample.pages() {
      let unsigned = Array(built.bytes[..<(built.headLength - 64)])
      for _ in 0..<1500 {
        var head = unsigned
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          head[Int.random(in: 16..<head.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        }
        let bytes = head + sample.key.sign(Array("elide/1/page\0".utf8) + head) + built.bytes[built.headLength...]
        guard let page = try? JournalPage.parse(bytes) else { continue }
        try? page.verify(key: sample.key.publicKey)
        accepted += 1
        for frame in page.frames { _ = try? page.blob(frame.digest, in: bytes) }
        var replay = PageReplay(volume: Samples.volume, from: page)
        _ = try? replay.events(page)
      }
    }
    #expect(accepted > 0)
  }

  @Test func twoFramesOfOneBlobAreRefused() throws {
    let sample = try PageSample()
    let built = try sample.pages()[1]
    var head = Array(built.bytes[..<built.headLength])
    let table = built.headLength - 64 - 4 * 41
    head.replaceSubrange(table..<table + 32, with: head[table + 41..<table + 73])
    let error = #expect(throws: PageError.self) { try JournalPage.parse(head) }
    #expect(error?.description.contains("two frames") == true)
  }

  @Test func boundsAreErrorsWhenBuilt() throws {
    let sample = try PageSample()
    let one = try PageContents.gather(sample.store, from: 0, through: 0)
    let header = sample.header(one, page: 0, previous: nil, cut: 0)
    let many = [[UInt8]](repeating: one.entries[0], count: PageLimits.entries + 1)
    #expect(throws: PageError.self) { try PageWriter.build(header, entries: many, fold: [], other: [], sign: sample.key.sign) }
  }

  @Test func gatheringStopsAtItsTarget() throws {
    let sample = try PageSample()
    let some = try PageContents.gather(sample.store, from: 0, through: 8, targetBytes: 50_000)
    #expect(some.nextSeq == 2 && some.fold.count == 1)
    let next = try PageContents.gather(sample.store, from: some.nextSeq, through: 8, targetBytes: 1)
    #expect(next.entries.count == 1 && next.previousEntry == Digest.sha256(sample.store.raws[1]))
  }
}

private let fixedPartBytes = 192
