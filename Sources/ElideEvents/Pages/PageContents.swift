import ElideIO

extension VolumeEvent {
  /// The blobs that folding this event needs: those an opener fetches with the page's head.
  package var foldBlobs: [Digest] {
    if case .segmentEncoded = self { [] } else { blobs }
  }
  /// The rest: fetched one by one, when a segment is read.
  package var otherBlobs: [Digest] {
    if case .segmentEncoded(let e) = self { [e.encoding] } else { [] }
  }
}

/// What the next page carries: consecutive entries of a journal and the blobs they name.
package struct PageContents: Equatable, Sendable {
  package private(set) var entries: [[UInt8]] = []
  package private(set) var fold: [[UInt8]] = []
  package private(set) var other: [[UInt8]] = []
  package let firstSeq: UInt64
  /// Hash of the entry before the first; nil at entry 0.
  package private(set) var previousEntry: Digest?
  private var digests: Set<Digest> = []
  /// Plain bytes so far, and frames.
  package private(set) var bytes = 0

  package var nextSeq: UInt64 { firstSeq + UInt64(entries.count) }

  /// Reads entries from `firstSeq` on, up to and including `through`, until the page has `targetBytes` of plain bytes or
  /// is full. A page that is not to be split further has at least one entry.
  package static func gather(
    _ store: any JournalStore, from firstSeq: UInt64, through: UInt64, targetBytes: Int = 16 << 20
  ) throws(JournalError) -> PageContents {
    var contents = PageContents(firstSeq: firstSeq)
    if firstSeq > 0 {
      guard let before = try store.entry(firstSeq - 1) else { throw .damaged("entry \(firstSeq - 1) is missing") }
      contents.previousEntry = Digest.sha256(before)
    }
    while contents.nextSeq <= through {
      guard contents.entries.isEmpty || contents.bytes < targetBytes, contents.entries.count < PageLimits.entries,
        contents.fold.count + contents.other.count < PageLimits.frames - 1
      else { break }
      guard try contents.add(contents.nextSeq, store) else { break }
    }
    return contents
  }

  private init(firstSeq: UInt64) { self.firstSeq = firstSeq }

  /// False when the entry does not fit any more.
  private mutating func add(_ seq: UInt64, _ store: any JournalStore) throws(JournalError) -> Bool {
    guard let raw = try store.entry(seq) else { throw .damaged("entry \(seq) is missing") }
    let entry: Entry
    do { entry = try EntryCodec.decode(raw, at: seq) } catch { throw .damaged(error.description) }
    var newFold: [[UInt8]] = []
    var newOther: [[UInt8]] = []
    for digest in entry.event?.foldBlobs ?? [] where !digests.contains(digest) { newFold.append(try store.blob(digest)) }
    for digest in entry.event?.otherBlobs ?? [] where !digests.contains(digest) { newOther.append(try store.blob(digest)) }
    let size = raw.count + 4 + (newFold + newOther).reduce(0) { $0 + $1.count + PageFrameCodec.tableEntryBytes }
    // Half of the page's bound: what is left covers the header, and data that does not compress.
    guard entries.isEmpty || bytes + size <= PageLimits.bytes / 2 else { return false }
    entries.append(raw)
    fold += newFold
    other += newOther
    digests.formUnion(entry.event?.blobs ?? [])
    bytes += size
    return true
  }
}
