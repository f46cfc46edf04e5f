import ElideIO
import ElideProjections
import Glibc

extension Fetcher {
  typealias UnitResult = Result<[UInt8]?, SegmentError>

  /// Fetches units of a segment, in order; those that other threads are fetching are waited for. One result each: nil
  /// when the unit is in the file now, its plain bytes when the disk did not take them.
  func land(_ units: [SegmentEncoding.Unit], of entry: SegmentEntry, into file: CachedSegment?) -> [UnitResult] {
    var results = [UnitResult?](repeating: nil, count: units.count)
    for turn in 0..<4 {
      var mine: [Claim] = []
      var others: [Claim] = []
      for i in units.indices where results[i] == nil {
        switch flights.enter(UnitKey(entry, units[i])) {
        case .leads(let flight): mine.append((i, flight))
        case .follows(let flight): others.append((i, flight))
        }
      }
      // Own work is done before others' is waited for: so no two threads wait for each other.
      carry(mine, units, entry, file) { results[$0] = $1 }
      if !others.isEmpty { tallies.withLock { $0.joined += UInt64(others.count) } }
      for (i, flight) in others {
        let result = flight.wait()
        // Who fetched it ahead gave up at once; here somebody waits for it.
        if case .failure = result, flight.isAhead, turn < 3 { continue }
        results[i] = result
      }
      if results.allSatisfy({ $0 != nil }) { break }
    }
    return results.map { $0 ?? .failure(.unknownSegment(entry.number)) }
  }

  /// Fetches those units that nobody is fetching. Not tried again, and for its sake nothing is evicted.
  func landAhead(_ units: [SegmentEncoding.Unit], of entry: SegmentEntry, into file: CachedSegment) -> [UnitResult] {
    var results: [UnitResult] = []
    let mine = units.indices.compactMap { i in flights.lead(UnitKey(entry, units[i])).map { (index: i, flight: $0) } }
    carry(mine, units, entry, file) { results.append($1) }
    return results
  }

  typealias Claim = (index: Int, flight: Flight<[UInt8]?>)

  /// Fetches the units that this thread leads, neighbours in one request, and says what came of each.
  private func carry(
    _ mine: [Claim], _ units: [SegmentEncoding.Unit], _ entry: SegmentEntry, _ file: CachedSegment?,
    _ note: (Int, UnitResult) -> Void
  ) {
    var from = 0
    while from < mine.count {
      let to = groupEnd(mine.map { units[$0.index] }, from)
      let group = mine[from..<to].map { units[$0.index] }
      for (k, result) in request(group, of: entry, into: file, isAhead: mine[from].flight.isAhead).enumerated() {
        let (i, flight) = mine[from + k]
        note(i, result)
        flights.finish(UnitKey(entry, units[i]), flight, result)
      }
      from = to
    }
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
    _ units: [SegmentEncoding.Unit], of entry: SegmentEntry, into file: CachedSegment?, isAhead: Bool
  ) -> [UnitResult] {
    func all(_ error: SegmentError) -> [UnitResult] { units.map { _ in .failure(error) } }
    guard let key = entry.bodyKey, let first = units.first, let last = units.last else {
      return all(.unknownSegment(entry.number))
    }
    let range = first.offset..<last.offset + UInt64(last.length)
    let bytes: [UInt8]
    do throws(StoreError) { bytes = try read(key, range, attempts: isAhead ? 1 : retry.attempts) } catch {
      return all(.store(error))
    }
    tallies.withLock {
      $0.bytes += UInt64(bytes.count)
      $0.units += UInt64(units.count)
      if isAhead { $0.readAhead += UInt64(units.count) }
    }
    guard bytes.count == Int(range.upperBound - range.lowerBound) else {
      tallies.withLock { $0.damagedUnits += UInt64(units.count) }
      return all(.damaged(object: key, detail: "ends early: \(bytes.count) bytes from byte \(range.lowerBound)"))
    }
    guard let codec = ZstdCodec() else { return all(.disk(Errno(ENOMEM))) }
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: BodyDecoder.maxPlain, alignment: 4096)
    defer { scratch.deallocate() }
    return bytes.withUnsafeBytes { bytes in
      let right = BodyDecoder.areRight(units, bytes)
      return units.indices.map { i in
        let start = Int(units[i].offset - first.offset)
        let stored = UnsafeRawBufferPointer(rebasing: bytes[start..<start + Int(units[i].length)])
        do throws(SegmentError) {
          let plain = try BodyDecoder.plain(units[i], stored, isRight: right[i], object: key, codec: codec, scratch: scratch)
          return .success(try keep(plain, units[i], file, mayMakeRoom: !isAhead) ? nil : Array(plain))
        } catch {
          if case .damaged = error { tallies.withLock { $0.damagedUnits += 1 } }
          return .failure(error)
        }
      }
    }
  }

  /// Stores a unit in the file; false when the disk is full and stays so after the cache gave back what it could.
  private func keep(
    _ plain: UnsafeRawBufferPointer, _ unit: SegmentEncoding.Unit, _ file: CachedSegment?, mayMakeRoom: Bool
  ) throws(SegmentError) -> Bool {
    guard let file, let base = plain.baseAddress else { return false }
    for attempt in 0..<2 {
      do throws(Errno) {
        segments.cache.noteStored(UInt64(try file.store(unit.r, count: unit.blocks, base)) * 4096)
        return true
      } catch {
        // Whatever the disk says, the blocks are here: a read must not fail for want of a cache.
        guard attempt == 0, mayMakeRoom, error == .noSpace || error.code == EDQUOT, segments.cache.makeRoom() else {
          return false
        }
        segments.sweep()
      }
    }
    return false
  }

  /// A GET, tried again a few times where the store says that trying may help.
  private func read(_ key: String, _ range: Range<UInt64>, attempts: Int) throws(StoreError) -> [UInt8] {
    var tries = 0
    while true {
      tallies.withLock { $0.requests += 1 }
      do throws(StoreError) { return try store.get(key, range: range) } catch {
        guard case .unknown = error, tries + 1 < attempts else { throw error }
        tallies.withLock { $0.retries += 1 }
        retry.pauseBefore(tries)
        tries += 1
      }
    }
  }
}

extension Fetcher.UnitKey {
  init(_ entry: SegmentEntry, _ unit: SegmentEncoding.Unit) {
    self.init(volume: entry.volume, segment: entry.number, r: unit.r)
  }
}
