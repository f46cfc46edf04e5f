import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Simulator
import Testing

/// One host or two on a bucket, stepped by hand: outcomes, intents, cancels, twins, requests.
@Suite struct NameLogTests {
  let bucket = SimBucket()

  private func host(_ n: UInt64) -> NamesHost { NamesHost(seed: n, bucket: bucket, weather: .clear) }
  private func volume(_ n: UInt64) -> ULID { ULID(high: 4, low: n) }
  private func create(_ n: UInt64) -> NameCommand {
    .create(NewVolumeFacts(volume: volume(n), key: [UInt8](repeating: 3, count: 32), size: 1 << 20))
  }
  private func force(_ n: UInt64) -> NameCommand {
    .force(Force(expectOwner: nil, expectEpoch: nil, volume: volume(n), key: [UInt8](repeating: 4, count: 32)))
  }
  private func cut(_ v: UInt64, _ seq: UInt64) -> Cut {
    Cut(volume: volume(v), seq: seq, page: seq, pageHash: Digest.sha256([UInt8(seq)]))
  }
  private func entries(_ name: String = "db") -> [String] { bucket.keys.filter { $0.hasPrefix("events/\(name)/0") } }
  private func isCommitted(_ outcome: NameOutcome) -> Bool {
    if case .committed = outcome { return true }
    return false
  }

  @Test func aTransitionIsOnePutAndThreeRequests() throws {
    let a = host(1)
    let log = try a.log("db")
    #expect(try isCommitted(log.perform(create(1))))
    log.hintInterval = 1000
    let before = a.store.counters
    #expect(try log.perform(.start).isAt(1))
    let after = a.store.counters
    // The next slot is free, the last one is what it was, and the put.
    #expect(after.puts - before.puts == 1 && after.gets - before.gets == 2)
    #expect(log.state.phase == .live && log.state.mayServe(log.me))
    #expect(try log.perform(.start) == .done)
  }

  @Test func aLostResponseOfAnyCommandIsASuccess() throws {
    let script: [NameCommand] = [
      create(1), .start, .resize(size: 1 << 21), .pin(cut: cut(1, 4), by: "x", hold: .until(nil)),
      .stop(cut: cut(1, 4), clients: 0, force: false), .release(cut: cut(1, 4)),
      .claim(volume: volume(2), key: [UInt8](repeating: 5, count: 32), serve: false), .note(text: "n"),
    ]
    let a = host(1)
    var weather = StoreWeather.clear
    weather.lostResponse = 65536 / 3
    a.store.inner.weather = weather
    for (i, command) in script.enumerated() {
      let log = try a.log("db")
      log.patience = 50
      var outcome: NameOutcome?
      // Reads fail as well: then nothing was sent.
      while outcome == nil { outcome = try? log.perform(command, request: "r\(i)") }
      #expect(isCommitted(try #require(outcome)), "\(command)")
      #expect(entries().count == i + 1)
    }
    Situation.met(.answerLost)
  }

  /// The process dies at each change in turn, before, during and after it; the next one finds out, and the same request then
  /// has the same answer.
  @Test(arguments: CrashPhase.allCases) func aCrashAnywhereIsFoundOut(_ phase: CrashPhase) throws {
    var unsent = 0
    var sent = 0
    for n in 1..<12 as Range<UInt64> {
      let bucket = SimBucket()
      let a = NamesHost(seed: n, bucket: bucket, weather: .clear)
      #expect(try isCommitted(a.log("db").perform(create(1), request: "make")))
      a.faults.armCrash(after: n, phase)
      let outcome = try? a.log("db").perform(.start, request: "start")
      if !a.faults.isCrashed {
        #expect(isCommitted(try #require(outcome)))
        continue
      }
      a.restart()
      let log = try a.log("db")
      let found = try log.resolve()
      #expect(found.count <= 1)
      let isThere = bucket.objects[StoreLayout.nameEntry("db", 1)] != nil
      if isThere { sent += 1 } else { unsent += 1 }
      if let first = found.first { #expect(isCommitted(first.outcome), "a frozen attempt is put again as it was") }
      #expect(try log.open().isEmpty)
      try log.refresh()
      #expect((log.state.phase == .live) == isThere)
      // The new process owns nothing yet; what the old one asked has its answer.
      let again = try log.perform(.start, request: "start")
      if isThere {
        guard case .committed(1, _) = again else {
          Issue.record("crash \(n) \(phase): \(again)")
          continue
        }
      } else {
        guard case .refused(let refusal) = again, refusal.instead == .adopt else {
          Issue.record("crash \(n) \(phase): \(again)")
          continue
        }
      }
      #expect(try isCommitted(log.perform(.adopt)))
    }
    #expect(sent > 0 && (unsent > 0 || phase != .before))
  }

  /// The put fails with no answer as often as it is tried; the bytes are not there.
  private func leaveOpen(_ a: NamesHost, _ command: NameCommand, request: String) throws -> ULID {
    var weather = StoreWeather.clear
    weather.serverError = 65536
    let log = try a.log("db")
    try log.refresh()
    // Reading works until the put is sent; from then on nothing does.
    a.store.onPut = { a.store.inner.weather = weather }
    defer {
      a.store.onPut = {}
      a.store.inner.weather = .clear
    }
    guard case .unknown(let id, _) = try log.perform(command, request: request) else {
      throw ElideError(.failed, "not unknown")
    }
    return id
  }

  @Test func anOpenAttemptBlocksTheNameUntilItIsKnown() throws {
    let a = host(1)
    #expect(try isCommitted(a.log("db").perform(create(1))))
    let id = try leaveOpen(a, .start, request: "s")
    #expect(entries().count == 1)
    let log = try a.log("db")
    #expect(try log.open().map(\.id) == [id])
    // The next command first finds out; the frozen bytes are put, and the command is another one.
    #expect(try isCommitted(log.perform(.note(text: "x"))))
    #expect(entries().count == 3 && log.state.phase == .live)
    #expect(try log.perform(.start, request: "s") == .committed(seq: 1, id: id))
  }

  @Test func aCancelOccupiesTheSlot() throws {
    let a = host(1)
    #expect(try isCommitted(a.log("db").perform(create(1))))
    let id = try leaveOpen(a, .start, request: "s")
    let log = try a.log("db")
    #expect(try log.cancel(id) == .cancelled(id: id))
    #expect(entries().count == 2)
    try log.refresh()
    #expect(log.state.phase == .stopped)
    #expect(try log.perform(.start, request: "s") == .cancelled(id: id))
    #expect(throws: ElideError.self) { try log.cancel(id) }
  }

  @Test func aCancelThatComesTooLateSaysSo() throws {
    let a = host(1)
    #expect(try isCommitted(a.log("db").perform(create(1))))
    let id = try leaveOpen(a, .start, request: "s")
    let log = try a.log("db")
    let raw = try #require(try log.open().first?.raw)
    // The put was on its way all the time.
    _ = try a.store.putIfAbsent(StoreLayout.nameEntry("db", 1), raw)
    #expect(try log.cancel(id) == .committed(seq: 1, id: id))
  }

  /// D10: after a restart an attempt is reported, never decided again, and a cancel goes on being one.
  @Test func aLaterProcessNeverDecidesAgain() throws {
    let (a, b) = (host(1), host(2))
    #expect(try isCommitted(a.log("db").perform(create(1))))
    let id = try leaveOpen(a, .resize(size: 1 << 21), request: "r")
    #expect(try isCommitted(b.log("db").perform(.note(text: "first"))))
    a.restart()
    let log = try a.log("db")
    let outcome = try log.perform(.resize(size: 1 << 21), request: "r")
    guard case .refused(let refusal) = outcome, refusal.instead == .again else {
      Issue.record("\(outcome)")
      return
    }
    #expect(entries().count == 2)
    try log.refresh()
    #expect(log.state.size == 1 << 20)
    #expect(throws: ElideError.self) { try log.cancel(id) }
    Situation.met(.d10)
  }

  @Test func aCancelIsOneAfterACrashToo() throws {
    let a = host(1)
    #expect(try isCommitted(a.log("db").perform(create(1))))
    let id = try leaveOpen(a, .start, request: "s")
    // Recorded, and the process dies before the void is sent.
    a.faults.armCrash(after: 2, .before)
    _ = try? a.log("db").cancel(id)
    #expect(a.faults.isCrashed)
    a.restart()
    let found = try a.log("db").resolve()
    #expect(found.map(\.outcome) == [.cancelled(id: id)])
    #expect(entries().count == 2)
  }

  @Test func aLostRaceIsDecidedAgain() throws {
    let (a, b) = (host(1), host(2))
    #expect(try isCommitted(a.log("db").perform(create(1))))
    let log = try a.log("db")
    var raced = false
    a.store.onPut = {
      if raced { return }
      raced = true
      _ = try? b.log("db").perform(.note(text: "in between"))
    }
    #expect(try log.perform(.start).isAt(2))
    #expect(entries().count == 3 && log.state.phase == .live)
    // And one that is refused by what came in between is refused for good.
    raced = false
    a.store.onPut = {
      if raced { return }
      raced = true
      _ = try? b.log("db").perform(self.force(2))
    }
    let outcome = try log.perform(.stop(cut: cut(1, 4), clients: 0, force: false), request: "stop")
    guard case .refused(let refusal) = outcome, refusal.kind == .owned else {
      Issue.record("\(outcome)")
      return
    }
    #expect(entries().count == 4)
    #expect(try !log.check())
  }

  @Test func aCopyOfTheDirectoryIsFenced() throws {
    let a = host(1)
    #expect(try isCommitted(a.log("db").perform(create(1))))
    #expect(try isCommitted(a.log("db").perform(.start)))
    let twin = NamesHost(seed: 9, bucket: bucket, weather: .clear, key: a.key, rows: a.rows)
    #expect(try a.log("db").check())
    #expect(try isCommitted(twin.log("db").perform(.adopt)))
    #expect(try !a.log("db").check(), "whoever appended first owns it")
    guard case .refused(let refusal) = try a.log("db").perform(.stop(cut: cut(1, 4), clients: 0, force: false)) else {
      Issue.record("the first process still stops it")
      return
    }
    #expect(refusal.instead == .adopt)
  }

  /// A machine restored from a snapshot of its memory has the same incarnation; only what it wrote itself tells them apart.
  @Test func aCopyOfTheMemoryIsFenced() throws {
    let a = host(1)
    #expect(try isCommitted(a.log("db").perform(create(1))))
    let rows = a.rows.copy(faults: SimFaults())
    let twin = try NameLog(
      "db", store: SimStore(bucket, seed: 5), rows: rows, author: a.author, clock: a.clock, random: SimRandom(seed: 77))
    #expect(try isCommitted(twin.perform(.start)))
    let error = #expect(throws: ElideError.self) { try a.log("db").check() }
    #expect(error?.kind == .fenced)
    #expect(try NameWitness.alarms(a.rows).contains { $0.contains("another machine") })
    #expect(throws: ElideError.self) { try a.log("db").perform(.note(text: "x")) }
  }

  /// The store lost an entry. Who has read beyond it sees that; who has not takes the hole for the end, unless it looks behind
  /// it: also when another process did the reading.
  @Test(arguments: [false, true]) func aHoleIsNotTheEnd(readBefore: Bool) throws {
    let (a, b) = (host(1), host(2))
    let log = try a.log("db")
    log.hintInterval = 1000
    #expect(try isCommitted(log.perform(create(1))))
    for n in 0..<4 { #expect(try isCommitted(log.perform(.note(text: "\(n)")))) }
    for key in bucket.keys where key.hasPrefix("names/") { bucket.remove(key) }
    let lost = entries()[2]
    let bytes = try #require(bucket.objects[lost])
    bucket.remove(lost)
    if readBefore { try b.log("db").refresh() }
    let before = entries()
    let error = #expect(throws: ElideError.self) { try b.log("db").perform(force(9)) }
    #expect(error?.kind == .fault && error?.message.contains("lacks entry 2") == true)
    #expect(entries() == before, "nothing was appended")
    #expect(try NameWitness.alarms(b.rows).contains { $0.contains("lacks entry 2") })
    bucket.write(lost, bytes)
    #expect(try isCommitted(b.log("db").perform(force(9))))
    #expect(entries().count == 6)
    // From then on it follows the log, and does not ask again.
    let lists = b.store.counters.lists
    #expect(try isCommitted(b.log("db").perform(.note(text: "mine"))))
    #expect(b.store.counters.lists == lists)
  }

  /// A name is not made over a log that has lost its first entry.
  @Test func aLogWithoutItsFirstEntryIsNotNew() throws {
    let (a, b) = (host(1), host(2))
    #expect(try isCommitted(a.log("db").perform(create(1))))
    #expect(try isCommitted(a.log("db").perform(.note(text: "x"))))
    let first = entries()[0]
    for key in bucket.keys where key.hasPrefix("names/") || key == first { bucket.remove(key) }
    #expect(throws: ElideError.self) { try b.log("db").perform(create(2)) }
    #expect(entries().count == 1)
  }

  @Test func aStoreThatSaysNoIsNotUnknown() throws {
    let a = host(1)
    #expect(try isCommitted(a.log("db").perform(create(1))))
    a.store.onPut = { a.store.inner.weather.refused = 65536 }
    let outcome = try a.log("db").perform(.start, request: "s")
    guard case .refused = outcome else {
      Issue.record("\(outcome)")
      return
    }
    a.store.onPut = {}
    a.store.inner.weather = .clear
    #expect(try a.log("db").open().isEmpty)
    #expect(try isCommitted(a.log("db").perform(.start, request: "s")))
    #expect(entries().count == 2)
  }

  @Test func headsOfADayAreSignedOnce() throws {
    let a = host(1)
    for name in ["b", "a", "c"] { #expect(try isCommitted(a.log(name).perform(create(1)))) }
    let key = try NameWitness.publish(a.rows, to: a.store, author: a.author, clock: a.clock)
    let bytes = try #require(bucket.objects[key])
    let heads = try HostHeads.decode(bytes)
    #expect(heads.heads.map(\.name) == ["a", "b", "c"] && heads.host == a.author.id)
    #expect(key == "hosts/\(a.author.id)/heads/\(heads.date).toml")
    #expect(try isCommitted(a.log("a").perform(.start)))
    _ = try NameWitness.publish(a.rows, to: a.store, author: a.author, clock: a.clock)
    #expect(bucket.objects[key] == bytes, "the day's list is not rewritten")
    var changed = bytes
    changed[changed.count / 2] ^= 1
    #expect(throws: TOMLError.self) { try HostHeads.decode(changed) }
  }

  @Test func rowsComeBackAsTheyWentIn() throws {
    let a = host(1)
    let log = try a.log("db")
    #expect(try isCommitted(log.perform(create(1))))
    let row = try #require(try a.rows.get(.folds, NameRowKey.name("db")))
    #expect(try NameRecord.decode(row, name: "db").encode() == row)
    for n in 0..<row.count { #expect(throws: FormatError.self) { try NameRecord.decode(Array(row[..<n]), name: "db") } }
    var intent = NameIntent(
      name: "db", id: volume(1), seq: 7, raw: [1, 2], kind: "note", request: "r", incarnation: volume(2), void: [3])
    #expect(try NameIntent.decode(intent.encode(), name: "db") == intent)
    (intent.request, intent.void) = (nil, nil)
    #expect(try NameIntent.decode(intent.encode(), name: "db") == intent)
    for answer in [NameAnswer.committed(seq: 9, id: volume(3)), .done, .cancelled(id: volume(4))] {
      #expect(try NameAnswer.decode(answer.encode()) == answer)
    }
  }
}

extension NameOutcome {
  func isAt(_ slot: UInt64) -> Bool {
    if case .committed(slot, _) = self { return true }
    return false
  }
}
