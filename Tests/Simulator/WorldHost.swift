import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// A machine of a `HostsWorld`: disk, clock and connection of its own; the engine is what the process that runs now has, and what
/// a coordinator's volume processes would serve is served in it.
package final class WorldHost {
  /// A volume in service.
  final class Served {
    let name: String
    let opened: OpenedVolume
    let history: VolumeHistory
    /// So many clients are connected.
    var clients = 0
    init(_ name: String, _ opened: OpenedVolume, _ history: VolumeHistory) {
      self.name = name
      self.opened = opened
      self.history = history
    }
  }

  package let letter: String
  package let machine: SimHost
  package let store: PausingStore
  package private(set) var engine: Engine
  var servant = SimServant()
  var served: [ULID: Served] = [:]
  var histories: [ULID: VolumeHistory] = [:]
  /// A command of this host, or its restart, is under way.
  package var isBusy = false
  /// It stands still until so many steps of the world are done.
  var pausedUntil = 0

  init(_ letter: String, _ machine: SimHost) throws(ElideError) {
    self.letter = letter
    self.machine = machine
    store = PausingStore(machine.store)
    machine.front = store
    engine = try machine.process()
    servant.host = self
  }

  package var lifecycle: Lifecycle { Lifecycle(engine, servant: servant) }
  /// Whether a process of this host serves the name.
  package func isServing(_ name: String) -> Bool { served.values.contains { $0.name == name } }
  package var id: String { engine.host.id }
  package var faults: SimFaults { machine.faults }
  package var clock: SimClock { machine.clock }

  /// The process is gone, wherever it was, with all that it served.
  func die(_ mode: CrashMode) {
    faults.crashNow()
    for one in served.values {
      one.history.keepsAcknowledged = true
      one.history.guest.crash()
      one.opened.abandon()
    }
    served = [:]
    // What a process that ended before had not made durable goes as well.
    if mode == .powerLoss { for history in histories.values { history.keepsAcknowledged = false } }
    machine.crash(mode)
    faults.restart()
  }

  /// The next process.
  func begin() throws(ElideError) {
    engine = try machine.process()
    servant = SimServant()
    servant.host = self
  }

  /// One machine becomes two: a copy of everything on disk, which starts elsewhere.
  func twin(_ letter: String, seed: UInt64) throws(ElideError) -> WorldHost {
    let copy = SimHost(seed: seed, of: machine)
    return try WorldHost(letter, copy)
  }
}

/// What a coordinator does with volume processes, in one process. One thread steps a simulated world, hence unchecked.
package final class SimServant: Servant, @unchecked Sendable {
  /// Set at once when the host has been made; a servant does not outlive it.
  unowned var host: WorldHost!
  weak var world: HostsWorld?

  package func isServing(_ volume: ULID) throws(ElideError) -> Bool { host.served[volume] != nil }

  package func launch(_ name: String, _ volume: ULID) throws(ElideError) {
    guard host.served[volume] == nil else { return }
    let grant = try host.lifecycle.grantOfLive(name)
    guard grant.volume == volume else { throw ElideError(.fenced, "'\(name)' is another volume by now") }
    let opened = try host.engine.openLocal(volume, grant: grant)
    guard let world else { return opened.abandon() }
    try world.take(opened, of: name, on: host)
  }

  package func drain(_ volume: ULID) throws(ElideError) {
    guard let one = host.served[volume] else { return }
    try? one.opened.pump(milliseconds: 5_000) { one.history.guest.inFlight == 0 }
    // More than there is time for: stopping meets the last writes.
    for _ in 0..<6 { one.history.guest.submit(one.opened.device) }
    if one.history.guest.inFlight > 0 { world?.note("stopped with requests in flight") }
    let mark = one.history.guest.model.submitFlush()
    host.served[volume] = nil
    one.history.keepsAcknowledged = true
    defer { one.history.guest.crash() }
    try one.opened.close(ship: true, milliseconds: 60_000)
    one.history.guest.model.keepAcknowledged()
    if let cut = try host.engine.publishedCut(volume) { one.history.report(cut.seq, mark) }
  }

  package func forget(_ volume: ULID) throws(ElideError) {}
  package func clients(_ volume: ULID) throws(ElideError) -> Int { host.served[volume]?.clients ?? 0 }

  package func cut(_ volume: ULID) throws(ElideError) -> UInt64 {
    let one = try serving(volume)
    let mark = one.history.guest.model.submitFlush()
    let seq = try ask(one) { $0.cut() }
    one.history.report(seq, mark)
    return seq
  }

  package func snapshot(_ volume: ULID, label: String) throws(ElideError) -> SnapshotInfo {
    let one = try serving(volume)
    return try ask(one) { $0.snapshot(label: label, publish: true) }
  }

  package func resize(_ volume: ULID, to size: UInt64) throws(ElideError) {
    let one = try serving(volume)
    _ = try ask(one) { $0.resize(size) }
    one.history.guest.grow(to: Int(one.opened.device.size))
  }

  private func serving(_ volume: ULID) throws(ElideError) -> WorldHost.Served {
    guard let one = host.served[volume] else { throw ElideError(.notFound, "no process serves volume \(volume)") }
    return one
  }

  private func ask<T>(_ one: WorldHost.Served, _ what: (KeeperPort) -> Reply<T>) throws(ElideError) -> T {
    guard let port = one.opened.port else { throw ElideError(.failed, "it is only read") }
    let reply = what(port)
    try one.opened.pump(milliseconds: 20_000) { reply.poll() != nil }
    guard let answer = reply.poll() else { throw ElideError(.tryLater, "no answer") }
    return try answer.get()
  }
}
