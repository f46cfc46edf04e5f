import ElideEvents
import ElideIO

// The persisted form of `VolumeState`, one row of the local journal. Little-endian, counts and numbers as varints; an
// optional is a byte 0 or 1 and then the value. Everything in a fixed order, so that equal states are equal bytes.
// Rebuildable: a row of another version is dropped and the journal folded from entry 0.

extension VolumeState {
  private static let version: UInt64 = 1
  private static let limit = 1 << 24

  package func encode() -> [UInt8] {
    var w = ByteWriter()
    w.varint(Self.version)
    w.ulid(volume)
    w.optional(genesis) { w, g in
      w.varint(g.size)
      w.varint(g.blockSize)
      w.raw(g.key)
      w.strings(g.incompatibleFeatures)
      w.strings(g.readOnlyCompatibleFeatures)
    }
    w.optional(lineage) { w, l in
      w.ulid(l.parent)
      w.varint(l.seq)
      w.varint(l.page)
      w.digest(l.pageHash)
      w.raw(l.parentKey)
      w.varint(l.firstSegment)
    }
    w.optional(source) { w, s in w.string(s) }
    w.varint(size)
    w.optional(seq) { w, n in w.varint(n) }
    w.varint(nextSegment)
    w.list(ordered) { w, s in s.write(to: &w) }
    w.list(openWALs) { w, n in w.varint(n) }
    w.u8(isServing ? 1 : 0)
    w.varint(lastFrame)
    w.u32(lastHeaderCRC)
    w.list(snapshots) { w, s in
      w.ulid(s.id)
      w.string(s.label)
      w.varint(s.after)
      w.varint(s.takenSeq)
      w.optional(s.point) { w, n in w.varint(n) }
    }
    w.list(resizes) { w, r in
      w.varint(r.size)
      w.varint(r.after)
    }
    w.list(compactions) { w, c in
      w.ulid(c.plan)
      w.list(c.inputs) { w, n in w.varint(n) }
      w.list(c.outputs) { w, n in w.varint(n) }
    }
    w.strings(plannedObjects)
    w.optional(boundName) { w, s in w.string(s) }
    w.optional(boundSeq) { w, n in w.varint(n) }
    w.varint(epoch)
    w.u8(isFenced ? 1 : 0)
    w.list(violations) { w, v in
      w.varint(v.seq)
      w.string(v.detail)
    }
    return w.bytes
  }

  /// From `encode`'s bytes; anything else is an error, never a trap.
  package static func decode(_ bytes: [UInt8]) throws(FormatError) -> VolumeState {
    var r = ByteReader(bytes, what: "volume state")
    guard try r.varint() == version else { throw r.error("another version") }
    var s = VolumeState(volume: try r.ulid())
    s.genesis = try r.optional { (r) throws(FormatError) in
      Genesis(
        size: try r.varint(), blockSize: try r.varint(), key: try r.raw(32), incompatibleFeatures: try r.strings(),
        readOnlyCompatibleFeatures: try r.strings())
    }
    s.lineage = try r.optional { (r) throws(FormatError) in
      Lineage(
        parent: try r.ulid(), seq: try r.varint(), page: try r.varint(), pageHash: try r.digest(), parentKey: try r.raw(32),
        firstSegment: try r.varint())
    }
    s.source = try r.optional { (r) throws(FormatError) in try r.string(limit: 1 << 16) }
    s.size = try r.varint()
    s.seq = try r.optional { (r) throws(FormatError) in try r.varint() }
    s.nextSegment = try r.varint()
    for segment in try r.list({ (r) throws(FormatError) in try OwnSegment(from: &r) }) { s.segments[segment.number] = segment }
    s.openWALs = try r.list { (r) throws(FormatError) in try r.varint() }
    s.isServing = try r.u8() != 0
    s.lastFrame = try r.varint()
    s.lastHeaderCRC = try r.u32()
    s.snapshots = try r.list { (r) throws(FormatError) in
      Snapshot(
        id: try r.ulid(), label: try r.string(limit: 1 << 16), after: try r.varint(), takenSeq: try r.varint(),
        point: try r.optional { (r) throws(FormatError) in try r.varint() })
    }
    s.resizes = try r.list { (r) throws(FormatError) in PendingResize(size: try r.varint(), after: try r.varint()) }
    s.compactions = try r.list { (r) throws(FormatError) in
      Compaction(
        plan: try r.ulid(), inputs: try r.list { (r) throws(FormatError) in try r.varint() },
        outputs: try r.list { (r) throws(FormatError) in try r.varint() })
    }
    s.plannedObjects = try r.strings()
    s.boundName = try r.optional { (r) throws(FormatError) in try r.string(limit: 1 << 16) }
    s.boundSeq = try r.optional { (r) throws(FormatError) in try r.varint() }
    s.epoch = try r.varint()
    s.isFenced = try r.u8() != 0
    s.violations = try r.list { (r) throws(FormatError) in Violation(seq: try r.varint(), detail: try r.string(limit: 1 << 16)) }
    try r.end()
    return s
  }
}

extension OwnSegment {
  fileprivate func write(to w: inout ByteWriter) {
    w.varint(number)
    w.string(origin.rawValue)
    w.varint(blocks)
    w.digest(content)
    w.varint(sealedSeq)
    w.optional(encoded) { w, e in
      w.digest(e.hash)
      w.digest(e.encoding)
      w.varint(e.length)
      w.varint(e.units)
    }
    w.optional(encodedSeq) { w, n in w.varint(n) }
    w.optional(uploadedSeq) { w, n in w.varint(n) }
    w.u8(phase.rawValue)
  }

  fileprivate init(from r: inout ByteReader) throws(FormatError) {
    let number = try r.varint()
    guard let origin = SealedSegment.Origin(rawValue: try r.string(limit: 16)) else { throw r.error("unknown origin") }
    let blocks = try r.varint()
    let content = try r.digest()
    let sealedSeq = try r.varint()
    let encoded = try r.optional { (r) throws(FormatError) in
      EncodedSegment(
        segment: number, hash: try r.digest(), encoding: try r.digest(), length: try r.varint(), units: try r.varint())
    }
    let encodedSeq = try r.optional { (r) throws(FormatError) in try r.varint() }
    let uploadedSeq = try r.optional { (r) throws(FormatError) in try r.varint() }
    guard let phase = Phase(rawValue: try r.u8()) else { throw r.error("unknown phase") }
    self.init(
      number: number, origin: origin, blocks: blocks, content: content, sealedSeq: sealedSeq, encoded: encoded,
      encodedSeq: encodedSeq, uploadedSeq: uploadedSeq, phase: phase)
  }
}

extension ByteWriter {
  fileprivate mutating func optional<T>(_ value: T?, _ body: (inout ByteWriter, T) -> Void) {
    u8(value == nil ? 0 : 1)
    if let value { body(&self, value) }
  }
  fileprivate mutating func list<T>(_ values: [T], _ body: (inout ByteWriter, T) -> Void) {
    varint(UInt64(values.count))
    for value in values { body(&self, value) }
  }
  fileprivate mutating func strings(_ values: [String]) { list(values) { w, s in w.string(s) } }
}

extension ByteReader {
  fileprivate mutating func optional<T>(
    _ body: (inout ByteReader) throws(FormatError) -> T
  ) throws(FormatError) -> T? {
    switch try u8() {
    case 0: nil
    case 1: try body(&self)
    default: throw error("an optional is 0 or 1")
    }
  }
  fileprivate mutating func list<T>(_ body: (inout ByteReader) throws(FormatError) -> T) throws(FormatError) -> [T] {
    // Every element takes a byte at least, so the count is bounded by what is there.
    let n = try count("list", limit: remaining)
    var out: [T] = []
    for _ in 0..<n { out.append(try body(&self)) }
    return out
  }
  fileprivate mutating func strings() throws(FormatError) -> [String] {
    try list { (r) throws(FormatError) in try r.string(limit: 1 << 16) }
  }
}
