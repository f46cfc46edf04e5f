import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Simulator
import Testing

/// Hand-over and fencing: several real engines on one bucket. Numbers are those of the situations, D1 … those of the traces in
/// the design's model check.
@Suite struct TakeoverTests {
  // MARK: Force

  @Test func aForceGoesOnFromTheLastCut() throws {
    let w = try TakeoverWorld()
    try w.begin()
    let planned = try w.force(w.b, dryRun: true)
    #expect(planned.outcome == .planned && planned.cut != nil && planned.entry != nil)
    let done = try w.force(w.b)
    #expect(done.outcome == .committed && done.phase == "stopped" && done.owner == w.b.id && done.lost == nil)
    try w.check(w.b, "after the force")
    #expect(w.model.writes.count == 20)
    try w.b.serve(w.name)
    try w.write(w.b, 5)
    _ = try w.b.cut()
    w.model.report(w.model.writes.count)
    try w.b.stop()
    try w.audit()
    // Again, and by one who has it: the same answer, and nothing new in the log.
    let before = try w.state().seq
    #expect(try w.force(w.b).outcome == .done)
    #expect(try w.state().seq == before)
  }

  /// D1, and 14: the owner's page lands at any time before, between and after the requests of a force. What it reports is there.
  @Test func aPageThatLandsAtAnyTimeD1() throws {
    var forced = 0
    for k in 1...200 {
      let w = try TakeoverWorld(seed: UInt64(k))
      try w.begin(cut: k % 2 == 0 ? 15 : 0, unsent: 6)
      let all = w.model.writes.count
      var count = 0
      var failure: String?
      w.a.store.before = { _, _ in
        count += 1
        guard count == k else { return }
        w.a.store.before = nil
        do { try w.force(w.b) } catch { failure = "\(error)" }
      }
      let cut = Result { () throws(ElideError) in try w.a.cut() }
      let wasReached = w.a.store.before == nil
      w.a.store.before = nil
      if let failure { Issue.record("at request \(k): \(failure)") }
      if case .success = cut { w.model.report(all) }
      guard wasReached else {
        break
      }
      forced += 1
      try w.check(w.b, "forced at request \(k)")
      try w.audit()
      // The old owner halts at its next look; the name is another's.
      w.clock.advance(milliseconds: 60_000)
      #expect(throws: ElideError.self) { _ = try w.a.cut() }
      #expect(throws: ElideError.self) { try w.write(w.a, 1) }
    }
    #expect(forced >= 4)
    Situation.met(.pageAfterFence, .d1, times: forced)
  }

  /// D2: a later recovery goes on from the newest granted volume, whatever lands under the first.
  @Test func theBasisIsOfTheNewestEpisodeD2() throws {
    let w = try TakeoverWorld()
    try w.begin(cut: 10, unsent: 8)
    // a's next page is on its way while b recovers.
    var isHeld = true
    w.a.store.before = { operation, key in
      guard isHeld, operation == "putIfAbsent", key.contains("/journal/") else { return }
      isHeld = false
      try? w.force(w.b)
    }
    #expect(throws: ElideError.self) { _ = try w.a.cut() }
    #expect(!isHeld)
    try w.check(w.b, "b's")
    #expect(w.model.writes.count == 10)
    try w.b.serve(w.name)
    try w.write(w.b, 3)
    // b reports nothing; c goes on from b's first page, not from anything of a's.
    try w.force(w.c)
    let state = try w.state()
    #expect(state.holdings.episodes.count == 3 && state.holdings.episodes[2].basis?.volume == state.holdings.episodes[1].volume)
    try w.check(w.c, "c's")
    #expect(w.model.writes.count == 10)
    try w.audit()
    Situation.met(.d2)
  }

  /// 1: two hosts force the same owner, one in the middle of the other at every request.
  @Test func twoForcesOfOneOwner() throws {
    var both = 0
    for k in 1...200 {
      let w = try TakeoverWorld(seed: UInt64(100 + k))
      try w.begin()
      var count = 0
      w.b.store.before = { _, _ in
        count += 1
        guard count == k else { return }
        w.b.store.before = nil
        do throws(ElideError) { try w.force(w.c) } catch {
          if error.kind != .owned { Issue.record("c at request \(k): \(error)") }
        }
      }
      let first = Result { () throws(ElideError) in try w.force(w.b) }
      let wasReached = w.b.store.before == nil
      w.b.store.before = nil
      let state = try w.state()
      #expect(state.phase == .stopped, "at request \(k): \(state.sentence)")
      let owner = state.owner == w.b.id ? w.b : w.c
      if case .failure(let error) = first {
        #expect(state.owner == w.c.id, "b failed at request \(k) and owns it: \(error)")
      }
      try w.check(owner, "after two forces, at request \(k)")
      try w.audit()
      if !wasReached { break }
      both += 1
    }
    #expect(both > 15)
    Situation.met(.twoForces, times: both)
  }

  /// 2: a force that is meant for another owner or epoch does nothing.
  @Test func aForceLandsOnWhomItIsMeantFor() throws {
    let w = try TakeoverWorld()
    try w.begin()
    try w.force(w.b, expect: String(w.a.id.prefix(8)))
    let before = try w.state().seq
    #expect(throws: ElideError.self) { try w.force(w.c, expect: w.a.id) }
    #expect(throws: ElideError.self) { try w.force(w.c, expect: "\(w.b.id)@0") }
    #expect(try w.state().seq == before)
    try w.force(w.c, expect: "\(w.b.id)@\(try w.state().epoch)")
    try w.check(w.c, "c's")
    Situation.met(.forceFindsAnother)
  }

  // MARK: Crashes

  private static let stride = Budget.number("ELIDE_STRIDE") ?? 4

  /// The force is cut at every change on its host or in the store; then the same host goes on, or another one does.
  @Test(arguments: [CrashPhase.before, .after], [true, false]) func aForceIsCut(_ phase: CrashPhase, _ isSame: Bool) throws {
    var n = 1
    while true {
      let w = try TakeoverWorld(seed: UInt64(n))
      try w.begin()
      w.b.machine.faults.armCrash(after: UInt64(n), phase)
      _ = try? w.force(w.b)
      let wasCut = w.b.isGone
      do throws(ElideError) {
        let heir = isSame ? w.b : w.c
        if isSame { try w.b.restart(.powerLoss) }
        try w.force(heir)
        guard try w.state().owner == heir.id else { throw ElideError(.fault, "the heir does not own it") }
        try w.check(heir, "after a crash")
        try heir.serve(w.name)
        try w.write(heir, 3)
        _ = try heir.cut()
        w.model.report(w.model.writes.count)
        try heir.stop()
        try w.check(heir, "at the end")
        try w.audit()
        if !isSame {
          // The one that crashed comes back, and finds itself overtaken.
          try w.b.restart(.powerLoss)
          try w.b.lifecycle.settleAll()
          guard try w.b.engine.names.makings().isEmpty else { throw ElideError(.fault, "b keeps what it will never finish") }
          guard try w.state().owner == heir.id else { throw ElideError(.fault, "b took it back") }
        }
      } catch {
        Issue.record("change \(n) cut \(phase), \(isSame ? "the same host" : "another host") goes on: \(error)")
        return
      }
      if !wasCut { break }
      n += Self.stride
    }
    #expect(n > 30)
    if !isSame { Situation.met(.d9, times: n / Self.stride) }
  }

  /// 11: recoveries that each crash, one after another, at many places.
  @Test func aChainOfRecoveriesThatEachCrash() throws {
    for seed in 1...12 {
      let w = try TakeoverWorld(seed: UInt64(400 + seed))
      var random = SeededRandom(seed: UInt64(seed))
      try w.begin()
      do throws(ElideError) {
        for _ in 0..<5 {
          let host = w.hosts[1 + random.below(3)]
          if host.isGone { try host.restart(random.chance(1, in: 2) ? .powerLoss : .processKill) }
          let before = try w.state()
          host.machine.faults.armCrash(after: UInt64(1 + random.below(60)), random.chance(1, in: 2) ? .before : .after)
          _ = try? w.force(host)
          host.machine.faults.disarm()
          let after = try w.state()
          if !host.isGone, after.owner == host.id, after.phase == .stopped, before.owner != host.id {
            try w.check(host, "in the middle")
            try host.serve(w.name)
            try w.write(host, 2)
            if random.chance(1, in: 2) {
              _ = try host.cut()
              w.model.report(w.model.writes.count)
            }
          }
        }
        let last = w.hosts[1 + random.below(3)]
        try last.restart()
        if try w.state().owner == last.id { try last.lifecycle.settle(w.name) }
        let state = try w.state()
        if state.owner != last.id || state.phase == .recovering { try w.force(last) }
        try w.check(last, "at the end")
        try w.audit()
      } catch { Issue.record("seed \(seed): \(error); \(w.story)") }
    }
    Situation.met(.chainOfRecoveries, times: 12)
  }

  // MARK: Claim

  private func released(_ seed: UInt64) throws(ElideError) -> TakeoverWorld {
    let w = try TakeoverWorld(seed: seed)
    try w.begin()
    try w.a.stop()
    w.model.report(w.model.writes.count)
    try w.a.lifecycle.perform(.release(name: w.name))
    return w
  }

  /// 10: a claim is cut at every change; then the same host goes on, or the claimant never comes back.
  @Test(arguments: [CrashPhase.before, .after], [true, false]) func aClaimIsCut(_ phase: CrashPhase, _ isSame: Bool) throws {
    var n = 1
    while true {
      let w = try released(UInt64(n))
      w.b.machine.faults.armCrash(after: UInt64(n), phase)
      _ = try? w.b.lifecycle.perform(.claim(name: w.name, serve: false))
      let wasCut = w.b.isGone
      do {
        var heir = w.b
        if isSame {
          try w.b.restart(.powerLoss)
          try w.b.serve(w.name, claim: true)
        } else {
          heir = w.c
          let isReleased = try w.state().phase == .released
          if !isReleased { try w.force(w.c) }
          try w.c.serve(w.name, claim: isReleased)
        }
        try w.check(heir, "after a claim that was cut")
        // What its host still has on the way finds no free slot.
        guard let old = try w.state().holdings.episodes.first?.volume, w.hasEnd(old) else {
          throw ElideError(.fault, "the page log of the released volume is open")
        }
        guard w.model.writes.count == 32 else { throw ElideError(.fault, "writes are missing") }
        try w.write(heir, 3)
        try heir.stop()
        w.model.report(w.model.writes.count)
        try w.check(heir, "at the end")
        try w.audit()
      } catch {
        Issue.record("change \(n) cut \(phase), \(isSame ? "the same host" : "another host") goes on: \(error)")
        return
      }
      if !wasCut { break }
      n += Self.stride
    }
    #expect(n > 25)
    Situation.met(.claimantDies, times: n / Self.stride)
  }

  /// 9: everybody claims at once, each in the middle of the other; one has it, the others are told who.
  @Test func everybodyClaimsAtOnce() throws {
    for k in 1...60 {
      let w = try released(UInt64(300 + k))
      var count = 0
      var others: [Result<LifecycleReport, ElideError>] = []
      w.b.store.before = { _, _ in
        count += 1
        guard count == k else { return }
        w.b.store.before = nil
        for host in [w.c, w.d] {
          others.append(Result { () throws(ElideError) in try host.lifecycle.perform(.claim(name: w.name, serve: false)) })
        }
      }
      let mine = Result { () throws(ElideError) in try w.b.lifecycle.perform(.claim(name: w.name, serve: false)) }
      let wasReached = w.b.store.before == nil
      w.b.store.before = nil
      if !wasReached { break }
      let won = (others + [mine]).filter { if case .success = $0 { true } else { false } }.count
      #expect(won == 1, "at request \(k): \(won) of three have it")
      let state = try w.state()
      let owner = try #require(w.hosts.first { $0.id == state.owner })
      try w.check(owner, "claimed at request \(k)")
      #expect(w.model.writes.count == 32)
      try w.audit()
    }
    Situation.met(.manyClaims)
  }

  /// 20: what a claim needs is looked at before anything is appended.
  @Test(arguments: ["volume.toml", "maps", "journal"]) func aClaimOfWhatCannotBeReadIsRefused(_ part: String) throws {
    let w = try released(7)
    let volume = try #require(try w.state().volume)
    for key in w.bucket.keys where key.hasPrefix("volumes/\(volume)/\(part)") { w.bucket.remove(key) }
    let before = try w.state().seq
    #expect(throws: ElideError.self) { try w.b.lifecycle.perform(.claim(name: w.name, serve: false)) }
    #expect(try w.state().seq == before && w.state().phase == .released)
    #expect(try w.b.engine.names.makings().isEmpty)
    Situation.met(.objectMissingAtClaim)
  }
}
