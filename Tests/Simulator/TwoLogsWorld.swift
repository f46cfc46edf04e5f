import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// Hosts that fork and rename names of one store while others start, stop, purge and contend, with requests and answers lost,
/// repeated and late, and hosts that crash between any two requests. In the end somebody tidies up, and then every fork has its
/// pin, no pin is an orphan's, and each volume has one name.
package final class TwoLogsWorld {
  package let bucket = SimBucket()
  package private(set) var hosts: [NamesHost] = []
  package private(set) var met: [String: Int] = [:]
  package private(set) var operations = 0
  private let names = (0..<12).map { "n\($0)" }
  private var random: SeededRandom
  private var depth = 0
  private var isCalm = false
  private var nextVolume: UInt64 = 0
  private var told: [String: NameOutcome] = [:]
  /// The two names that somebody works on, or just has: others look at them, too early and too late.
  private var hot: (from: String, to: String)?

  private static let weather: StoreWeather = {
    var w = StoreWeather()
    w.lostRequest = 600
    w.lostResponse = 1500
    w.duplicate = 4000
    return w
  }()

  package init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    for i in 0..<3 as Range<UInt64> {
      let host = NamesHost(seed: seed * 17 + i, bucket: bucket, weather: Self.weather)
      hosts.append(host)
      host.store.pause = { [unowned self] in self.interleave() }
    }
  }

  private func note(_ what: String) { met[what, default: 0] += 1 }

  private func interleave() {
    if isCalm { return }
    if random.chance(1, in: 10) { bucket.deliverDuplicate(&random) }
    guard depth < 2 else { return }
    depth += 1
    defer { depth -= 1 }
    if hot != nil, random.chance(1, in: 12) { return meddle() }
    if random.chance(1, in: 20) { step() }
  }

  /// Another host tidies up what may well be going on.
  private func meddle() {
    guard let hot, let host = hosts.first(where: { !$0.isBusy }) else { return }
    host.isBusy = true
    defer { host.isBusy = false }
    let two = TwoLogs { (name) throws(ElideError) in try host.log(name) }
    if (try? two.clearOrphans(hot.from)) ?? 0 > 0 { note("orphan cleared") }
    if (try? two.finishRename(hot.to)) ?? false { note("rename looked at") }
    if host.faults.isCrashed { host.restart() }
  }

  package func step() {
    if hot != nil, random.chance(1, in: 3) { meddle() }
    let idle = hosts.filter { !$0.isBusy }
    guard !idle.isEmpty else { return }
    let host = random.pick(idle)
    if random.chance(1, in: 8) { host.faults.armCrash(after: UInt64(1 + random.below(12)), random.pick(CrashPhase.allCases)) }
    host.isBusy = true
    defer { host.isBusy = false }
    operations += 1
    do { try operate(host) } catch { note("error \(error.kind)") }
    if host.faults.isCrashed {
      host.restart()
      note("crash")
    }
  }

  private func operate(_ host: NamesHost) throws(ElideError) {
    let two = TwoLogs { (name) throws(ElideError) in try host.log(name) }
    let request = "r\(operations)"
    // Mostly what may succeed, as far as this host knows: free names to go to, stopped ones of its own to come from.
    func names(_ fits: (NameState) -> Bool) -> [String] {
      if random.chance(1, in: 6) { return self.names }
      let known = self.names.filter { name in (try? host.log(name)).map { fits($0.state) } ?? false }
      return known.isEmpty ? self.names : known
    }
    let name = random.pick(self.names)
    switch random.below(12) {
    case 0..<3:
      let source = random.pick(names { $0.cut != nil && NameState.pinnable.contains($0.phase) })
      let new = random.pick(names { $0.isFree })
      let from = try host.log(source)
      try from.refresh()
      guard source != new, let cut = from.state.cut else { return }
      hot = (source, new)
      tell("fork", request, try two.fork(new, from: source, at: cut, facts(), request: request), host)
    case 3, 4:
      let old = random.pick(names { $0.phase == .stopped && $0.owner == host.author.id && $0.incarnation == host.incarnation })
      let new = random.pick(names { $0.isFree })
      hot = (old, new)
      if old != new { tell("rename", request, try two.rename(old, to: new, request: request), host) }
    case 5: if try two.clearOrphans(name) > 0 { note("orphan cleared") }
    case 6: if try two.finishRename(name) { note("rename looked at") }
    default:
      let log = try host.log(random.pick(names { !$0.isFree && $0.phase != .renamed }))
      tell("other", request, try log.perform(common(log, host), request: request), host)
    }
  }

  private func tell(_ what: String, _ request: String, _ outcome: NameOutcome, _ host: NamesHost) {
    if host.faults.isCrashed { return }
    told[request] = outcome
    switch outcome {
    case .committed: note("\(what) committed")
    case .done: note("\(what) done")
    case .refused: note("\(what) refused")
    case .cancelled: note("\(what) cancelled")
    case .unknown: note("\(what) unknown")
    }
  }

  private func facts() -> NewVolumeFacts {
    nextVolume += 1
    return NewVolumeFacts(volume: ULID(high: 1, low: nextVolume), key: [UInt8](repeating: 9, count: 32), size: 512)
  }

  /// What moves a name on, so that there is something to fork and to rename.
  private func common(_ log: NameLog, _ host: NamesHost) -> NameCommand {
    let s = log.state
    let isMine = s.owner == host.author.id
    // Somebody must own something: the first names are made by whoever comes by.
    if s.isFree, log.name < "n2" { return .create(facts()) }
    if isMine, s.incarnation != host.incarnation { return .adopt }
    switch s.phase {
    case .absent, .purged: return random.chance(1, in: 3) ? .create(facts()) : .note(text: "x")
    case .live:
      let seq = (s.cut?.volume == s.volume ? s.cut?.seq ?? 0 : 0) + 1
      let cut = Cut(volume: s.volume ?? ULID(high: 0, low: 0), seq: seq, page: seq, pageHash: Digest.sha256([3]))
      return isMine ? .stop(cut: cut, clients: 0, force: false) : .note(text: "x")
    case .stopped: return isMine ? (random.chance(1, in: 4) && s.cut != nil ? .purge : .start) : .note(text: "x")
    case .purging: return isMine ? .finishPurge : .takePurge
    default: return .note(text: "x")
    }
  }

  /// The storm is over; one host finds out what was left open, and finishes or undoes it.
  package func settle() {
    isCalm = true
    while bucket.deliverDuplicate(&random) {}
    for host in hosts {
      host.restart()
      host.store.inner.weather = .clear
      for name in names { _ = try? host.log(name).resolve() }
    }
    let two = TwoLogs { [hosts] (name) throws(ElideError) in try hosts[0].log(name) }
    for name in names { _ = try? two.finishRename(name) }
    for name in names where (try? two.clearOrphans(name)) ?? 0 > 0 { note("orphan cleared") }
  }

  // MARK: The end

  private struct Log {
    var fold: NameFold
    var entries: [(envelope: Envelope, event: NameEvent)] = []
  }

  package func faults() -> [String] {
    var out: [String] = []
    var logs: [String: Log] = [:]
    for name in names {
      var log = Log(fold: NameFold(name: name))
      while let raw = bucket.objects[StoreLayout.nameEntry(name, log.fold.nextSeq)] {
        let (step, violation) = log.fold.step(raw)
        if let violation { out.append("\(name): \(violation)") }
        if case .event(let c) = step, violation == nil { log.entries.append((c.envelope, c.event)) }
      }
      logs[name] = log
      if log.fold.state.phase == .reserved { out.append("\(name) is still reserved") }
    }
    let states = logs.mapValues(\.fold.state)
    let volumes = states.values.filter { $0.phase != .renamed }.compactMap(\.volume)
    if Set(volumes).count != volumes.count { out.append("a volume has two names") }
    for (name, state) in states {
      guard state.phase == .renamed, let new = state.renamedTo else { continue }
      let hasCome = logs[new]?.entries.contains { entry in
        if case .renamedFrom(let r) = entry.event { return r.old == name && r.slot == state.since }
        return false
      }
      if hasCome != true { out.append("\(name) was renamed to \(new), which does not know it") }
    }
    return out + pinFaults(logs, states) + answerFaults(logs)
  }

  private func pinFaults(_ logs: [String: Log], _ states: [String: NameState]) -> [String] {
    var out: [String] = []
    var pins: [ULID: Pin] = [:]
    for state in states.values where NameState.pinnable.contains(state.phase) {
      for pin in state.holdings.pins { pins[pin.id] = pin }
    }
    var forked = Set<ULID>()
    for (name, log) in logs {
      for entry in log.entries {
        guard case .forked(_, let from, _) = entry.event else { continue }
        forked.insert(from.pin)
        if pins[from.pin] == nil { out.append("the fork in '\(name)' has lost its pin \(from.pin) on '\(from.name)'") }
      }
    }
    for pin in pins.values where !forked.contains(pin.id) { out.append("pin \(pin.id) for '\(pin.by)' is an orphan's") }
    return out
  }

  private func answerFaults(_ logs: [String: Log]) -> [String] {
    var out: [String] = []
    for (request, outcome) in told {
      let count = logs.values.reduce(0) { sum, log in
        sum + log.entries.filter { $0.envelope.request == request && $0.event.kind != "void" }.count
      }
      switch outcome {
      case .committed: if count != 1 { out.append("\(request): told that it is there, found \(count) times") }
      case .unknown: if count > 1 { out.append("\(request): found \(count) times") }
      default: if count != 0 { out.append("\(request): told \(outcome), found \(count) times") }
      }
    }
    return out
  }
}
