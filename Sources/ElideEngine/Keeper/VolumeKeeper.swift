import CElide
import ElideEvents
import ElideIO
import ElideProjections
import Synchronization

// The keeper of a volume in service: the one writer of its journal, its projections and its page log.
//
//   front ──KeeperMessage──▶ inbox ┐                  ┌─▶ journal (append, then apply)
//   others ─KeeperRequest─▶ requests ├──▶ step() ─────┼─▶ FrontMessage ─▶ front
//   lanes ───LaneResult───▶ results ┘                  └─▶ jobs on the ship and fetch lanes
//
// Order, whatever fails: a write-ahead file is durable before `wal_opened`; it is sealed only when closed and synced, and
// in the order of numbers; `segment_encoded` commits before the first byte of a body leaves, `segment_uploaded` after the
// store has it; a page's bytes are durable here before they are put; a checkpoint is named in the journal before it is put.
// A store request that fails is tried again later; a journal that fails halts the volume.

/// One idea per extension file: `+Mail` (messages), `+Wals` (prepare, seal, retire), `+Ship` (encode, upload), `+Pages`
/// (freeze, put, settle), `+Checkpoints`, `+Rounds` (cuts, snapshots, resizes, the end).
///
/// Owned by one thread, which calls `step` until it returns false, and again when woken or at `deadline`. Mailboxes and
/// `status` are for any thread. Crash meaning: everything in here is rebuilt from the journal, its rows and the files.
package final class VolumeKeeper: Stepper {
  let context: KeeperContext
  let journal: Journal
  let tables: VolumeTables
  let segments: VolumeSegments
  let encodings: Encodings
  let fetcher: Fetcher
  let fetches: FetchDesk

  package let inbox: Mailbox<KeeperMessage>
  package let requests: Mailbox<KeeperRequest>
  let results: Mailbox<LaneResult>
  let front: Mailbox<FrontMessage>
  /// Messages the front's box had no room for.
  var outbox: [FrontMessage] = []

  var wals: [UInt64: KeptWal] = [:]
  var wantsWal: Bool
  var walBackoff: Backoff
  /// Of its own: on a full disk no file can be made, and what is there can still go to the store.
  var sealBackoff: Backoff
  /// A segment whose file the next write-ahead file will be made of, and where to look for others (`+Spares`).
  var spare: UInt64?
  /// The first of this process.
  let firstWal: UInt64
  var emptyHand: UInt64 = 0
  var fullHand: UInt64 = 0
  /// Flushes until the newest file was prepared.
  var flushesSeen = StageTally()
  /// The oldest unsealed file, on its way to be sealed.
  var judging = Judging.nobody
  /// The chain after the last sealed wal.
  var chain: WALChain
  var dedup = DedupIndex()

  /// What the front may write just now.
  var writes = WriteGate()
  /// Since when no file can be made for want of space; and that the front was told.
  var fullSince: UInt64?
  var isFullSaid = false

  var shipments: [UInt64: Shipment] = [:]
  var unsentBytes: UInt64 = 0

  var pageLog: PageLog
  var intent: PageIntent?
  var isPuttingPage = false
  var pageBackoff: Backoff
  var hint: HintState = .current
  /// When the oldest entry that no page has was appended; nil when there is none.
  var waitingSince: UInt64?
  /// Bytes of contents sealed since the last page.
  var waitingBytes: UInt64 = 0

  var checkpoint: LocalCheckpoint?
  /// The volume's size in it.
  var checkpointedSize: UInt64
  var wantsCheckpoint = false
  var lastSealedSeq: UInt64?
  var isPuttingCheckpoint = false
  var checkpointBackoff: Backoff
  /// Bytes of contents sealed since the newest checkpoint.
  var bytesSinceCheckpoint: UInt64 = 0
  /// A checkpoint is wanted at the very entry that seals this wal.
  var checkpointAfterSeal: Set<UInt64> = []

  var round: CutRound?
  var waiting: [KeeperRequest] = []
  var nextToken: UInt64 = 1
  var lastRound: UInt64
  /// A page must reach this entry as soon as uploads allow.
  var forcedPoint: UInt64?
  var awaiting: [(point: UInt64, who: Awaiting)] = []
  var publishedSnapshots = false
  /// A device writes this volume.
  let isServed: Bool
  var ending: Ending?

  var haltReason: KeeperHalt?
  private var nextSweep: UInt64 = 0
  /// When the name's log was asked last, and that an answer is on its way.
  var ownerAsked: UInt64
  var isAskingOwner = false
  var counters = KeeperCounters()
  var lastError: String?
  /// For status alone.
  var exposure = Exposure()
  var snapshotSizes: [ULID: UInt64] = [:]
  /// For other threads.
  package let port: KeeperPort

  package init(
    context: KeeperContext, journal: Journal, tables: VolumeTables, segments: VolumeSegments, encodings: Encodings,
    recovered: RecoveredKeeper, front: Mailbox<FrontMessage>, wake: @escaping @Sendable () -> Void
  ) {
    self.context = context
    self.journal = journal
    self.tables = tables
    self.segments = segments
    self.encodings = encodings
    self.front = front
    // Trying again is the desk's.
    fetcher = Fetcher(store: context.store, segments: segments, encodings: encodings, retry: context.retry.once)
    fetches = FetchDesk(
      fetcher: fetcher, store: context.store, executor: context.executor, front: front, clock: context.world.clock,
      patience: .init(context.configuration), wake: wake)
    inbox = Mailbox(capacity: 4096, wake: wake)
    port = KeeperPort(
      volume: context.volume, clock: context.world.clock, openBytes: context.openBytes, store: context.store,
      faults: fetches.faults, wake: wake)
    requests = port.requests
    results = Mailbox(capacity: 1024, wake: wake)
    wals = recovered.wals
    firstWal = tables.state.nextSegment
    chain = recovered.chain
    pageLog = recovered.pageLog
    intent = recovered.intent
    checkpoint = recovered.checkpoint
    checkpointedSize = recovered.checkpointedSize
    lastSealedSeq = tables.state.segments.values.map(\.sealedSeq).max()
    wantsWal = recovered.isServed
    isServed = recovered.isServed
    lastRound = context.now
    ownerAsked = context.now
    let backoff = Backoff(context.configuration)
    // A disk answers at once, and whoever waits for it is the guest.
    walBackoff = Backoff(context.configuration, longestMilliseconds: 2000)
    sealBackoff = walBackoff
    pageBackoff = backoff
    checkpointBackoff = backoff
    if let head = journal.head, head.seq >= pageLog.nextSeq { waitingSince = context.now }
    for segment in tables.state.ordered where !segment.isSafe { addShipment(segment.number, blocks: segment.blocks) }
    inheritExposure()
    publishStatus()
  }

  // MARK: Stepping

  /// Does one bounded piece of work; false when there is nothing to do before the next message or `deadline`.
  package func step() -> Bool {
    if haltReason != nil { return stepHalted() }
    do throws(KeeperHalt) {
      let worked = try work()
      if worked { publishStatus() }
      return worked
    } catch {
      noteFence(error)
      halt(error)
      return true
    }
  }

  private func work() throws(KeeperHalt) -> Bool {
    if flushOutbox() { return true }
    // However much there is to do.
    if stepOwner() { return true }
    if try takeMail() { return true }
    if fetches.step() { return true }
    if stepPressure() { return true }
    if try takeResult() { return true }
    if try takeRequest() { return true }
    // A snapshot's checkpoint comes before anything later is sealed.
    if try stepCheckpoint() { return true }
    if try prepareWal() { return true }
    if try sealNext() { return true }
    if try retireNext() { return true }
    if try shipNext() { return true }
    if try stepRound() { return true }
    if try stepPage() { return true }
    if try stepEnding() { return true }
    tables.map.reclaim()
    sweepSegments()
    return false
  }

  /// Closes what was evicted. That a file was, the system is asked once a second at most: a call for each.
  private func sweepSegments() {
    if context.now >= nextSweep {
      nextSweep = context.now &+ 1_000_000_000
      segments.sweep()
    }
    segments.closeRetired()
  }

  /// When `step` has something to do though no message came: nanoseconds of the monotonic clock.
  package var deadline: UInt64 {
    let now = context.now
    var next = now &+ 60_000_000_000
    func consider(_ t: UInt64) { if t > now && t < next { next = t } }
    consider(walBackoff.notBefore)
    consider(sealBackoff.notBefore)
    consider(pageBackoff.notBefore)
    consider(checkpointBackoff.notBefore)
    for s in shipments.values { consider(s.backoff.notBefore) }
    consider(roundDue)
    consider(pageDue ?? 0)
    consider(fetches.deadline)
    consider(ownerDue)
    consider(writes.deadline(now, context.configuration))
    return next
  }

  package var isHalted: Bool { haltReason != nil }
  package var isFinished: Bool { ending?.phase == .done || haltReason != nil }

  // MARK: The journal

  /// Appends events and folds them: the only place where this process changes the volume's history. False, and nothing
  /// appended, when the disk is full; the caller tries later.
  func append(
    _ events: [VolumeEvent], blobs: [KeptBlob] = [], rows: [(key: String, value: [UInt8]?)] = []
  ) throws(KeeperHalt) -> Bool {
    // Several events of one append may build on each other; the first is what can be checked beforehand.
    if let first = events.first, let fault = tables.state.fault(first) {
      throw KeeperHalt(.failed, "\(context.log): \(first.kind): \(fault)")
    }
    guard let committed = try commit(events, blobs, rows) else { return false }
    for entry in committed { try fold(entry, blobs) }
    if !committed.isEmpty && waitingSince == nil { waitingSince = context.now }
    return true
  }

  /// nil, and nothing appended, when the disk is full and the host's reserve is spent.
  private func commit(
    _ events: [VolumeEvent], _ blobs: [KeptBlob], _ rows: [(key: String, value: [UInt8]?)]
  ) throws(KeeperHalt) -> [Committed<VolumeEvent>]? {
    while true {
      do throws(JournalError) { return try journal.append(events, blobs: blobs.map(\.bytes), rows: rows) } catch {
        guard case .noSpace(let detail) = error else { throw KeeperHalt(ElideError(error, context.volume)) }
        // Nothing was appended. More than once when others use what this gave back.
        if context.reserve.spend() { continue }
        lastError = "the journal's disk is full: \(detail)"
        return nil
      }
    }
  }

  private func fold(_ entry: Committed<VolumeEvent>, _ blobs: [KeptBlob]) throws(KeeperHalt) {
    let violation: Violation?
    do throws(FoldError<JournalError>) {
      violation = try tables.apply(entry) { (digest) throws(JournalError) in
        if let blob = blobs.first(where: { $0.digest == digest }) { return blob.bytes }
        return try self.journal.blob(digest)
      }
    } catch {
      throw KeeperHalt(.fault, "\(context.log), entry \(entry.seq): \(error)")
    }
    if let violation { throw KeeperHalt(.failed, "\(context.log): \(violation)") }
  }

  // MARK: Halting

  func halt(_ why: KeeperHalt) {
    guard haltReason == nil else { return }
    haltReason = why
    outbox.append(why.kind == .fenced ? .fenced(reason: why.detail) : .halted(reason: why.detail))
    let error = ElideError(why.kind, "volume \(context.volume) halted: \(why.detail)")
    for request in waiting { refuse(request, error) }
    waiting = []
    round?.refuse(error)
    round = nil
    for (_, who) in awaiting {
      switch who {
      case .cut(let reply): reply.answer(.failure(error))
      case .snapshot(_, let reply): reply.answer(.failure(error))
      }
    }
    awaiting = []
    ending?.answer(.failure(error))
    _ = flushOutbox()
    publishStatus()
  }

  private func stepHalted() -> Bool {
    if flushOutbox() { return true }
    guard let why = haltReason else { return false }
    if let request = requests.receive() {
      refuse(request, ElideError(why.kind, "volume \(context.volume) halted: \(why.detail)"))
      return true
    }
    if results.receive() != nil { return true }
    if fetches.step() { return true }
    guard let message = inbox.receive() else {
      sweepSegments()
      return false
    }
    // Reads of what lies in the store go on: they harm nothing. But not of a name that is another's now.
    if why.kind == .fenced { return true }
    switch message {
    case .wanted(let segment, let r, let count):
      fetch(segment, r, count)
      publishStatus()
    case .ahead(let segment, let r, let count): fetches.ahead(segment, r, count)
    default: break
    }
    return true
  }

  func refuse(_ request: KeeperRequest, _ error: ElideError) {
    switch request {
    case .cut(let reply): reply.answer(.failure(error))
    case .snapshot(_, _, let reply): reply.answer(.failure(error))
    case .resize(_, let reply): reply.answer(.failure(error))
    case .finish(_, let reply): reply.answer(.failure(error))
    }
  }

  /// After the last step, when nobody reads the device any more: closes the write-ahead files that did not become cache.
  package func closeFiles() {
    for wal in wals.values where wal.file != .none { context.world.files.close(wal.file) }
    wals = [:]
  }

  // MARK: Status

  package var status: VolumeStatus { port.status }

  func publishStatus() { port.publish(makeStatus()) }
}

/// What threads other than the keeper's may touch of it: its box of requests and its last status.
package final class KeeperPort: Sendable {
  package let requests: Mailbox<KeeperRequest>
  private let published: Mutex<VolumeStatus>
  private let clock: any Clock
  private let openBytes: OpenBytes
  private let store: WatchedStore
  private let faults: ReadFaults

  init(
    volume: ULID, clock: any Clock, openBytes: OpenBytes, store: WatchedStore, faults: ReadFaults,
    wake: @escaping @Sendable () -> Void
  ) {
    self.clock = clock
    self.openBytes = openBytes
    self.store = store
    self.faults = faults
    requests = Mailbox(capacity: 64, wake: wake)
    published = Mutex(VolumeStatus(volume: volume))
  }

  /// As of the keeper's last step; what the front has written since, and how old all that is, as of now.
  package var status: VolumeStatus {
    var s = published.withLock { $0 }
    s.unsealedBytes += openBytes.bytes
    let now = clock.monotonicNanoseconds()
    if let since = s.exposedSince { s.exposureMilliseconds = (now &- since) / 1_000_000 }
    if let since = store.silentSince { s.unreachableMilliseconds = max(1, (now &- min(now, since)) / 1_000_000) }
    (s.failedReads, s.lastReadError) = (faults.count, faults.last)
    return s
  }
  func publish(_ status: VolumeStatus) { published.withLock { $0 = status } }

  /// Publishes everything written until now; the answer is the cut.
  package func cut() -> Reply<UInt64> { ask { .cut($0) } }
  /// With `publish` the answer comes once other hosts can open the snapshot.
  package func snapshot(label: String, publish: Bool) -> Reply<SnapshotInfo> {
    ask { .snapshot(label: label, publish: publish, $0) }
  }
  /// Grows the device; the answer is the new size.
  package func resize(_ size: UInt64) -> Reply<UInt64> { ask { .resize(size, $0) } }

  private func ask<T>(_ request: (Reply<T>) -> KeeperRequest) -> Reply<T> {
    let reply = Reply<T>()
    if !requests.send(request(reply)) { reply.answer(.failure(ElideError(.tryLater, "too many requests are waiting"))) }
    return reply
  }
}
