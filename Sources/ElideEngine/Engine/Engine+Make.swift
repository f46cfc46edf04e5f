import ElideEvents
import ElideIO
import ElideProjections

/// A volume's place on this host before it has a history: a directory, its lock, and a key that is on disk. Whoever has it is
/// the only one who makes the volume; a crash leaves a `Making` row, and `Lifecycle.settle` goes on or clears away.
///
/// Owned by one thread.
package final class PreparedVolume {
  package let engine: Engine
  package let making: Making
  package let key: SigningKey
  private let lock: FileID
  private var isOver = false

  init(engine: Engine, making: Making, key: SigningKey, lock: FileID) {
    self.engine = engine
    self.making = making
    self.key = key
    self.lock = lock
  }

  package var volume: ULID { making.volume }

  /// Begins the journal with `genesis`, which is given the volume's public key. `inherited`: what a fork begins with; its first
  /// page names `checkpoint` (a parent's) when that is exactly there, or one of its own.
  package func begin(
    inherited: BaseState? = nil, checkpoint: CheckpointLocator? = nil, genesis: ([UInt8]) -> VolumeEvent
  ) throws(ElideError) -> NewVolume {
    precondition(!isOver, "a volume begins once")
    return try engine.begin(self, inherited, checkpoint, genesis)
  }

  /// Gives everything on this host back, the key too: only when it is certain that no entry grants the volume, now or later.
  package func discard() {
    guard !isOver else { return }
    leave()
    engine.world.files.removeTree(engine.directory.volume(volume).root)
    engine.world.files.removeTree(engine.cache.directory(volume))
    try? engine.names.end(making)
  }

  /// Lets go and keeps everything, for whoever settles it later.
  package func leave() {
    guard !isOver else { return }
    isOver = true
    engine.world.files.close(lock)
  }
}

/// A volume that is being made and has a history: a journal with its genesis, and a keeper without a device. `publish` ends it; a
/// crash leaves what the next process publishes.
///
/// Owned by one thread.
package final class NewVolume {
  package let prepared: PreparedVolume
  package let keeper: VolumeKeeper
  package let tables: VolumeTables
  private let journalStore: any JournalStore
  private let wake: WakeEvent
  private var isClosed = false

  init(
    _ prepared: PreparedVolume, keeper: VolumeKeeper, tables: VolumeTables, journalStore: any JournalStore, wake: WakeEvent
  ) {
    self.prepared = prepared
    self.keeper = keeper
    self.tables = tables
    self.journalStore = journalStore
    self.wake = wake
  }

  package var engine: Engine { prepared.engine }
  package var volume: ULID { prepared.volume }

  /// Steps the keeper until `isDone`, giving up after `milliseconds` without an end or when it halts.
  package func drive(milliseconds: UInt64 = .max, until isDone: () -> Bool) throws(ElideError) {
    try engine.drive(keeper, wake, milliseconds: milliseconds, until: isDone)
  }

  /// Ships everything and publishes the page log: any host can open the volume after it. Returns the cut.
  package func publish(milliseconds: UInt64 = 120_000) throws(ElideError) -> Cut {
    let reply = Reply<Void>()
    _ = keeper.requests.send(.finish(ship: true, reply))
    try drive(milliseconds: milliseconds) { reply.poll() != nil }
    if case .failure(let error) = reply.poll() { throw error }
    guard let last = keeper.pageLog.last else { throw ElideError(.failed, "volume \(volume) has no page") }
    return Cut(volume: volume, seq: last.cut, page: last.page, pageHash: last.hash)
  }

  /// Closes the journal; the place stays `prepared`'s. Safe to call twice.
  package func close() {
    guard !isClosed else { return }
    isClosed = true
    journalStore.close()
  }
}

extension Engine {
  func context(_ volume: ULID, key: SigningKey, grant: ServiceGrant? = nil) -> KeeperContext {
    let names = names
    return KeeperContext(
      volume: volume, directory: directory.volume(volume), key: key,
      identity: JournalIdentity(
        actor: host.id, incarnation: ULID(clock: world.clock, random: world.random), epoch: grant?.epoch ?? 0), world: world,
      store: store, executor: executor, cache: cache, reserve: reserve, configuration: configuration, retry: retry,
      ownership: grant.map { OwnershipCheck(names, $0) },
      judge: EndJudge { (name) throws(ElideError) in try names.log(name) })
  }

  /// Makes a new volume's place for `name`: when it returns directory and key are on disk, and the row says so.
  package func prepareVolume(_ name: String, _ kind: Making.Kind) throws(ElideError) -> PreparedVolume {
    if let fault = VolumeName.fault(name) { throw ElideError(.usage, "the name '\(name)' \(fault)") }
    _ = try StoreFormat.readOrMake(store, world)
    try StoreFormat.publish(host, to: store)
    let making = Making(name: name, volume: ULID(clock: world.clock, random: world.random), kind: kind)
    let place = directory.volume(making.volume)
    var ready = false
    defer { if !ready { world.files.removeTree(place.root) } }
    do throws(Errno) { try place.make(world.files) } catch { throw ElideError(error, doing: "make \(place.root)") }
    let lock = try VolumeLock.take(world.files, place, making.volume)
    defer { if !ready { world.files.close(lock) } }
    // Locked before others can know of it: whoever finds the row and the lock free knows that its maker is gone.
    try names.begin(making)
    do throws(ElideError) {
      let key = try KeyFile.readOrMake(world, place.key)
      ready = true
      return PreparedVolume(engine: self, making: making, key: key, lock: lock)
    } catch {
      try? names.end(making)
      throw error
    }
  }

  /// Takes over what a process that is gone was making. `.owned` while it lives; nil when nothing of it is on disk.
  package func takeOver(_ making: Making) throws(ElideError) -> PreparedVolume? {
    let place = directory.volume(making.volume)
    guard world.files.exists(place.root) else { return nil }
    let lock = try VolumeLock.take(world.files, place, making.volume)
    do throws(ElideError) {
      let key = try KeyFile.readOrMake(world, place.key)
      return PreparedVolume(engine: self, making: making, key: key, lock: lock)
    } catch {
      world.files.close(lock)
      throw error
    }
  }

  fileprivate func begin(
    _ prepared: PreparedVolume, _ inherited: BaseState?, _ checkpoint: CheckpointLocator?, _ genesis: ([UInt8]) -> VolumeEvent
  ) throws(ElideError) -> NewVolume {
    let volume = prepared.volume
    let context = context(volume, key: prepared.key)
    let journalStore: any JournalStore
    do throws(JournalError) { journalStore = try journals.open(context.directory, write: true) } catch {
      throw ElideError(error, volume)
    }
    var ready = false
    defer { if !ready { journalStore.close() } }
    let journal = Journal(
      store: journalStore, log: context.log, identity: context.identity, clock: world.clock, random: world.random)
    let event = genesis(context.key.publicKey)
    let tables = VolumeTables(VolumeFold(volume: volume, inherited: inherited))
    if let fault = tables.state.fault(event) { throw ElideError(.usage, "the volume cannot be made: \(fault)") }
    var recovered = RecoveredKeeper()
    do throws(JournalError) {
      for committed in try journal.append([event]) {
        do throws(FoldError<JournalError>) {
          try tables.apply(committed) { (digest) throws(JournalError) in try journal.blob(digest) }
        } catch { throw JournalError.damaged("\(error)") }
      }
      if let checkpoint, let head = journal.head {
        recovered.checkpoint = try keepOwn(context, tables, head)
        recovered.checkpointedSize = tables.state.size
        recovered.pageLog.checkpoint = checkpoint
        _ = try journal.append(
          [], rows: [(RowKey.checkpoint, recovered.checkpoint?.encodeRow()), (RowKey.pages, recovered.pageLog.encodeRow())])
      }
    } catch { throw ElideError(error, volume) }
    try publishDocument(prepared, size: tables.state.size, lineage: tables.state.lineage)
    let wake = try waiter.makeWake()
    let keeper = VolumeKeeper(
      context: context, journal: journal, tables: tables, segments: VolumeSegments(directory: tables.directory, cache: cache),
      encodings: Encodings(store: store), recovered: recovered, front: Mailbox(capacity: 16), wake: { wake.signal() })
    keeper.wantsCheckpoint = inherited != nil && checkpoint == nil
    ready = true
    return NewVolume(prepared, keeper: keeper, tables: tables, journalStore: journalStore, wake: wake)
  }

  /// The checkpoint that a fork is opened from on this host, whichever its first page names.
  private func keepOwn(_ context: KeeperContext, _ tables: VolumeTables, _ head: JournalHead) throws(JournalError)
    -> LocalCheckpoint
  {
    let map = MapCheckpoint(
      volume: context.volume, seq: head.seq, map: tables.map, rows: tables.rows, state: tables.state.encode())
    let bytes = map.encode(ZstdCodec())
    let digest = Digest.sha256(bytes)
    let kept = LocalCheckpoint(
      locator: CheckpointLocator(
        volume: context.volume, key: StoreLayout.checkpoint(context.volume, seq: head.seq, digest: digest), seq: head.seq,
        root: map.root, length: UInt64(bytes.count), digest: digest),
      entryHash: head.hash, horizon: 0, storage: .local)
    do throws(Errno) { try world.files.replaceFile("\(context.directory.maps)/\(kept.fileName)", with: bytes) } catch {
      throw error == .noSpace ? .noSpace("\(context.directory.maps)") : .refused("\(context.directory.maps): \(error)")
    }
    return kept
  }

  /// `volume.toml`: size, key and lineage for whoever reads the volume. Puts nothing when it is there.
  package func publishDocument(_ prepared: PreparedVolume, size: UInt64, lineage: Lineage?) throws(ElideError) {
    let created = Timestamp.text(milliseconds: world.clock.wallMilliseconds())
    let document = VolumeDocument(
      volume: prepared.volume, size: size, key: prepared.key.publicKey, lineage: lineage, created: created)
    let bytes = document.encode { prepared.key.sign($0) }
    do throws(StoreError) { try store.occupy(StoreLayout.document(prepared.volume), bytes) } catch { throw ElideError(error) }
  }

  // MARK: Driving

  /// Steps a keeper on this thread until `isDone`.
  func drive(_ keeper: VolumeKeeper, _ wake: WakeEvent, milliseconds: UInt64 = .max, until isDone: () -> Bool) throws(ElideError)
  {
    let begin = world.clock.monotonicNanoseconds()
    let limit = milliseconds == .max ? UInt64.max : milliseconds * 1_000_000
    while !isDone() {
      wake.clear()
      while keeper.step() {}
      if isDone() { return }
      if keeper.isHalted {
        throw ElideError(
          keeper.haltReason?.kind ?? .failed, "volume \(keeper.context.volume) halted: \(keeper.haltReason?.detail ?? "")")
      }
      let now = world.clock.monotonicNanoseconds()
      if now - begin > limit {
        throw ElideError(
          .tryLater, "volume \(keeper.context.volume): \(keeper.lastError ?? "not done in \(milliseconds) ms"); try again")
      }
      waiter.wait(wake, untilNanoseconds: min(keeper.deadline, limit == .max ? .max : begin + limit + 1), clock: world.clock)
    }
  }
}

/// How a thread that drives a keeper waits for what other threads do. In a simulator one thread is all there is: it runs
/// one of their jobs, or moves the clock.
package protocol Waiter: AnyObject, Sendable {
  func makeWake() throws(ElideError) -> WakeEvent
  /// Returns when `wake` was signalled, at the deadline, or earlier.
  func wait(_ wake: WakeEvent, untilNanoseconds deadline: UInt64, clock: any Clock)
}

package final class HostWaiter: Waiter {
  package init() {}
  package func makeWake() throws(ElideError) -> WakeEvent {
    do throws(Errno) { return try WakeEvent() } catch { throw ElideError(error, doing: "make an event") }
  }
  package func wait(_ wake: WakeEvent, untilNanoseconds deadline: UInt64, clock: any Clock) {
    let now = clock.monotonicNanoseconds()
    if deadline > now { wake.wait(milliseconds: Int32(min((deadline - now) / 1_000_000 + 1, 60_000))) }
  }
}
