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
  var limits = ControlLimits()

  /// Listens until cancelled. The socket is 0700's directory's: only this user reaches it.
  func run() async throws {
    unlink(path)
    let pool = BoundedPool(HTTPServer.defaultPool(logger: .disabled), limit: limits.idleConnections)
    let server = HTTPServer(address: sockaddr_un.unix(path: path), timeout: 600, pool: pool, logger: .disabled)
    let places = Turnstile(limits.waitingRequests)
    await server.appendRoute("GET /v1/status") { [port] _ in answer { StatusJSON(port.status) } }
    await server.appendRoute("POST /v1/snapshot") { [port] request in
      let body = try await request.bodyData
      return await onThread(places) {
        answer {
          let request = try JSONDecoder().decode(Serving.SnapshotRequest.self, from: body)
          return SnapshotJSON(try port.snapshot(label: request.label, publish: true).wait(milliseconds: 600_000))
        }
      }
    }
    await server.appendRoute("POST /v1/resize") { [port] request in
      let body = try await request.bodyData
      return await onThread(places) {
        answer {
          let size = try JSONDecoder().decode(Serving.ResizeRequest.self, from: body).size
          _ = try port.resize(size).wait(milliseconds: 600_000)
          return StatusJSON(port.status)
        }
      }
    }
    await server.appendRoute("POST /v1/cut") { [port] _ in
      await onThread(places) { answer { Serving.CutAnswer(cut: try port.cut().wait(milliseconds: 600_000)) } }
    }
    try await server.run()
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
