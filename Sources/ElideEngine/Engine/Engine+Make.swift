import ElideEvents
import ElideIO
import ElideProjections

/// A volume that is being made: reserved, with a directory, a key, a journal with its genesis, and a keeper without a
/// device. Either `publish` ends it, or `abandon`; a crash leaves a reserved name that the next create takes over.
///
/// Owned by one thread.
package final class NewVolume {
  package let engine: Engine
  package let name: String
  package let volume: ULID
  package let keeper: VolumeKeeper
  package let tables: VolumeTables
  private let context: KeeperContext
  private let row: NameRow
  private let lock: FileID
  private let journalStore: any JournalStore
  private let wake: WakeEvent
  private var isOver = false

  init(
    engine: Engine, name: String, context: KeeperContext, keeper: VolumeKeeper, tables: VolumeTables, row: NameRow, lock: FileID,
    journalStore: any JournalStore, wake: WakeEvent
  ) {
    self.engine = engine
    self.name = name
    self.context = context
    volume = context.volume
    self.keeper = keeper
    self.tables = tables
    self.row = row
    self.lock = lock
    self.journalStore = journalStore
    self.wake = wake
  }

  /// Steps the keeper until `isDone`, giving up after `milliseconds` without an end or when it halts.
  package func drive(milliseconds: UInt64 = .max, until isDone: () -> Bool) throws(ElideError) {
    try engine.drive(keeper, wake, milliseconds: milliseconds, until: isDone)
  }

  /// Ships everything, publishes the page log, and makes the name usable.
  package func publish(flags: NameRow.Flags = [], milliseconds: UInt64 = 120_000) throws(ElideError) -> VolumeSummary {
    let reply = Reply<Void>()
    _ = keeper.requests.send(.finish(ship: true, reply))
    try drive(milliseconds: milliseconds) { reply.poll() != nil }
    if case .failure(let error) = reply.poll() { throw error }
    var ready = row
    ready.flags = flags
    guard try engine.names.replace(name, row, with: ready) else {
      throw ElideError(.failed, "the name '\(name)' was taken by another process meanwhile")
    }
    release()
    return engine.summary(ready, tables.state)
  }

  /// Gives everything on this host back; what the store already has of it is nobody's. Safe to call after `publish`.
  package func abandon() {
    guard !isOver else { return }
    release()
    context.world.files.removeTree(context.directory.root)
    context.world.files.removeTree(engine.cache.directory(volume))
    _ = try? engine.names.replace(name, row, with: nil)
  }

  private func release() {
    guard !isOver else { return }
    isOver = true
    journalStore.close()
    context.world.files.close(lock)
  }
}

extension Engine {
  func context(_ volume: ULID, key: SigningKey) -> KeeperContext {
    KeeperContext(
      volume: volume, directory: directory.volume(volume), key: key,
      identity: JournalIdentity(actor: host.id, incarnation: ULID(clock: world.clock, random: world.random)), world: world,
      store: store, executor: executor, cache: cache, reserve: reserve, configuration: configuration, retry: retry)
  }

  /// Makes a volume up to its genesis, which `genesis` gives for the volume's new key. `inherited`: what a fork begins
  /// with; its first page names `checkpoint` (a parent's) when that is exactly there, or one of its own.
  package func makeVolume(
    name: String, inherited: BaseState? = nil, checkpoint: CheckpointLocator? = nil, genesis: ([UInt8]) -> VolumeEvent
  ) throws(ElideError) -> NewVolume {
    if let fault = VolumeName.fault(name) { throw ElideError(.usage, "the name '\(name)' \(fault)") }
    _ = try StoreFormat.readOrMake(store, world)
    try StoreFormat.publish(host, to: store)
    let volume = ULID(clock: world.clock, random: world.random)
    let row = try reserve(name, volume)
    var ready = false
    defer { if !ready { _ = try? names.replace(name, row, with: nil) } }
    let made = try begin(row, inherited, checkpoint, genesis)
    ready = true
    return made
  }

  /// Puts the name's row, or takes over what a crash left of an earlier attempt.
  private func reserve(_ name: String, _ volume: ULID) throws(ElideError) -> NameRow {
    let row = NameRow(name: name, volume: volume, flags: .creating)
    let seen = try names.get(name)
    if let seen {
      guard seen.flags.contains(.creating) else {
        throw ElideError(.usage, "the name '\(name)' is taken, by volume \(seen.volume)")
      }
      let left = directory.volume(seen.volume)
      if world.files.exists(left.root) {
        let lock = try VolumeLock.take(world.files, left, seen.volume)
        defer { world.files.close(lock) }
        world.files.removeTree(left.root)
      }
      // What an import had not uploaded is kept from eviction.
      world.files.removeTree(cache.directory(seen.volume))
    }
    guard try names.replace(name, seen, with: row) else {
      throw ElideError(.usage, "the name '\(name)' is being taken by another process")
    }
    return row
  }

  private func begin(
    _ row: NameRow, _ inherited: BaseState?, _ checkpoint: CheckpointLocator?, _ genesis: ([UInt8]) -> VolumeEvent
  ) throws(ElideError) -> NewVolume {
    let files = world.files
    let place = directory.volume(row.volume)
    var ready = false
    defer { if !ready { files.removeTree(place.root) } }
    do throws(Errno) { try place.make(files) } catch { throw ElideError(error, doing: "make \(place.root)") }
    let lock = try VolumeLock.take(files, place, row.volume)
    defer { if !ready { files.close(lock) } }
    let context = context(row.volume, key: try KeyFile.readOrMake(world, place.key))
    let journalStore: any JournalStore
    do throws(JournalError) { journalStore = try journals.open(place, write: true) } catch { throw ElideError(error, row.volume) }
    defer { if !ready { journalStore.close() } }
    let journal = Journal(
      store: journalStore, log: context.log, identity: context.identity, clock: world.clock, random: world.random)
    let event = genesis(context.key.publicKey)
    let tables = VolumeTables(VolumeFold(volume: row.volume, inherited: inherited))
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
    } catch { throw ElideError(error, row.volume) }
    try publishDocument(context, tables.state)
    let wake = try waiter.makeWake()
    let keeper = VolumeKeeper(
      context: context, journal: journal, tables: tables, segments: VolumeSegments(directory: tables.directory, cache: cache),
      encodings: Encodings(store: store), recovered: recovered, front: Mailbox(capacity: 16), wake: { wake.signal() })
    keeper.wantsCheckpoint = inherited != nil && checkpoint == nil
    ready = true
    return NewVolume(
      engine: self, name: row.name, context: context, keeper: keeper, tables: tables, row: row, lock: lock,
      journalStore: journalStore, wake: wake)
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

  private func publishDocument(_ context: KeeperContext, _ state: VolumeState) throws(ElideError) {
    let created = Timestamp.text(milliseconds: world.clock.wallMilliseconds())
    let document = VolumeDocument(
      volume: context.volume, size: state.size, key: context.key.publicKey, lineage: state.lineage, created: created)
    let bytes = document.encode { context.key.sign($0) }
    do throws(StoreError) { try store.occupy(StoreLayout.document(context.volume), bytes) } catch {
      throw ElideError(error)
    }
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
