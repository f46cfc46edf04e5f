import ElideIO

extension SegmentEncoding {
  private static let magic = "else"
  private static let version: UInt8 = 1
  /// A unit for each block at most.
  package static let maxUnits = 1 << 20
  package static let maxUnitBlocks: UInt32 = 256
  /// Blocks 2 bytes, length 4, codec, cipher and source 1 each, and the count.
  private static let maxPlain = 8 + maxUnits * 9

  /// Blocks of the segment.
  package var blocks: UInt64 { units.reduce(0) { $0 + UInt64($1.blocks) } }
  /// Bytes of the body object: the units, then a SHA-256 a block.
  package var bodyLength: UInt64 { hashesOffset + 32 * blocks }

  /// The hash of a segment, which names its body: SHA-256 over both digests.
  package static func segmentHash(content: Digest, encoding: Digest) -> Digest {
    Digest.sha256(content.bytes + encoding.bytes)
  }

  /// The digest of a `.hashed` unit from the SHA-256 of each of its blocks.
  package static func digest(of hashes: some Collection<Digest>) -> Digest {
    var bytes = ByteWriter(capacity: hashes.count * 32)
    for hash in hashes { bytes.digest(hash) }
    return Digest.sha256(bytes.bytes)
  }

  /// The body's key in the store.
  package static func bodyKey(volume: ULID, segment: UInt64, hash: Digest) -> String {
    let digits = String(segment)
    return "volumes/\(volume)/segments/\(String(repeating: "0", count: max(0, 16 - digits.count)))\(digits)-\(hash.hex)"
  }

  /// The encoding blob: docs/formats/segment.md. An encoding with a `fault` is the caller's bug and traps.
  package func encode(_ zstd: ZstdCodec? = nil) -> [UInt8] {
    if let fault { preconditionFailure("segment encoding: \(fault)") }
    var columns = (
      blocks: ByteWriter(), lengths: ByteWriter(), codecs: ByteWriter(), ciphers: ByteWriter(), sources: ByteWriter()
    )
    columns.blocks.varint(UInt64(units.count))
    for unit in units {
      columns.blocks.varint(UInt64(unit.blocks))
      columns.lengths.varint(UInt64(unit.length))
      columns.codecs.u8(unit.codec.rawValue)
      columns.ciphers.u8(0)
      columns.sources.u8(0)
    }
    var out = ByteWriter(capacity: 64 + 48 * units.count)
    ColumnFrame.write(
      magic: Self.magic, version: Self.version,
      columns: [columns.blocks, columns.lengths, columns.codecs, columns.ciphers, columns.sources], zstd: zstd, to: &out)
    for unit in units { out.digest(unit.digest) }
    out.digest(hashesDigest)
    return out.bytes
  }

  /// Reads an encoding blob; hostile bytes give an error. What it returns has no `fault`; whether it fits a segment and a
  /// body is `fault(blocks:bodyLength:)`.
  package static func decode(_ bytes: [UInt8], _ zstd: ZstdCodec? = nil) throws(FormatError) -> SegmentEncoding {
    var outer = ByteReader(bytes, what: "segment encoding")
    let plain = try ColumnFrame.read(magic: magic, version: version, limit: maxPlain, zstd: zstd, from: &outer)
    var reader = ByteReader(plain, what: "segment encoding")
    // Each unit takes five bytes or more here and 32 outside.
    let count = try reader.count("number of units", limit: min(maxUnits, plain.count / 5, outer.remaining / 32))
    var units: [Unit] = []
    units.reserveCapacity(count)
    var r: UInt32 = 0
    for _ in 0..<count {
      let n = UInt32(try reader.count("blocks of a unit", limit: Int(maxUnitBlocks)))
      guard n > 0, r + n <= 1 << 20 else { throw reader.error("a unit of \(n) blocks at r \(r)") }
      units.append(Unit(r: r, blocks: n, offset: 0, length: 0, codec: .raw, digest: Digest(words: (0, 0, 0, 0))))
      r += n
    }
    var offset: UInt64 = 0
    for i in units.indices {
      units[i].length = UInt32(try reader.count("length of a unit", limit: Int(units[i].blocks) * 4096))
      units[i].offset = offset
      offset += UInt64(units[i].length)
    }
    for i in units.indices {
      let c = try reader.u8()
      guard let codec = Codec(rawValue: c) else { throw reader.error("unknown codec \(c)") }
      units[i].codec = codec
    }
    for _ in 0..<count { guard try reader.u8() == 0 else { throw reader.error("unknown cipher") } }
    for _ in 0..<count { guard try reader.u8() == 0 else { throw reader.error("unknown source of a delta") } }
    try reader.end()
    for i in units.indices { units[i].digest = try outer.digest() }
    let encoding = SegmentEncoding(units: units, hashesOffset: offset, hashesDigest: try outer.digest())
    try outer.end()
    if let fault = encoding.fault { throw reader.error(fault) }
    return encoding
  }

  /// What keeps this from being an encoding: units dense in r and in the body, raw units of exactly their plain length,
  /// compressed ones shorter, the hashes right after them. nil when nothing does.
  package var fault: String? {
    if units.count > Self.maxUnits { return "\(units.count) units" }
    var r: UInt32 = 0
    var offset: UInt64 = 0
    for (i, unit) in units.enumerated() {
      guard unit.r == r, (1...Self.maxUnitBlocks).contains(unit.blocks), r + unit.blocks <= 1 << 20 else {
        return "unit \(i) holds \(unit.blocks) blocks from r \(unit.r), where r \(r) should be"
      }
      guard unit.offset == offset else { return "unit \(i) lies at \(unit.offset), not at \(offset)" }
      let plain = unit.blocks * 4096
      guard unit.codec.isPlain ? unit.length == plain : unit.length > 0 && unit.length < plain else {
        return "unit \(i) of \(plain) bytes is stored in \(unit.length)"
      }
      r += unit.blocks
      offset += UInt64(unit.length)
    }
    return hashesOffset == offset ? nil : "hashes lie at \(hashesOffset), not at \(offset)"
  }

  /// The same against what the journal says of the segment and its body.
  package func fault(blocks: UInt64, bodyLength: UInt64) -> String? {
    if let fault { return fault }
    if self.blocks != blocks { return "units hold \(self.blocks) blocks, the segment has \(blocks)" }
    if self.bodyLength != bodyLength { return "a body of \(self.bodyLength) bytes, the journal says \(bodyLength)" }
    return nil
  }
}
