import ElideIO

/// A page's head as it was read: what it says, its entries (still packed), and where its blobs lie.
///
/// Hostile until `verify` has succeeded; parsing allocates no more than the bytes it was given. Immutable.
package struct JournalPage: Equatable, Sendable {
  package let header: PageHeader
  /// SHA-256 of the head, signature included: what the next page, a fork and a tail call this page by.
  package let hash: Digest
  package let headLength: Int
  /// [0, foldLength) holds the head and the blobs that folding the entries needs.
  package let foldLength: Int
  /// Bytes of the whole object.
  package let totalLength: Int
  package let entryCount: Int
  package let frames: [PageFrame]
  private let head: [UInt8]
  private let region: Region
  /// Frames by digest. Sorted rather than hashed: the digests are the writer's choice, and may be chosen to collide.
  private let order: [Int]

  private struct Region: Equatable {
    var codec: PageFrame.Codec
    var length: Int
    var range: Range<Int>
  }

  package var page: UInt64 { header.page }
  /// One past the last entry.
  package var nextSeq: UInt64 { header.firstSeq + UInt64(entryCount) }
  /// The last entry; nil for a terminal page.
  package var lastSeq: UInt64? { entryCount == 0 ? nil : nextSeq - 1 }

  /// Bytes of a page that are enough to learn how long its head is.
  package static let prologueBytes = PageHeaderCodec.fixedBytes

  /// Reads a head from the first bytes of a page, or from the whole; `.short` says how many bytes it takes.
  package static func parse(_ prefix: [UInt8]) throws(PageError) -> JournalPage {
    guard prefix.count >= prologueBytes else {
      try refuseForeign(prefix)
      throw .short(need: prologueBytes)
    }
    let headLength: Int
    do { headLength = try readHeadLength(prefix) } catch { throw .malformed(error) }
    guard prefix.count >= headLength else { throw .short(need: headLength) }
    do { return try JournalPage(head: Array(prefix[..<headLength])) } catch { throw .malformed(error) }
  }

  private static func readHeadLength(_ prefix: [UInt8]) throws(FormatError) -> Int {
    var r = ByteReader(prefix[..<16], what: "journal page")
    guard try r.raw(8) == PageHeaderCodec.magic else { throw r.error("not a journal page") }
    _ = try r.u32()
    let length = Int(try r.u32())
    guard length >= prologueBytes + PageHeaderCodec.signatureBytes, length <= PageLimits.bytes else {
      throw r.error("a head of \(length) bytes")
    }
    return length
  }

  private static func refuseForeign(_ prefix: [UInt8]) throws(PageError) {
    guard PageHeaderCodec.magic.starts(with: prefix.prefix(8)) else {
      throw .malformed(FormatError("journal page", offset: 0, "not a journal page"))
    }
  }

  private init(head: [UInt8]) throws(FormatError) {
    var r = ByteReader(head[..<(head.count - PageHeaderCodec.signatureBytes)], what: "journal page")
    let (header, layout) = try PageHeaderCodec.read(&r)
    guard Int(layout.headLength) == head.count else { throw r.error("head length changed while reading") }
    region = try Self.readRegion(&r)
    frames = try Self.readFrames(&r, layout)
    order = try Self.order(frames, r)
    try r.end()
    self.header = header
    self.head = head
    hash = Digest.sha256(head)
    headLength = head.count
    foldLength = Int(layout.foldLength)
    totalLength = Int(layout.totalLength)
    entryCount = Int(layout.entries)
    guard foldLength == headLength || frames.contains(where: { $0.range.upperBound == layout.foldLength }) else {
      throw r.error("the fold length ends inside a frame")
    }
  }

  private static func readRegion(_ r: inout ByteReader) throws(FormatError) -> Region {
    let codec = try readCodec(&r)
    let length = Int(try r.u32())
    let stored = Int(try r.u32())
    guard length <= PageLimits.blob, codec == .zstd || stored == length else { throw r.error("entries of \(length) bytes") }
    let start = r.offset
    _ = try r.raw(stored)
    return Region(codec: codec, length: length, range: start..<start + stored)
  }

  private static func readCodec(_ r: inout ByteReader) throws(FormatError) -> PageFrame.Codec {
    let raw = try r.u8()
    guard let codec = PageFrame.Codec(rawValue: raw) else { throw r.error("codec \(raw) is not known") }
    return codec
  }

  private static func readFrames(
    _ r: inout ByteReader, _ layout: PageHeaderCodec.Layout
  ) throws(FormatError) -> [PageFrame] {
    let count = Int(layout.frames)
    guard r.remaining == count * PageFrameCodec.tableEntryBytes else { throw r.error("a frame table of \(r.remaining) bytes") }
    var frames: [PageFrame] = []
    frames.reserveCapacity(count)
    var offset = UInt64(layout.headLength)
    for _ in 0..<count {
      let digest = try r.digest()
      let codec = try readCodec(&r)
      let length = try r.u32()
      let stored = try r.u32()
      guard length <= PageLimits.blob, codec == .zstd || stored == length else { throw r.error("a frame of \(length) bytes") }
      frames.append(PageFrame(digest: digest, codec: codec, offset: offset, storedLength: stored, length: length))
      offset += UInt64(stored)
    }
    guard offset == layout.totalLength else { throw r.error("frames end at \(offset), the page at \(layout.totalLength)") }
    return frames
  }

  private static func order(_ frames: [PageFrame], _ r: ByteReader) throws(FormatError) -> [Int] {
    let order = frames.indices.sorted { frames[$0].digest < frames[$1].digest }
    for (a, b) in zip(order, order.dropFirst()) where frames[a].digest == frames[b].digest {
      throw r.error("two frames of one blob")
    }
    return order
  }

  /// What is signed: a word that no other signature of Elide begins with, and the head without its signature.
  static func signed(_ unsigned: [UInt8]) -> [UInt8] { Array("elide/1/page\0".utf8) + unsigned }

  /// Whether the head is signed by `key` (the volume's; a terminal page is checked against the key it names, which
  /// the caller must know as a host's).
  package func verify(key: [UInt8]) throws(PageError) {
    let split = head.count - PageHeaderCodec.signatureBytes
    let key = header.end?.by ?? key
    guard verifyEd25519(Array(head[split...]), of: Self.signed(Array(head[..<split])), publicKey: key) else {
      throw .badSignature(page: header.page)
    }
  }

  /// The raw entries in order. Call after `verify`: it may allocate 64 MiB.
  package func entries() throws(PageError) -> [[UInt8]] {
    guard let plain = PageFrameCodec.decode(head[region.range], region.codec, length: region.length) else {
      throw .malformed(FormatError("journal page", offset: region.range.lowerBound, "entries do not decompress"))
    }
    do { return try split(plain) } catch { throw .malformed(error) }
  }

  private func split(_ plain: [UInt8]) throws(FormatError) -> [[UInt8]] {
    var r = ByteReader(plain, what: "entries of a journal page")
    var out: [[UInt8]] = []
    out.reserveCapacity(entryCount)
    for _ in 0..<entryCount {
      let length = Int(try r.u32())
      guard length <= Entry.maxBytes else { throw r.error("an entry of \(length) bytes") }
      out.append(try r.raw(length))
    }
    try r.end()
    return out
  }

  /// Where a blob lies; nil when this page does not carry it.
  package func frame(_ digest: Digest) -> PageFrame? {
    var low = 0
    var high = order.count
    while low < high {
      let middle = (low + high) / 2
      if frames[order[middle]].digest < digest { low = middle + 1 } else { high = middle }
    }
    guard low < order.count, frames[order[low]].digest == digest else { return nil }
    return frames[order[low]]
  }

  /// The blob of a frame from its stored bytes (`frame.range` of the page), checked against its digest.
  package static func blob(_ frame: PageFrame, stored: [UInt8]) throws(PageError) -> [UInt8] {
    guard stored.count == Int(frame.storedLength),
      let plain = PageFrameCodec.decode(stored[...], frame.codec, length: Int(frame.length)),
      Digest.sha256(plain) == frame.digest
    else { throw .damagedFrame(frame.digest) }
    return plain
  }

  /// A blob from the page's own bytes, of which a prefix that holds the frame is enough.
  package func blob(_ digest: Digest, in bytes: [UInt8]) throws(PageError) -> [UInt8] {
    guard let frame = frame(digest) else { throw .missingFrame(digest) }
    guard frame.range.upperBound <= UInt64(bytes.count) else { throw .short(need: Int(frame.range.upperBound)) }
    return try Self.blob(frame, stored: Array(bytes[Int(frame.offset)..<Int(frame.range.upperBound)]))
  }
}
