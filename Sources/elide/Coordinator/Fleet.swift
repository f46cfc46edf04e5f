import CElide
import ElideEngine
import ElideIO
import Foundation
import Glibc
import Logging
import Synchronization

/// The processes of this host that serve volumes: carries out what the `Supervisor` decides, and tells it what came of it. Its
/// processes go on when the coordinator ends; the next one finds them by their control sockets.
///
/// One thread of its own; calls from any thread, which block.
final class Fleet: Servant {
  private struct State {
    var supervisor = Supervisor()
    var isStopping = false
  }
  let engine: Engine
  private let sockets: ControlServant
  private let storeURL: String
  private let log: Logger
  private let state = Mutex(State())
  /// Signalled at each change of the supervisor.
  private let changed = Condition()
  /// Started by this process, and not yet known to have ended.
  private let children = Mutex<[Int32: ULID]>([:])
  private let thread = Mutex<JoinableThread?>(nil)
  /// Milliseconds between two looks at what does not tell by itself.
  private static let beat: UInt64 = 100

  init(_ engine: Engine, storeURL: String, log: Logger) {
    self.engine = engine
    self.storeURL = storeURL
    self.log = log
    sockets = ControlServant(engine)
  }

  /// Begins to look after processes. Call once, after `adopt`.
  func start() throws(ElideError) {
    do throws(Errno) {
      let started = try spawnThread(name: "elide-fleet") { [self] in run() }
      thread.withLock { $0 = started }
    } catch { throw ElideError(error, doing: "start a thread") }
  }

  /// Looks after nothing any more; processes go on.
  func stop() {
    state.withLock { $0.isStopping = true }
    changed.broadcast()
    thread.withLock { $0.take() }?.join()
  }

  func charge(_ volume: ULID) -> Supervisor.Charge? { state.withLock { $0.supervisor[volume] } }

  /// How all volumes stand.
  var charges: [(volume: ULID, charge: Supervisor.Charge)] { state.withLock { $0.supervisor.all } }

  // MARK: Wishes

  /// Takes over a process that serves the volume already, if one does.
  func adopt(_ name: String, _ volume: ULID) -> Bool {
    guard let status = (try? Serving.status(volume, engine)) ?? nil, let process = status.process else { return false }
    tell(.found(name: name, pid: process), volume)
    log.info("found in service", metadata: ["name": "\(name)", "volume": "\(volume)", "process": "\(process)"])
    return true
  }

  /// Wants the volume served, and does not wait for it.
  func want(_ name: String, _ volume: ULID) { tell(.serve(name: name), volume) }

  /// The volume is not to be served any more, whatever becomes of its process.
  func forget(_ volume: ULID) { tell(.drain, volume) }

  // MARK: Servant

  func isServing(_ volume: ULID) throws(ElideError) -> Bool {
    if let charge = state.withLock({ $0.supervisor[volume] }) { return charge.pid != nil || charge.phase == .launching(pid: nil) }
    return try sockets.isServing(volume)
  }

  func launch(_ name: String, _ volume: ULID) throws(ElideError) {
    let before = state.withLock { $0.supervisor[volume]?.failures ?? 0 }
    tell(.serve(name: name), volume)
    let end = now + 120_000
    while true {
      let seen = changed.count
      let charge = state.withLock { $0.supervisor[volume] }
      switch charge?.phase {
      case .running: return
      case nil: tell(.serve(name: name), volume)
      case .parked:
        throw ElideError(.failed, "'\(name)' is live, and is not served: \(charge?.lastEnd ?? "")")
      case .waiting where (charge?.failures ?? 0) > max(before, 2):
        throw ElideError(
          .tryLater, "'\(name)' is live, and its process does not stay: \(charge?.lastEnd ?? ""); it is tried again")
      case .waiting, .launching, .ending: break
      }
      if now >= end { throw ElideError(.tryLater, "'\(name)' is live, and its process does not answer yet; see 'elide status'") }
      changed.wait(after: seen, nanoseconds: 100_000_000)
    }
  }

  func drain(_ volume: ULID) throws(ElideError) {
    guard state.withLock({ $0.supervisor[volume] }) != nil else { return try sockets.drain(volume) }
    tell(.drain, volume)
    let end = now + 600_000
    while true {
      let seen = changed.count
      let charge = state.withLock { $0.supervisor[volume] }
      guard let charge else { break }
      guard case .ending = charge.phase else {
        throw ElideError(
          .tryLater, "'\(charge.name)' did not end in good order, and goes on: \(charge.lastEnd ?? ""); ask again")
      }
      if now >= end { throw ElideError(.tryLater, "'\(charge.name)' still ships what it holds; ask again") }
      changed.wait(after: seen, nanoseconds: 100_000_000)
    }
    // Its process is gone: what it left, if it left anything, goes out now, or the error says why not.
    try engine.publishClosed(volume, milliseconds: 300_000)
  }

  func clients(_ volume: ULID) throws(ElideError) -> Int { try sockets.clients(volume) }
  func cut(_ volume: ULID) throws(ElideError) -> UInt64 { try sockets.cut(volume) }
  func snapshot(_ volume: ULID, label: String) throws(ElideError) -> SnapshotInfo {
    try sockets.snapshot(volume, label: label)
  }
  func resize(_ volume: ULID, to size: UInt64) throws(ElideError) { try sockets.resize(volume, to: size) }

  // MARK: What happens

  private var now: UInt64 { engine.world.clock.monotonicNanoseconds() / 1_000_000 }

  private func tell(_ event: Supervisor.Event, _ volume: ULID) {
    var draw: UInt64 = 0
    withUnsafeMutableBytes(of: &draw) { engine.world.random.fill($0) }
    let at = now
    let actions = state.withLock { $0.supervisor.handle(event, for: volume, now: at, draw: draw) }
    changed.broadcast()
    for action in actions { carryOut(action) }
  }

  private func carryOut(_ action: Supervisor.Action) {
    switch action {
    case .spawn(let volume, let name):
      do throws(ElideError) {
        let process = try ServedProcess.spawn(name, volume, engine.directory, store: storeURL)
        log.info("started", metadata: ["name": "\(name)", "volume": "\(volume)", "process": "\(process)"])
        children.withLock { $0[process] = volume }
        tell(.spawned(pid: process), volume)
      } catch { tell(.ended(pid: nil, .notStarted(error.message)), volume) }
    case .end(let volume, let process):
      if state.withLock({ $0.supervisor[volume]?.isAdopted }) == true {
        // Not our child: its number may be another's by now, its socket is not.
        _ = try? Serving.drain(volume, engine)
      } else {
        children.withLock { if $0[process] != nil { kill(process, SIGTERM) } }
      }
    case .tell(let volume, let name, let text):
      log.warning("\(text)", metadata: ["name": "\(name)", "volume": "\(volume)"])
    }
  }

  /// Children that have ended. A child's number stays its own until it is taken out of `children`.
  private func reap() {
    for (process, volume) in children.withLock({ Array($0) }) {
      var status: Int32 = 0
      let hasEnded = children.withLock { c in
        guard waitpid(process, &status, WNOHANG) == process else { return false }
        c[process] = nil
        return true
      }
      guard hasEnded else { continue }
      let signal = status & 0x7F
      tell(.ended(pid: process, signal == 0 ? .exited((status >> 8) & 0xFF) : .signalled(signal)), volume)
    }
  }

  private func run() {
    while !state.withLock({ $0.isStopping }) {
      reap()
      let seen = changed.count
      var isMoving = false
      for (volume, charge) in charges {
        switch charge.phase {
        case .launching(let process?):
          isMoving = true
          if let status = (try? Serving.status(volume, engine)) ?? nil, status.process == process {
            tell(.ready(pid: process), volume)
          }
        case .running(let process), .ending(.some(let process)):
          if case .ending = charge.phase { isMoving = true }
          if charge.isAdopted, !ServedProcess.isAlive(process) { tell(.ended(pid: process, .gone), volume) }
        case .waiting(let until): if until <= now { tell(.tick, volume) }
        case .launching(nil), .ending(nil), .parked: break
        }
      }
      changed.wait(after: seen, nanoseconds: (isMoving ? 20 : Self.beat) * 1_000_000)
    }
  }
}

/// Starts processes that serve one volume each, apart from this one: a session of their own, so that what ends the coordinator
/// leaves them be.
enum ServedProcess {
  /// Whether a process that need not be a child has not ended; one whose parent does not wait for it has.
  static func isAlive(_ process: Int32) -> Bool {
    guard let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return false }
    // "42 (name) S …": the name may hold anything.
    let state = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].dropFirst(2).first
    return state != "Z" && state != "X"
  }

  static func spawn(_ name: String, _ volume: ULID, _ directory: DataDirectory, store: String) throws(ElideError) -> Int32 {
    let arguments = [
      "elide", "volume-process", "--data-dir", directory.root, "--store", store, "--volume", "\(volume)", name,
    ]
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, 2, 1)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    let setSession: Int16 = 0x80
    posix_spawnattr_setflags(&attributes, setSession | Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var usual = sigset_t()
    sigemptyset(&usual)
    for signal in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&usual, signal) }
    posix_spawnattr_setsigdefault(&attributes, &usual)
    var process: pid_t = 0
    let pointers = arguments.map { strdup($0) } + [nil]
    defer { for p in pointers { free(p) } }
    let code = posix_spawn(&process, "/proc/self/exe", &actions, &attributes, pointers, environ)
    if code != 0 { throw ElideError(Errno(code), doing: "start a process for '\(name)'") }
    return process
  }
}
