import ElideIO

/// Who serves volumes, as `Lifecycle` asks it: a coordinator's supervisor, or whatever process answers on `run/<vol>.ctl`.
/// Called on the thread of the command; calls block.
package protocol Servant: AnyObject, Sendable {
  /// Whether some process of this data directory serves the volume.
  func isServing(_ volume: ULID) throws(ElideError) -> Bool
  /// Starts a process that serves `volume` as `name`; returns when clients can connect. The name is live: the entry that
  /// permits it is committed before.
  func launch(_ name: String, _ volume: ULID) throws(ElideError)
  /// Ends service in good order: no client is served any more, everything acknowledged is in the store, and the volume's lock
  /// is free when it returns. The volume's rows then say at which cut.
  func drain(_ volume: ULID) throws(ElideError)
  /// The volume is not served by a process that has ended; sees to it that none is started for it again.
  func forget(_ volume: ULID) throws(ElideError)
  /// Clients that are connected to the volume.
  func clients(_ volume: ULID) throws(ElideError) -> Int
  /// Publishes what was written until now; the answer is the cut.
  func cut(_ volume: ULID) throws(ElideError) -> UInt64
  /// Takes a snapshot and publishes it.
  func snapshot(_ volume: ULID, label: String) throws(ElideError) -> SnapshotInfo
  /// Grows the device of a volume in service.
  func resize(_ volume: ULID, to size: UInt64) throws(ElideError)
}

/// Nobody serves anything but the caller: tests, and commands on names that are stopped.
package final class NoServant: Servant {
  package init() {}
  package func isServing(_ volume: ULID) throws(ElideError) -> Bool { false }
  package func launch(_ name: String, _ volume: ULID) throws(ElideError) {
    throw ElideError(
      .usage, "'\(name)': nothing here starts processes; start the coordinator, or serve it with 'elide serve \(name)'")
  }
  package func drain(_ volume: ULID) throws(ElideError) {}
  package func forget(_ volume: ULID) throws(ElideError) {}
  package func clients(_ volume: ULID) throws(ElideError) -> Int { 0 }
  package func cut(_ volume: ULID) throws(ElideError) -> UInt64 { throw Self.idle(volume) }
  package func snapshot(_ volume: ULID, label: String) throws(ElideError) -> SnapshotInfo { throw Self.idle(volume) }
  package func resize(_ volume: ULID, to size: UInt64) throws(ElideError) { throw Self.idle(volume) }

  private static func idle(_ volume: ULID) -> ElideError { ElideError(.notFound, "no process serves volume \(volume)") }
}
