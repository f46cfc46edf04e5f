import ElideEvents
import ElideIO
import ElideProjections

/// What a keeper works with: who the volume is, where it lies, and the outside world. Passed in, never looked up.
package struct KeeperContext: Sendable {
  package let volume: ULID
  package let directory: VolumeDirectory
  /// Signs pages.
  package let key: SigningKey
  /// Written into every entry this process appends.
  package let identity: JournalIdentity
  package let world: World
  package let store: WatchedStore
  package let executor: any Executor
  package let cache: SegmentCache
  package let reserve: SpaceReserve
  package let configuration: KeeperConfiguration
  package let retry: RetryPolicy
  /// Of a volume that serves a name; nil: it is not asked whose it is.
  package let ownership: OwnershipCheck?
  /// Says whether a terminal page in a slot is this volume's end.
  package let judge: EndJudge
  package let stages: StageCounters
  package let openBytes: OpenBytes

  package init(
    volume: ULID, directory: VolumeDirectory, key: SigningKey, identity: JournalIdentity, world: World, store: WatchedStore,
    executor: any Executor, cache: SegmentCache, reserve: SpaceReserve, configuration: KeeperConfiguration,
    retry: RetryPolicy = RetryPolicy(), ownership: OwnershipCheck? = nil, judge: EndJudge
  ) {
    self.volume = volume
    self.directory = directory
    self.key = key
    self.identity = identity
    self.world = world
    self.store = store
    self.executor = executor
    self.cache = cache
    self.reserve = reserve
    self.configuration = configuration
    self.retry = retry
    self.ownership = ownership
    self.judge = judge
    stages = StageCounters(clock: world.clock)
    openBytes = OpenBytes()
  }

  package var log: String { "volume/\(volume)" }
  package var now: UInt64 { world.clock.monotonicNanoseconds() }
}

/// Why a keeper stops for good: nothing more is appended or sealed until the volume is opened again.
package struct KeeperHalt: Error, Equatable, Sendable, CustomStringConvertible {
  package var kind: ElideError.Kind
  package var detail: String
  /// Of a `.fenced` one: the entry of the name's log that says so.
  package var nameSeq: UInt64?
  package init(_ kind: ElideError.Kind, _ detail: String, nameSeq: UInt64? = nil) {
    self.kind = kind
    self.detail = detail
    self.nameSeq = nameSeq
  }
  package init(_ error: ElideError) { self.init(error.kind, error.message) }
  package var description: String { detail }
}

/// When a request that failed is tried again: waits double from the first to the limit.
package struct Backoff: Equatable, Sendable {
  private let first: UInt64
  private let limit: UInt64
  private var wait: UInt64 = 0
  /// Nanoseconds of the monotonic clock; 0: at once.
  package private(set) var notBefore: UInt64 = 0

  /// - Parameter longest: of the waits, where the store's would be too long.
  package init(_ configuration: KeeperConfiguration, longestMilliseconds longest: UInt64 = .max) {
    first = configuration.retryMilliseconds * 1_000_000
    limit = min(longest, configuration.retryLimitMilliseconds) * 1_000_000
  }
  package mutating func failed(at now: UInt64) {
    wait = wait == 0 ? first : min(limit, wait * 2)
    notBefore = now &+ wait
  }
  package mutating func succeeded() {
    wait = 0
    notBefore = 0
  }
  package func isReady(at now: UInt64) -> Bool { now >= notBefore }
  package var hasFailed: Bool { wait > 0 }
}

/// What a job on another lane came back with.
package enum LaneResult: Sendable {
  case judged(Result<JudgedWAL, WALError>)
  case encoded(segment: UInt64, Result<EncodedSegmentBody, SegmentError>)
  case uploaded(segment: UInt64, hash: Digest, StoreError?)
  /// `owner` is as of after the put.
  case pagePut(page: UInt64, PagePutOutcome, owner: ServiceAnswer?)
  case ownerRead(ServiceAnswer)
  case checkpointPut(key: String, StoreError?)
  case hintPut(StoreError?)
}

/// A body on its way: encoded, not uploaded.
package struct EncodedSegmentBody: Sendable {
  package var event: EncodedSegment
  package var blob: [UInt8]
  package var parts: [[UInt8]]
}

package enum PagePutOutcome: Sendable {
  /// The slot holds our bytes.
  case ours
  /// It holds these.
  case foreign([UInt8])
  /// A terminal page that the name's log bears out: whoever took the name over has ended this volume's page log.
  case ended(PageEnd)
  case failed(StoreError)
  /// Nothing was put: whose the name is was not known, or it is another's.
  case withheld
}

/// What other threads ask of a keeper.
package enum KeeperRequest: Sendable {
  /// Publish everything written until now; answers with the cut.
  case cut(Reply<UInt64>)
  /// Answers once the snapshot is in the journal, or, with `publish`, once another host can open it.
  case snapshot(label: String, publish: Bool, Reply<SnapshotInfo>)
  case resize(UInt64, Reply<UInt64>)
  /// The device is gone: end in good order. With `ship` everything is in the store when the answer comes.
  case finish(ship: Bool, Reply<Void>)
}
