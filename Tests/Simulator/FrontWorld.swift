import ElideEngine
import ElideIO
import ElideProjections

/// A host that has only the write path: the real device, log and recovery on simulated files, a stub for the keeper, and a
/// guest. What survives crashes (files, ledger, model) is kept here; what a process holds is made anew by `open`.
package final class FrontWorld {
  package let seed: UInt64
  package let files: SimFiles
  package var faults: SimFaults { files.faults }
  package let guest: SimGuest
  package private(set) var ledger = WALLedger()
  package private(set) var trace = TraceHash()
  /// What the run did; a run that never crashed in recovery has not tested it.
  package private(set) var counts: [String: Int] = [:]

  private let volume = ULID(high: 0x0190_0000_0000_0001, low: 0x5EED)
  private let directory = "/data/volumes/v/wal"
  private let geometry: WALGeometry
  private let executor = SimExecutor()
  private var random: SeededRandom
  private var device: VolumeDevice?
  private var keeper: WALKeeperStub?
  private let journalSite: Int
  private var incarnations: UInt64 = 0
  /// An injected fault makes errors acceptable until the next restart.
  private var firedAtOpen: UInt64 = 0
  /// Only the process ended since the model was last read back.
  private var promisesAcknowledged = true

  package init(seed: UInt64, size: Int = 96 * 4096 + 512, geometry: WALGeometry = WALGeometry(fileBlocks: 40, dataBlocks: 32))
    throws(Errno)
  {
    self.seed = seed
    self.geometry = geometry
    random = SeededRandom(seed: seed)
    files = SimFiles(seed: seed, faults: SimFaults(seed: seed), fileCapacity: 1 << 20)
    guest = SimGuest(size: size, seed: seed)
    journalSite = files.faults.site("commit", "journal", mutates: true)
    try files.makeDirectory(directory)
    for d in ["/data/volumes/v", "/data/volumes", "/data", "/"] { try files.syncDirectory(d) }
    guest.mayFail = { [unowned self] in self.faults.isCrashed || self.faults.fired > self.firedAtOpen }
  }

  private func count(_ what: String) { counts[what, default: 0] += 1 }

  // MARK: a process

  /// Recovers and starts a process. False when a crash or a fault came between; anything else that is wrong is thrown.
  package func open() throws -> Bool {
    firedAtOpen = faults.fired
    let recovery = WALRecovery(
      files: files, directory: directory, volume: volume, blocks: UInt64((guest.model.size + 4095) / 4096))
    let log: RecoveredLog
    do throws(WALError) {
      log = try recovery.recover(wals: ledger.wals, start: .genesis, marks: ledger.marks)
    } catch {
      if faults.isCrashed || faults.fired > firedAtOpen { return false }
      throw Wrong("seed \(seed): the volume does not open: \(error)")
    }
    if log.discarded > 0 { count("frames discarded") }
    do throws(Errno) {
      try WALKeeperStub.journal(faults, journalSite) {
        if let last = ledger.wals.last { ledger.marks.append(OpenedMark(wal: last, end: log.end)) }
      }
    } catch { return false }
    incarnations += 1
    let incarnation = ULID(high: incarnations, low: seed)
    let keeper = WALKeeperStub(
      files: files, directory: directory, volume: volume, geometry: geometry, incarnation: incarnation, reuses: seed % 3 == 0)
    let parts = VolumeDevice.Parts(
      volume: volume, size: UInt64(guest.model.size), map: BlockMap(blocks: UInt64(guest.model.blockCount)),
      sources: NoSegmentSources(),
      files: files, executor: executor, fromKeeper: keeper.front, toKeeper: keeper.inbox, wake: .silent())
    let device = VolumeDevice(
      parts, log: .init(incarnation: incarnation, geometry: geometry, recovered: log))
    device.sink = guest
    self.keeper = keeper
    self.device = device
    guard try check(device) else { return false }
    promisesAcknowledged = true
    return true
  }

  /// The crash oracle: the device as it comes back is a state of one moment, with all that was promised.
  private func check(_ device: VolumeDevice) throws -> Bool {
    let found: [[UInt8]]
    do throws(SimGuest.Unreadable) { found = try SimGuest.readAll(device, pump: { _ = self.stepOthers() }) } catch {
      if faults.isCrashed || faults.fired > firedAtOpen { return false }
      throw Wrong("seed \(seed): after a crash: \(error)")
    }
    var model = guest.model
    if promisesAcknowledged && faults.fired == firedAtOpen { model.keepAcknowledged() }
    if let wrong = model.faultAfterCrash(found.map { DeviceModel.hash($0) }) { throw Wrong("seed \(seed): \(wrong)") }
    // What recovery kept, it made durable before it said so.
    guest.model.survive(found)
    device.sink = guest
    return true
  }

  private func stepOthers() -> Bool {
    executor.run(.sync, &random)
    let worked = keeper?.step(&ledger) ?? false
    device?.poll()
    return worked
  }

  /// One step of somebody, drawn from the seed.
  package func step() {
    guard let device else { return }
    let choice = random.below(10)
    trace.note(UInt64(choice))
    switch choice {
    case 0...4:
      for _ in 0..<(1 + random.below(3)) where guest.inFlight < 24 { guest.submit(device) }
      if random.chance(2, in: 3) { device.commit(mayWait: seed % 2 == 1) }
    case 5: device.commit(mayWait: seed % 2 == 1)
    case 6: device.poll()
    case 7: executor.run(.sync, &random)
    default: _ = keeper?.step(&ledger)
    }
    trace.note(guest.trace.value)
  }

  /// Lets everything finish that is under way.
  package func settle() {
    guard let device else { return }
    var patience = 150
    device.commit(mayWait: seed % 2 == 1)
    while guest.inFlight > 0, patience > 0 {
      _ = stepOthers()
      patience -= 1
    }
    if guest.inFlight > 0, !faults.isCrashed, faults.fired == firedAtOpen, stuck == nil {
      stuck = "seed \(seed): \(guest.inFlight) requests never complete"
    }
  }
  private var stuck: String?

  /// The process ends, wherever it was.
  package func crash(_ mode: CrashMode) {
    count(mode == .powerLoss ? "power losses" : "kills")
    count("crash at \(faults.isCrashed ? faults.lastSite : "between calls")")
    // After a failed sync also a mere kill may lose what was not flushed.
    let isHealthy = faults.fired == firedAtOpen && (device != nil || promisesAcknowledged)
    promisesAcknowledged = mode == .processKill && isHealthy
    device = nil
    keeper = nil
    executor.dropAll()
    guest.crash()
    files.restart(mode)
    trace.note(faults.calls)
  }

  package var fault: String? { guest.fault.map { "seed \(seed): \($0)" } ?? stuck }
  package func submit(_ request: GuestRequest) { if let device { guest.submit(device, request) } }
  package func commit() { device?.commit(mayWait: seed % 2 == 1) }
  package var isOpen: Bool { device != nil }
}

/// What a run found wrong, with the seed that repeats it.
package struct Wrong: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}
