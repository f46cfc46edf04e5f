import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Simulator
import Testing

/// Situations between hosts that a run of `HostsWorld` meets seldom or never, one by one. Numbers are in `Situation`.
@Suite struct HostSituationTests {
  private typealias Answer = Result<LifecycleReport, ElideError>
  private func answer(_ host: TakeoverHost, _ command: LifecycleCommand) -> Answer {
    Result { () throws(ElideError) in try host.lifecycle.perform(command) }
  }
  private func isDone(_ answer: Answer) -> Bool { if case .success = answer { true } else { false } }

  /// Runs `first` on `host`, and `inside` at its k-th request, for each k; `check` gets whether the request was reached.
  private func atEachRequest(
    _ seed: UInt64, _ start: (TakeoverWorld) throws -> Void, host: (TakeoverWorld) -> TakeoverHost,
    inside: @escaping (TakeoverWorld) -> Void, first: (TakeoverWorld) -> Void, check: (TakeoverWorld, Int) throws -> Void
  ) throws -> Int {
    for k in 1...300 {
      let w = try TakeoverWorld(seed: seed + UInt64(k))
      try start(w)
      var count = 0
      let host = host(w)
      host.store.before = { _, _ in
        count += 1
        guard count == k else { return }
        host.store.before = nil
        inside(w)
      }
      first(w)
      let wasReached = host.store.before == nil
      host.store.before = nil
      if !wasReached { return k - 1 }
      try check(w, k)
    }
    return 300
  }

  @Test func twoCreatesRace() throws {
    var answers: [Answer] = []
    let create = LifecycleCommand.create(name: "db", size: 48 * 4096, from: nil)
    let n = try atEachRequest(
      1000, { _ in answers = [] }, host: { $0.b }, inside: { answers.append(answer($0.c, create)) },
      first: { answers.append(answer($0.b, create)) }
    ) { w, k in
      #expect(answers.filter(isDone).count == 1, "at request \(k)")
      let state = try w.state()
      #expect(state.phase == .stopped)
      for host in [w.b, w.c] {
        #expect(try host.engine.names.makings().isEmpty)
        let isOwner = state.owner == host.id
        #expect(try host.engine.listVolumes().count == (isOwner ? 1 : 0))
        if isOwner { try w.check(host, "created at request \(k)") }
      }
    }
    #expect(n > 8)
    Situation.met(.twoCreates, times: n)
  }

  /// A disk that was copied while its machine ran: whoever appends first has the name, the other halts and takes nothing back.
  @Test(arguments: [true, false]) func twins(_ copyIsFirst: Bool) throws {
    let w = try TakeoverWorld(seed: 41)
    try w.begin()
    let twin = try TakeoverHost("a'", SimHost(seed: 4242, of: w.a.machine))
    #expect(twin.id == w.a.id)
    if copyIsFirst {
      try twin.serve(w.name)
      try w.check(twin, "the copy's")
      try w.write(twin, 4)
      _ = try twin.cut()
      w.model.report(w.model.writes.count)
      w.clock.advance(milliseconds: 60_000)
      let error = #expect(throws: ElideError.self) { _ = try w.a.cut() }
      #expect(error?.kind == .fenced)
      try w.a.restart()
      #expect(throws: ElideError.self) { try w.a.serve(w.name) }
      try w.check(twin, "the copy's, later")
    } else {
      // The original goes on; its copy, which knows the grant, comes forward to all that was published before it serves, or sees
      // that it lacks files, and serves nothing.
      try w.write(w.a, 5)
      _ = try w.a.cut()
      w.model.report(w.model.writes.count)
      w.idle(w.a)
      do throws(ElideError) {
        try twin.serve(w.name)
        try w.check(twin, "the copy's")
      } catch { #expect(error.kind == .fault && error.message.contains("not on disk"), "\(error)") }
      w.clock.advance(milliseconds: 60_000)
      let error = #expect(throws: ElideError.self) { _ = try w.a.cut() }
      #expect(error?.kind == .fenced)
    }
    // Whoever is right about it, a third takes it, with all that was reported.
    w.a.drop()
    twin.drop()
    try w.force(w.b)
    try w.check(w.b, "b's")
    Situation.met(.twins)
  }

  /// The reaper is paused between its look and its entry; meanwhile the name is taken. Nothing may be deleted.
  @Test func aReaperIsPausedAcrossAFence() throws {
    let w = try TakeoverWorld(seed: 42)
    try w.begin()
    let volume = try #require(try w.state().volume)
    let cut = try #require(try w.a.engine.publishedCut(volume))
    let reap = Reap(volume: volume, cut: cut, floor: cut.seq, kept: [], list: Digest.sha256([1]), count: 1)
    w.a.store.before = { operation, key in
      guard operation == "putIfAbsent", key.hasPrefix("events/db/") else { return }
      w.a.store.before = nil
      do { try w.force(w.b) } catch { Issue.record("\(error)") }
    }
    let outcome = try w.a.engine.names.log(w.name).perform(.reap(reap))
    guard case .refused = outcome else { throw ElideError(.fault, "reaped by one who had lost the name: \(outcome)") }
    #expect(try w.state().holdings.floors.isEmpty)
    try w.check(w.b, "b's")
    try w.audit()
    Situation.met(.reaperPaused)
  }

  /// What a reap in the log gave away cannot be pinned any more, and what is pinned cannot be reaped.
  @Test func aPinBelowTheFloorD3() throws {
    let w = try TakeoverWorld(seed: 43)
    try w.begin(cut: 6, unsent: 6)
    let volume = try #require(try w.state().volume)
    let old = try #require(try w.a.engine.publishedCut(volume))
    _ = try w.a.cut()
    let new = try #require(try w.a.engine.publishedCut(volume))
    #expect(new.seq > old.seq)
    let reap = Reap(volume: volume, cut: new, floor: new.seq, kept: [], list: Digest.sha256([1]), count: 1)
    let (mine, theirs) = (try w.a.engine.names.log(w.name), try w.b.engine.names.log(w.name))
    let pin = NameCommand.pin(cut: old, by: "b", hold: .until(nil))
    guard case .committed = try theirs.perform(pin) else { throw ElideError(.fault, "not pinned") }
    guard case .refused = try mine.perform(.reap(reap)) else { throw ElideError(.fault, "a pin was reaped") }
    let held = try #require(try w.state().holdings.pins.first)
    guard case .committed = try theirs.perform(.unpin(pin: held.id, because: .holder)) else { throw ElideError(.fault, "kept") }
    guard case .committed = try mine.perform(.reap(reap)) else { throw ElideError(.fault, "not reaped") }
    guard case .refused = try theirs.perform(pin) else { throw ElideError(.fault, "what was given away is pinned") }
    Situation.met(.d3)
  }

  /// A rename takes along what binds deletes.
  @Test func aRenameCarriesThePinsD5() throws {
    let w = try TakeoverWorld(seed: 44)
    try w.begin()
    let all = w.model.state(w.model.writes.count)
    try w.a.stop()
    try w.b.lifecycle.perform(.create(name: "child", size: nil, from: w.name))
    try w.a.lifecycle.perform(.rename(name: w.name, to: "other"))
    #expect(try w.state("other").holdings.pins.map(\.by) == ["child"])
    #expect(throws: ElideError.self) { try w.a.lifecycle.perform(.purge(name: "other")) }
    #expect(try w.published(.name("child")) == all && w.published(.name("other")) == all)
    Situation.met(.d5)
  }

  /// Its key is lost with its identity: another host as any, who takes the name from the one that is no more.
  @Test func aHostThatLostItsKeyIsAnother() throws {
    let w = try TakeoverWorld(seed: 45)
    try w.begin()
    let before = w.a.id
    w.a.drop()
    try w.a.machine.files.remove(w.a.engine.directory.hostKey)
    try? w.a.machine.files.remove(w.a.engine.directory.hostDocument)
    try w.a.restart()
    #expect(w.a.id != before)
    let error = #expect(throws: ElideError.self) { try w.a.serve(w.name) }
    #expect(error?.kind == .owned)
    try w.force(w.a, expect: before)
    try w.check(w.a, "under another key")
    try w.a.serve(w.name)
    try w.write(w.a, 3)
    try w.a.stop()
    try w.audit()
    Situation.met(.hostKeyLost)
  }

  /// One of the two: the fork has its source, or the source is gone and there is no fork.
  @Test func aForkAgainstAPurge() throws {
    var (forked, purged): (Answer, Answer) = (.failure(ElideError(.failed, "")), .failure(ElideError(.failed, "")))
    var both = (0, 0)
    let n = try atEachRequest(
      2000,
      {
        try $0.begin()
        try $0.a.stop()
      }, host: { $0.b }, inside: { purged = answer($0.a, .purge(name: $0.name)) },
      first: { forked = answer($0.b, .create(name: "child", size: nil, from: $0.name)) }
    ) { w, k in
      let all = w.model.state(w.model.writes.count)
      let isForked = try w.state("child").phase == .stopped
      let isPurged = try w.state().phase == .purged
      #expect(isForked == isDone(forked) && isPurged == isDone(purged), "at request \(k)")
      #expect(isForked != isPurged, "at request \(k): forked \(forked), purged \(purged)")
      if isForked {
        #expect(try w.published(.name("child")) == all)
        both.0 += 1
      } else {
        #expect(try w.b.engine.listVolumes().isEmpty)
        both.1 += 1
      }
    }
    #expect(both.0 > 0 && both.1 > 0, "\(both) of \(n)")
    Situation.met(.forkAgainstPurge, times: n)
  }

  @Test func aCopyThatAnotherVolumeIsBuiltOnIsNotRemoved() throws {
    let w = try TakeoverWorld(seed: 46)
    try w.begin()
    let all = w.model.state(w.model.writes.count)
    try w.a.stop()
    try w.a.lifecycle.perform(.create(name: "child", size: nil, from: w.name))
    try w.a.lifecycle.perform(.release(name: w.name))
    try w.b.lifecycle.perform(.claim(name: w.name, serve: false))
    #expect(throws: ElideError.self) { try w.a.lifecycle.perform(.remove(name: w.name)) }
    #expect(try w.published(.name("child")) == all)
    try w.a.lifecycle.perform(.purge(name: "child"))
    let removed = try w.a.lifecycle.perform(.remove(name: w.name))
    #expect(removed.message.hasPrefix("removed here"))
    try w.check(w.b, "b's")
    Situation.met(.removeUnderAnother)
  }

  /// A create is cut at each change: the next process opens it whole, or has never heard of it.
  @Test func whatIsHalfBuiltIsNeverOpened() throws {
    var n = 1
    while true {
      let w = try TakeoverWorld(seed: UInt64(n))
      w.a.machine.faults.armCrash(after: UInt64(n), n % 2 == 0 ? .before : .after)
      _ = try? w.a.lifecycle.perform(.create(name: w.name, size: UInt64(TakeoverWorld.blocks) * 4096, from: nil))
      let wasCut = w.a.isGone
      try w.a.restart(.powerLoss)
      let isMaking = try !w.a.engine.names.makings().isEmpty
      let isInLog = try w.state().volume != nil
      do throws(ElideError) {
        try w.a.serve(w.name)
        #expect(isInLog && w.a.opened?.device.size == UInt64(TakeoverWorld.blocks) * 4096, "change \(n)")
        try w.check(w.a, "change \(n)")
      } catch { #expect(!isInLog && error.kind == .notFound, "change \(n): \(error)") }
      #expect(try w.a.engine.names.makings().isEmpty, "change \(n)")
      if isMaking { Situation.met(.halfBuilt) }
      if !wasCut { break }
      n += 1
    }
    #expect(n > 15)
  }

  @Test func anImageIsReadByMany() throws {
    let w = try TakeoverWorld(seed: 47)
    try w.a.machine.files.replaceFile("/image", with: [UInt8](repeating: 5, count: TakeoverWorld.blocks * 4096))
    try w.a.lifecycle.perform(.importImage(name: "img", source: "raw:/image"))
    var opened: [OpenedVolume] = []
    for host in w.hosts {
      guard case .read(let volume, let key) = try host.lifecycle.enter("img") else {
        throw ElideError(.fault, "\(host.name) may write an image")
      }
      opened.append(try host.engine.openPublished(volume, key: key))
    }
    for one in opened {
      #expect(one.isReadOnly)
      #expect(try BlockGuest(one).readAll(TakeoverWorld.blocks).allSatisfy { $0 == 0x0505_0505_0505_0505 })
      #expect(throws: ElideError.self) { try BlockGuest(one).write(1, 1) }
    }
    #expect(throws: ElideError.self) { try w.b.lifecycle.perform(.start(name: "img", claim: true)) }
    Situation.met(.imageOfMany, times: opened.count)
  }
}
