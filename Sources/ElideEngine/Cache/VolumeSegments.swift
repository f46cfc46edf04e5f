import ElideIO
import Synchronization

/// The segments of one open volume that have a local file open: what the device reads through. The I/O thread looks up;
/// fetchers and the keeper attach; eviction detaches, and what was detached is closed only after the I/O thread has
/// `quiesce`d, so a `SegmentSource` it still holds stays readable.
package final class VolumeSegments: SegmentSources, Sendable {
  private struct State {
    var attached: [UInt64: CachedSegment] = [:]
    /// Detached, with how often the I/O thread had quiesced then.
    var retired: [(rounds: UInt64, segment: CachedSegment)] = []
    /// The first segment that the next `sweep` looks at.
    var swept: UInt64 = 0
    /// Own write-ahead files whose pages went into sockets.
    var sent: Set<UInt64> = []
  }
  private let state = Mutex(State())
  /// How often the I/O thread held no source at all.
  private let rounds = Atomic<UInt64>(0)
  package let directory: SegmentDirectory
  package let cache: SegmentCache

  package init(directory: SegmentDirectory, cache: SegmentCache) {
    self.directory = directory
    self.cache = cache
  }

  package func source(for segment: UInt64) -> SegmentSource? {
    state.withLock { s in
      guard let found = s.attached[segment] else { return nil }
      found.touch()
      return found.source
    }
  }

  package func noteSent(_ segment: UInt64) { state.withLock { _ = $0.sent.insert(segment) } }

  /// Whether `noteSent` was said of it, in this process.
  package func wasSent(_ segment: UInt64) -> Bool { state.withLock { $0.sent.contains(segment) } }

  package func quiesce() { rounds.wrappingAdd(1, ordering: .acquiringAndReleasing) }

  package func attached(_ segment: UInt64) -> CachedSegment? { state.withLock { $0.attached[segment] } }

  /// The segment's open file; opened, or made in the cache, if need be. `notFound` for a segment that is not in the table, has
  /// no blocks, or is neither attached nor uploaded.
  package func attach(_ segment: UInt64) throws(Errno) -> CachedSegment {
    if let found = attached(segment), !found.isGone { return found }
    guard let entry = directory[segment], entry.blocks > 0 else { throw Errno.notFound }
    let opened = try cache.open(entry)
    return replace(segment, with: opened) { $0.isGone }
  }

  /// Puts `segment` in, or in place of what was there.
  package func attach(_ number: UInt64, _ segment: CachedSegment) { _ = replace(number, with: segment) { _ in true } }

  /// Enters `segment` unless one is there that need not give way; returns the one that is in.
  private func replace(
    _ number: UInt64, with segment: CachedSegment, if givesWay: (CachedSegment) -> Bool
  ) -> CachedSegment {
    let (result, closing) = state.withLock { s -> (CachedSegment, [CachedSegment]) in
      if let old = s.attached[number] {
        if !givesWay(old) { return (old, []) }
        retire(old, &s)
      }
      s.attached[number] = segment
      return (segment, ripe(&s))
    }
    // Unmapped and closed here, outside the lock that the I/O thread takes.
    _ = consume closing
    return result
  }

  package func detach(_ number: UInt64) {
    let closing = state.withLock { s -> [CachedSegment] in
      if let old = s.attached.removeValue(forKey: number) { retire(old, &s) }
      return ripe(&s)
    }
    _ = consume closing
  }

  /// Files that one `sweep` asks the system about: a system call each.
  private static let sweepLimit = 256

  /// Detaches what was evicted, by this or another process: until it is closed, an evicted file's bytes stay on disk. Tells
  /// eviction what was read through since the last time. Looks at the next 256 files; the keeper calls it now and then.
  package func sweep() {
    let batch = state.withLock { s -> [(UInt64, CachedSegment)] in
      let numbers = s.attached.keys.sorted()
      let first = numbers.firstIndex { $0 >= s.swept } ?? 0
      let chosen = (numbers[first...] + numbers[..<first]).prefix(Self.sweepLimit)
      if let last = chosen.last { s.swept = last + 1 }
      return chosen.compactMap { n in s.attached[n].map { (n, $0) } }
    }
    for (number, segment) in batch {
      if segment.isGone {
        state.withLock { s in
          guard s.attached[number] === segment else { return }
          retire(segment, &s)
          s.attached[number] = nil
        }
      } else if segment.takeUsed() {
        cache.noteUsed(segment)
      }
    }
    closeRetired()
  }

  /// Closes what was detached and the I/O thread has let go of. Cheap when there is nothing.
  package func closeRetired() {
    let closing = state.withLock { s in ripe(&s) }
    _ = consume closing
  }

  private func retire(_ segment: CachedSegment, _ s: inout State) {
    s.retired.append((rounds.load(ordering: .acquiring), segment))
  }

  /// Those that no thread can hold a source of: the I/O thread has quiesced since they were taken out.
  private func ripe(_ s: inout State) -> [CachedSegment] {
    if s.retired.isEmpty { return [] }
    let now = rounds.load(ordering: .acquiring)
    let done = s.retired.filter { $0.rounds < now }.map(\.segment)
    s.retired.removeAll { $0.rounds < now }
    return done
  }

  /// Moves an uploaded segment's write-ahead file into the cache, and goes on reading it there.
  package func adopt(_ number: UInt64, walPath: String) throws(Errno) {
    guard let entry = directory[number], let sealed = attached(number) else { throw Errno.notFound }
    // Done before: the file in the cache is attached already.
    if sealed.header.hash != nil, !sealed.isGone { return }
    try cache.adopt(entry, sealed, walPath: walPath)
    attach(number, try cache.open(entry))
  }

  /// Keeps a block that a seal found to be a duplicate of block `handle`, when that one is not local: what the guest has
  /// just written must not become remote. Best effort: without room, the block will be fetched when it is read. True when
  /// it is local afterwards.
  @discardableResult
  package func keep(segment: UInt64, r: UInt32, _ block: UnsafeRawPointer) -> Bool {
    guard let file = try? attach(segment), r < file.source.blocks else { return false }
    if file.isPresent(r) { return true }
    file.refresh(r, count: 1)
    if file.isPresent(r) { return true }
    guard let written = try? file.store(r, count: 1, block) else { return false }
    cache.noteStored(UInt64(written) * 4096)
    return true
  }
}
