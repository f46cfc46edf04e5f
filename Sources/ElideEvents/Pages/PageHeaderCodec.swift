import ElideIO

/// The head's fields up to the entries: written and read side by side.
enum PageHeaderCodec {
  static let magic: [UInt8] = Array("ELIDEPG\u{1}".utf8)
  static let version: UInt16 = 1
  /// Bytes of the fixed part.
  static let fixedBytes = 192
  static let signatureBytes = 64
  private static let terminalFlag: UInt16 = 1

  /// The counts and lengths that frame the rest; known only when everything is encoded.
  struct Layout: Equatable {
    var headLength: UInt32 = 0
    var totalLength: UInt64 = 0
    var foldLength: UInt64 = 0
    var entries: UInt32 = 0
    var frames: UInt32 = 0
  }

  static func write(_ h: PageHeader, _ layout: Layout, _ w: inout ByteWriter) {
    w.raw(magic)
    w.u16(version)
    w.u16(h.isTerminal ? terminalFlag : 0)
    w.u32(layout.headLength)
    w.u64(layout.totalLength)
    w.u64(layout.foldLength)
    w.u32(layout.entries)
    w.u32(layout.frames)
    w.ulid(h.volume)
    w.u64(h.page)
    w.u64(h.firstSeq)
    w.u64(h.cut)
    w.u64(h.epoch)
    w.ulid(h.incarnation)
    w.u64(h.at)
    w.raw(h.previous?.bytes ?? [UInt8](repeating: 0, count: 32))
    w.raw(h.previousEntry?.bytes ?? [UInt8](repeating: 0, count: 32))
    w.raw([UInt8](repeating: 0, count: 16))
    precondition(w.bytes.count == fixedBytes)
    writeVariable(h, &w)
  }

  private static func writeVariable(_ h: PageHeader, _ w: inout ByteWriter) {
    if let end = h.end {
      w.string(end.name)
      w.u64(end.seq)
      w.raw(end.by)
    }
    w.u8(UInt8(h.checkpoints.count))
    for c in h.checkpoints {
      w.ulid(c.volume)
      w.string(c.key)
      w.u64(c.seq)
      w.digest(c.root)
      w.u64(c.length)
      w.digest(c.digest)
    }
    w.u8(UInt8(h.tail.count))
    for t in h.tail {
      w.u64(t.page)
      w.u64(t.firstSeq)
      w.u64(t.lastSeq)
      w.u64(t.length)
      w.digest(t.hash)
    }
    for sum in [h.sums.uploaded, h.sums.retired, h.sums.deleted] {
      let isEmpty = sum == LtHash16()
      w.u8(isEmpty ? 0 : 1)
      if !isEmpty { w.raw(sum.bytes) }
    }
  }

  static func read(_ r: inout ByteReader) throws(FormatError) -> (PageHeader, Layout) {
    guard try r.raw(8) == magic else { throw r.error("not a journal page") }
    let version = try r.u16()
    guard version == Self.version else { throw r.error("version \(version) is not known") }
    let flags = try r.u16()
    guard flags & ~terminalFlag == 0 else { throw r.error("flags \(flags) are not known") }
    let layout = Layout(
      headLength: try r.u32(), totalLength: try r.u64(), foldLength: try r.u64(), entries: try r.u32(), frames: try r.u32())
    try check(layout, r)
    var header = try readFixed(&r)
    if flags == terminalFlag {
      header.end = PageEnd(name: try r.string(limit: EventLimits.name), seq: try r.u64(), by: try r.raw(32))
    }
    try readVariable(&r, into: &header)
    try check(header, layout, r)
    return (header, layout)
  }

  private static func readFixed(_ r: inout ByteReader) throws(FormatError) -> PageHeader {
    let volume = try r.ulid()
    let page = try r.u64()
    let firstSeq = try r.u64()
    let cut = try r.u64()
    let epoch = try r.u64()
    let incarnation = try r.ulid()
    let at = try r.u64()
    let previous = try optionalDigest(&r, present: page > 0, "previous page")
    let previousEntry = try optionalDigest(&r, present: firstSeq > 0, "previous entry")
    guard try r.raw(16).allSatisfy({ $0 == 0 }) else { throw r.error("reserved bytes are not zero") }
    return PageHeader(
      volume: volume, page: page, previous: previous, firstSeq: firstSeq, previousEntry: previousEntry, cut: cut, epoch: epoch,
      incarnation: incarnation, at: at)
  }

  private static func optionalDigest(
    _ r: inout ByteReader, present: Bool, _ what: String
  ) throws(FormatError) -> Digest? {
    let digest = try r.digest()
    let isZero = digest == Digest(words: (0, 0, 0, 0))
    guard isZero != present else { throw r.error("\(what): a hash where none belongs, or none where one does") }
    return present ? digest : nil
  }

  private static func readVariable(_ r: inout ByteReader, into h: inout PageHeader) throws(FormatError) {
    let checkpoints = Int(try r.u8())
    guard checkpoints <= PageLimits.checkpoints else { throw r.error("\(checkpoints) checkpoints") }
    for _ in 0..<checkpoints {
      h.checkpoints.append(
        CheckpointLocator(
          volume: try r.ulid(), key: try r.string(limit: EventLimits.key), seq: try r.u64(), root: try r.digest(),
          length: try r.u64(), digest: try r.digest()))
    }
    let tail = Int(try r.u8())
    guard tail <= PageLimits.tail else { throw r.error("\(tail) tail pages") }
    for _ in 0..<tail {
      h.tail.append(
        TailPage(
          page: try r.u64(), firstSeq: try r.u64(), lastSeq: try r.u64(), length: try r.u64(), hash: try r.digest()))
    }
    h.sums.uploaded = try readSum(&r)
    h.sums.retired = try readSum(&r)
    h.sums.deleted = try readSum(&r)
  }

  private static func readSum(_ r: inout ByteReader) throws(FormatError) -> LtHash16 {
    switch try r.u8() {
    case 0: return LtHash16()
    case 1:
      guard let sum = LtHash16(bytes: try r.raw(LtHash16.byteCount)) else { throw r.error("not a set sum") }
      return sum
    case let tag: throw r.error("a set sum of the unknown form \(tag)")
    }
  }

  private static func check(_ l: Layout, _ r: ByteReader) throws(FormatError) {
    guard l.totalLength <= UInt64(PageLimits.bytes) else { throw r.error("\(l.totalLength) bytes") }
    guard l.headLength >= fixedBytes + signatureBytes, UInt64(l.headLength) <= l.foldLength, l.foldLength <= l.totalLength
    else { throw r.error("lengths \(l.headLength), \(l.foldLength), \(l.totalLength) do not nest") }
    guard l.entries <= PageLimits.entries else { throw r.error("\(l.entries) entries") }
    guard l.frames <= PageLimits.frames else { throw r.error("\(l.frames) frames") }
  }

  private static func check(_ h: PageHeader, _ l: Layout, _ r: ByteReader) throws(FormatError) {
    let limit = UInt64(Int64.max) - UInt64(PageLimits.entries)
    guard h.firstSeq <= limit, h.cut <= limit, h.page <= limit else { throw r.error("a number over 2^63") }
    if h.isTerminal {
      guard l.entries == 0, l.frames == 0 else { throw r.error("a terminal page with entries or frames") }
      guard (h.page == 0) == (h.firstSeq == 0) else { throw r.error("a terminal page that does not follow its pages") }
    } else if l.entries == 0 {
      throw r.error("a page without entries")
    }
    // In slot 0 a terminal page ends a volume that never had a cut.
    guard h.cut < h.firstSeq + UInt64(l.entries) || (h.isTerminal && h.page == 0 && h.cut == 0) else {
      throw r.error("the cut \(h.cut) is past the page's end")
    }
    var previous: TailPage?
    for t in h.tail {
      guard t.page < h.page, t.firstSeq <= t.lastSeq, t.lastSeq < h.firstSeq, t.length <= UInt64(PageLimits.bytes),
        previous.map({ $0.page + 1 == t.page && $0.lastSeq + 1 == t.firstSeq }) ?? true
      else { throw r.error("tail pages out of order") }
      previous = t
    }
    if let last = h.tail.last, last.page + 1 != h.page { throw r.error("the tail does not reach this page") }
  }
}
