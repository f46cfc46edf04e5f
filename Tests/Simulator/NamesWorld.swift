import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// A connection to a bucket in whose pauses other hosts act: before each request the world may let somebody else run a whole
/// command, or deliver an old duplicate; a read may be stale. One thread steps a simulated world, hence unchecked.
package final class PausingStore: Store, @unchecked Sendable {
  package let inner: SimStore
  package var pause: () -> Void = {}
  /// Runs right before a put of an entry is sent.
  package var onPut: () -> Void = {}
  /// Whether a read of this key finds nothing yet.
  package var isStale: (String) -> Bool = { _ in false }
  package init(_ inner: SimStore) { self.inner = inner }

  package var url: String { inner.url }
  package var counters: StoreCounters { inner.counters }
  package func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    pause()
    onPut()
    return try inner.putIfAbsent(key, bytes)
  }
  package func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    pause()
    try inner.put(key, parts: parts)
  }
  package func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    pause()
    if isStale(key) { throw .notFound(key: key) }
    return try inner.get(key, range: range)
  }
  package func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    try inner.list(prefix, after: after, limit: limit)
  }
  package func delete(_ key: String) throws(StoreError) { try inner.delete(key) }
}

/// One host that works on names: rows that outlive its processes, and the process that runs now.
package final class NamesHost {
  package let key: SigningKey
  package let faults: SimFaults
  package private(set) var rows: SimNameRows
  package let store: PausingStore
  package let random: SimRandom
  package let clock = SimClock()
  package private(set) var incarnation: ULID
  private var logs: [String: NameLog] = [:]
  package var isBusy = false

  package init(seed: UInt64, bucket: SimBucket, weather: StoreWeather, key: SigningKey? = nil, rows: SimNameRows? = nil) {
    random = SimRandom(seed: seed)
    self.key = key ?? SigningKey(random: random)
    faults = SimFaults(seed: seed)
    self.rows = rows?.copy(faults: faults) ?? SimNameRows(faults: faults)
    store = PausingStore(SimStore(bucket, seed: seed, faults: faults, weather: weather))
    incarnation = ULID(clock: clock, random: random)
  }

  package var author: NameAuthor { NameAuthor(key: key, incarnation: incarnation) }

  package func log(_ name: String) throws(ElideError) -> NameLog {
    if let log = logs[name] { return log }
    let log = try NameLog(name, store: store, rows: rows, author: author, clock: clock, random: random)
    log.patience = 1
    log.hintInterval = 16
    logs[name] = log
    return log
  }

  /// The process is gone; the next one has another incarnation and the same rows.
  package func restart() {
    faults.restart()
    logs = [:]
    incarnation = ULID(clock: clock, random: random)
  }
}

/// Hosts and operators on one store: commands on a few names, drawn from one seed, with requests and answers lost, repeated and
/// late, hosts that crash anywhere, pause in the middle while others act, and are copied. What was reported is held against
/// the log in the end.
package final class NamesWorld {
  package enum Reported: Equatable {
    case committed(seq: UInt64, id: ULID)
    case never
    case open
  }
  package struct Request {
    package var name: String
    package var host: Int
    package var reported: Reported
    package var command: NameCommand
  }

  package let bucket = SimBucket()
  package private(set) var hosts: [NamesHost] = []
  package private(set) var requests: [String: Request] = [:]
  private var open: [String] = []
  private var random: SeededRandom
  private let names: [String]
  private var depth = 0
  package private(set) var commands = 0
  /// What the run has met, counted.
  package private(set) var met: [String: Int] = [:]
  package private(set) var trouble: [String] = []
  private var nextVolume: UInt64 = 1

  package init(seed: UInt64, names: Int = 3) {
    random = SeededRandom(seed: seed)
    self.names = (0..<names).map { "vm\($0)" }
    for i in 0..<3 as Range<UInt64> { add(NamesHost(seed: seed * 31 + i, bucket: bucket, weather: Self.weather)) }
  }

  /// Answers get lost more often than requests, and much arrives again late: what makes outcomes hard to know.
  private static let weather: StoreWeather = {
    var w = StoreWeather()
    w.lostRequest = 1500
    w.lostResponse = 3000
    w.serverError = 800
    w.duplicate = 6000
    w.refused = 200
    return w
  }()

  private func add(_ host: NamesHost) {
    hosts.append(host)
    host.store.pause = { [unowned self] in self.interleave() }
    host.store.isStale = { [unowned self] key in
      key.hasPrefix("events/") && self.isCalm == false && self.random.chance(1, in: 200) && self.note("stale read")
    }
  }
  private var isCalm = false

  @discardableResult
  private func note(_ what: String) -> Bool {
    met[what, default: 0] += 1
    return true
  }

  /// In the pauses of one host's requests others act.
  private func interleave() {
    if isCalm { return }
    if random.chance(1, in: 12), bucket.deliverDuplicate(&random) { note("late duplicate") }
    guard depth < 2, random.chance(1, in: 10) else { return }
    depth += 1
    defer { depth -= 1 }
    note("interleaved")
    step()
  }

  // MARK: Steps

  /// One command of one host, or something that befalls a host.
  package func step() {
    let idle = hosts.indices.filter { !hosts[$0].isBusy }
    guard !idle.isEmpty else { return }
    let i = random.pick(idle)
    let host = hosts[i]
    switch random.below(100) {
    case 0..<3:
      host.restart()
      note("restart")
      return
    case 3..<8: host.faults.armCrash(after: UInt64(1 + random.below(6)), random.pick(CrashPhase.allCases))
    case 8..<9 where hosts.count < 4:
      // The directory is copied, open intents and all, and started elsewhere.
      add(NamesHost(seed: random.next(), bucket: bucket, weather: Self.weather, key: host.key, rows: host.rows))
      note("twin")
      return
    case 9..<13: return resolve(i)
    case 13..<18: return cancel(i)
    case 18..<26:
      if let again = open.last(where: { requests[$0]?.host == i }), let r = requests[again] {
        note("asked again")
        return run(again, r, i)
      }
    default: break
    }
    commands += 1
    let name = random.pick(names)
    let request = "r\(commands)"
    guard let log = try? host.log(name) else { return }
    run(request, Request(name: name, host: i, reported: .open, command: command(log.state, host)), i)
  }

  private func run(_ request: String, _ r: Request, _ i: Int) {
    let host = hosts[i]
    requests[request] = r
    host.isBusy = true
    defer { host.isBusy = false }
    do {
      let outcome = try host.log(r.name).perform(r.command, request: request)
      report(request, outcome, host)
    } catch {
      // Nothing of it was sent, unless the host died on the way: then nobody was told anything.
      report(request, nil, host)
      note("error \(error.kind)")
    }
    if host.faults.isCrashed {
      host.restart()
      note("crash")
    }
  }

  private func report(_ request: String, _ outcome: NameOutcome?, _ host: NamesHost) {
    guard var r = requests[request] else { return }
    let before = r.reported
    if host.faults.isCrashed {
      if !open.contains(request), before == .open { open.append(request) }
      return
    }
    switch outcome {
    case .committed(let seq, let id):
      r.reported = .committed(seq: seq, id: id)
      note("committed")
    case .done:
      r.reported = .never
      note("done")
    case .refused(let refusal):
      r.reported = .never
      note("refused \(refusal.instead)")
    case .cancelled:
      r.reported = .never
      note("cancelled")
    case .unknown:
      note("unknown")
      if !open.contains(request) { open.append(request) }
      return
    case nil:
      // An error may come from reading after an earlier attempt was left open; the request stays as it was.
      if !open.contains(request) { open.append(request) }
      return
    }
    if before != .open, before != r.reported { trouble.append("\(request): told \(before), then \(r.reported)") }
    open.removeAll { $0 == request }
    requests[request] = r
  }

  private func resolve(_ i: Int) {
    let host = hosts[i]
    host.isBusy = true
    defer { host.isBusy = false }
    for name in names {
      guard let found = try? host.log(name).resolve() else { continue }
      // A copy of a directory resolves what the original's clients asked.
      for f in found {
        if let request = f.request, requests[request]?.host == i { report(request, f.outcome, host) }
        note("resolved")
      }
    }
    if host.faults.isCrashed { host.restart() }
  }

  private func cancel(_ i: Int) {
    let host = hosts[i]
    host.isBusy = true
    defer { host.isBusy = false }
    for request in open where requests[request]?.host == i {
      guard let r = requests[request], let log = try? host.log(r.name),
        let intent = (try? log.open())?.first(where: { $0.request == request })
      else { continue }
      if let outcome = try? log.cancel(intent.id) {
        note("cancel")
        report(request, outcome, host)
      }
      break
    }
    if host.faults.isCrashed { host.restart() }
  }

  private func volume() -> ULID {
    nextVolume += 1
    return ULID(high: 1, low: nextVolume)
  }

  private func command(_ s: NameState, _ host: NamesHost) -> NameCommand {
    let key = [UInt8](repeating: 9, count: 32)
    let me = Digest.sha256(host.key.publicKey).hex
    let at = (s.cut?.volume == s.volume ? s.cut?.seq ?? 0 : 0) + UInt64(random.below(3))
    let cut = Cut(volume: s.volume ?? volume(), seq: at, page: at, pageHash: Digest.sha256([UInt8(truncatingIfNeeded: at)]))
    if random.chance(1, in: 12) { return .note(text: "n\(commands)") }
    if random.chance(1, in: 20) { return .pin(cut: cut, by: "p", hold: .until(nil)) }
    if random.chance(1, in: 20), let pin = s.holdings.pins.first { return .unpin(pin: pin.id, because: .removed) }
    if random.chance(1, in: 20), let d = s.holdings.displaced.first { return .discardDisplaced(volume: d.volume) }
    switch s.phase {
    case .absent, .purged:
      if random.chance(1, in: 4) { return .importStart(volume: volume(), key: key, source: "raw:x") }
      return .create(NewVolumeFacts(volume: volume(), key: key, size: 1 << 20))
    case .importing:
      if s.owner == me, s.incarnation != host.incarnation { return .adopt }
      if random.chance(1, in: 3) { return .importAbort }
      return .importFinish(
        cut: Cut(volume: s.pending?.volume ?? volume(), seq: 1, page: 1, pageHash: Digest.sha256([1])), size: 512)
    case .readonly: return random.chance(1, in: 3) ? .purge : .note(text: "ro")
    case .released:
      return random.chance(1, in: 3) ? .reclaim(local: s.cut, serve: true) : .claim(volume: volume(), key: key, serve: true)
    case .recovering:
      if s.owner == me, s.incarnation != host.incarnation { return .adopt }
      if s.owner == me {
        return .recover(volume: s.pending?.volume ?? volume(), basis: s.cut.map { .cut($0) } ?? .empty(cut.volume), lost: "")
      }
      return force(key)
    case .purging: return s.owner == me ? (s.incarnation != host.incarnation ? .adopt : .finishPurge) : .takePurge
    case .live, .stopped: return owned(s, me, host, cut, key)
    case .reserved: return .renameAbort(.other(Digest.sha256([7])))
    case .renamed: return .note(text: "renamed")
    }
  }

  private func force(_ key: [UInt8]) -> NameCommand {
    .force(Force(expectOwner: nil, expectEpoch: nil, volume: volume(), key: key))
  }

  private func owned(_ s: NameState, _ me: String, _ host: NamesHost, _ cut: Cut, _ key: [UInt8]) -> NameCommand {
    guard s.owner == me else { return random.chance(1, in: 3) ? force(key) : .start }
    if s.incarnation != host.incarnation { return .adopt }
    if random.chance(1, in: 6) { return .resize(size: s.size + 512 * UInt64(random.below(3))) }
    if random.chance(1, in: 6) {
      return .reap(
        Reap(
          volume: cut.volume, cut: cut, floor: cut.seq, kept: s.holdings.pins.map(\.cut.seq).filter { $0 < cut.seq }.sorted(),
          list: cut.pageHash, count: 1))
    }
    if s.phase == .live { return .stop(cut: cut, clients: 0, force: false) }
    switch random.below(6) {
    case 0: return .release(cut: cut)
    case 1: return random.chance(1, in: 8) ? .purge : .release(cut: cut)
    default: return .start
    }
  }

  // MARK: The end

  /// The storm is over: every duplicate is delivered, every host finds out what it left open.
  package func settle() {
    isCalm = true
    while bucket.deliverDuplicate(&random) {}
    for host in hosts {
      host.restart()
      host.store.inner.weather = .clear
    }
    for i in hosts.indices { resolve(i) }
    for request in open {
      guard let r = requests[request] else { continue }
      run(request, r, r.host)
    }
  }

  /// Every reported success is in the log once; no reported failure is in it; what is open is in it once or not at all.
  package func faults() -> [String] {
    var out = trouble
    var seen: [String: [(seq: UInt64, id: ULID, isLegal: Bool)]] = [:]
    var ids = Set<ULID>()
    for name in names {
      var fold = NameFold(name: name)
      while let raw = bucket.objects[StoreLayout.nameEntry(name, fold.nextSeq)] {
        let seq = fold.nextSeq
        let isLegal = fold.next(raw) == nil
        guard let e = try? NameEntryCodec.decode(raw, of: name, at: seq).envelope else {
          out.append("\(name) \(seq): no entry")
          continue
        }
        if !isLegal { out.append("\(name) \(seq): \(fold.state.violations.last?.detail ?? "") (\(e.kind))") }
        if !ids.insert(e.id).inserted { out.append("\(name) \(seq): attempt \(e.id) twice") }
        if let request = e.request, e.kind != "void" { seen["\(request)", default: []].append((seq, e.id, isLegal)) }
      }
      let prefix = "events/\(name)/0"
      let slots = bucket.keys.filter { $0.hasPrefix(prefix) }.count
      if slots != Int(fold.nextSeq) { out.append("\(name): \(slots) entries, \(fold.nextSeq) in a row: a hole") }
      for host in hosts {
        guard let log = try? host.log(name) else { continue }
        do { try log.refresh() } catch {
          out.append("\(name): \(error)")
          continue
        }
        if log.state != fold.state { out.append("\(name): a host's fold is another than the log's") }
      }
    }
    for (request, r) in requests {
      let found = seen[request] ?? []
      if found.count > 1 { out.append("\(request): \(found.count) times in the log") }
      switch r.reported {
      case .committed(let seq, let id):
        if found.count != 1 || found[0].seq != seq || found[0].id != id || !found[0].isLegal {
          out.append("\(request): reported in slot \(seq), found \(found)")
        }
      case .never: if !found.isEmpty { out.append("\(request): reported as never, and is in slot \(found[0].seq)") }
      case .open: out.append("\(request): still open")
      }
    }
    return out
  }
}
