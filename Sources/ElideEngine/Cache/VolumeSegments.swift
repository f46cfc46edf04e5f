import ElideIO
import Synchronization

/// The segments of one open volume that have a local file open: what the device reads through. The I/O thread looks up;
/// fetchers and the keeper attach; eviction detaches, and what was detached is closed only after the I/O thread has
/// `quiesce`d, so a `SegmentSource` it still holds stays readable.
package final class VolumeSegments: SegmentSources, Sendable {
  private struct State {
    var attached: [UInt64: CachedSegment] = [:]
    var retired: [(epoch: UInt64, segment: CachedSegment)] = []
    var epoch: UInt64 = 0
  }
  private let state = Mutex(State())
  package let directory: SegmentDirectory
  package let cache: SegmentCache

  package init(directory: SegmentDirectory, cache: SegmentCache) {
    self.directory = directory
    self.cache = cache
  }

  package func source(for segment: UInt64) -> SegmentSource? {
    state.withLock { $0.attached[segment]?.source }
  }

  package func quiesce() {
    state.withLock { s in
      s.epoch += 1
      if !s.retired.isEmpty { s.retired.removeAll { $0.epoch < s.epoch - 1 } }
    }
  }

  package func attached(_ segment: UInt64) -> CachedSegment? { state.withLock { $0.attached[segment] } }

  /// The segment's open file, opened or made if need be.
  package func attach(_ segment: UInt64) throws(Errno) -> CachedSegment {
    if let found = attached(segment) { return found }
    guard let entry = directory[segment] else { throw Errno.notFound }
    let opened = try cache.open(entry)
    return state.withLock { s in
      if let found = s.attached[segment] { return found }
      s.attached[segment] = opened
      return opened
    }
  }

  /// Puts `segment` in, or in place of what was there.
  package func attach(_ number: UInt64, _ segment: CachedSegment) {
    state.withLock { s in
      if let old = s.attached.updateValue(segment, forKey: number) { s.retired.append((s.epoch, old)) }
    }
  }

  package func detach(_ number: UInt64) {
    state.withLock { s in
      if let old = s.attached.removeValue(forKey: number) { s.retired.append((s.epoch, old)) }
    }
  }
}
