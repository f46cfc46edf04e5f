import ElideIO

/// Which processes of this host serve volumes, and what is to be done about them: events in, actions out. One process per served
/// volume; a crashed one is started again after a pause that grows; one that ended for a reason that will not go away is parked
/// until somebody asks.
///
///     (absent) ─serve─▶ launching ─ready─▶ running ─drain─▶ ending ─exit 0─▶ (absent)
///                          ▲  │ ended          │ ended         │ exit ≠ 0
///                          │  ▼                ▼               ▼
///                          └ waiting ◀──────────────────────────
///                     serve ▲  │ ended for good
///                          parked
///
/// A value, without I/O, clock or randomness: times come with the events, in milliseconds of a monotonic clock, and so do the
/// draws that spread restarts. Whoever owns it carries the actions out and tells what came of them. Processes are known by
/// their ids; what is told of another process than the volume's present one changes nothing.
package struct Supervisor: Hashable, Sendable {
  /// How long to wait, in milliseconds.
  package struct Policy: Hashable, Sendable {
    /// Before the first restart; each further one doubles it up to `longestPause`.
    package var firstPause: UInt64 = 250
    package var longestPause: UInt64 = 30_000
    /// In service that long, earlier failures are forgotten.
    package var settled: UInt64 = 60_000
    package init() {}
  }

  package enum Phase: Hashable, Sendable {
    /// A process was asked for (nil), or is there and does not answer yet.
    case launching(pid: Int32?)
    case running(pid: Int32)
    /// Asked to end in good order.
    case ending(pid: Int32?)
    /// It ended by itself; the next one starts at that time.
    case waiting(until: UInt64)
    /// Nothing is tried until it is asked for.
    case parked
  }

  /// A volume that this host serves, or should.
  package struct Charge: Hashable, Sendable {
    package var name: String
    package var phase: Phase
    /// Ends that nobody asked for, since it was last settled.
    package var failures = 0
    /// When the present phase began.
    package var since: UInt64
    /// Restarts since the first launch.
    package var restarts: UInt64 = 0
    /// Why the last process ended; kept while the next one runs.
    package var lastEnd: String?
    /// Not a child of this process: its exit code stays unknown.
    package var isAdopted = false

    package var pid: Int32? {
      switch phase {
      case .launching(let pid), .ending(let pid): pid
      case .running(let pid): pid
      case .waiting, .parked: nil
      }
    }
  }

  /// How a process ended.
  package enum End: Equatable, Sendable {
    case exited(Int32)
    case signalled(Int32)
    /// It was not ours to wait for.
    case gone
    /// It never began.
    case notStarted(String)
  }

  package enum Event: Equatable, Sendable {
    /// The volume is to be served; also: try again now.
    case serve(name: String)
    /// A process that an earlier coordinator started answers for it.
    case found(name: String, pid: Int32)
    case spawned(pid: Int32)
    /// The process answers, and clients can connect.
    case ready(pid: Int32)
    /// `pid` nil: of a launch that made no process.
    case ended(pid: Int32?, End)
    /// It is to end in good order.
    case drain
    /// Time has passed.
    case tick
  }

  package enum Action: Equatable, Sendable {
    case spawn(ULID, name: String)
    /// Ask the process to end in good order.
    case end(ULID, pid: Int32)
    /// For people: something happened that nobody asked for.
    case tell(ULID, name: String, String)
  }

  package var policy: Policy
  private var charges: [ULID: Charge] = [:]

  package init(policy: Policy = Policy()) { self.policy = policy }

  package subscript(volume: ULID) -> Charge? { charges[volume] }
  /// In the order of the volumes' ULIDs.
  package var all: [(volume: ULID, charge: Charge)] {
    charges.keys.sorted().compactMap { volume in charges[volume].map { (volume, $0) } }
  }
  /// When something is to be done without an event; nil: never.
  package var deadline: UInt64? {
    var least: UInt64?
    for charge in charges.values {
      if case .waiting(let until) = charge.phase { least = min(least ?? until, until) }
    }
    return least
  }

  /// - Parameters:
  ///   - now: milliseconds of a monotonic clock.
  ///   - draw: random bits; used where a pause begins.
  package mutating func handle(_ event: Event, for volume: ULID, now: UInt64, draw: UInt64) -> [Action] {
    switch event {
    case .serve(let name): return serve(volume, name, now)
    case .found(let name, let pid): return found(volume, name, pid, now)
    case .spawned(let pid): return spawned(volume, pid, now)
    case .ready(let pid):
      guard var charge = charges[volume], charge.phase == .launching(pid: pid) else { return [] }
      (charge.phase, charge.since) = (.running(pid: pid), now)
      charges[volume] = charge
      return []
    case .ended(let pid, let end): return ended(volume, pid, end, now, draw)
    case .drain: return drain(volume, now)
    case .tick: return tick(volume, now)
    }
  }

  private mutating func serve(_ volume: ULID, _ name: String, _ now: UInt64) -> [Action] {
    guard var charge = charges[volume] else {
      charges[volume] = Charge(name: name, phase: .launching(pid: nil), since: now)
      return [.spawn(volume, name: name)]
    }
    charge.name = name
    defer { charges[volume] = charge }
    switch charge.phase {
    // What is ending must have ended first; whoever waits for that asks again.
    case .launching, .running, .ending: return []
    case .waiting, .parked:
      (charge.phase, charge.since, charge.failures, charge.isAdopted) = (.launching(pid: nil), now, 0, false)
      charge.restarts += 1
      return [.spawn(volume, name: name)]
    }
  }

  private mutating func found(_ volume: ULID, _ name: String, _ pid: Int32, _ now: UInt64) -> [Action] {
    // A process of our own is known better.
    if let charge = charges[volume], charge.pid != nil || charge.phase == .launching(pid: nil) { return [] }
    var charge = charges[volume] ?? Charge(name: name, phase: .running(pid: pid), since: now)
    (charge.name, charge.phase, charge.since, charge.isAdopted) = (name, .running(pid: pid), now, true)
    charges[volume] = charge
    return []
  }

  private mutating func spawned(_ volume: ULID, _ pid: Int32, _ now: UInt64) -> [Action] {
    guard var charge = charges[volume] else { return [.end(volume, pid: pid)] }
    defer { charges[volume] = charge }
    switch charge.phase {
    case .launching(nil): charge.phase = .launching(pid: pid)
    case .ending(nil):
      charge.phase = .ending(pid: pid)
      return [.end(volume, pid: pid)]
    default: return [.end(volume, pid: pid)]
    }
    return []
  }

  private mutating func drain(_ volume: ULID, _ now: UInt64) -> [Action] {
    guard var charge = charges[volume] else { return [] }
    switch charge.phase {
    case .waiting, .parked:
      charges[volume] = nil
      return []
    case .ending(let pid):
      // Asked again: the first time may not have been heard.
      return pid.map { [.end(volume, pid: $0)] } ?? []
    case .launching(let pid):
      (charge.phase, charge.since) = (.ending(pid: pid), now)
      charges[volume] = charge
      return pid.map { [.end(volume, pid: $0)] } ?? []
    case .running(let pid):
      (charge.phase, charge.since) = (.ending(pid: pid), now)
      charges[volume] = charge
      return [.end(volume, pid: pid)]
    }
  }

  private mutating func ended(_ volume: ULID, _ pid: Int32?, _ end: End, _ now: UInt64, _ draw: UInt64) -> [Action] {
    guard var charge = charges[volume], charge.pid == pid else { return [] }
    let served: UInt64
    switch charge.phase {
    case .waiting, .parked: return []
    case .ending:
      if end == .exited(0) || end == .gone || pid == nil {
        charges[volume] = nil
        return []
      }
      served = 0
    case .launching: served = 0
    case .running: served = now - min(now, charge.since)
    }
    let wasEnding = charge.phase == .ending(pid: pid)
    charge.lastEnd = end.sentence
    charge.isAdopted = false
    charge.since = now
    if served >= policy.settled { charge.failures = 0 }
    charge.failures += 1
    if end.isForGood {
      charge.phase = .parked
      charges[volume] = charge
      return [.tell(volume, name: charge.name, "\(end.sentence); it is not started again until 'elide volume start'")]
    }
    // What could not end in good order is started at once: its clients and its unsent writes need it.
    let pause = wasEnding ? 0 : pause(charge.failures, draw)
    charge.phase = .waiting(until: now + pause)
    charges[volume] = charge
    return [.tell(volume, name: charge.name, "\(end.sentence); it is started again in \(pause) ms")] + tick(volume, now)
  }

  private mutating func tick(_ volume: ULID, _ now: UInt64) -> [Action] {
    guard var charge = charges[volume], case .waiting(let until) = charge.phase, until <= now else { return [] }
    (charge.phase, charge.since) = (.launching(pid: nil), now)
    charge.restarts += 1
    charges[volume] = charge
    return [.spawn(volume, name: charge.name)]
  }

  /// Doubles with each failure; from half of it to all of it, so that volumes that fell together do not rise together.
  private func pause(_ failures: Int, _ draw: UInt64) -> UInt64 {
    let doublings = min(max(0, failures - 1), 32)
    let whole = min(policy.longestPause, policy.firstPause << UInt64(doublings))
    return whole - draw % (whole / 2 + 1)
  }
}

extension Supervisor.End {
  /// Whether a restart would end the same way: the process was started wrongly, its volume is damaged or not there, another host
  /// owns the name, the store refuses. Exit codes as the command line's.
  var isForGood: Bool {
    guard case .exited(let code) = self, let kind = ElideError.Kind(rawValue: code) else { return false }
    switch kind {
    case .usage, .fault, .notFound, .fenced, .storeRefused: return true
    case .failed, .unknown, .owned, .tryLater, .interrupted: return false
    }
  }

  package var sentence: String {
    switch self {
    case .exited(let code):
      switch ElideError.Kind(rawValue: code) {
      case nil where code == 0: "its process ended by itself"
      case .usage: "its process was started wrongly (exit code 2)"
      case .fault: "its process found damage (exit code 4)"
      case .notFound: "its volume is not here (exit code 10)"
      case .owned: "another process has its volume (exit code 11)"
      case .fenced: "it was fenced: another host owns the name (exit code 12)"
      case .storeRefused: "the store refused its process (exit code 13)"
      case .tryLater: "its process could not go on for now (exit code 75)"
      default: "its process ended with exit code \(code)"
      }
    case .signalled(let number): "its process was killed by signal \(number)"
    case .gone: "its process is gone"
    case .notStarted(let why): "its process could not be started: \(why)"
    }
  }
}
