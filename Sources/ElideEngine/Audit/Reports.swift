import ElideEvents
import ElideIO
import ElideProjections

/// Where history is read from.
package enum HistorySource: Sendable {
  /// This data directory's journal of the volume.
  case local
  /// The store's pages (a copy of a store is a store).
  case store
}

/// What a replay found.
package struct ReplayReport: Equatable, Sendable {
  /// Where the folded state is not what was recorded.
  package struct Divergence: Equatable, Sendable {
    package enum Kind: String, Sendable {
      /// A recorded root of the block map.
      case root
      /// The state or the accounts in a checkpoint.
      case checkpoint
      /// The state that the running volume holds.
      case live
      /// An entry that may not follow the ones before it.
      case illegal
    }
    package var kind: Kind
    package var volume: ULID
    /// The entry that says so, and the entry whose state is meant.
    package var entry: UInt64
    package var point: UInt64
    package var expected: String
    package var found: String
    /// First and last LBA that differ, where known.
    package var lbas: ClosedRange<UInt64>?
    package init(
      kind: Kind, volume: ULID, entry: UInt64, point: UInt64, expected: String, found: String, lbas: ClosedRange<UInt64>? = nil
    ) {
      self.kind = kind
      self.volume = volume
      self.entry = entry
      self.point = point
      self.expected = expected
      self.found = found
      self.lbas = lbas
    }
  }
  package var volume: ULID
  /// Entries of the volume that were folded; its ancestors' are not counted.
  package var entries: UInt64 = 0
  /// The last entry folded, and the root of the map there.
  package var seq: UInt64 = 0
  package var root: Digest?
  package var rootsCompared = 0
  package var checkpointsCompared = 0
  package var comparedWithLive = false
  /// Ancestors that were replayed first, the parent first.
  package var ancestors: [ULID] = []
  /// The first divergence; nil when all agrees.
  package var divergence: Divergence?
  package var agrees: Bool { divergence == nil }
  package init(volume: ULID) { self.volume = volume }
}

/// What a verification of a log found.
package struct VerifyReport: Equatable, Sendable {
  package struct Fault: Equatable, Sendable {
    /// "entry", "missing", "chain", "other log", "checkpoint", "host", "heads" of a name's log; "document", "page", "missing",
    /// "chain", "cut", "lineage", "legality", "set sums", "blob", "segment", "map" of a volume.
    package var what: String
    /// The object's key; an entry, a segment or blocks when a local journal or a device is checked.
    package var place: String
    package var detail: String
    package init(_ what: String, at place: String, _ detail: String) {
      self.what = what
      self.place = place
      self.detail = detail
    }
  }
  package var volume: ULID
  package var entries: UInt64 = 0
  package var pages: UInt64 = 0
  package var signatures: UInt64 = 0
  package var setSums: UInt64 = 0
  package var segments: UInt64 = 0
  package var segmentBytes: UInt64 = 0
  /// Blocks of the map that were read and compared with their hashes (`volume verify`).
  package var blocks: UInt64 = 0
  /// The key that signed is one the caller trusts, or that a name's log granted; otherwise it came from `volume.toml` alone.
  package var isAnchored = false
  /// What a name's entries say of pages, and the highest page of which one does.
  package var claims: UInt64 = 0
  package var witnessedPage: UInt64?
  /// The newest published cut.
  package var cut: UInt64?
  /// A terminal page ends the log: nothing follows.
  package var isEnded = false
  package var faults: [Fault] = []
  /// More faults than are listed.
  package var faultsLeftOff: UInt64 = 0
  package var isSound: Bool { faults.isEmpty }
  package init(volume: ULID) { self.volume = volume }

  package static let faultLimit = 100
  package mutating func add(_ fault: Fault) {
    if faults.count < Self.faultLimit { faults.append(fault) } else { faultsLeftOff += 1 }
  }
}

/// A run of blocks that two points do not share.
package struct ChangedRun: Equatable, Sendable {
  package var lba: UInt64
  package var count: UInt64
  /// What the later point says there.
  package var kind: Kind
  package enum Kind: String, Sendable { case data, zero, unwritten }
  package init(lba: UInt64, count: UInt64, kind: Kind) {
    self.lba = lba
    self.count = count
    self.kind = kind
  }
}

/// An entry as `events log` shows it.
package struct LogEntry: Equatable, Sendable {
  package var entry: Entry
  /// The page that carries it; nil while it is local only.
  package var page: UInt64?
  package init(entry: Entry, page: UInt64?) {
    self.entry = entry
    self.page = page
  }
}
