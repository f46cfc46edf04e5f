import ElideEngine
import ElideIO
import Foundation
import Glibc

/// The coordinator of a data directory, as the command line asks it: HTTP over `run/control.sock`.
struct CoordinatorClient {
  let directory: DataDirectory
  /// For a coordinator that has just started to listen.
  private static let patience: UInt64 = 10_000_000_000

  /// nil when no coordinator holds the data directory.
  static func running(_ world: World, _ directory: DataDirectory) throws(ElideError) -> CoordinatorClient? {
    guard world.files.exists(directory.coordinatorLock) else { return nil }
    do throws(Errno) {
      guard let lock = try world.files.lock(directory.coordinatorLock) else { return CoordinatorClient(directory: directory) }
      world.files.close(lock)
      return nil
    } catch {
      // Another user's: it is there, and its socket decides.
      if error.code == EACCES { return CoordinatorClient(directory: directory) }
      throw ElideError(error, doing: "look at \(directory.coordinatorLock)")
    }
  }

  /// Has a command carried out. The request gets an id if it has none, so that it can be asked again.
  func perform(
    _ command: LifecycleCommand, _ context: CommandContext, progress: @escaping ProgressHandler
  ) throws(ElideError) -> LifecycleReport {
    let body = CoordinatorWire.Command(
      command: command,
      context: CoordinatorWire.Context(
        request: context.request, reason: context.reason, operator: context.operator, dryRun: context.isDryRun))
    var pending: [UInt8] = []
    var answer: Result<LifecycleReport, ElideError>?
    var plain: [UInt8] = []
    let status = try send("POST", "/v1/commands", CoordinatorWire.encode(body), seconds: 0) { bytes in
      if plain.count < 1 << 20 { plain.append(contentsOf: bytes) }
      pending.append(contentsOf: bytes)
      while let end = pending.firstIndex(of: 10) {
        let line = try? JSONDecoder().decode(CoordinatorWire.Line.self, from: Data(pending[..<end]))
        pending.removeSubrange(...end)
        if let report = line?.report { answer = .success(report) }
        if let error = line?.error { answer = .failure(Self.error(error)) }
        if let p = line?.progress, let step = WorkProgress.Step(rawValue: p.step),
          !progress(WorkProgress(step: step, done: p.done, total: p.total))
        {
          return false
        }
      }
      return pending.count < 4 << 20
    }
    if let answer { return try answer.get() }
    if status != 200, let refusal = try? JSONDecoder().decode(Serving.Refusal.self, from: Data(plain)) {
      throw Self.error(refusal)
    }
    throw ElideError(.unknown, "the coordinator gave no answer to '\(command.name)' (HTTP \(status)); ask again")
  }

  /// The coordinator as it says it is.
  func status() throws(ElideError) -> CoordinatorWire.Status {
    var bytes: [UInt8] = []
    let status = try send("GET", "/v1/status", [], seconds: 10) {
      bytes.append(contentsOf: $0)
      return bytes.count < 16 << 20
    }
    if status == 200, let s = try? JSONDecoder().decode(CoordinatorWire.Status.self, from: Data(bytes)) { return s }
    if let refusal = try? JSONDecoder().decode(Serving.Refusal.self, from: Data(bytes)) { throw Self.error(refusal) }
    throw ElideError(.failed, "the coordinator answered HTTP \(status)")
  }

  private static func error(_ refusal: Serving.Refusal) -> ElideError {
    ElideError(ElideError.Kind(rawValue: refusal.code) ?? .failed, refusal.message)
  }

  private func send(
    _ method: String, _ path: String, _ body: [UInt8], seconds: Int, take: @escaping (UnsafeRawBufferPointer) -> Bool
  ) throws(ElideError) -> Int {
    let clock = HostClock()
    let begin = clock.monotonicNanoseconds()
    let pause = Condition()
    var wasRefused = false
    while true {
      do throws(HTTPClient.Failure) {
        return try HTTPClient.send(
          method, "http://elide\(path)", unixSocket: directory.coordinatorSocket, body: body,
          headers: ["Accept: application/x-ndjson, application/json"], timeoutMilliseconds: seconds * 1000
        ) { bytes in
          if take(bytes) { return true }
          wasRefused = true
          return false
        }.status
      } catch {
        if wasRefused { throw ElideError(.interrupted, "interrupted; the coordinator was told") }
        if case .noServer(let detail) = error {
          if clock.monotonicNanoseconds() - begin < Self.patience {
            pause.wait(after: pause.count, nanoseconds: 50_000_000)
            continue
          }
          throw ElideError(.tryLater, "a coordinator has \(directory.root), and does not answer on its socket: \(detail)")
        }
        throw ElideError(
          .unknown, "the coordinator's answer was cut off, and the command may have taken effect: \(error); ask again")
      }
    }
  }
}

/// Carries lifecycle commands out for the command line: by the coordinator where one runs, in this process otherwise. The
/// report is the same.
struct LifecycleRunner {
  let options: GlobalOptions

  func perform(
    _ command: LifecycleCommand, _ context: CommandContext = CommandContext(), progress: @escaping ProgressHandler = { _ in true }
  ) throws -> LifecycleReport {
    let directory = DataDirectory(root: options.dataDirectory)
    var context = context
    if context.operator == nil { context.operator = "uid:\(getuid())" }
    if let coordinator = try CoordinatorClient.running(World.host(), directory) {
      return try coordinator.perform(command, context, progress: progress)
    }
    if !context.isDryRun, Self.needsProcess(command) { throw ControlServant.noCoordinator(command.name) }
    let engine = try options.engine()
    return try Lifecycle(engine, servant: ControlServant(engine)).perform(command, context, progress: progress)
  }

  /// Known before an entry says that the name is served.
  private static func needsProcess(_ command: LifecycleCommand) -> Bool {
    switch command {
    case .start: true
    case .claim(_, let serve): serve
    default: false
    }
  }
}
