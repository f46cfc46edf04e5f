import ElideEngine
import ElideIO
import Foundation

/// What goes over the coordinator's socket. The fields are a contract: docs/openapi.yaml has them.
enum CoordinatorWire {
  /// Body of `POST /v1/commands`.
  struct Command: Codable {
    var command: LifecycleCommand
    var context: Context?
  }
  struct Context: Codable {
    /// The same id has the same answer, however often it is sent.
    var request: String?
    var reason: String?
    /// Honoured of root and of the coordinator's own user; others are named by their uid.
    var `operator`: String?
    var dryRun: Bool?
  }
  /// One line of a streamed answer: progress, and at last a report or an error.
  struct Line: Codable {
    var progress: Progress?
    var report: LifecycleReport?
    var error: Serving.Refusal?
  }
  struct Progress: Codable {
    let step: String
    let done: UInt64
    let total: UInt64
  }

  struct Status: Codable {
    let host: String
    let incarnation: String
    let process: Int32
    let dataDirectory: String
    let store: String
    let uptimeMilliseconds: UInt64
    let storeSilentMilliseconds: UInt64
    let names: Int
    let openAttempts: [Attempt]
    let volumes: [Served]
    let alarms: [String]
  }
  /// An append whose outcome is not known yet.
  struct Attempt: Codable {
    let name: String
    let id: String
    let kind: String
    let seq: UInt64
  }
  struct Served: Codable {
    let name: String
    let volume: String
    /// launching, running, ending, waiting, parked.
    let phase: String
    let process: Int32?
    let failures: Int
    let restarts: UInt64
    let lastEnd: String?
    let socket: String
    /// As the process says; none when it does not answer.
    let status: StatusJSON?
  }

  static func encode(_ value: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return Array((try? encoder.encode(value)) ?? Data("{}".utf8))
  }

  /// The HTTP status that goes with an exit code.
  static func status(of kind: ElideError.Kind) -> Int {
    switch kind {
    case .usage: 400
    case .notFound: 404
    case .owned, .fenced: 409
    case .tryLater: 503
    case .unknown: 202
    case .storeRefused: 502
    case .failed, .fault, .interrupted: 500
    }
  }
}
