import ElideEngine
import ElideIO
import Foundation

/// Whoever serves volumes of this data directory, asked through the control sockets `run/<vol>.ctl`. It starts nothing.
final class SocketServant: Servant {
  private let engine: Engine
  init(_ engine: Engine) { self.engine = engine }

  func isServing(_ volume: ULID) throws(ElideError) -> Bool { try call { try Serving.status(volume, engine) } != nil }

  func launch(_ name: String, _ volume: ULID) throws(ElideError) {
    throw ElideError(
      .usage,
      "'\(name)': no coordinator runs in \(engine.directory.root) that could serve it; start one, or use 'elide serve \(name)'")
  }

  func drain(_ volume: ULID) throws(ElideError) {
    throw ElideError(.owned, "volume \(volume) is served by 'elide serve' in the foreground: end that process, which stops it")
  }

  func clients(_ volume: ULID) throws(ElideError) -> Int { 0 }

  func cut(_ volume: ULID) throws(ElideError) -> UInt64 {
    try Serving.publish(volume, engine)
    return try engine.publishedCut(volume)?.seq ?? 0
  }

  func snapshot(_ volume: ULID, label: String) throws(ElideError) -> SnapshotInfo {
    guard let made = try call({ try Serving.snapshot(volume, label, engine) }), let id = ULID(made.snapshot) else {
      throw gone(volume)
    }
    return SnapshotInfo(
      snapshot: id, label: made.label, point: made.point, size: made.size, isPublished: made.published)
  }

  func resize(_ volume: ULID, to size: UInt64) throws(ElideError) {
    guard try call({ try Serving.resize(volume, size, engine) }) else { throw gone(volume) }
  }

  private func gone(_ volume: ULID) -> ElideError {
    ElideError(.tryLater, "the process that served volume \(volume) is gone; try again")
  }

  private func call<T>(_ body: () throws -> T) throws(ElideError) -> T {
    do { return try body() } catch let error as ElideError { throw error } catch { throw ElideError(.failed, "\(error)") }
  }
}
