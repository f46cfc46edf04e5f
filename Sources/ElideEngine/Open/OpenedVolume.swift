import ElideEvents
import ElideIO
import ElideProjections

/// A volume in service: its device for a transport, and whoever keeps it behind the device.
///
/// `device` belongs to the thread that serves it, and so does `close`. Between `start` and `close` the keeper has a thread
/// of its own; without `start` the owner steps both by `pump` (tests, simulators, short commands). `port` is for any thread.
package final class OpenedVolume {
  package let volume: ULID
  package let device: VolumeDevice
  /// nil for a volume that is only read.
  package let port: KeeperPort?
  /// The published point that a read-only volume shows.
  package let point: UInt64?
  /// Who signed it is known; false: "unanchored".
  package let isAnchored: Bool
  package let fetcher: Fetcher
  /// Reads that failed for good; for any thread.
  package let readFaults: ReadFaults
  private let engine: Engine
  private let machine: any Stepper
  let keeper: VolumeKeeper?
  private let opening: LocalOpening?
  private let machineWake: WakeEvent
  private let frontWake: WakeEvent
  private var thread: StepperThread?
  private var isClosed = false

  init(
    engine: Engine, opening: LocalOpening, keeper: VolumeKeeper, device: VolumeDevice, machineWake: WakeEvent,
    frontWake: WakeEvent
  ) {
    self.engine = engine
    self.opening = opening
    self.keeper = keeper
    self.device = device
    self.machineWake = machineWake
    self.frontWake = frontWake
    machine = keeper
    volume = keeper.context.volume
    port = keeper.port
    fetcher = keeper.fetcher
    readFaults = keeper.fetches.faults
    point = nil
    isAnchored = true
  }

  init(
    engine: Engine, published: PublishedVolume, desk: ReadDesk, device: VolumeDevice, machineWake: WakeEvent, frontWake: WakeEvent
  ) {
    self.engine = engine
    self.device = device
    self.machineWake = machineWake
    self.frontWake = frontWake
    opening = nil
    keeper = nil
    port = nil
    machine = desk
    volume = published.volume
    fetcher = desk.fetcher
    readFaults = desk.faults
    point = published.point
    isAnchored = published.isAnchored
  }

  package var isReadOnly: Bool { device.isReadOnly }

  /// One step of the keeper (or the read desk), for an owner that decides itself who moves next. Not after `start`.
  package func stepKeeper() -> Bool { machine.step() }

  /// The projections as the keeper has them: for whoever steps it. nil for a volume that is only read.
  package var tables: VolumeTables? { opening?.tables }

  /// Gives the keeper a thread.
  package func start() throws(ElideError) {
    thread = try StepperThread(
      name: "elide-keeper", machine, wake: machineWake, clock: engine.world.clock, waiter: engine.waiter)
  }

  /// Steps keeper and device on this thread until `isDone`, or until nothing moves for `milliseconds`.
  package func pump(milliseconds: UInt64 = 60_000, until isDone: () -> Bool) throws(ElideError) {
    let begin = engine.world.clock.monotonicNanoseconds()
    while true {
      var worked = true
      while worked {
        worked = false
        if thread == nil {
          machineWake.clear()
          for _ in 0..<64 where machine.step() { worked = true }
        }
        device.poll()
        if isDone() { return }
      }
      let now = engine.world.clock.monotonicNanoseconds()
      if now - begin > milliseconds &* 1_000_000 {
        throw ElideError(
          .tryLater, "volume \(volume): not done in \(milliseconds) ms: \(port?.status.lastError ?? "nothing moves")")
      }
      // Either event may be the next: a short wait on one, then a look at both.
      engine.waiter.wait(
        thread == nil ? machineWake : frontWake, untilNanoseconds: min(now + 2_000_000, machine.deadline),
        clock: engine.world.clock)
    }
  }

  /// One step of the keeper, for worlds that choose the order of everything. Not after `start`.
  @discardableResult
  package func stepOnce() -> Bool { thread == nil && machine.step() }

  /// Ends service, on the thread that owned the device, which is not touched after. Acknowledged writes are in the
  /// write-ahead files whatever happens here.
  ///
  /// With `ship` it returns once everything is in the store, checkpoint included, so that another host opens it with six
  /// requests; when that does not succeed in time the volume is closed all the same, and the error says what is left.
  package func close(ship: Bool, milliseconds: UInt64 = 300_000) throws(ElideError) {
    guard !isClosed else { return }
    isClosed = true
    thread?.stop()
    thread = nil
    guard let keeper, let opening else { return }
    defer {
      keeper.closeFiles()
      opening.close()
    }
    // A sync in flight uses files that are about to be closed.
    try pump(milliseconds: 60_000) { !device.isRoundRunning }
    do throws(ElideError) { try finish(keeper, ship: ship, milliseconds) } catch {
      if ship { try finish(keeper, ship: false, 60_000) }
      throw error
    }
  }

  private func finish(_ keeper: VolumeKeeper, ship: Bool, _ milliseconds: UInt64) throws(ElideError) {
    let reply = Reply<Void>()
    guard keeper.requests.send(.finish(ship: ship, reply)) else { throw ElideError(.tryLater, "too many requests are waiting") }
    try engine.drive(keeper, machineWake, milliseconds: milliseconds) { reply.poll() != nil }
    if case .failure(let error) = reply.poll() { throw error }
  }

  /// As a crash would: the keeper is dropped where it stands, files and lock are let go. For tests.
  package func abandon() {
    isClosed = true
    thread?.stop()
    thread = nil
    keeper?.closeFiles()
    opening?.close()
  }
}

extension Engine {
  private var frontLimits: FrontLimits {
    var limits = configuration.front
    limits.readAhead = limits.readAhead.within(cacheBytes: cache.budget)
    return limits
  }

  /// Opens a volume of this data directory for reading and writing. `.owned` when another process serves it, `.fenced` when its
  /// name was taken by another host and nothing gives it a right anew.
  ///
  /// - Parameter grant: the right by which it serves a name, which is asked after from then on. Without it nothing is asked: for
  ///   short commands of the owner, and for volumes that have no name.
  package func openLocal(_ volume: ULID, grant: ServiceGrant? = nil) throws(ElideError) -> OpenedVolume {
    let opening = try LocalOpening.open(self, volume, grant: grant)
    do throws(ElideError) {
      if grant == nil { try opening.requireUnfenced() }
      // The lock is ours from here on; the name may have stopped, or gone elsewhere, before it was.
      switch opening.context.ownership?.ask() {
      case .lost(_, let why)?: throw ElideError(.fenced, "volume \(volume) is not served: \(why)")
      case .unread(let detail)?: throw ElideError(.tryLater, "volume \(volume) is not served before its name was read: \(detail)")
      case .held?, nil: break
      }
      try opening.commitOpened()
      let (machineWake, frontWake) = (try waiter.makeWake(), try waiter.makeWake())
      let front = Mailbox<FrontMessage>(capacity: 4096) { frontWake.signal() }
      let keeper = opening.keeper(front: front, isServed: true) { machineWake.signal() }
      let parts = VolumeDevice.Parts(
        volume: volume, size: opening.tables.state.deviceSize, map: opening.tables.map, sources: opening.segments,
        files: world.files, executor: executor, fromKeeper: front, toKeeper: keeper.inbox, wake: frontWake,
        limits: frontLimits, stages: opening.context.stages, openBytes: opening.context.openBytes)
      let device = VolumeDevice(
        parts,
        log: VolumeDevice.Log(
          incarnation: opening.context.identity.incarnation, geometry: configuration.geometry, recovered: opening.log))
      return OpenedVolume(
        engine: self, opening: opening, keeper: keeper, device: device, machineWake: machineWake, frontWake: frontWake)
    } catch {
      opening.closeFiles()
      opening.close()
      throw error
    }
  }

  /// Opens a volume of the store for reading, at its newest cut or at a published entry; nothing is written to the store.
  ///
  /// - Parameter key: the volume's public key, if the caller knows it; without it the result is unanchored (unless the
  ///   volume belongs to this data directory).
  package func openPublished(_ volume: ULID, at seq: UInt64? = nil, key: [UInt8]? = nil) throws(ElideError) -> OpenedVolume {
    let own = try KeyFile.read(world.files, directory.volume(volume).key)?.publicKey
    let published = try publishedReader.open(volume, at: seq, key: key ?? own)
    let (machineWake, frontWake) = (try waiter.makeWake(), try waiter.makeWake())
    let front = Mailbox<FrontMessage>(capacity: 4096) { frontWake.signal() }
    let segments = VolumeSegments(directory: published.tables.directory, cache: cache)
    let fetcher = Fetcher(store: store, segments: segments, encodings: Encodings(store: store), retry: retry.once)
    let desk = ReadDesk(
      fetcher: fetcher, store: store, segments: segments, executor: executor, front: front, clock: world.clock,
      configuration: configuration
    ) { machineWake.signal() }
    let parts = VolumeDevice.Parts(
      volume: volume, size: published.tables.state.size, map: published.tables.map, sources: segments, files: world.files,
      executor: executor, fromKeeper: front, toKeeper: desk.inbox, wake: frontWake, limits: frontLimits)
    return OpenedVolume(
      engine: self, published: published, desk: desk, device: VolumeDevice(parts, log: nil), machineWake: machineWake,
      frontWake: frontWake)
  }

  /// Opens what people name, as a command does that serves nobody: a volume that this host owns for writing; a snapshot, an older
  /// entry, an image, a volume of another host for reading.
  package func open(_ source: VolumeSource, key: [UInt8]? = nil) throws(ElideError) -> OpenedVolume {
    let found = try find(source.base, fresh: true)
    let volume = found.volume
    switch source.point {
    case .newest:
      if mayWrite(found) { return try openLocal(volume) }
      return try openPublished(volume, key: found.key ?? key)
    case .seq(let seq): return try openPublished(volume, at: seq, key: found.key ?? key)
    case .snapshot(let label):
      let newest = try publishedReader.open(volume, key: found.key ?? key)
      guard let point = newest.tables.state.snapshots.first(where: { $0.label == label })?.point else {
        throw ElideError(.notFound, "volume \(volume) has no published snapshot '\(label)'")
      }
      return try openPublished(volume, at: point, key: found.key ?? key)
    }
  }

  /// Whether this host may change a volume: it is here, and the name that it was granted under, if one is known, is this host's
  /// and still this volume's.
  func mayWrite(_ found: FoundVolume) -> Bool {
    guard world.files.exists(directory.volume(found.volume).key) else { return false }
    guard let name = found.name else { return true }
    return name.owner == host.id && name.volume == found.volume && [.live, .stopped].contains(name.phase)
  }

  // MARK: Changes to a volume that nobody serves

  /// Takes a snapshot and publishes it.
  package func createSnapshot(_ volume: ULID, label: String) throws(ElideError) -> SnapshotInfo {
    try whileOpen(volume) { (port) in port.snapshot(label: label, publish: true) }
  }

  /// Grows a volume; returns the new size.
  package func resize(_ volume: ULID, to size: UInt64) throws(ElideError) -> UInt64 {
    try whileOpen(volume) { (port) in port.resize(size) }
  }

  private func whileOpen<T>(_ volume: ULID, _ ask: (KeeperPort) -> Reply<T>) throws(ElideError) -> T {
    let opened = try openLocal(volume)
    guard let port = opened.port else { throw ElideError(.failed, "volume \(volume) is read-only") }
    let reply = ask(port)
    var result: Result<T, ElideError>?
    do throws(ElideError) {
      try opened.pump {
        result = reply.poll()
        return result != nil
      }
    } catch { result = .failure(error) }
    // What was asked for decides; that everything else is shipped too can wait for the next time.
    do throws(ElideError) { try opened.close(ship: true, milliseconds: 60_000) } catch {
      if case .failure = result { throw error }
    }
    guard let result else { throw ElideError(.failed, "volume \(volume) gave no answer") }
    return try result.get()
  }
}
