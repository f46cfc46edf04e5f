import ElideIO
import ElideProjections
import Synchronization

/// Where encoding blobs come from: the keeper's journal for a volume's own segments, a page of the owning volume otherwise.
package protocol EncodingSource: AnyObject, Sendable {
  /// The encoding blob of a segment as it was found, not verified: the caller does that.
  func encodingBlob(of entry: SegmentEntry) throws(SegmentError) -> [UInt8]
}

extension EncodingSource {
  /// The encoding of a segment, verified against its digest, its number of blocks and the length of its body.
  package func encoding(of entry: SegmentEntry) throws(SegmentError) -> SegmentEncoding {
    try EncodingCache.verified(try encodingBlob(of: entry), entry)
  }
}

/// Encodings of segments: decoded in memory, as blobs on disk beside the cache, and else from the source. Thread-safe.
///
/// Memory is bounded: two generations, of which the older is dropped when the younger holds half the budget.
package final class EncodingCache: Sendable {
  private struct Generations {
    var young: [Digest: SegmentEncoding] = [:]
    var old: [Digest: SegmentEncoding] = [:]
    var youngBytes = 0
  }
  private let cache: SegmentCache
  private let source: any EncodingSource
  private let budget: Int
  private let memory = Mutex(Generations())
  private let flights = SingleFlight<Digest, SegmentEncoding>()

  /// - Parameter budget: bytes of decoded encodings; that of a 32 MiB segment takes 28 KiB.
  package init(source: any EncodingSource, cache: SegmentCache, budget: Int = 64 << 20) {
    self.source = source
    self.cache = cache
    self.budget = budget
  }

  package func encoding(of entry: SegmentEntry) throws(SegmentError) -> SegmentEncoding {
    guard let digest = entry.encoding else {
      throw .damaged(object: "segment \(entry.number)", detail: "is not local, and was not encoded yet")
    }
    if let found = recall(digest) { return found }
    switch flights.enter(digest) {
    case .follows(let flight): return try flight.wait().get()
    case .leads(let flight):
      let result = Result { () throws(SegmentError) in try load(entry) }
      if case .success(let encoding) = result { remember(digest, encoding) }
      flights.finish(digest, flight, result)
      return try result.get()
    }
  }

  private func recall(_ digest: Digest) -> SegmentEncoding? {
    memory.withLock { g in
      if let found = g.young[digest] { return found }
      guard let found = g.old[digest] else { return nil }
      enter(digest, found, &g)
      return found
    }
  }

  private func remember(_ digest: Digest, _ encoding: SegmentEncoding) { memory.withLock { enter(digest, encoding, &$0) } }

  private func enter(_ digest: Digest, _ encoding: SegmentEncoding, _ g: inout Generations) {
    g.young[digest] = encoding
    g.youngBytes += 64 + encoding.units.count * MemoryLayout<SegmentEncoding.Unit>.stride
    if g.youngBytes > budget / 2 { g = Generations(young: [:], old: g.young) }
  }

  private func load(_ entry: SegmentEntry) throws(SegmentError) -> SegmentEncoding {
    let path = cache.path(entry) + ".encoding"
    if let blob = try? cache.files.readFile(path, limit: Self.maxBlob(entry)), let found = try? Self.verified(blob, entry) {
      return found
    }
    let blob = try source.encodingBlob(of: entry)
    let encoding = try Self.verified(blob, entry)
    // Best effort: without it the next process asks the store again. Not for what only the journal has.
    if case .page = entry.locator { try? cache.writeWhole(blob, to: path, in: entry.volume) }
    return encoding
  }

  /// A blob is shorter than its columns and digests, one unit a block at worst.
  private static func maxBlob(_ entry: SegmentEntry) -> Int { 256 + Int(entry.blocks) * 48 }

  static func verified(_ blob: [UInt8], _ entry: SegmentEntry) throws(SegmentError) -> SegmentEncoding {
    let object = "encoding of segment \(entry.number) of volume \(entry.volume)"
    guard Digest.sha256(blob) == entry.encoding else {
      throw .damaged(object: object, detail: "is not what the journal says it is")
    }
    let encoding: SegmentEncoding
    do { encoding = try SegmentEncoding.decode(blob) } catch { throw .damaged(object: object, detail: "\(error)") }
    let length = entry.bodyLength == 0 ? encoding.bodyLength : entry.bodyLength
    if let fault = encoding.fault(blocks: UInt64(entry.blocks), bodyLength: length) {
      throw .damaged(object: object, detail: fault)
    }
    return encoding
  }
}
