import ElideIO
import ElideProjections
import Glibc
import Synchronization

/// Brings blocks of segments from the store into the cache. Blocks its caller; runs on the fetch lane, on several threads.
///
/// A unit is fetched once at a time, whoever wants it: others wait for that fetch. What arrives is verified before it is
/// decoded, decoded before it is cached, and checked again on every read by its words. Memory: 4 MiB of stored bytes a
/// request, and a unit.
package final class Fetcher: Sendable {
  package struct Counters: Equatable, Sendable {
    package var fetches: UInt64 = 0
    /// GETs of bodies, tries included, and what they brought.
    package var requests: UInt64 = 0
    package var bytes: UInt64 = 0
    package var units: UInt64 = 0
    /// Units among them that nobody had asked for yet.
    package var readAhead: UInt64 = 0
    /// Fetches that found all blocks here already, and units that another thread was fetching.
    package var hits: UInt64 = 0
    package var joined: UInt64 = 0
    package var retries: UInt64 = 0
    /// Units that are not what the journal says.
    package var damagedUnits: UInt64 = 0
    /// Fetches answered from memory, since the disk takes no more, and those that failed.
    package var uncached: UInt64 = 0
    package var failures: UInt64 = 0
    package init() {}
  }

  struct UnitKey: Hashable {
    var volume: ULID
    var segment: UInt64
    var r: UInt32
  }

  let store: any Store
  let segments: VolumeSegments
  let encodings: EncodingCache
  let retry: RetryPolicy
  /// The plain bytes of a unit come out only when the disk did not take them.
  let flights = SingleFlight<UnitKey, [UInt8]?>()
  let tallies = Mutex(Counters())
  /// Neighbouring units wanted together travel in one request up to this many bytes.
  static let joinLimit: UInt64 = 4 << 20

  package init(
    store: any Store, segments: VolumeSegments, encodings: any EncodingSource, retry: RetryPolicy = RetryPolicy()
  ) {
    self.store = store
    self.segments = segments
    self.encodings = EncodingCache(source: encodings, cache: segments.cache)
    self.retry = retry
  }

  package var counters: Counters { tallies.withLock { $0 } }

  /// Makes blocks [r, r+count) of a segment present in the cache; nil says that they are. When the disk takes no more, also
  /// after the cache gave back what it could, their bytes are the result: the read is answered from memory.
  ///
  /// Errors: a damaged body or encoding, by object and unit; the store's and the disk's; `unknownSegment` when the table
  /// has no such blocks.
  @discardableResult
  package func fetch(segment: UInt64, r: UInt32, count: UInt32) throws(SegmentError) -> [UInt8]? {
    guard let entry = segments.directory[segment], count > 0, r < entry.blocks, count <= entry.blocks - r else {
      throw .unknownSegment(segment)
    }
    do throws(SegmentError) {
      let fetches = tallies.withLock { t in
        t.fetches += 1
        return t.fetches
      }
      // Other processes evict too.
      if fetches % 64 == 0 { segments.sweep() }
      let file = try attach(entry)
      if let file, file.holds(r, count: count, forgetting: entry.uploaded) {
        tallies.withLock { $0.hits += 1 }
        return nil
      }
      guard entry.uploaded else {
        throw .damaged(
          object: "segment \(segment)", detail: "block \(r) or one after it is not readable here, and not in the store yet")
      }
      let encoding = try encodings.encoding(of: entry)
      let memory = try bring(encoding, of: entry, into: file, r, count)
      if segments.cache.trimIfDue() { segments.sweep() }
      if memory.isEmpty { return nil }
      tallies.withLock { $0.uncached += 1 }
      return try assemble(memory, file, r, count)
    } catch {
      tallies.withLock { $0.failures += 1 }
      throw error
    }
  }

  /// The segment's file; nil when there is no room to make one, or the disk refuses it: what the store has can be read all
  /// the same.
  private func attach(_ entry: SegmentEntry) throws(SegmentError) -> CachedSegment? {
    do throws(Errno) { return try segments.attach(entry.number) } catch {
      if error == .notFound || !entry.uploaded { throw .disk(error) }
      return nil
    }
  }

  /// Fetches the units that hold a wanted block which is absent. Returns those that the disk did not take, by their first r.
  private func bring(
    _ encoding: SegmentEncoding, of entry: SegmentEntry, into file: CachedSegment?, _ r: UInt32, _ count: UInt32
  ) throws(SegmentError) -> [UInt32: [UInt8]] {
    let absent = absentUnits(encoding, file, r, count)
    var memory: [UInt32: [UInt8]] = [:]
    var failure: SegmentError?
    for (unit, result) in zip(absent, land(absent, of: entry, into: file)) {
      switch result {
      case .success(nil): break
      case .success(let bytes?): memory[unit.r] = bytes
      case .failure(let error): failure = failure ?? error
      }
    }
    if let failure { throw failure }
    return memory
  }

  /// The units that hold a block of [r, r+count) which is absent.
  private func absentUnits(
    _ encoding: SegmentEncoding, _ file: CachedSegment?, _ r: UInt32, _ count: UInt32
  ) -> [SegmentEncoding.Unit] {
    encoding.units(r..<r + count).map { encoding.units[$0] }.filter { unit in
      guard let file else { return true }
      return (max(unit.r, r)..<min(unit.r + unit.blocks, r + count)).contains { !file.isPresent($0) }
    }
  }

  /// Brings what is absent of blocks [r, r+count) of a segment before anybody asks for it; with `count` 0 its encoding alone.
  /// What goes wrong is no error: whoever wants the blocks will ask, and hear.
  func ahead(segment: UInt64, r: UInt32, count: UInt32) -> AheadOutcome {
    // Not uploaded is local, and what has left the table is wanted by nobody.
    guard let entry = segments.directory[segment], entry.uploaded, r <= entry.blocks, count <= entry.blocks - r else {
      return .kept
    }
    guard let encoding = try? encodings.encoding(of: entry) else { return .failed }
    if count == 0 { return .kept }
    guard let file = try? attach(entry) else { return .notKept }
    file.refresh(r, count: count)
    var outcome = AheadOutcome.kept
    for result in landAhead(absentUnits(encoding, file, r, count), of: entry, into: file) {
      switch result {
      case .success(nil): break
      case .success: outcome = .notKept
      case .failure: return .failed
      }
    }
    if segments.cache.trimIfDue() { segments.sweep() }
    return outcome
  }

  /// The wanted blocks, from units that are in memory and for the rest from the file.
  private func assemble(
    _ memory: [UInt32: [UInt8]], _ file: CachedSegment?, _ r: UInt32, _ count: UInt32
  ) throws(SegmentError) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: Int(count) * 4096)
    let whole = out.withUnsafeMutableBytes { o -> Bool in
      guard let base = o.baseAddress else { return false }
      var missing = Set(r..<r + count)
      for (first, bytes) in memory {
        for i in max(first, r)..<max(max(first, r), min(first + UInt32(bytes.count / 4096), r + count)) {
          bytes.withUnsafeBytes { b in
            if let from = b.baseAddress {
              (base + Int(i - r) * 4096).copyMemory(from: from + Int(i - first) * 4096, byteCount: 4096)
            }
          }
          missing.remove(i)
        }
      }
      return missing.allSatisfy { file?.read($0, into: base + Int($0 - r) * 4096) ?? false }
    }
    guard whole else { throw .disk(.noSpace) }
    return out
  }
}

extension SegmentEncoding {
  /// Indexes of the units that hold a block of the range.
  func units(_ range: Range<UInt32>) -> [Int] {
    // Units are in r order: the first by bisection.
    var low = 0
    var high = units.count
    while low < high {
      let middle = (low + high) / 2
      if units[middle].r + units[middle].blocks <= range.lowerBound { low = middle + 1 } else { high = middle }
    }
    var end = low
    while end < units.count, units[end].r < range.upperBound { end += 1 }
    return Array(low..<end)
  }
}
