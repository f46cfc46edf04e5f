import ElideEngine
import ElideIO
import Foundation
import Glibc
import Synchronization

/// Answers on `run/<vol>.ctl` for one served volume. Requests wait on the volume's keeper, each on its connection's thread, so
/// that a snapshot in the making does not hold up `status`.
final class ControlServer: Sendable {
  private let port: KeeperPort
  private let process: ServingProcess
  private let name: String
  private let epoch: UInt64?
  private let places = Turnstile(16)
  private let server = Mutex<UnixHTTPServer?>(nil)

  /// - Parameters:
  ///   - name: what the volume is served as.
  ///   - epoch: of the entry that permits it.
  init(port: KeeperPort, process: ServingProcess, name: String, epoch: UInt64?) {
    self.port = port
    self.process = process
    self.name = name
    self.epoch = epoch
  }

  /// Listens until `stop`. Only this user reaches the socket.
  func start(_ path: String) throws(ElideError) {
    var limits = UnixHTTPServer.Limits()
    limits.connections = 32
    let made: UnixHTTPServer
    do throws(ListenError) {
      made = try UnixHTTPServer(listening: [.unix(path: path)], limits: limits, refusal: Serving.refusal) {
        [self] request, _, responder in handle(request, responder)
      }
    } catch { throw ElideError(.failed, error.description) }
    do throws(Errno) { try made.start() } catch { throw ElideError(error, doing: "start a thread") }
    server.withLock { $0 = made }
  }

  func stop() { server.withLock { $0.take() }?.stop() }

  private var status: StatusJSON {
    StatusJSON(port.status, ServedFacts(process: getpid(), name: name, epoch: epoch, clients: process.clients()))
  }

  private func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
    let path = request.path.joined(separator: "/")
    do {
      switch (request.method, path) {
      case ("GET", "v1/status"): answer(responder, status)
      case ("POST", "v1/snapshot"):
        let asked = try JSONDecoder().decode(Serving.SnapshotRequest.self, from: Data(request.body))
        try waiting {
          let taken = try port.snapshot(label: asked.label, publish: true).wait(milliseconds: 600_000)
          answer(responder, SnapshotJSON(taken))
        }
      case ("POST", "v1/resize"):
        let size = try JSONDecoder().decode(Serving.ResizeRequest.self, from: Data(request.body)).size
        try waiting {
          _ = try port.resize(size).wait(milliseconds: 600_000)
          answer(responder, status)
        }
      case ("POST", "v1/cut"):
        try waiting { answer(responder, Serving.CutAnswer(cut: try port.cut().wait(milliseconds: 600_000))) }
      case ("POST", "v1/drain"):
        try process.drain()
        answer(responder, Serving.DrainAnswer(process: getpid()))
      case (_, "v1/status"), (_, "v1/snapshot"), (_, "v1/resize"), (_, "v1/cut"), (_, "v1/drain"):
        refuse(responder, 405, ElideError(.usage, "\(request.method) is not done to /\(path)"))
      default: refuse(responder, 404, ElideError(.notFound, "there is no /\(path)"))
      }
    } catch let error as ElideError {
      refuse(responder, error.kind == .usage ? 400 : 500, error)
    } catch { refuse(responder, 400, ElideError(.usage, "\(error)")) }
  }

  /// Requests that wait for the keeper have so many places, and the others are still answered.
  private func waiting(_ body: () throws -> Void) throws {
    guard places.enter() else { throw ElideError(.tryLater, "too many requests are waiting on this control socket; try again") }
    defer { places.leave() }
    try body()
  }

  private func answer(_ responder: HTTPResponder, _ value: some Encodable) {
    responder.send(200, CoordinatorWire.encode(value))
  }

  private func refuse(_ responder: HTTPResponder, _ status: Int, _ error: ElideError) {
    responder.send(status, CoordinatorWire.encode(Serving.Refusal(code: error.exitCode, message: error.message)))
  }
}

/// What a control socket tells of the process that it belongs to.
struct ServedFacts: Sendable {
  let process: Int32
  let name: String?
  let epoch: UInt64?
  /// Connected to the process.
  let clients: UInt64
}

/// The process behind one or more control sockets.
struct ServingProcess: Sendable {
  /// Connected clients, of all its volumes.
  let clients: @Sendable () -> UInt64
  /// Volumes that it serves.
  let volumes: Int
  /// Asks it to end in good order; returns at once.
  let end: @Sendable () -> Void

  func drain() throws(ElideError) {
    guard volumes == 1 else {
      throw ElideError(.usage, "process \(getpid()) serves \(volumes) volumes: it is ended by hand (SIGTERM), with all of them")
    }
    end()
  }
}
