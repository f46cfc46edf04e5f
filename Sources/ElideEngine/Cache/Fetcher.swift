import ElideIO
import ElideProjections
import Glibc
import Synchronization

/// Where encodings come from. The keeper's journal for a volume's own segments; a page of the owning volume otherwise.
package protocol EncodingSource: AnyObject, Sendable {
  /// The encoding blob of a segment, verified against its digest.
  func encoding(of entry: SegmentEntry) throws(SegmentError) -> SegmentEncoding
}

/// Brings blocks of segments from the store into the cache. Blocks its caller; runs on the fetch lane, on several threads.
///
/// A unit is fetched once at a time, whoever wants it: others wait for that fetch. What arrives is verified before it is
/// decoded, decoded before it is cached, and checked again on every read by its words.
package final class Fetcher: Sendable {
  package struct Counters: Equatable, Sendable {
    package var requests: UInt64 = 0
    package var bytes: UInt64 = 0
    package var units: UInt64 = 0
    package var joined: UInt64 = 0
    package var failures: UInt64 = 0
  }

  private struct Unit: Hashable {
    var segment: UInt64
    var r: UInt32
  }

  private let store: any Store
  private let segments: VolumeSegments
  private let encodings: any EncodingSource
  private let decoded = Mutex<[UInt64: SegmentEncoding]>([:])
  private let flights = Mutex<Set<Unit>>([])
  private let tallies = Mutex(Counters())
  /// Neighbouring units wanted together travel in one request up to this many bytes.
  private static let joinLimit: UInt64 = 4 << 20
  /// Decoded encodings held; a segment's is about 20 KiB.
  private static let decodedLimit = 1024

  package init(store: any Store, segments: VolumeSegments, encodings: any EncodingSource) {
    self.store = store
    self.segments = segments
    self.encodings = encodings
  }

  package var counters: Counters { tallies.withLock { $0 } }

  /// Makes blocks [r, r+count) of a segment present in the cache. When the disk takes no more, the error is ENOSPC's.
  package func fetch(segment: UInt64, r: UInt32, count: UInt32) throws(SegmentError) {
    guard let entry = segments.directory[segment], count > 0, r < entry.blocks, count <= entry.blocks - r else {
      throw .unknownSegment(segment)
    }
    do throws(SegmentError) {
      let file: CachedSegment
      do throws(Errno) { file = try segments.attach(segment) } catch { throw .disk(error) }
      if (r..<r + count).allSatisfy({ file.isPresent($0) }) { return }
      let encoding = try self.encoding(entry)
      try bring(wanted(encoding, file, r, count), of: entry, into: file)
    } catch {
      tallies.withLock { $0.failures += 1 }
      throw error
    }
  }

  private func encoding(_ entry: SegmentEntry) throws(SegmentError) -> SegmentEncoding {
    if let found = decoded.withLock({ $0[entry.number] }) { return found }
    let encoding = try encodings.encoding(of: entry)
    decoded.withLock {
      if $0.count >= Self.decodedLimit { $0.removeAll(keepingCapacity: true) }
      $0[entry.number] = encoding
    }
    return encoding
  }

  /// Units that hold a wanted block which is absent.
  private func wanted(_ encoding: SegmentEncoding, _ file: CachedSegment, _ r: UInt32, _ count: UInt32) -> [SegmentEncoding.Unit]
  {
    // Units are in r order: find the first by bisection.
    var low = 0
    var high = encoding.units.count
    while low < high {
      let middle = (low + high) / 2
      if encoding.units[middle].r + encoding.units[middle].blocks <= r { low = middle + 1 } else { high = middle }
    }
    return encoding.units[low...].prefix { $0.r < r + count }.filter { unit in
      (max(unit.r, r)..<min(unit.r + unit.blocks, r + count)).contains { !file.isPresent($0) }
    }
  }

  private func bring(_ units: [SegmentEncoding.Unit], of entry: SegmentEntry, into file: CachedSegment) throws(SegmentError) {
    var mine: [SegmentEncoding.Unit] = []
    var others: [SegmentEncoding.Unit] = []
    flights.withLock { flying in
      for unit in units {
        if flying.insert(Unit(segment: entry.number, r: unit.r)).inserted { mine.append(unit) } else { others.append(unit) }
      }
    }
    defer {
      flights.withLock { flying in for unit in mine { flying.remove(Unit(segment: entry.number, r: unit.r)) } }
    }
    var i = 0
    while i < mine.count {
      var j = i + 1
      while j < mine.count, mine[j].offset == mine[j - 1].offset + UInt64(mine[j - 1].length),
        mine[j].offset + UInt64(mine[j].length) - mine[i].offset <= Self.joinLimit
      { j += 1 }
      try get(mine[i..<j], of: entry, into: file)
      i = j
    }
    for unit in others { try join(unit, of: entry, into: file) }
  }

  /// Waits until another thread's fetch of `unit` has ended; fetches it if that one failed.
  private func join(_ unit: SegmentEncoding.Unit, of entry: SegmentEntry, into file: CachedSegment) throws(SegmentError) {
    tallies.withLock { $0.joined += 1 }
    let key = Unit(segment: entry.number, r: unit.r)
    while flights.withLock({ $0.contains(key) }) { usleep(200) }
    if !(unit.r..<unit.r + unit.blocks).allSatisfy({ file.isPresent($0) }) { try bring([unit], of: entry, into: file) }
  }

  /// One ranged GET for units that lie side by side.
  private func get(_ units: ArraySlice<SegmentEncoding.Unit>, of entry: SegmentEntry, into file: CachedSegment)
    throws(SegmentError)
  {
    guard let key = entry.bodyKey, let first = units.first, let last = units.last else { throw .unknownSegment(entry.number) }
    let range = first.offset..<last.offset + UInt64(last.length)
    let bytes: [UInt8]
    do throws(StoreError) { bytes = try read(key, range) } catch { throw .store(error) }
    tallies.withLock {
      $0.requests += 1
      $0.bytes += UInt64(bytes.count)
      $0.units += UInt64(units.count)
    }
    guard bytes.count == Int(range.upperBound - range.lowerBound) else {
      throw .damaged(object: key, detail: "ends early: \(bytes.count) bytes from byte \(range.lowerBound)")
    }
    guard let codec = ZstdCodec() else { throw .disk(Errno(ENOMEM)) }
    for unit in units {
      let start = Int(unit.offset - first.offset)
      let plain = try BodyDecoder.decode(unit, stored: bytes[start..<start + Int(unit.length)], object: key, codec: codec)
      do throws(Errno) {
        try plain.withUnsafeBufferPointer { (p) throws(Errno) in
          guard let base = p.baseAddress else { return }
          try file.store(unit.r, count: unit.blocks, base)
        }
      } catch { throw .disk(error) }
    }
  }

  /// A GET, tried again a few times where the store says that trying may help.
  private func read(_ key: String, _ range: Range<UInt64>) throws(StoreError) -> [UInt8] {
    for _ in 0..<3 {
      do throws(StoreError) { return try store.get(key, range: range) } catch {
        guard case .unknown = error else { throw error }
      }
    }
    return try store.get(key, range: range)
  }
}
