import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Simulator
import Testing

/// What is committed stays so, and is gone on with, whatever the store answers right after it; and no failure is reported of it.
@Suite struct LostAnswerTests {
  /// The store falls silent after the `puts`-th put under `prefix`, with the answer of that put lost or not.
  private func silence(_ host: TakeoverHost, after prefix: String, puts: Int = 1, losesAnswer: Bool) {
    var count = 0
    var isNext = false
    host.store.before = { operation, key in
      if isNext { host.machine.store.weather = .away }
      guard operation == "putIfAbsent", key.hasPrefix(prefix) else { return }
      count += 1
      guard count == puts else { return }
      if losesAnswer { host.machine.store.weather.lostResponse = 65536 }
      isNext = true
    }
  }
  private func answerAgain(_ host: TakeoverHost) {
    host.store.before = nil
    host.machine.store.weather = .clear
  }
  private func entries(_ w: TakeoverWorld, _ name: String, _ kind: String) throws -> Int {
    var reader = try NameReader(name, store: SimStore(w.bucket, seed: 5))
    var count = 0
    while let slot = try reader.next() { if slot.entry?.envelope.kind == kind { count += 1 } }
    return count
  }

  /// The store is silent from some request after a fork's commit on: its key is kept, and the next use of the name has all of it.
  @Test func aForkKeepsItsKeyWhateverFailsAfterItsCommit() throws {
    var failed = 0
    for k in 1...60 {
      let w = try TakeoverWorld(seed: UInt64(700 + k))
      try w.begin()
      let all = w.model.state(w.model.writes.count)
      try w.a.stop()
      var after: Int?
      w.b.store.fault = { operation, key in
        if let n = after {
          after = n + 1
          if n + 1 >= k { return .unknown(key: key, detail: "timed out") }
        } else if operation == "putIfAbsent", key.hasPrefix("events/child/") {
          after = 0
        }
        return nil
      }
      let answer = Result { () throws(ElideError) in
        try w.b.lifecycle.perform(.create(name: "child", size: nil, from: w.name), CommandContext(request: "f"))
      }
      let wasReached = (after ?? 0) >= k
      w.b.store.fault = nil
      let state = try w.state("child")
      let volume = try #require(state.volume, "request \(k): the fork is not in the log")
      #expect(w.b.machine.files.exists(w.b.engine.directory.volume(volume).key), "request \(k): the key is gone")
      if case .failure(let error) = answer {
        failed += 1
        #expect(error.message.contains("is in the log"), "request \(k): reported as failed: \(error)")
      }
      try w.b.restart(.powerLoss)
      try w.b.lifecycle.settleAll()
      let again = try w.b.lifecycle.perform(.create(name: "child", size: nil, from: w.name), CommandContext(request: "f"))
      #expect(again.outcome == .committed && again.volume == volume.description)
      #expect(try w.published(.name("child")) == all)
      #expect(try entries(w, "child", "forked") == 1)
      if !wasReached { break }
    }
    #expect(failed > 0)
  }

  /// The fence is in the log and its answer is lost, or the store is silent from there on: the same request goes on to the end.
  @Test(arguments: [true, false]) func aForceGoesOnAfterItsAnswerWasLost(_ losesAnswer: Bool) throws {
    let w = try TakeoverWorld(seed: 31)
    try w.begin()
    let command = LifecycleCommand.forceRelease(name: w.name, expect: w.a.id, isSelf: false, acceptsLoss: false)
    silence(w.b, after: "events/db/", losesAnswer: losesAnswer)
    let first = Result { () throws(ElideError) in try w.b.lifecycle.perform(command, CommandContext(request: "f")) }
    switch first {
    case .success(let report): #expect(report.outcome == .unknown)
    case .failure(let error): #expect(error.kind == .unknown || error.message.contains("is in the log"), "\(error)")
    }
    answerAgain(w.b)
    #expect(try w.state().phase == .recovering)
    let again = try w.b.lifecycle.perform(command, CommandContext(request: "f"))
    #expect(again.outcome == .committed && again.phase == "stopped" && again.owner == w.b.id)
    #expect(try entries(w, w.name, "fenced") == 1 && entries(w, w.name, "recovered") == 1)
    try w.check(w.b, "after the force")
    try w.audit()
  }

  /// The old name's log says that it is renamed; the new one's does not yet. The same request sees to that.
  @Test(arguments: [true, false]) func aRenameGoesOnAfterItsAnswerWasLost(_ losesAnswer: Bool) throws {
    let w = try TakeoverWorld(seed: 32)
    try w.begin()
    let all = w.model.state(w.model.writes.count)
    try w.a.stop()
    silence(w.a, after: "events/db/", losesAnswer: losesAnswer)
    let first = try? w.a.lifecycle.perform(.rename(name: w.name, to: "other"), CommandContext(request: "m"))
    #expect(first?.outcome != .done)
    answerAgain(w.a)
    #expect(try w.state().phase == .renamed)
    #expect(try w.state("other").phase == .reserved)
    let again = try w.a.lifecycle.perform(.rename(name: w.name, to: "other"), CommandContext(request: "m"))
    #expect(again.outcome == .committed)
    #expect(try w.state("other").phase == .stopped)
    #expect(try entries(w, w.name, "renamed_to") == 1 && entries(w, "other", "renamed_from") == 1)
    #expect(try w.published(.name("other")) == all)
  }

  /// `started` is in the log, and the volume cannot be opened for want of an answer: that is no failure of the command, and the
  /// same request later does not start what was stopped since.
  @Test func aStartIsOneEntryHoweverOftenItIsAskedFor() throws {
    let world = try HostsWorld(seed: 5, hosts: 1)
    world.calm()
    let a = world.hosts[0]
    try a.lifecycle.perform(.create(name: "n0", size: 48 * 4096, from: nil))
    let start = LifecycleCommand.start(name: "n0", claim: false)
    let command = CommandContext(request: "s")
    // Everything after the put of `started` is silent.
    var isPut = false
    a.store.onPut = { isPut = true }
    a.store.pause = { if isPut { a.store.inner.weather = .away } }
    let error = #expect(throws: ElideError.self) { try a.lifecycle.perform(start, command) }
    #expect(error?.message.contains("of this command is in the log") == true, "\(error?.message ?? "")")
    a.store.inner.weather = .clear
    (a.store.onPut, a.store.pause) = ({}, {})
    #expect(try a.lifecycle.perform(start, command).outcome == .committed)
    #expect(a.isServing("n0"))
    try a.lifecycle.perform(.stop(name: "n0", force: true, release: false))
    #expect(try a.lifecycle.perform(start, command).outcome == .committed)
    #expect(!a.isServing("n0"))
    var reader = try NameReader("n0", store: SimStore(world.bucket, seed: 5))
    var started = 0
    while let slot = try reader.next() { if slot.entry?.envelope.kind == "started" { started += 1 } }
    #expect(started == 1)
    world.look()
    #expect(world.faults.isEmpty)
  }

  /// The name went elsewhere between the gate and the lock: the volume is not opened, nor while nobody can say.
  @Test func openingAsksOnceMoreUnderTheLock() throws {
    let w = try TakeoverWorld(seed: 33)
    try w.begin()
    try w.a.stop()
    w.model.report(w.model.writes.count)
    guard case .write(let grant) = try w.a.lifecycle.enter(w.name) else { throw ElideError(.failed, "not entered") }
    w.a.machine.store.weather = .away
    let silent = #expect(throws: ElideError.self) { _ = try w.a.engine.openLocal(grant.volume, grant: grant) }
    #expect(silent?.kind == .tryLater)
    answerAgain(w.a)
    try w.force(w.b)
    let before = try w.a.engine.localState(grant.volume)
    let error = #expect(throws: ElideError.self) { _ = try w.a.engine.openLocal(grant.volume, grant: grant) }
    #expect(error?.kind == .fenced)
    #expect(try w.a.engine.localState(grant.volume)?.seq == before?.seq, "nothing was journaled")
    #expect(try !w.a.engine.isInUse(grant.volume), "the lock is free")
    try w.check(w.b, "b's")
  }

  /// An answer that is damaged on its way says nothing of who owns the name.
  @Test func aDamagedAnswerIsNoFence() throws {
    let w = try TakeoverWorld(seed: 34)
    try w.begin()
    var damaged = 0
    w.a.store.fault = { operation, key in
      guard operation == "get", key.hasPrefix("events/") else { return nil }
      damaged += 1
      return .corrupt(key: key, detail: "the digest differs")
    }
    w.clock.advance(milliseconds: 60_000)
    w.idle(w.a)
    let error = #expect(throws: ElideError.self) { _ = try w.a.cut() }
    #expect(error?.kind == .tryLater && damaged > 0)
    try w.write(w.a, 3)
    w.a.store.fault = nil
    _ = try w.a.cut()
    w.model.report(w.model.writes.count)
    try w.check(w.a, "a's")
    #expect(w.a.opened?.port?.status.state == .serving)
  }

  /// By its ULID a host may not know of which name an image is: it finds the name and pins it, or makes nothing.
  @Test func aForkOfAnImageByULIDIsPinnedOrRefused() throws {
    let w = try TakeoverWorld(seed: 35)
    let bytes = [UInt8](repeating: 7, count: 20 * 4096)
    try w.a.machine.files.replaceFile("/image", with: bytes)
    try w.a.lifecycle.perform(.importImage(name: "img", source: "raw:/image"))
    let volume = try #require(try w.state("img").volume)
    let fork = LifecycleCommand.create(name: "child", size: nil, from: volume.description)
    w.b.store.fault = { operation, key in
      operation == "list" && key.hasPrefix("events/") ? .unknown(key: key, detail: "timed out") : nil
    }
    #expect(throws: ElideError.self) { try w.b.lifecycle.perform(fork) }
    #expect(try w.state("child").phase == .absent && w.state("img").holdings.pins.isEmpty)
    #expect(try w.b.engine.names.makings().isEmpty)
    w.b.store.fault = nil
    try w.b.lifecycle.perform(fork)
    #expect(try w.state("img").holdings.pins.map(\.by) == ["child"])
    #expect(throws: ElideError.self) { try w.a.lifecycle.perform(.purge(name: "img")) }
    let opened = try w.b.engine.open(VolumeSource(base: .name("child")))
    defer { opened.abandon() }
    #expect(try BlockGuest(opened).readAll(20) == [UInt64](repeating: 0x0707_0707_0707_0707, count: 20))
  }
}
