import Synchronization

/// What one question to a store brought.
package struct ProbeFinding: Equatable, Sendable {
  package enum Result: String, Sendable {
    case yes, no
    /// The question makes no sense for this kind of store, or an earlier answer made it pointless.
    case notAsked = "not asked"
    /// The store did not answer it.
    case unclear
  }
  /// What a store must have, what protects it, and what is only good to know.
  package enum Need: String, Sendable { case needed, recommended, informative }

  package let question: ProbeQuestion
  package let result: Result
  /// What was seen, for a person; empty when it was what one expects.
  package let detail: String
}

/// Questions, in the order in which they are asked.
package enum ProbeQuestion: String, CaseIterable, Sendable {
  case putIfAbsent = "put-if-absent"
  case race = "one winner of racing writers"
  case readAfterWrite = "read after write"
  case range = "ranged reads"
  case listAfterWrite = "list after write and delete"
  case delete = "delete"
  case clock = "clock"
  case md5 = "Content-MD5"
  case payload = "signed payload"
  case checksum = "x-amz-checksum-sha256"
  case ifMatch = "put with If-Match"
  case policy = "policy protects events/"

  package var need: ProbeFinding.Need {
    switch self {
    case .putIfAbsent, .race, .readAfterWrite, .range, .delete, .clock: .needed
    case .listAfterWrite, .md5, .policy: .recommended
    case .payload, .checksum, .ifMatch: .informative
    }
  }

  /// What yes and no mean for a user of Elide.
  package func meaning(_ result: ProbeFinding.Result) -> String {
    let isYes = result == .yes
    guard isYes || result == .no else { return "" }
    return switch self {
    case .putIfAbsent:
      isYes ? "logs are safe from being overwritten" : "two hosts could overwrite each other's log: do not use it"
    case .race: isYes ? "of several hosts one wins" : "two hosts could both believe that they won: do not use it"
    case .readAfterWrite: isYes ? "what was put is seen by all" : "a host could miss what another has written: do not use it"
    case .listAfterWrite: isYes ? "listings are current" : "store stat, copy and fsck may miss objects; volumes are not affected"
    case .range: isYes ? "only what is read is fetched" : "volumes cannot be opened from it: do not use it"
    case .delete: isYes ? "space can be given back" : "nothing can be deleted: the store only grows"
    case .clock:
      isYes ? "requests are signed with the right time" : "requests will be refused when it drifts further: set the clock (NTP)"
    case .md5: isYes ? "damage on the way in is refused" : "damage on the way in is noticed only by the ETag, if at all"
    case .payload: isYes ? "the signature covers the bytes" : "the signature covers only the headers: use https"
    case .checksum: isYes ? "kept with the object; not used today" : "not used today"
    case .ifMatch: isYes ? "not used today" : "not used"
    case .policy:
      isYes ? "not even a stolen key can rewrite history there" : "see the policy in docs/s3.md, where the service knows it"
    }
  }
}

package struct ProbeLatency: Equatable, Sendable {
  package let what: String
  package let count: Int
  package let medianMicroseconds: UInt64
  package let worstMicroseconds: UInt64
  /// Bytes of one request, for a rate.
  package let bytes: Int
}

package struct ProbeReport: Sendable {
  package let store: String
  package var findings: [ProbeFinding] = []
  package var latencies: [ProbeLatency] = []
  /// This host's clock less the store's; nil where that is one clock.
  package var clockAheadMilliseconds: Int64?

  /// Whether a store can live there.
  package var isUsable: Bool { findings.allSatisfy { $0.question.need != .needed || $0.result == .yes } }
  package subscript(question: ProbeQuestion) -> ProbeFinding? { findings.first { $0.question == question } }
}

/// Finds out what a store honours by trying, under `probe/<id>/`, and removes what it has put there.
///
/// A probe is evidence, not proof: a race that was won once by one writer may be lost another time.
package struct StoreProbe {
  private let store: any Store
  private let world: World
  private let folder: String
  private let rounds: Int
  private var report: ProbeReport

  /// `rounds`: how often the things that go by chance are tried.
  package init(_ store: any Store, world: World, rounds: Int = 20) {
    self.store = store
    self.world = world
    self.rounds = rounds
    folder = "probe/\(ULID(clock: world.clock, random: world.random))"
    report = ProbeReport(store: store.url)
  }

  /// Asks all questions. Throws when not even the first request works: there the error says more than a table.
  package mutating func run() throws(StoreError) -> ProbeReport {
    defer { sweep() }
    try askPutIfAbsent()
    askRace()
    askReads()
    askList()
    askDelete()
    if let s3 = store as? S3Store {
      let more = S3Probe(s3, folder: folder)
      report.clockAheadMilliseconds = more.clockAhead()
      report.findings += more.run(clockAhead: report.clockAheadMilliseconds)
    } else {
      for question in [ProbeQuestion.clock] { note(question, .yes, "this host's own") }
      for question in [ProbeQuestion.md5, .payload, .checksum, .ifMatch, .policy] { note(question, .notAsked) }
    }
    measure()
    return report
  }

  private mutating func note(_ question: ProbeQuestion, _ result: ProbeFinding.Result, _ detail: String = "") {
    report.findings.append(ProbeFinding(question: question, result: result, detail: detail))
  }

  /// A question whose requests may fail: then the answer is unclear.
  private mutating func ask(_ question: ProbeQuestion, _ body: (any Store, String) throws(StoreError) -> String?) {
    do throws(StoreError) {
      let fault = try body(store, folder)
      note(question, fault == nil ? .yes : .no, fault ?? "")
    } catch { note(question, .unclear, "\(error)") }
  }

  private mutating func askPutIfAbsent() throws(StoreError) {
    let key = folder + "/slot"
    let first = try put(key, [1])
    do throws(StoreError) {
      let second = try put(key, [2])
      let found = try store.get(key, range: nil)
      if first == .created && second == .exists && found == [1] { return note(.putIfAbsent, .yes) }
      note(.putIfAbsent, .no, second == .created ? "a taken slot was taken again" : "the slot holds \(found)")
    } catch { note(.putIfAbsent, .unclear, "\(error)") }
  }

  private func put(_ key: String, _ bytes: [UInt8]) throws(StoreError) -> PutOutcome {
    try bytes.withUnsafeBufferPointer { (b) throws(StoreError) in try store.putIfAbsent(key, UnsafeRawBufferPointer(b)) }
  }

  /// Several writers for one slot at once; who is not told reads the slot.
  private mutating func askRace() {
    var worst = ""
    var unknown = 0
    for round in 0..<max(1, rounds / 4) {
      let key = "\(folder)/race-\(round)"
      let results = Mutex((winners: [UInt8](), unknown: 0))
      let store = store
      var threads: [JoinableThread] = []
      for i in 0..<8 as Range<UInt8> {
        let thread = try? spawnThread(name: "elide-probe") {
          let bytes = [UInt8](repeating: i, count: 1000)
          let outcome = try? bytes.withUnsafeBufferPointer { (b) throws(StoreError) in
            try store.putIfAbsent(key, UnsafeRawBufferPointer(b))
          }
          results.withLock { r in
            if outcome == .created { r.winners.append(i) }
            if outcome == nil { r.unknown += 1 }
          }
        }
        if let thread { threads.append(thread) }
      }
      for thread in threads { thread.join() }
      let (winners, lost) = results.withLock { $0 }
      unknown += lost
      let holder = (try? store.get(key, range: nil))?.first
      if winners.count > 1 { worst = "\(winners.count) writers were told that they won" }
      if let winner = winners.first, winner != holder { worst = "the slot does not hold what the winner put" }
    }
    let told = unknown == 0 ? "" : "\(unknown) of the losers were told nothing definite, and have to read the slot"
    note(.race, worst.isEmpty ? .yes : .no, worst.isEmpty ? told : worst)
  }

  private mutating func askReads() {
    let bytes = (0..<5000).map { UInt8(truncatingIfNeeded: $0) }
    let rounds = rounds
    ask(.readAfterWrite) { (store, folder) throws(StoreError) in
      for i in 0..<rounds {
        try store.put(folder + "/fresh", parts: [[UInt8(truncatingIfNeeded: i)], bytes])
        if try store.get(folder + "/fresh", range: nil) != [UInt8(truncatingIfNeeded: i)] + bytes {
          return "an old object was read"
        }
      }
      return nil
    }
    ask(.range) { (store, folder) throws(StoreError) in
      try store.put(folder + "/range", parts: [bytes])
      if try store.get(folder + "/range", range: 1000..<2000) != Array(bytes[1000..<2000]) { return "other bytes came" }
      if try store.get(folder + "/range", range: 4000..<9000) != Array(bytes[4000...]) { return "not cut at the end" }
      if try store.get(folder + "/range", range: 6000..<7000) != [] { return "bytes came from behind the end" }
      return nil
    }
  }

  private mutating func askList() {
    ask(.listAfterWrite) { (store, folder) throws(StoreError) in
      let keys = (0..<10).map { "\(folder)/list/\($0)" }
      for key in keys { try store.put(key, parts: [[1]]) }
      if try store.list(folder + "/list/", after: nil, limit: 100).map(\.key) != keys { return "a new object is not listed" }
      try store.delete(keys[3])
      let left = keys.filter { $0 != keys[3] }
      if try store.list(folder + "/list/", after: nil, limit: 100).map(\.key) != left { return "a deleted object is listed" }
      if try store.list(folder + "/list/", after: keys[4], limit: 3).map(\.key) != Array(keys[5..<8]) {
        return "start-after is ignored"
      }
      return nil
    }
  }

  private mutating func askDelete() {
    ask(.delete) { (store, folder) throws(StoreError) in
      try store.put(folder + "/delete", parts: [[1]])
      try store.delete(folder + "/delete")
      try store.delete(folder + "/delete")
      do throws(StoreError) { _ = try store.get(folder + "/delete", range: nil) } catch {
        if case .notFound = error { return nil }
        throw error
      }
      return "a deleted object is read"
    }
  }

  private mutating func measure() {
    let small = [UInt8](repeating: 7, count: 4096)
    let large = [UInt8](repeating: 7, count: 8 << 20)
    let (store, folder) = (store, folder)
    time("put 4 KiB", rounds, small.count) { (i) throws(StoreError) in try store.put("\(folder)/small-\(i)", parts: [small]) }
    time("get 4 KiB", rounds, small.count) { (i) throws(StoreError) in _ = try store.get("\(folder)/small-\(i)", range: 0..<4096)
    }
    time("put 8 MiB", 3, large.count) { (_) throws(StoreError) in try store.put("\(folder)/large", parts: [large]) }
    time("get 8 MiB", 3, large.count) { (_) throws(StoreError) in _ = try store.get("\(folder)/large", range: 0..<8 << 20) }
  }

  private mutating func time(_ what: String, _ count: Int, _ bytes: Int, _ body: (Int) throws(StoreError) -> Void) {
    var times: [UInt64] = []
    for i in 0..<count {
      let begun = world.clock.monotonicNanoseconds()
      do throws(StoreError) { try body(i) } catch { continue }
      times.append((world.clock.monotonicNanoseconds() &- begun) / 1000)
    }
    times.sort()
    guard let worst = times.last else { return }
    report.latencies.append(
      ProbeLatency(
        what: what, count: times.count, medianMicroseconds: times[times.count / 2], worstMicroseconds: worst, bytes: bytes))
  }

  /// Removes what the probe has put. What it cannot remove is small, and named after a probe.
  private func sweep() {
    // By what the probe can have put at most: the store may go on listing what was deleted.
    guard let left = try? store.list(folder + "/", after: nil, limit: 1000) else { return }
    for object in left {
      do throws(StoreError) { try store.delete(object.key) } catch { return }
    }
  }
}
