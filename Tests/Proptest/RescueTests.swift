import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Simulator
import Testing

/// What displaced hosts hold, and what is done when the newest page is not what it should be.
@Suite struct RescueTests {
  private static let stride = Budget.number("ELIDE_STRIDE") ?? 5

  /// b takes the name; a has writes that nobody has seen.
  private func displaced(_ seed: UInt64 = 1, cut: Int = 20, unsent: Int = 12) throws -> (TakeoverWorld, [UInt64]) {
    let w = try TakeoverWorld(seed: seed)
    try w.begin(cut: cut, unsent: unsent)
    let all = w.model.state(w.model.writes.count)
    try w.force(w.b)
    try w.check(w.b, "b's")
    return (w, all)
  }

  private func contents(_ w: TakeoverWorld, _ host: TakeoverHost, _ name: String) throws(ElideError) -> [UInt64] {
    let opened = try host.engine.open(VolumeSource(base: .name(name)))
    defer { opened.abandon() }
    return try BlockGuest(opened).readAll(TakeoverWorld.blocks)
  }

  /// 12, D13: a partition, a power cut. Until its writes are rescued the old volume is kept whole; then they are a name of their
  /// own, in the store.
  @Test(arguments: [CrashMode.processKill, .powerLoss]) func aDisplacedOwnerComesBack(_ mode: CrashMode) throws {
    let (w, all) = try displaced()
    try w.a.restart(mode)
    #expect(throws: ElideError.self) { try w.a.serve(w.name) }
    let old = try #require(try w.state().holdings.displaced.first?.volume)
    let log = try w.b.engine.names.log(w.name)
    let new = try #require(try w.state().volume)
    let cut = try #require(try w.b.engine.publishedCut(new))
    let reap = Reap(volume: old, cut: cut, floor: 0, kept: [], list: Digest.sha256([UInt8]()), count: 1)
    guard case .refused = try log.perform(.reap(reap)) else { throw ElideError(.fault, "a displaced volume is reaped") }
    let reports = try w.a.lifecycle.rescue(w.name)
    let report = try #require(reports.first)
    #expect(reports.count == 1 && report.outcome == .rescued && report.blocks > 0)
    let name = try #require(report.rescued)
    #expect(name.hasPrefix("db-"))
    #expect(try contents(w, w.a, name) == all)
    #expect(try w.published(.name(name)) == all)
    #expect(try w.state().holdings.displaced.isEmpty)
    #expect(try w.a.lifecycle.rescue(w.name).isEmpty)
    try w.check(w.b, "b's, later")
    try w.audit()
    Situation.met(.displacedComesBack, .d13)
  }

  @Test func nothingToRescueIsNoName() throws {
    let (w, _) = try displaced(2, cut: 20, unsent: 0)
    try w.a.restart()
    #expect(try w.a.lifecycle.rescue(w.name).first?.outcome == .nothing)
    #expect(try w.state().holdings.displaced.isEmpty)
  }

  /// A rescue is cut at every change; done again it is whole, in one name, and the old volume was kept until then.
  @Test(arguments: [CrashPhase.before, .after]) func aRescueIsCut(_ phase: CrashPhase) throws {
    var n = 1
    while true {
      let (w, all) = try displaced(UInt64(n))
      try w.a.restart()
      w.a.machine.faults.armCrash(after: UInt64(n), phase)
      _ = try? w.a.lifecycle.rescue(w.name)
      let wasCut = w.a.isGone
      do throws(ElideError) {
        if try !w.state().holdings.displaced.isEmpty {
          try w.a.restart(.powerLoss)
          let reports = try w.a.lifecycle.rescue(w.name)
          guard reports.first?.outcome == .rescued else { throw ElideError(.fault, "not rescued: \(reports)") }
        } else {
          try w.a.restart(.powerLoss)
        }
        let names = try w.a.engine.names.all().filter { $0.name.hasPrefix("db-") && !$0.isFree }.map(\.name)
        guard names.count == 1 else { throw ElideError(.fault, "rescued as \(names)") }
        guard try w.published(.name(names[0])) == all else { throw ElideError(.fault, "writes are missing in \(names[0])") }
        guard try w.state().holdings.displaced.isEmpty else { throw ElideError(.fault, "still displaced") }
      } catch {
        Issue.record("change \(n) cut \(phase): \(error)")
        return
      }
      if !wasCut { break }
      n += Self.stride
    }
    #expect(n > 40)
  }

  /// What was written in the rescued name is never written over by a rescue that is done again.
  @Test func aRescueNeverOverwritesWhatWasWrittenSince() throws {
    let (w, all) = try displaced(3)
    try w.a.restart()
    // All is copied; that it is, is not said yet.
    w.a.store.before = { operation, key in
      if operation == "putIfAbsent", key.hasPrefix("events/db/") { w.a.machine.faults.crashNow() }
    }
    _ = try? w.a.lifecycle.rescue(w.name)
    #expect(w.a.isGone)
    try w.a.restart()
    // The pin of the fork is the first such put: go on until the copy is there.
    var puts = 0
    w.a.store.before = { operation, key in
      if operation == "putIfAbsent", key.hasPrefix("events/db/") {
        puts += 1
        if puts == 2 { w.a.machine.faults.crashNow() }
      }
    }
    _ = try? w.a.lifecycle.rescue(w.name)
    try w.a.restart()
    guard let name = try w.a.engine.names.all().first(where: { $0.name.hasPrefix("db-") && !$0.isFree })?.name else {
      throw ElideError(.fault, "there is no rescued name")
    }
    guard case .write(let grant) = try w.a.lifecycle.enter(name) else { throw ElideError(.fault, "not to be written") }
    let opened = try w.a.engine.openLocal(grant.volume, grant: grant)
    try BlockGuest(opened).write(5, 777)
    try opened.close(ship: true)
    try w.a.lifecycle.leave(grant)
    try w.a.lifecycle.rescue(w.name)
    #expect(try w.state().holdings.displaced.isEmpty)
    #expect(try contents(w, w.a, name)[5] == 777)
    // Whichever name it was, all of it is offered.
    let offered = try w.a.engine.names.all().filter { $0.name.hasPrefix("db-") && !$0.isFree }.map(\.name)
    var isThere = false
    for other in offered {
      var found = try contents(w, w.a, other)
      found[5] = all[5]
      if found == all { isThere = true }
    }
    #expect(isThere)
  }

  // MARK: 19, D12

  private func newestPage(_ w: TakeoverWorld) throws -> String {
    let volume = try #require(try w.state().volume)
    return try #require(w.bucket.keys.last { $0.hasPrefix("volumes/\(volume)/journal/") })
  }

  /// The newest page is gone or damaged: refused, and with --accept-loss gone back, which the log says.
  @Test(arguments: ["missing", "damaged", "regressed"]) func theNewestPageIsNotWhatItWasD12(_ how: String) throws {
    let w = try TakeoverWorld(seed: 50)
    try w.begin(cut: 12, unsent: 6)
    let first = w.model.reported
    _ = try w.a.cut()
    w.idle(w.a)
    let page = try newestPage(w)
    let volume = try #require(try w.state().volume)
    switch how {
    case "missing": w.bucket.remove(page)
    case "damaged": w.bucket.flip(page, byte: 250)
    default:
      let before = try #require(w.bucket.keys.filter { $0.hasPrefix("volumes/\(volume)/journal/") && $0 < page }.last)
      w.bucket.write(page, try #require(w.bucket.objects[before]))
    }
    let error = #expect(throws: ElideError.self) { try w.force(w.b) }
    #expect(error?.message.contains("--accept-loss") == true)
    #expect(try w.state().phase == .recovering)
    // Also when it goes on by itself.
    try w.b.restart()
    #expect(throws: ElideError.self) { try w.force(w.b) }
    let planned = try w.force(w.b, acceptsLoss: true, dryRun: true)
    #expect(planned.lost?.isEmpty == false)
    let done = try w.force(w.b, acceptsLoss: true)
    #expect(done.lost?.isEmpty == false && done.phase == "stopped")
    // Down to a cut that was there: what was reported since is lost, and said to be.
    let found = try w.contents(w.b)
    #expect((0...first).contains { w.model.state($0) == found })
    Situation.met(.newestPageWrong, .d12)
  }

  /// A terminal page that anybody can sign ends nothing, and is no reason to call a volume fenced.
  @Test func aForgedTerminalPageIsNoEnd() throws {
    let w = try TakeoverWorld(seed: 60)
    try w.begin(cut: 12, unsent: 6)
    let volume = try #require(try w.state().volume)
    let last = try #require(w.bucket.objects[try newestPage(w)])
    let page = try JournalPage.parse(last)
    let stranger = w.d.engine.host.key
    func forged(_ slot: UInt64, seq: UInt64) throws -> [UInt8] {
      let header = PageHeader(
        volume: volume, page: slot, previous: page.hash, firstSeq: page.nextSeq,
        previousEntry: Digest.sha256(try #require(try page.entries().last)), cut: page.header.cut, epoch: seq,
        incarnation: ULID(high: 1, low: 1), at: 0, end: PageEnd(name: w.name, seq: seq, by: stranger.publicKey))
      return try PageWriter.build(header, entries: [], fold: [], other: []) { stranger.sign($0) }.bytes
    }
    let names = w.c.engine.names
    for seq: UInt64 in [0, 1, 99] {
      w.bucket.write(StoreLayout.page(volume, page.page + 1), try forged(page.page + 1, seq: seq))
      let judge = EndJudge { (name) throws(ElideError) in try names.log(name) }
      let read = try JournalPage.parse(try forged(page.page + 1, seq: seq))
      guard case .forged = try judge.judge(read, of: volume) else { throw ElideError(.fault, "entry \(seq) ends it") }
    }
    // Its owner stops, since its slot is taken; but nobody has fenced it.
    let error = #expect(throws: ElideError.self) { _ = try w.a.cut() }
    #expect(error?.kind != .fenced)
    // Others read what was published before.
    #expect(try w.published() == w.model.state(12))
    #expect(throws: ElideError.self) { try w.force(w.b) }
    try w.force(w.b, acceptsLoss: true)
    try w.check(w.b, "b's")
    #expect(w.model.writes.count == 12)
  }

  // MARK: Other ends

  /// One host alone: its volume is lost, its identity is not.
  @Test func aHostThatLostItsVolumeGoesOnFromTheStore() throws {
    let w = try TakeoverWorld(seed: 70)
    try w.begin()
    try w.a.restart()
    let volume = try #require(try w.state().volume)
    w.a.machine.files.removeTree(w.a.engine.directory.volume(volume).root)
    #expect(throws: ElideError.self) { try w.a.serve(w.name) }
    #expect(throws: ElideError.self) { try w.force(w.a) }
    try w.force(w.a, isSelf: true)
    try w.check(w.a, "a's, again")
    try w.a.serve(w.name)
    try w.write(w.a, 2)
    try w.a.stop()
    try w.audit()
  }

  /// The owner died between `created` and its first page: its page log is ended before it began, and what it puts later finds the
  /// slot taken.
  @Test func aForceEndsAVolumeThatNeverHadAPage() throws {
    let w = try TakeoverWorld(seed: 80)
    // a crashes between `created` and its first page.
    w.a.store.before = { operation, key in
      if operation == "putIfAbsent", key.contains("/journal/") { w.a.machine.faults.crashNow() }
    }
    _ = try? w.a.lifecycle.perform(.create(name: w.name, size: UInt64(TakeoverWorld.blocks) * 4096, from: nil))
    #expect(w.a.isGone)
    #expect(try w.state().phase == .stopped)
    try w.force(w.b)
    try w.check(w.b, "b's")
    let first = try #require(try w.state().holdings.episodes.first)
    let end = try JournalPage.parse(try #require(w.bucket.objects[StoreLayout.page(first.volume, 0)]))
    #expect(end.header.isTerminal && end.header.cut == 0)
    // a's first page finds its slot taken.
    try w.a.restart()
    try w.a.lifecycle.settleAll()
    #expect(w.bucket.objects[StoreLayout.page(first.volume, 1)] == nil)
    try w.b.serve(w.name)
    try w.write(w.b, 4)
    try w.b.stop()
    try w.audit()
  }
}
