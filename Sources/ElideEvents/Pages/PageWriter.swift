import ElideIO

/// Builds a page from raw entries and the blobs they name.
package enum PageWriter {
  /// A finished page: what is put, and what the next page and the hints say of it.
  package struct Built: Equatable, Sendable {
    package let bytes: [UInt8]
    /// SHA-256 of the head.
    package let hash: Digest
    package let headLength: Int
    package let foldLength: Int
  }

  /// The page's bytes. `entries` are consecutive, from `header.firstSeq`. `fold` are the blobs that folding the entries
  /// needs (contents, moves, lists), `other` the rest (encodings): an opener fetches the page up to the end of the
  /// former. A blob given twice is carried once. `sign` signs with the volume's key (a terminal page: with the host's, whose
  /// public half is `end.by`) and gives 64 bytes.
  package static func build(
    _ header: PageHeader, entries: [[UInt8]], fold: [[UInt8]], other: [[UInt8]], sign: ([UInt8]) -> [UInt8]
  ) throws(PageError) -> Built {
    try check(header, entries, fold + other)
    let zstd = ZstdCodec()
    var digests: Set<Digest> = []
    let foldFrames = fold.map { PageFrameCodec.encode($0, zstd) }.filter { digests.insert($0.digest).inserted }
    let otherFrames = other.map { PageFrameCodec.encode($0, nil) }.filter { digests.insert($0.digest).inserted }
    let region = PageFrameCodec.encode(joined(entries), zstd)
    var layout = PageHeaderCodec.Layout()
    layout.entries = UInt32(entries.count)
    layout.frames = UInt32(foldFrames.count + otherFrames.count)
    // Written twice: the lengths have fixed places, and are known once everything else is written.
    var head = writeHead(header, layout, region, foldFrames + otherFrames)
    let headLength = head.count + PageHeaderCodec.signatureBytes
    let foldLength = headLength + foldFrames.reduce(0) { $0 + $1.stored.count }
    let total = foldLength + otherFrames.reduce(0) { $0 + $1.stored.count }
    guard total <= PageLimits.bytes else { throw .tooLarge("\(total) bytes") }
    layout.headLength = UInt32(headLength)
    layout.foldLength = UInt64(foldLength)
    layout.totalLength = UInt64(total)
    head = writeHead(header, layout, region, foldFrames + otherFrames)
    let signature = sign(JournalPage.signed(head))
    precondition(signature.count == PageHeaderCodec.signatureBytes)
    var bytes = head + signature
    let hash = Digest.sha256(bytes)
    for frame in foldFrames + otherFrames { bytes += frame.stored }
    return Built(bytes: bytes, hash: hash, headLength: headLength, foldLength: foldLength)
  }

  private static func check(_ h: PageHeader, _ entries: [[UInt8]], _ blobs: [[UInt8]]) throws(PageError) {
    precondition(h.isTerminal == entries.isEmpty, "only a terminal page has no entries")
    precondition(
      h.cut < h.firstSeq + UInt64(entries.count) || (h.isTerminal && h.page == 0 && h.cut == 0),
      "the cut is in this page or before it")
    precondition((h.page == 0) == (h.previous == nil) && (h.firstSeq == 0) == (h.previousEntry == nil))
    guard entries.count <= PageLimits.entries else { throw .tooLarge("\(entries.count) entries") }
    guard blobs.count <= PageLimits.frames else { throw .tooLarge("\(blobs.count) frames") }
    guard entries.allSatisfy({ $0.count <= Entry.maxBytes }), blobs.allSatisfy({ $0.count <= PageLimits.blob }) else {
      throw .tooLarge("an entry or a blob over its bound")
    }
    guard entries.reduce(0, { $0 + $1.count + 4 }) <= PageLimits.blob else { throw .tooLarge("entries of over 64 MiB") }
    guard h.checkpoints.count <= PageLimits.checkpoints, h.tail.count <= PageLimits.tail else {
      throw .tooLarge("\(h.checkpoints.count) checkpoints, \(h.tail.count) tail pages")
    }
  }

  private static func joined(_ entries: [[UInt8]]) -> [UInt8] {
    var w = ByteWriter(capacity: entries.reduce(0) { $0 + $1.count + 4 })
    for raw in entries {
      w.u32(UInt32(raw.count))
      w.raw(raw)
    }
    return w.bytes
  }

  private static func writeHead(
    _ h: PageHeader, _ layout: PageHeaderCodec.Layout, _ region: PageFrameCodec.Encoded, _ frames: [PageFrameCodec.Encoded]
  ) -> [UInt8] {
    var w = ByteWriter(capacity: 8192 + region.stored.count + frames.count * PageFrameCodec.tableEntryBytes)
    PageHeaderCodec.write(h, layout, &w)
    w.u8(region.codec.rawValue)
    w.u32(region.length)
    w.u32(UInt32(region.stored.count))
    w.raw(region.stored)
    for frame in frames {
      w.digest(frame.digest)
      w.u8(frame.codec.rawValue)
      w.u32(frame.length)
      w.u32(UInt32(frame.stored.count))
    }
    return w.bytes
  }
}
