import ElideIO
import ElideProjections
import Glibc

extension Fetcher {
  typealias UnitResult = Result<[UInt8]?, SegmentError>

  /// Fetches units of a segment, in order; those that other threads are fetching are waited for. One result each: nil
  /// when the unit is in the file now, its plain bytes when the disk did not take them.
  func land(_ units: [SegmentEncoding.Unit], of entry: SegmentEntry, into file: CachedSegment?) -> [UnitResult] {
    var results = [UnitResult?](repeating: nil, count: units.count)
    var mine: [(index: Int, flight: Flight<[UInt8]?>)] = []
    var others: [(index: Int, flight: Flight<[UInt8]?>)] = []
    func key(_ i: Int) -> UnitKey { UnitKey(volume: entry.volume, segment: entry.number, r: units[i].r) }
    for i in units.indices {
      switch flights.enter(key(i)) {
      case .leads(let flight): mine.append((i, flight))
      case .follows(let flight): others.append((i, flight))
      }
    }
    // Own work is done before others' is waited for: so no two threads wait for each other.
    var from = 0
    while from < mine.count {
      let to = groupEnd(mine.map { units[$0.index] }, from)
      let group = mine[from..<to].map { units[$0.index] }
      for (k, result) in request(group, of: entry, into: file).enumerated() {
        let (i, flight) = mine[from + k]
        results[i] = result
        flights.finish(key(i), flight, result)
      }
      from = to
    }
    if !others.isEmpty { tallies.withLock { $0.joined += UInt64(others.count) } }
    for (i, flight) in others { results[i] = flight.wait() }
    return results.map { $0 ?? .failure(.unknownSegment(entry.number)) }
  }

  /// Where the run of units that lie side by side, and fit one request, ends.
  private func groupEnd(_ units: [SegmentEncoding.Unit], _ from: Int) -> Int {
    var to = from + 1
    while to < units.count, units[to].offset == units[to - 1].offset + UInt64(units[to - 1].length),
      units[to].offset + UInt64(units[to].length) - units[from].offset <= Self.joinLimit
    { to += 1 }
    return to
  }

  /// One ranged GET for units that lie side by side; one result each.
  private func request(
    _ units: [SegmentEncoding.Unit], of entry: SegmentEntry, into file: CachedSegment?
  ) -> [UnitResult] {
    func all(_ error: SegmentError) -> [UnitResult] { units.map { _ in .failure(error) } }
    guard let key = entry.bodyKey, let first = units.first, let last = units.last else {
      return all(.unknownSegment(entry.number))
    }
    let range = first.offset..<last.offset + UInt64(last.length)
    let bytes: [UInt8]
    do throws(StoreError) { bytes = try read(key, range) } catch { return all(.store(error)) }
    tallies.withLock {
      $0.bytes += UInt64(bytes.count)
      $0.units += UInt64(units.count)
    }
    guard bytes.count == Int(range.upperBound - range.lowerBound) else {
      tallies.withLock { $0.damagedUnits += UInt64(units.count) }
      return all(.damaged(object: key, detail: "ends early: \(bytes.count) bytes from byte \(range.lowerBound)"))
    }
    guard let codec = ZstdCodec() else { return all(.disk(Errno(ENOMEM))) }
    return units.map { unit in
      let start = Int(unit.offset - first.offset)
      do throws(SegmentError) {
        let plain = try BodyDecoder.decode(unit, stored: bytes[start..<start + Int(unit.length)], object: key, codec: codec)
        return .success(try keep(plain, unit, file) ? nil : plain)
      } catch {
        if case .damaged = error { tallies.withLock { $0.damagedUnits += 1 } }
        return .failure(error)
      }
    }
  }

  /// Stores a unit in the file; false when the disk is full and stays so after the cache gave back what it could.
  private func keep(_ plain: [UInt8], _ unit: SegmentEncoding.Unit, _ file: CachedSegment?) throws(SegmentError) -> Bool {
    guard let file else { return false }
    for attempt in 0..<2 {
      do throws(Errno) {
        let written = try plain.withUnsafeBufferPointer { (p) throws(Errno) -> UInt32 in
          guard let base = p.baseAddress else { return 0 }
          return try file.store(unit.r, count: unit.blocks, base)
        }
        segments.cache.noteStored(UInt64(written) * 4096)
        return true
      } catch {
        // Whatever the disk says, the blocks are here: a read must not fail for want of a cache.
        guard attempt == 0, error == .noSpace || error.code == EDQUOT, segments.cache.makeRoom() else { return false }
        segments.sweep()
      }
    }
    return false
  }

  /// A GET, tried again a few times where the store says that trying may help.
  private func read(_ key: String, _ range: Range<UInt64>) throws(StoreError) -> [UInt8] {
    var tries = 0
    while true {
      tallies.withLock { $0.requests += 1 }
      do throws(StoreError) { return try store.get(key, range: range) } catch {
        guard case .unknown = error, tries + 1 < retry.attempts else { throw error }
        tallies.withLock { $0.retries += 1 }
        retry.pauseBefore(tries)
        tries += 1
      }
    }
  }
}
