import ElideEngine
import ElideIO
import Foundation

/// Talks to the process that serves a volume, if there is one, through its control socket `run/<vol>.ctl`: HTTP with JSON,
/// so `curl --unix-socket` does as well. Each call answers nil (or false) when nobody serves the volume.
enum Serving {
  struct Refusal: Codable {
    let code: Int32
    let message: String
  }
  struct SnapshotRequest: Codable { let label: String }
  struct ResizeRequest: Codable { let size: UInt64 }
  struct CutAnswer: Codable { let cut: UInt64 }
  struct DrainAnswer: Codable { let process: Int32 }

  /// What a client is told whose request was not read.
  static func refusal(_ refusal: HTTPRequestParser.Refusal) -> [UInt8] {
    CoordinatorWire.encode(Refusal(code: refusal.status == 503 ? 75 : 2, message: refusal.detail))
  }

  private static func call<Answer: Decodable>(
    _ volume: ULID, _ engine: Engine, _ method: String, _ path: String, body: [UInt8] = [], seconds: Int = 600
  ) throws -> Answer? {
    let socket = engine.directory.control(volume)
    guard engine.world.files.exists(socket) else { return nil }
    let response: HTTPClient.Response
    do throws(HTTPClient.Failure) {
      response = try HTTPClient.send(
        method, "http://elide/v1\(path)", unixSocket: socket, body: body, timeoutMilliseconds: seconds * 1000)
    } catch {
      // A socket that nobody listens on was left by a process that was killed.
      if case .noServer = error { return nil }
      throw ElideError(.unknown, "the process that serves \(volume): \(error)")
    }
    if response.status != 200 {
      let refusal = try? JSONDecoder().decode(Refusal.self, from: Data(response.body))
      throw ElideError(
        refusal.flatMap { ElideError.Kind(rawValue: $0.code) } ?? .failed,
        refusal?.message ?? "the process that serves \(volume) answered \(response.status)")
    }
    return try JSONDecoder().decode(Answer.self, from: Data(response.body))
  }

  static func status(_ volume: ULID, _ engine: Engine, seconds: Int = 10) throws -> StatusJSON? {
    try call(volume, engine, "GET", "/status", seconds: seconds)
  }

  static func snapshot(_ volume: ULID, _ label: String, _ engine: Engine) throws -> SnapshotJSON? {
    try call(volume, engine, "POST", "/snapshot", body: Array(JSONEncoder().encode(SnapshotRequest(label: label))))
  }

  /// False when nobody serves the volume.
  static func resize(_ volume: ULID, _ size: UInt64, _ engine: Engine) throws -> Bool {
    let status: StatusJSON? = try call(
      volume, engine, "POST", "/resize", body: Array(JSONEncoder().encode(ResizeRequest(size: size))))
    return status != nil
  }

  /// The cut that was published; nil when nobody serves the volume.
  static func cut(_ volume: ULID, _ engine: Engine) throws -> UInt64? {
    let answer: CutAnswer? = try call(volume, engine, "POST", "/cut")
    return answer?.cut
  }

  /// Asks the process that serves a volume to end in good order; its id, or nil when nobody serves the volume.
  static func drain(_ volume: ULID, _ engine: Engine) throws -> Int32? {
    let answer: DrainAnswer? = try call(volume, engine, "POST", "/drain", seconds: 10)
    return answer?.process
  }

  /// Has the process that serves a volume publish what it holds, so that it can be forked as it is now.
  static func publish(_ volume: ULID, _ engine: Engine) throws(ElideError) {
    do {
      let answer: CutAnswer? = try call(volume, engine, "POST", "/cut")
      if answer == nil { throw ElideError(.owned, "volume \(volume) is served by a process that answers on no control socket") }
    } catch let error as ElideError {
      throw error
    } catch {
      throw ElideError(.failed, "the process that serves \(volume): \(error)")
    }
  }
}
