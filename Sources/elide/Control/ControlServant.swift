import ElideEngine
import ElideIO
import Foundation

/// Volumes in service as their control sockets show them: whoever answers on `run/<vol>.ctl` serves, be it a foreground `elide
/// serve` or a process of a coordinator. What the command line asks when no coordinator runs.
final class ControlServant: Servant {
  private let engine: Engine
  /// For a process to ship all that it has.
  private static let patience: UInt64 = 600_000_000_000

  init(_ engine: Engine) { self.engine = engine }

  func isServing(_ volume: ULID) throws(ElideError) -> Bool {
    if try ask({ try Serving.status(volume, engine) }) != nil { return true }
    // Open, and it does not answer: a short command has it, or it is about to.
    return false
  }

  func launch(_ name: String, _ volume: ULID) throws(ElideError) {
    throw Self.noCoordinator(name)
  }

  static func noCoordinator(_ name: String) -> ElideError {
    ElideError(
      .usage,
      "'\(name)': no coordinator runs on this data directory that could serve it: start one ('elide coordinator run'), or "
        + "serve it in the foreground: elide serve \(name) --nbd unix:PATH")
  }

  func drain(_ volume: ULID) throws(ElideError) {
    guard let process = try ask({ try Serving.drain(volume, engine) }) else { return }
    let begin = engine.world.clock.monotonicNanoseconds()
    let pause = Condition()
    while try engine.isInUse(volume) {
      if engine.world.clock.monotonicNanoseconds() - begin > Self.patience {
        throw ElideError(.tryLater, "process \(process) still ships what volume \(volume) holds; ask again")
      }
      pause.wait(after: pause.count, nanoseconds: 20_000_000)
    }
    // What it could not ship before it ended goes out now, or the error says why not.
    try engine.publishClosed(volume, milliseconds: 300_000)
  }

  /// It starts none.
  func forget(_ volume: ULID) {}

  func clients(_ volume: ULID) throws(ElideError) -> Int {
    Int(try ask({ try Serving.status(volume, engine) })?.clients ?? 0)
  }

  func cut(_ volume: ULID) throws(ElideError) -> UInt64 {
    guard let cut = try ask({ try Serving.cut(volume, engine) }) else { throw Self.idle(volume) }
    return cut
  }

  func snapshot(_ volume: ULID, label: String) throws(ElideError) -> SnapshotInfo {
    guard let s = try ask({ try Serving.snapshot(volume, label, engine) }), let id = ULID(s.snapshot) else {
      throw Self.idle(volume)
    }
    return SnapshotInfo(snapshot: id, label: s.label, point: s.point, size: s.size, isPublished: s.published)
  }

  func resize(_ volume: ULID, to size: UInt64) throws(ElideError) {
    guard try ask({ try Serving.resize(volume, size, engine) }) else { throw Self.idle(volume) }
  }

  private static func idle(_ volume: ULID) -> ElideError { ElideError(.notFound, "no process serves volume \(volume)") }

  private func ask<T>(_ body: () throws -> T) throws(ElideError) -> T {
    do { return try body() } catch let error as ElideError { throw error } catch {
      throw ElideError(.failed, "a control socket of \(engine.directory.run): \(error)")
    }
  }
}
