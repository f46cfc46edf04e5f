import ElideEngine
import ElideIO
import FlyingFox
import FlyingSocks
import Foundation
import Glibc

/// Answers on `run/<vol>.ctl` for one served volume. The requests wait on the volume's keeper, each on a thread of its own,
/// so that a snapshot in the making does not hold up `status`.
struct ControlServer: Sendable {
  let port: KeeperPort
  let path: String

  /// Listens until cancelled. The socket is 0700's directory's: only this user reaches it.
  func run() async throws {
    unlink(path)
    let server = HTTPServer(address: sockaddr_un.unix(path: path), timeout: 600, logger: .disabled)
    await server.appendRoute("GET /v1/status") { [port] _ in answer { StatusJSON(port.status) } }
    await server.appendRoute("POST /v1/snapshot") { [port] request in
      let body = try await request.bodyData
      return await onThread {
        answer {
          let request = try JSONDecoder().decode(Serving.SnapshotRequest.self, from: body)
          return SnapshotJSON(try port.snapshot(label: request.label, publish: true).wait(milliseconds: 600_000))
        }
      }
    }
    await server.appendRoute("POST /v1/resize") { [port] request in
      let body = try await request.bodyData
      return await onThread {
        answer {
          let size = try JSONDecoder().decode(Serving.ResizeRequest.self, from: body).size
          _ = try port.resize(size).wait(milliseconds: 600_000)
          return StatusJSON(port.status)
        }
      }
    }
    await server.appendRoute("POST /v1/cut") { [port] _ in
      await onThread { answer { Serving.CutAnswer(cut: try port.cut().wait(milliseconds: 600_000)) } }
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

/// Runs blocking work off the cooperative threads.
private func onThread(_ body: @escaping @Sendable () -> HTTPResponse) async -> HTTPResponse {
  await withCheckedContinuation { continuation in
    do {
      _ = try spawnThread(name: "elide-control") { continuation.resume(returning: body()) }
    } catch {
      continuation.resume(returning: HTTPResponse(statusCode: .internalServerError))
    }
  }
}
