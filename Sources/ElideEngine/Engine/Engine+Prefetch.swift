import ElideEvents
import ElideIO

/// What came of asking for all of a volume.
package enum PrefetchStart: Equatable, Sendable {
  case begun
  case off
  /// It has more than the policy takes, or than the cache may hold: so many bytes.
  case tooLarge(limit: UInt64)
}

extension OpenedVolume {
  /// Begins to bring all of the volume into the cache, as far as the policy goes. On the device's thread.
  ///
  /// Never more than half of what the cache may hold: what is used is not to give way to what may be.
  package func startPrefetch(_ policy: PrefetchPolicy, smallBytes: UInt64, cacheBytes: UInt64) -> PrefetchStart {
    let limit: UInt64
    switch policy {
    case .off: return .off
    case .small: limit = min(smallBytes, cacheBytes / 2)
    case .all: limit = cacheBytes / 2
    }
    let mapped = device.mappedBlocks(limit: limit / 4096)
    if mapped > limit / 4096 { return .tooLarge(limit: limit) }
    device.startPrefetch(mapped: mapped)
    return .begun
  }
}

extension Engine {
  /// Brings all of a volume's newest cut, or of a snapshot, into this host's cache, which all processes of the host share.
  /// The volume itself is not opened for writing, and may be served meanwhile. What is here already is not fetched again.
  ///
  /// - Parameter progress: bytes passed and in all; false ends it, with what has come until then.
  /// - Returns: bytes in segments, and those that were fetched, compressed as they are stored.
  package func prefetch(
    _ source: VolumeSource, progress: (_ done: UInt64, _ total: UInt64) -> Bool
  ) throws(ElideError) -> (mapped: UInt64, fetched: UInt64) {
    let opened: OpenedVolume
    if case .newest = source.point {
      opened = try openPublished(try volume(source.base))
    } else {
      opened = try open(source)
    }
    defer { try? opened.close(ship: false) }
    if case .tooLarge(let limit) = opened.startPrefetch(.all, smallBytes: 0, cacheBytes: cache.budget) {
      throw ElideError(
        .usage,
        "\(source.base) has more than \(limit) bytes, half of what this host's cache may hold: raise cache.budget in elide.toml")
    }
    var isStopped = false
    try opened.pump(milliseconds: .max / 2_000_000) {
      guard let p = opened.device.prefetching else { return true }
      isStopped = !progress(p.passed * 4096, p.mapped * 4096)
      return isStopped || p.state != .running
    }
    guard let p = opened.device.prefetching else { throw ElideError(.failed, "nothing was asked for") }
    let said = "\(p.passed * 4096) of \(p.mapped * 4096) bytes were asked for; what has come stays, and another try goes on"
    if isStopped { throw ElideError(.interrupted, "interrupted: \(said)") }
    switch p.state {
    case .done, .running: return (p.mapped * 4096, opened.fetcher.counters.bytes)
    case .waiting: throw ElideError(.tryLater, "the store did not give all of \(source.base): \(said)")
    case .full: throw ElideError(.failed, "the disk of the cache is full: \(said)")
    }
  }
}
