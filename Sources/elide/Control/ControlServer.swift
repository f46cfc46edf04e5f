import ElideEngine
import ElideIO
import FlyingFox
import FlyingSocks
import Foundation
import Glibc
import Synchronization

/// Answers on `run/<vol>.ctl` for one served volume. The requests wait on the volume's keeper, each on a thread of its own,
/// so that a snapshot in the making does not hold up `status`.
struct ControlServer: Sendable {
  let port: KeeperPort
  let path: String
  let process: ServingProcess
  /// The name that the volume is served as, and the epoch of the entry that permits it.
  var name: String?
  var epoch: UInt64?
  var limits = ControlLimits()

  /// Listens until cancelled. The socket is 0700's directory's: only this user reaches it.
  func run() async throws {
    unlink(path)
    let pool = BoundedPool(HTTPServer.defaultPool(logger: .disabled), limit: limits.idleConnections)
    let server = HTTPServer(address: sockaddr_un.unix(path: path), timeout: 600, pool: pool, logger: .disabled)
    let places = Turnstile(limits.waitingRequests)
    await server.appendRoute("GET /v1/status") { [self] _ in answer { StatusJSON(port.status, facts) } }
    await server.appendRoute("POST /v1/drain") { [self] _ in
      answer { () throws(ElideError) -> Serving.DrainAnswer in
        try process.drain()
        return Serving.DrainAnswer(process: getpid())
      }
    }
    await server.appendRoute("POST /v1/snapshot") { [port] request in
      let body = try await request.bodyData
      return await onThread(places) {
        answer {
          let request = try JSONDecoder().decode(Serving.SnapshotRequest.self, from: body)
          return SnapshotJSON(try port.snapshot(label: request.label, publish: true).wait(milliseconds: 600_000))
        }
      }
    }
    await server.appendRoute("POST /v1/resize") { [port, facts] request in
      let body = try await request.bodyData
      return await onThread(places) {
        answer {
          let size = try JSONDecoder().decode(Serving.ResizeRequest.self, from: body).size
          _ = try port.resize(size).wait(milliseconds: 600_000)
          return StatusJSON(port.status, facts)
        }
      }
    }
    await server.appendRoute("POST /v1/cut") { [port] _ in
      await onThread(places) { answer { Serving.CutAnswer(cut: try port.cut().wait(milliseconds: 600_000)) } }
    }
    try await server.run()
  }

  private var facts: ServedFacts {
    ServedFacts(process: getpid(), name: name, epoch: epoch, clients: process.clients())
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

/// The work's answer as a response: 200 with JSON, or 4xx/5xx with the exit code and the message.
private func answer(_ body: () throws -> some Encodable) -> HTTPResponse {
  do {
    return HTTPResponse(statusCode: .ok, headers: [.contentType: "application/json"], body: try JSONEncoder().encode(body()))
  } catch {
    let refusal =
      (error as? ElideError).map { Serving.Refusal(code: $0.exitCode, message: $0.message) }
      ?? Serving.Refusal(code: 2, message: "\(error)")
    let data = (try? JSONEncoder().encode(refusal)) ?? Data()
    return HTTPResponse(
      statusCode: refusal.code == 2 ? .badRequest : .internalServerError, headers: [.contentType: "application/json"], body: data)
  }
}

/// Runs blocking work off the cooperative threads, if there is a place for it.
private func onThread(_ places: Turnstile, _ body: @escaping @Sendable () -> HTTPResponse) async -> HTTPResponse {
  guard places.enter() else {
    return answer { () throws(ElideError) -> Serving.CutAnswer in
      throw ElideError(.tryLater, "too many requests are waiting on this control socket; try again")
    }
  }
  defer { places.leave() }
  let thread = Mutex<JoinableThread?>(nil)
  let response = await withCheckedContinuation { continuation in
    do {
      let body = { @Sendable in continuation.resume(returning: body()) }
      let started = try spawnThread(name: "elide-control", body)
      thread.withLock { $0 = started }
    } catch {
      continuation.resume(returning: HTTPResponse(statusCode: .internalServerError))
    }
  }
  // It has answered and does nothing more.
  thread.withLock { $0 }?.join()
  return response
}
