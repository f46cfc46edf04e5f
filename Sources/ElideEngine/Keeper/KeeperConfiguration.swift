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
  /// Bytes sealed but not in the store, at most: beyond it nothing more is sealed, and so, in the end, writes wait.
  package var unsentBytes: UInt64 = 8 << 30
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
  /// First and longest wait before a store request is tried again.
  package var retryMilliseconds: UInt64 = 200
  package var retryLimitMilliseconds: UInt64 = 30_000

  package init() {}
}

/// Which volumes are brought into this host's cache as a whole, behind what guests read.
package enum PrefetchPolicy: String, CaseIterable, Sendable {
  case off
  /// Those that a second or two bring.
  case small
  case all
}
