import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Glibc
import Logging
import Synchronization

/// The host's daemon: it keeps this host's live names in service, finishes what crashes left, and carries commands out, one at
/// a time for each name.
///
/// What it knows is in the rows, in the store, and in the processes that serve; killed at any moment it loses nothing, and no
/// guest notices. One per data directory: it holds `run/coordinator.lock` as long as it lives.
final class Coordinator: Sendable {
  struct Settings: Sendable {
    /// Milliseconds between two looks at all names.
    var beat: UInt64 = 5000
    /// Milliseconds for which a name rests after its upkeep failed: doubled each time, up to the second.
    var firstRest: UInt64 = 5000
    var longestRest: UInt64 = 300_000
    /// Milliseconds between two tries to publish this host's witnesses, of which one a day is kept.
    var witness: UInt64 = 3_600_000
  }

  /// What a name's upkeep has come to.
  private struct Care {
    var isBusy = false
    var failures = 0
    var notBefore: UInt64 = 0
    var lastError: String?
  }
  private struct State {
    var cares: [String: Care] = [:]
    var isStopping = false
    var witnessed: UInt64?
    var witnessError: String?
    var commands: UInt64 = 0
    var failedCommands: UInt64 = 0
  }

  let engine: Engine
  let fleet: Fleet
  let lifecycle: Lifecycle
  let settings: Settings
  let started: UInt64
  private let log: Logger
  private let lock: FileID
  private let state = Mutex(State())
  private let changed = Condition()
  private let thread = Mutex<JoinableThread?>(nil)

  /// Takes the lock; `.owned` when another coordinator has the data directory.
  init(_ engine: Engine, storeURL: String, settings: Settings = Settings(), log: Logger) throws(ElideError) {
    self.engine = engine
    self.settings = settings
    self.log = log
    started = engine.world.clock.monotonicNanoseconds()
    do throws(Errno) {
      try engine.world.files.makeDirectory(engine.directory.run)
      guard let lock = try engine.world.files.lock(engine.directory.coordinatorLock) else {
        throw Errno(EWOULDBLOCK)
      }
      self.lock = lock
    } catch {
      if error.code == EWOULDBLOCK {
        throw ElideError(.owned, "another coordinator runs on \(engine.directory.root)")
      }
      throw ElideError(error, doing: "lock \(engine.directory.coordinatorLock)")
    }
    fleet = Fleet(engine, storeURL: storeURL, log: log)
    lifecycle = Lifecycle(engine, servant: fleet)
  }

  /// Finds what runs, without the store, and begins the beat, which does all that needs it.
  func start() throws(ElideError) {
    for name in try engine.names.all() where name.owner == engine.host.id && name.phase == .live {
      if let volume = name.volume { _ = fleet.adopt(name.name, volume) }
    }
    try fleet.start()
    do throws(Errno) {
      let started = try spawnThread(name: "elide-beat") { [self] in beats() }
      thread.withLock { $0 = started }
    } catch { throw ElideError(error, doing: "start a thread") }
  }

  /// Ends the beat; volumes stay in service, unless they are to be drained.
  func stop(draining: Bool) {
    state.withLock { $0.isStopping = true }
    changed.broadcast()
    thread.withLock { $0.take() }?.join()
    if draining {
      for (volume, charge) in fleet.charges {
        do throws(ElideError) { try fleet.drain(volume) } catch {
          log.error("\(error.message)", metadata: ["name": "\(charge.name)"])
        }
      }
    }
    fleet.stop()
  }

  private var now: UInt64 { engine.world.clock.monotonicNanoseconds() / 1_000_000 }

  // MARK: Commands

  /// Carries a command out, after whatever else is under way for the name. Blocks.
  func perform(
    _ command: LifecycleCommand, _ context: CommandContext, progress: ProgressHandler
  ) throws(ElideError) -> LifecycleReport {
    let name = command.name
    try enter(name)
    defer { leave(name, nil, isCommand: true) }
    state.withLock { $0.commands += 1 }
    do throws(ElideError) {
      let report = try lifecycle.perform(command, context, progress: progress)
      log.info(
        "\(report.message)",
        metadata: [
          "name": "\(name)", "outcome": "\(report.outcome.rawValue)", "phase": "\(report.phase)",
          "seq": "\(report.seq.map(String.init) ?? "-")", "request": "\(context.request ?? "-")",
          "operator": "\(context.operator ?? "-")",
        ])
      return report
    } catch {
      state.withLock { $0.failedCommands += 1 }
      log.warning(
        "\(error.message)",
        metadata: ["name": "\(name)", "code": "\(error.exitCode)", "request": "\(context.request ?? "-")"])
      throw error
    }
  }

  private func enter(_ name: String) throws(ElideError) {
    let end = now + 600_000
    while true {
      let seen = changed.count
      let isMine = state.withLock { s in
        if s.cares[name]?.isBusy ?? false { return false }
        s.cares[name, default: Care()].isBusy = true
        return true
      }
      if isMine { return }
      if now >= end { throw ElideError(.tryLater, "'\(name)': another command is still under way") }
      changed.wait(after: seen, nanoseconds: 1_000_000_000)
    }
  }

  private func leave(_ name: String, _ error: ElideError?, isCommand: Bool) {
    let at = now
    state.withLock { s in
      var care = s.cares[name] ?? Care()
      care.isBusy = false
      if isCommand {
        // Whatever it rested for may be over.
        care.notBefore = 0
      } else if let error {
        care.failures += 1
        let rest = min(settings.longestRest, settings.firstRest << UInt64(min(care.failures - 1, 16)))
        care.notBefore = at + rest
        care.lastError = error.message
      } else {
        (care.failures, care.notBefore, care.lastError) = (0, 0, nil)
      }
      s.cares[name] = care
    }
    changed.broadcast()
  }

  // MARK: The beat

  private func beats() {
    while !state.withLock({ $0.isStopping }) {
      let seen = changed.count
      let begin = now
      beat()
      var spent = now - begin
      while spent < settings.beat, !state.withLock({ $0.isStopping }) {
        changed.wait(after: changed.count, nanoseconds: min(250, settings.beat - spent) * 1_000_000)
        spent = now - begin
      }
      _ = seen
    }
  }

  /// One look at everything. Errors are a name's own, and are kept for `status`.
  private func beat() {
    var pending: Set<String> = []
    do throws(ElideError) {
      for name in try engine.names.all() where needsCare(name) { pending.insert(name.name) }
      pending.formUnion(try engine.names.makings().map(\.name))
      pending.formUnion(try engine.names.openAttempts().map(\.name))
      pending.formUnion(try (engine.names.old?.list() ?? []).map(\.name))
    } catch { log.error("the rows of names: \(error.message)") }
    for name in pending.sorted() {
      let at = now
      let isMine = state.withLock { s in
        if s.isStopping { return false }
        let care = s.cares[name] ?? Care()
        if care.isBusy || care.notBefore > at { return false }
        s.cares[name, default: Care()].isBusy = true
        return true
      }
      guard isMine else { continue }
      do throws(ElideError) {
        try lookAfter(name)
        leave(name, nil, isCommand: false)
      } catch {
        log.warning("\(error.message)", metadata: ["name": "\(name)"])
        leave(name, error, isCommand: false)
      }
    }
    publishWitnesses()
  }

  /// As far as the rows say; no store is asked.
  private func needsCare(_ name: NameState) -> Bool {
    let isMine = name.owner == engine.host.id
    if name.holdings.displaced.contains(where: { $0.host == engine.host.id }) { return true }
    if isMine, name.incarnation != engine.incarnation, NameState.owned.contains(name.phase) { return true }
    for episode in name.holdings.episodes {
      guard let charge = fleet.charge(episode.volume) else { continue }
      // In service, and it may not be; or given up, for a reason that the log may have.
      if !isMine || name.phase != .live || name.volume != episode.volume || charge.phase == .parked { return true }
    }
    guard isMine, name.phase == .live, let volume = name.volume else { return false }
    return fleet.charge(volume) == nil
  }

  private func lookAfter(_ name: String) throws(ElideError) {
    try lifecycle.settle(name)
    let log = try engine.names.log(name)
    try log.refresh()
    if log.state.owner == engine.host.id, log.state.incarnation != engine.incarnation, NameState.owned.contains(log.state.phase) {
      try lifecycle.adopt(name)
      try log.refresh()
    }
    let state = log.state
    let isLive = state.owner == engine.host.id && state.phase == .live
    for episode in state.holdings.episodes where !isLive || episode.volume != state.volume {
      // A fenced process ends by itself; one that is parked is forgotten.
      if let charge = fleet.charge(episode.volume), charge.pid == nil { fleet.forget(episode.volume) }
    }
    // Guests first: a rescue may take long, or fail.
    if isLive, let volume = state.volume, fleet.charge(volume) == nil { try bringBack(name, volume) }
    try rescue(state)
  }

  /// Has a live name served again: by the process that does so already, or by a new one.
  private func bringBack(_ name: String, _ volume: ULID) throws(ElideError) {
    guard engine.world.files.exists(engine.directory.volume(volume).key) else {
      throw ElideError(.failed, "'\(name)' is live here, and its volume \(volume) is not in \(engine.directory.root)")
    }
    if fleet.adopt(name, volume) { return }
    if try engine.isInUse(volume) {
      throw ElideError(.owned, "'\(name)' is live, and a process that answers on no control socket has its volume \(volume)")
    }
    if try engine.names.makings(name).contains(where: { $0.volume == volume }) {
      throw ElideError(.tryLater, "'\(name)': volume \(volume) is not wholly made yet")
    }
    fleet.want(name, volume)
  }

  /// What this host had not published when the name was taken from it goes out under a name of its own, once no process has the
  /// volume open any more.
  private func rescue(_ state: NameState) throws(ElideError) {
    for displaced in state.holdings.displaced where displaced.host == engine.host.id {
      if try engine.isInUse(displaced.volume) {
        throw ElideError(.tryLater, "'\(state.name)' was taken from this host: volume \(displaced.volume) is still in service")
      }
    }
    for report in try lifecycle.rescue(state.name) {
      let under = report.rescued.map { " under '\($0)'" } ?? ""
      log.notice(
        "what the displaced volume held: \(report.outcome.rawValue)\(under)",
        metadata: ["name": "\(report.name)", "volume": "\(report.volume)", "blocks": "\(report.blocks)"])
      if report.outcome == .waiting {
        throw ElideError(.tryLater, "'\(state.name)' is still being recovered; volume \(report.volume) waits to be rescued")
      }
    }
  }

  private func publishWitnesses() {
    let at = now
    let isDue = state.withLock { s in
      if s.isStopping { return false }
      if let last = s.witnessed, at - last < settings.witness { return false }
      s.witnessed = at
      return true
    }
    guard isDue else { return }
    do throws(ElideError) {
      guard try !NameWitness.heads(engine.names.rows).isEmpty else { return }
      _ = try NameWitness.publish(
        engine.names.rows, to: engine.store, author: engine.names.author, clock: engine.world.clock)
      state.withLock { $0.witnessError = nil }
    } catch {
      state.withLock { $0.witnessError = error.message }
      log.warning("the heads of names were not published: \(error.message)")
    }
  }

  // MARK: What it says of itself

  /// What somebody should look at, each a sentence.
  func alarms() -> [String] {
    var out = (try? NameWitness.alarms(engine.names.rows)) ?? []
    let (cares, witness) = state.withLock { ($0.cares, $0.witnessError) }
    for name in cares.keys.sorted() { if let error = cares[name]?.lastError { out.append(error) } }
    if let witness { out.append("the heads of names were not published: \(witness)") }
    for (volume, charge) in fleet.charges where charge.phase == .parked {
      out.append("'\(charge.name)' is not served, volume \(volume): \(charge.lastEnd ?? "")")
    }
    for state in (try? engine.names.all()) ?? [] {
      for displaced in state.holdings.displaced where displaced.host == engine.host.id {
        out.append(
          "'\(state.name)' was taken from this host, and volume \(displaced.volume) may hold writes that no store has: "
            + "they are offered under a name of their own")
      }
    }
    if let since = engine.store.silentSince {
      out.append("the store does not answer, for \((engine.world.clock.monotonicNanoseconds() &- since) / 1_000_000_000) s")
    }
    return out
  }

  /// Commands carried out and failed since the start.
  var commandCounts: (all: UInt64, failed: UInt64) { state.withLock { ($0.commands, $0.failedCommands) } }
}
