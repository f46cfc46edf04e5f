/// Limits and times of a volume in service. All configurable; the defaults are production's.
package struct KeeperConfiguration: Equatable, Sendable {
  package var geometry = WALGeometry()
  /// Bounds of the device in front.
  package var front = FrontLimits()
  /// Which volumes are brought into the cache as a whole when they are served.
  package var prefetch = PrefetchPolicy.small
  /// Up to how many bytes in segments a volume is small.
  package var smallBytes: UInt64 = 64 << 20
  /// Unsealed write-ahead files at most: beyond it no new one is prepared, and writes wait.
  package var unsealedWals = 32
  /// Bytes written and not in the store, at most (`WritePressure`): from half of it on writes are slowed, at it they wait
  /// or, once shipping has failed for `outageSeconds`, are refused. By a file or two it may be passed.
  package var unsentBytes: UInt64 = 8 << 30
  /// The time scale of slowing, see `WritePressure`.
  package var easeSeconds: UInt64 = 60
  package var outageSeconds: UInt64 = 30
  /// So long a write waits for a file that the disk has no room for; then it is refused.
  package var spaceSeconds: UInt64 = 10
  /// Bytes of disk that are kept for journals, of all volumes of the host together.
  package var reserveBytes: UInt64 = 64 << 20
  /// So long a read waits for a store that does not answer; then it is an error.
  package var readPatienceSeconds: UInt64 = 3600
  /// Segments being encoded or uploaded at once.
  package var shipments = 2
  /// zstd level of bodies.
  package var level: Int32 = 1
  /// A page is due so long after its first entry when `pageBytes` of contents wait, else after `idlePageSeconds`.
  package var pageSeconds: UInt64 = 10
  package var idlePageSeconds: UInt64 = 60
  package var pageBytes: UInt64 = 1 << 20
  /// A checkpoint is due after so many pages, or bytes of contents in them.
  package var checkpointPages = 8
  package var checkpointBytes: UInt64 = 4 << 20
  /// How often a volume in service asks whether the name is still its own; each page asks besides.
  package var ownershipMilliseconds: UInt64 = 5000
  /// First and longest wait before a store request is tried again.
  package var retryMilliseconds: UInt64 = 200
  package var retryLimitMilliseconds: UInt64 = 30_000

  /// What `unsentBytes` may be at least: the front's pressure is looked at when a file is half full.
  package static let leastUnsentBytes: UInt64 = 128 << 20

  package init() {}
}

/// Which volumes are brought into this host's cache as a whole, behind what guests read.
package enum PrefetchPolicy: String, CaseIterable, Sendable {
  case off
  /// Those that a second or two bring.
  case small
  case all
}
