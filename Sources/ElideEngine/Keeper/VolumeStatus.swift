import ElideIO

/// What a volume in service (or on disk) says of itself. Taken by the keeper, copied freely. `docs/cli-json.md` names the
/// fields as people see them.
package struct VolumeStatus: Equatable, Sendable {
  package enum State: String, Sendable { case closed, serving, draining, stopped, halted, fenced }
  /// How guests may write: as they like; slower, since much is not in the store; not before some of it is; not at all, since
  /// nothing gets there or, `full`, since the disk has no room for a file.
  package enum Writing: String, Sendable { case free, slowed, held, refused, full }
  package var volume: ULID
  package var state = State.closed
  /// Why it halted.
  package var reason: String?
  package var size: UInt64 = 0
  /// The newest entry of the local journal.
  package var head: UInt64 = 0
  /// The newest published cut and its page; nil before the first page.
  package var cut: UInt64?
  package var page: UInt64?
  package var cutMilliseconds: UInt64?
  /// The newest checkpoint that a page names.
  package var checkpoint: UInt64?
  package var unsealedWals = 0
  /// Bytes of sealed blocks that the store has not confirmed, and data in write-ahead files not sealed yet, the open one too.
  package var unsentBytes: UInt64 = 0
  package var unsealedBytes: UInt64 = 0
  /// Age of the oldest byte that no page's cut covers; 0 when all is published.
  package var exposureMilliseconds: UInt64 = 0
  /// When that byte was written, by the monotonic clock.
  var exposedSince: UInt64?
  /// How long the store has not answered this process; 0 while it does.
  package var unreachableMilliseconds: UInt64 = 0
  /// Fetches for reads that wait until it does.
  package var waitingFetches = 0
  /// Reads of blocks that could not be had, and the last of them, with its object.
  package var failedReads: UInt64 = 0
  package var lastReadError: String?
  package var writing = Writing.free
  package var segments = 0
  package var snapshots: [SnapshotInfo] = []
  package var counters = KeeperCounters()
  /// By `Stage`.
  package var stages: [StageTally] = []
  /// The last store request that failed, until one succeeds.
  package var lastError: String?

  package init(volume: ULID) { self.volume = volume }
}

/// Counted since the process opened the volume.
package struct KeeperCounters: Equatable, Sendable {
  package var walsSealed: UInt64 = 0
  /// Write-ahead files made of the files of segments that were not needed here any more.
  package var walsReused: UInt64 = 0
  package var blocksSealed: UInt64 = 0
  package var duplicateBlocks: UInt64 = 0
  package var segmentsUploaded: UInt64 = 0
  package var bytesUploaded: UInt64 = 0
  package var pagesPublished: UInt64 = 0
  package var checkpoints: UInt64 = 0
  package var fetches: UInt64 = 0
  package var storeFailures: UInt64 = 0
  package init() {}
}

/// A snapshot of a volume.
package struct SnapshotInfo: Equatable, Sendable {
  package var snapshot: ULID
  package var label: String
  /// Its point: the entry that seals the last write in it; nil while that write-ahead file is not sealed.
  package var point: UInt64?
  package var size: UInt64
  /// The page whose cut covers it is in the store.
  package var isPublished: Bool

  package init(snapshot: ULID, label: String, point: UInt64?, size: UInt64, isPublished: Bool) {
    self.snapshot = snapshot
    self.label = label
    self.point = point
    self.size = size
    self.isPublished = isPublished
  }
}
