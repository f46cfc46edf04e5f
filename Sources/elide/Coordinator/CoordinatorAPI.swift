import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Glibc

/// The coordinator's socket: what is asked there, and who may ask it. Handlers run on their connections' threads and may wait.
final class CoordinatorAPI: Sendable {
  /// Method, path with its parameters in braces, the right that it takes. docs/openapi.yaml has the same.
  static let routes: [(method: String, path: String, right: ControlAccess.Right)] = [
    ("GET", "/v1/status", .read),
    ("GET", "/v1/names", .read),
    ("GET", "/v1/names/{name}", .read),
    ("GET", "/v1/names/{name}/events", .read),
    ("GET", "/v1/volumes/{volume}/status", .read),
    ("POST", "/v1/commands", .act),
    ("GET", "/metrics", .read),
  ]

  private let coordinator: Coordinator
  private let access: ControlAccess
  /// Of 64 connections: so many may run commands, and so many follow logs, that others are still answered.
  private let commands = Turnstile(16)
  private let tails = Turnstile(16)
  private let isStopping: @Sendable () -> Bool

  init(_ coordinator: Coordinator, access: ControlAccess, isStopping: @escaping @Sendable () -> Bool) {
    self.coordinator = coordinator
    self.access = access
    self.isStopping = isStopping
  }

  func handle(_ request: HTTPRequest, _ peer: PeerCredentials?, _ responder: HTTPResponder) {
    let known = Self.routes.filter { Self.matches($0.path, request.path) }
    guard !known.isEmpty else { return refuse(responder, 404, 10, "there is no /\(request.path.joined(separator: "/"))") }
    guard let route = known.first(where: { $0.method == request.method }) else {
      return refuse(responder, 405, 2, "\(request.method) is not done to /\(request.path.joined(separator: "/"))")
    }
    let right = access.right(of: peer)
    guard right == .act || right == route.right else {
      return refuse(
        responder, 403, 1,
        right == .none
          ? "user \(peer.map { String($0.user) } ?? "?") may not ask this coordinator: be root, its user, or in its group"
          : "user \(peer.map { String($0.user) } ?? "?") may read, and not act: be root, the coordinator's user, or in its group")
    }
    do {
      switch (route.path, request.path.count) {
      case ("/v1/status", _): answer(responder, try status())
      case ("/v1/names", _): answer(responder, Names(names: try coordinator.engine.names.all().map(NameStateJSON.init)))
      case ("/v1/names/{name}", _): answer(responder, try name(request.path[2], isFresh: request.query["fresh"] != nil))
      case ("/v1/names/{name}/events", _): try events(request, responder)
      case ("/v1/volumes/{volume}/status", _): answer(responder, try volume(request.path[2]))
      case ("/metrics", _):
        responder.send(200, Array(try metrics().utf8), type: "text/plain; version=0.0.4; charset=utf-8")
      case ("/v1/commands", _): try command(request, peer, responder)
      default: refuse(responder, 404, 10, "there is no such thing")
      }
    } catch let error as ElideError {
      refuse(responder, CoordinatorWire.status(of: error.kind), error.exitCode, error.message)
    } catch { refuse(responder, 400, 2, "\(error)") }
  }

  static func matches(_ template: String, _ path: [String]) -> Bool {
    let parts = template.split(separator: "/")
    return parts.count == path.count && zip(parts, path).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
  }

  private func answer(_ responder: HTTPResponder, _ value: some Encodable) {
    responder.send(200, CoordinatorWire.encode(value))
  }

  private func refuse(_ responder: HTTPResponder, _ status: Int, _ code: Int32, _ message: String) {
    responder.send(status, CoordinatorWire.encode(Serving.Refusal(code: code, message: message)))
  }

  // MARK: Reading

  private struct Names: Encodable { let names: [NameStateJSON] }

  private func name(_ name: String, isFresh: Bool) throws -> NameStateJSON {
    if let fault = VolumeName.fault(name) { throw ElideError(.usage, "the name '\(name)' \(fault)") }
    if !isFresh, let known = try coordinator.engine.names.known(name) { return NameStateJSON(known) }
    let log = try coordinator.engine.names.log(name)
    try log.refresh()
    if log.head == nil { throw ElideError(.notFound, "there is no volume named '\(name)' in the store") }
    return NameStateJSON(log.state)
  }

  private func volume(_ text: String) throws -> StatusJSON {
    guard let volume = ULID(text) else { throw ElideError(.usage, "'\(text)' is no volume's ULID") }
    let engine = coordinator.engine
    if let status = try Serving.status(volume, engine) { return status }
    return StatusJSON(try engine.closedStatus(volume))
  }

  func status() throws -> CoordinatorWire.Status {
    let engine = coordinator.engine
    let clock = engine.world.clock.monotonicNanoseconds()
    return CoordinatorWire.Status(
      host: engine.host.id, incarnation: engine.incarnation.description, process: getpid(),
      dataDirectory: engine.directory.root, store: engine.store.url,
      uptimeMilliseconds: (clock - coordinator.started) / 1_000_000,
      storeSilentMilliseconds: engine.store.silentSince.map { (clock &- $0) / 1_000_000 } ?? 0,
      names: try engine.names.all().count,
      openAttempts: try engine.names.openAttempts().map {
        CoordinatorWire.Attempt(name: $0.name, id: $0.id.description, kind: $0.kind, seq: $0.seq)
      }, volumes: served(), alarms: coordinator.alarms())
  }

  func served() -> [CoordinatorWire.Served] {
    let engine = coordinator.engine
    return coordinator.fleet.charges.map { volume, charge in
      let status = charge.pid == nil ? nil : (try? Serving.status(volume, engine, seconds: 2)) ?? nil
      return CoordinatorWire.Served(
        name: charge.name, volume: volume.description, phase: charge.phaseWord, process: charge.pid, failures: charge.failures,
        restarts: charge.restarts, lastEnd: charge.lastEnd, socket: engine.directory.socket(volume), status: status)
    }
  }

  /// Entries of a name's log, a line each: those after `after`, or the last `last`; with `follow` also those that come.
  private func events(_ request: HTTPRequest, _ responder: HTTPResponder) throws {
    let name = request.path[2]
    if let fault = VolumeName.fault(name) { throw ElideError(.usage, "the name '\(name)' \(fault)") }
    let follows = request.query["follow"].map { $0 != "0" && $0 != "false" } ?? false
    let after = try number(request, "after")
    let last = try number(request, "last")
    guard tails.enter() else { throw ElideError(.tryLater, "too many logs are followed; try again") }
    defer { tails.leave() }
    let timeline = try Timeline(name: name, store: coordinator.engine.store)
    let printer = StepPrinter(json: true, isJoined: false)
    var steps = try timeline.poll()
    if steps.isEmpty, !follows { throw ElideError(.notFound, "there is no name '\(name)' in the store") }
    if let after { steps = steps.filter { $0.seq > after } }
    if let last { steps = Array(steps.suffix(Int(clamping: last))) }
    guard responder.begin(200, "application/x-ndjson") else { return }
    let pause = Condition()
    while true {
      for step in steps { guard responder.write(printer.json(step) + [10]) else { return } }
      guard follows else { break }
      var waited = 0
      while waited < 20, !responder.isGone, !isStopping() {
        pause.wait(after: pause.count, nanoseconds: 25_000_000)
        waited += 1
      }
      if responder.isGone || isStopping() { break }
      // A store that does not answer for a while is asked again.
      steps = (try? timeline.poll()) ?? []
    }
    responder.end()
  }

  private func number(_ request: HTTPRequest, _ name: String) throws -> UInt64? {
    guard let text = request.query[name] else { return nil }
    guard let value = UInt64(text) else { throw ElideError(.usage, "\(name): '\(text)' is no number") }
    return value
  }

  var commandCounts: (all: UInt64, failed: UInt64) { coordinator.commandCounts }
  var storeCounters: StoreCounters { coordinator.engine.store.counters }
  func knownNames() throws -> [NameState] { try coordinator.engine.names.all() }

  // MARK: Acting

  private func command(_ request: HTTPRequest, _ peer: PeerCredentials?, _ responder: HTTPResponder) throws {
    guard commands.enter() else { throw ElideError(.tryLater, "too many commands are under way; try again") }
    defer { commands.leave() }
    let asked: CoordinatorWire.Command
    do { asked = try JSONDecoder().decode(CoordinatorWire.Command.self, from: Data(request.body)) } catch {
      throw ElideError(.usage, "the body is no command: \(Self.brief(error))")
    }
    let user = peer.map { "uid:\($0.user)" } ?? "uid:?"
    let mayName = peer.map { $0.user == 0 || $0.user == geteuid() } ?? false
    let context = CommandContext(
      request: asked.context?.request, operator: mayName ? asked.context?.operator ?? user : user,
      reason: asked.context?.reason, isDryRun: asked.context?.dryRun ?? false)
    if request.headers["accept"]?.contains("application/x-ndjson") ?? false {
      return stream(asked.command, context, responder)
    }
    let report = try coordinator.perform(asked.command, context) { _ in !responder.isGone }
    responder.send(report.outcome == .unknown ? 202 : 200, CoordinatorWire.encode(report))
  }

  private func stream(_ command: LifecycleCommand, _ context: CommandContext, _ responder: HTTPResponder) {
    func say(_ line: CoordinatorWire.Line) -> Bool { responder.write(CoordinatorWire.encode(line) + [10]) }
    guard responder.begin(200, "application/x-ndjson") else { return }
    let clock = coordinator.engine.world.clock
    var last: UInt64 = 0
    do throws(ElideError) {
      let report = try coordinator.perform(command, context) { progress in
        let now = clock.monotonicNanoseconds()
        if now - last < 100_000_000, progress.done < progress.total { return !responder.isGone }
        last = now
        return say(
          CoordinatorWire.Line(
            progress: CoordinatorWire.Progress(step: progress.step.rawValue, done: progress.done, total: progress.total)))
      }
      _ = say(CoordinatorWire.Line(report: report))
    } catch {
      _ = say(CoordinatorWire.Line(error: Serving.Refusal(code: error.exitCode, message: error.message)))
    }
    responder.end()
  }

  /// What a decoder found wrong, in one line.
  private static func brief(_ error: any Error) -> String {
    switch error {
    case DecodingError.keyNotFound(let key, _): "'\(key.stringValue)' is missing"
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
      DecodingError.dataCorrupted(let context):
      "\(context.codingPath.map(\.stringValue).joined(separator: ".")): \(context.debugDescription)"
    default: "\(error)"
    }
  }
}

extension Supervisor.Charge {
  var phaseWord: String {
    switch phase {
    case .launching: "launching"
    case .running: "running"
    case .ending: "ending"
    case .waiting: "waiting"
    case .parked: "parked"
    }
  }
}
