import CElide
import ElideIO
import ElideProjections
import Glibc

// The front of a volume in service: what the I/O thread owns of it.
//
//   submit ─ read ──▶ overlay, base, local files ──▶ done        ├─▶ `.wanted`, and again at `.fetched`
//          └ write ─▶ appender gathers ─ commit ─▶ one append ─▶ overlay ─▶ completion
//            flush ─▶ sync round (sync lane) ─▶ completion
//
// Nothing here waits. A write that finds no prepared file is stalled and goes on at `.walReady`; a request whose block is
// not local is parked and goes on at `.fetched`; a flush is answered when its round is over.

/// A volume as a block device. One file per idea: `+Read`, `+Write`, `+Sync`, `+Mail`, `+Status`.
///
/// Owned by one thread, which calls every member (`SyncRound` is what it shares with the sync lane). In the steady state a
/// request allocates nothing. Crash meaning: what was acknowledged is in the write-ahead files, what was flushed is durable
/// there; everything in here is rebuilt from them, the journal and the map.
package final class VolumeDevice: BlockDevice {
  /// Where the device gets files, threads and its keeper from.
  package struct Parts {
    package var volume: ULID
    package var size: UInt64
    package var map: BlockMap
    package var sources: any SegmentSources
    package var files: any Files
    package var executor: any Executor
    package var fromKeeper: Mailbox<FrontMessage>
    package var toKeeper: Mailbox<KeeperMessage>
    /// Signalled when `fromKeeper` has something, and by the device itself when work is left.
    package var wake: WakeEvent
    package var limits: FrontLimits
    package var stages: StageCounters
    package var openBytes: OpenBytes

    package init(
      volume: ULID, size: UInt64, map: BlockMap, sources: any SegmentSources, files: any Files, executor: any Executor,
      fromKeeper: Mailbox<FrontMessage>, toKeeper: Mailbox<KeeperMessage>, wake: WakeEvent,
      limits: FrontLimits = FrontLimits(), stages: StageCounters = StageCounters(),
      openBytes: OpenBytes = OpenBytes()
    ) {
      self.volume = volume
      self.size = size
      self.map = map
      self.sources = sources
      self.files = files
      self.executor = executor
      self.fromKeeper = fromKeeper
      self.toKeeper = toKeeper
      self.wake = wake
      self.limits = limits
      self.stages = stages
      self.openBytes = openBytes
    }
  }

  /// How it writes: nil for a device that only reads.
  package struct Log {
    package var incarnation: ULID
    package var geometry: WALGeometry
    package var recovered: RecoveredLog
    package init(incarnation: ULID, geometry: WALGeometry, recovered: RecoveredLog) {
      self.incarnation = incarnation
      self.geometry = geometry
      self.recovered = recovered
    }
  }

  package let volume: ULID
  package internal(set) var size: UInt64
  package let isReadOnly: Bool
  package var sink: (any CompletionSink)?
  package internal(set) var counters = FrontCounters()

  let map: BlockMap
  let sources: any SegmentSources
  let files: any Files
  let executor: any Executor
  let fromKeeper: Mailbox<FrontMessage>
  let toKeeper: Mailbox<KeeperMessage>
  let wake: WakeEvent
  let limits: FrontLimits
  let stages: StageCounters
  let openBytes: OpenBytes

  var overlay: Overlay
  var wals: FrontWALs
  var appender: Appender
  /// Prepared files that are not appended to yet, in order.
  var ready: [(number: UInt64, file: FileID)] = []

  var slab = RequestSlab(capacity: 256)
  /// Requests all of whose bytes are gathered: completed by the append.
  var gatheredRequests = RequestList()
  /// Writes that wait for a file or for credit, in order; everything that would write goes behind them.
  var stalled = RequestList()
  /// Writes that wait for a block to merge into, and writes behind them that touch the same blocks, in order.
  var gated = RequestList()
  var lastSerial: UInt64 = 0
  var credit = WriteCredit()
  /// Reads that wait for a fetch.
  var missing = RequestList()
  /// Of `.wanted`: not answered yet.
  var fetchesUnderWay = 0
  var blocksUnderWay: UInt32 = 0
  /// What fetches brought and the disk did not take: from `.fetched` to the end of that poll.
  var lent: [LentBlocks] = []
  /// Who reads in sequence, and what is under way ahead of them.
  var streams: ReadStreams
  package internal(set) var aheadUnderWay = 0
  var aheadRanges: [AheadRange] = []
  /// All of the volume, on its way into the cache.
  package internal(set) var prefetching: PrefetchProgress?
  /// Flushes and FUA writes that wait for the next round, and those of the round that runs.
  var unsyncedWaiters = RequestList()
  var roundWaiters = RequestList()
  /// Ended, and not told yet.
  var finished = RequestList()

  let round: SyncRound
  var isRoundRunning = false
  /// When the round that runs began, and what had been appended by then and by the one before.
  var roundStart: UInt64 = 0
  var roundBytes: UInt64 = 0
  var syncedBytes: UInt64 = 0
  /// Every frame up to this is durable.
  var durable: UInt64
  /// The errno that ended writing: nothing is appended or reported durable after it.
  var failure: Int32 = 0
  var failureSaid = true
  /// Reads fail too.
  package private(set) var isFenced = false
  var failedWAL: UInt64 = 0
  /// Files dropped of which the keeper has not heard, for want of room in its box.
  var pendingDropped: [UInt64] = []
  var barriers: [(token: UInt64, after: UInt64)] = []
  /// Dirty bytes of the open file since write-back was last started.
  var unstarted = 0
  var writebackFrom: UInt64 = 0

  /// Blocks put together from a guest's bytes and what was there, in place until the append.
  let merged: UnsafeMutableRawPointer
  var mergedCount = 0
  static let mergedLimit = 256
  let scratch: UnsafeMutableRawPointer
  /// The places of one read that goes over many.
  let pieces: UnsafeMutablePointer<elide_piece>
  static let pieceCapacity = 256

  package init(_ parts: Parts, log: Log?) {
    volume = parts.volume
    size = parts.size
    isReadOnly = log == nil
    map = parts.map
    sources = parts.sources
    files = parts.files
    executor = parts.executor
    fromKeeper = parts.fromKeeper
    toKeeper = parts.toKeeper
    wake = parts.wake
    limits = parts.limits
    stages = parts.stages
    openBytes = parts.openBytes
    wals = FrontWALs(parts.files)
    overlay = Overlay(blocks: (parts.size + 4095) / 4096)
    streams = ReadStreams(parts.limits.readAhead)
    aheadRanges.reserveCapacity(Self.mostRanges)
    let chain = log?.recovered.end ?? .genesis
    appender = Appender(
      volume: parts.volume, incarnation: log?.incarnation ?? ULID(high: 0, low: 0), geometry: log?.geometry ?? WALGeometry(),
      chain: chain)
    durable = chain.frame
    round = SyncRound(files: parts.files, wake: parts.wake)
    merged = .allocate(byteCount: Self.mergedLimit * WALFormat.block, alignment: WALFormat.block)
    scratch = .allocate(byteCount: WALFormat.block, alignment: WALFormat.block)
    pieces = .allocate(capacity: Self.pieceCapacity)
    map.registerReader()
    if let log { for wal in log.recovered.wals { adopt(wal) } }
  }

  deinit {
    round.retire()
    map.unregisterReader()
    merged.deallocate()
    scratch.deallocate()
    pieces.deallocate()
  }

  package var wakeDescriptor: Int32 { wake.descriptor }

  /// Takes in what recovery kept of a file: closed, durable, and known to the keeper.
  private func adopt(_ recovered: RecoveredWAL) {
    let scan = recovered.scan
    guard !scan.frames.isEmpty else { return }
    overlay.reserve(scan.records.reduce(0) { $0 + ($1.kind != .data && $1.count > Overlay.longRun ? 0 : Int($1.count)) })
    var wal = FrontWAL(
      number: recovered.number, file: recovered.file, blocks: scan.endPosition, records: scan.records.count,
      chain: scan.end ?? .genesis, files: files)
    for (ordinal, r) in scan.records.enumerated() {
      overlay.insert(
        lba: r.lba, count: r.count, kind: r.kind, position: Int(r.position),
        order: Overlay.order(wal: recovered.number, ordinal: ordinal))
      wal.note(lba: r.lba, count: r.count, kind: r.kind)
      if r.kind == .data { for i in 0..<Int(r.count) { wal.crcs[Int(r.position) + i] = scan.blockCRCs[r.firstCRC + i] } }
    }
    wal.closed = true
    wal.announced = true
    wal.halfSaid = true
    wal.begunSaid = true
    wals.append(wal)
  }

  // MARK: BlockDevice

  package func submit(_ request: BlockRequest) -> Submission {
    // The transport has checked it, against a size that only grows; what indexes by LBA here relies on it.
    guard request.offset <= size, request.length <= size &- request.offset else { return .done(EINVAL) }
    if slab.used >= limits.requests { return .done(ENOMEM) }
    if isFenced { return .done(EIO) }
    switch request.operation {
    case .read: return submitRead(request)
    case .prefetch:
      prefetch(request)
      return .done(0)
    case .flush:
      if isReadOnly { return .done(0) }
      return submitFlush(request)
    case .write, .trim, .writeZeroes:
      if isReadOnly { return .done(EPERM) }
      if failure != 0 { return .done(EIO) }
      if request.length == 0 { return .done(0) }
      count(request)
      return submitWrite(request)
    }
  }

  package func commit() { commit(mayWait: false) }

  package func commit(mayWait: Bool) {
    appendGathered()
    startRound(mayWait: mayWait)
    map.quiesce()
    sources.quiesce()
    deliver()
  }

  package func poll() {
    wake.clear()
    finishRound()
    while let number = pendingDropped.first, toKeeper.send(.dropped(number: number)) { pendingDropped.removeFirst() }
    while let message = fromKeeper.receive() { take(message) }
    dropSome()
    settle()
    if prefetching != nil { goOnPrefetching() }
    commit()
  }

  private func count(_ request: BlockRequest) {
    counters.writes &+= 1
    if request.operation == .write { counters.bytesWritten &+= request.length }
  }

  // MARK: Completion

  /// Ends a request that the device held; its transport hears of it at the end of `commit`.
  func complete(_ i: Int32, _ error: Int32) {
    if error != 0 { counters.errors &+= 1 }
    slab[i].pointee.fetchError = error
    slab.append(i, to: &finished)
  }

  /// Tells the transport, which may submit further requests from inside.
  private func deliver() {
    guard !finished.isEmpty, let sink else { return }
    while let i = slab.popFirst(&finished) {
      let (token, error) = (slab[i].pointee.request.token, slab[i].pointee.fetchError)
      slab.release(i)
      sink.complete(token: token, error: error)
    }
  }

  func completeAll(_ list: inout RequestList, _ error: Int32) {
    while let i = slab.popFirst(&list) { complete(i, error) }
  }

  /// Ends writing for good, until the volume is opened anew: a failed append or sync leaves unknown what the disk holds.
  func fail(_ error: Int32, wal: UInt64) {
    guard failure == 0 else { return }
    failure = error
    failedWAL = wal
    failureSaid = false
    endWriting()
  }

  /// Reads go on: what was acknowledged before is in the files, the overlay and the map, and stays as it is.
  private func endWriting() {
    counters.failures &+= 1
    appender.abandon()
    mergedCount = 0
    completeAll(&gatheredRequests, EIO)
    completeAll(&stalled, EIO)
    completeAll(&gated, EIO)
    completeAll(&unsyncedWaiters, EIO)
  }
}

extension VolumeDevice {
  /// The keeper has halted: as after a failed append, and it need not be told.
  func halt() {
    guard failure == 0 else { return }
    failure = EIO
    endWriting()
  }

  /// The name is another host's: every request fails from here on, also those that wait. A sync that runs is told of at its end.
  func fence() {
    halt()
    isFenced = true
    completeAll(&missing, EIO)
  }
}

/// What the front has done since it was opened. Read on the I/O thread.
package struct FrontCounters: Equatable, Sendable {
  package var reads: UInt64 = 0
  package var bytesRead: UInt64 = 0
  package var writes: UInt64 = 0
  package var bytesWritten: UInt64 = 0
  package var flushes: UInt64 = 0
  package var syncRounds: UInt64 = 0
  package var appends: UInt64 = 0
  package var frames: UInt64 = 0
  /// Bytes that went to write-ahead files, headers included.
  package var bytesAppended: UInt64 = 0
  package var stalls: UInt64 = 0
  /// Writes that failed with ENOSPC.
  package var refusals: UInt64 = 0
  package var merges: UInt64 = 0
  package var fetchesWanted: UInt64 = 0
  /// Blocks asked for ahead of readers.
  package var blocksAhead: UInt64 = 0
  package var errors: UInt64 = 0
  package var failures: UInt64 = 0
  /// Blocks of write-ahead files that did not match their CRC: read as EIO.
  package var walMismatches: UInt64 = 0
  /// Cached blocks that did not match their word: fetched anew.
  package var cacheMismatches: UInt64 = 0
  package init() {}
}
