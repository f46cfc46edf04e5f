import CElide
import ElideIO

// The Merkle root of a map (docs/formats/checkpoint.md). A leaf's digest is the SHA-256 of its canonical encoding; a
// node's that of a header and its 1024 children's; the root's that of a header, the size in blocks and the top node.
// Subtrees of one constant have digests known beforehand, so the shape in memory does not show.

/// Constants and header bytes of the Merkle tree.
enum MapRoot {
  /// Before the children's digests: "elide map node", 0, level.
  static let headerBytes = 16
  static let cacheBytes = headerBytes + Level.fanout * 32

  static func writeHeader(_ p: UnsafeMutableRawPointer, level: Int) {
    p.initializeMemory(as: UInt8.self, repeating: 0, count: headerBytes)
    for (i, c) in "elide map node".utf8.enumerated() { p.storeBytes(of: c, toByteOffset: i, as: UInt8.self) }
    p.storeBytes(of: UInt8(level), toByteOffset: 15, as: UInt8.self)
  }

  static func store(_ d: Digest, _ p: UnsafeMutableRawPointer) {
    p.storeBytes(of: d.words.0.bigEndian, toByteOffset: 0, as: UInt64.self)
    p.storeBytes(of: d.words.1.bigEndian, toByteOffset: 8, as: UInt64.self)
    p.storeBytes(of: d.words.2.bigEndian, toByteOffset: 16, as: UInt64.self)
    p.storeBytes(of: d.words.3.bigEndian, toByteOffset: 24, as: UInt64.self)
  }

  /// Digest of a span of one constant: `uniform[level][tag]`, level 1 (a leaf) to 4 (the top node).
  static let uniform: [[Digest]] = {
    var table = [[Digest](), [0, 1].map { Digest.sha256(LeafCoding.encode(constant: BlockHandle(raw: UInt64($0) << 60))) }]
    let p = UnsafeMutableRawPointer.allocate(byteCount: cacheBytes, alignment: 8)
    defer { p.deallocate() }
    for level in 2...4 {
      table.append(
        [0, 1].map { tag in
          writeHeader(p, level: level - 1)
          for i in 0..<Level.fanout { store(table[level - 1][tag], p + headerBytes + 32 * i) }
          return Digest.sha256(UnsafeRawBufferPointer(start: p, count: cacheBytes))
        })
    }
    return table
  }()

  /// The root from the digest of the top node.
  static func root(blocks: UInt64, top: Digest) -> Digest {
    var w = ByteWriter(capacity: 56)
    w.raw("elide map root\0\u{1}".utf8)
    w.u64(blocks)
    w.digest(top)
    return Digest.sha256(w.bytes)
  }
}

extension BlockMap {
  /// The map's root: the same for the same contents and size, whatever the history. Writer; costs the leaves changed
  /// since the last call, and 32 KiB of hashing for each node above them.
  package func root() -> Digest { MapRoot.root(blocks: shared[Self.sizeWord], top: digest(node: top, level: 3)) }

  /// Digest of an inner node whose slots are of `level`, from the cache where nothing changed.
  private func digest(node: UnsafeMutablePointer<UInt64>, level: Int) -> Digest {
    let inner = InnerNode(words: node)
    let cache: UnsafeMutableRawPointer
    if let existing = inner.digests {
      cache = existing
    } else {
      cache = makeCache(inner, level: level)
    }
    for group in 0..<Level.fanout / 64 {
      var bits = inner.dirty[group]
      while bits != 0 {
        let i = group * 64 + bits.trailingZeroBitCount
        bits &= bits - 1
        MapRoot.store(digest(slot: node[i], level: level), cache + MapRoot.headerBytes + 32 * i)
      }
      inner.dirty[group] = 0
    }
    return Digest.sha256(UnsafeRawBufferPointer(start: cache, count: MapRoot.cacheBytes))
  }

  func makeCache(_ inner: InnerNode, level: Int) -> UnsafeMutableRawPointer {
    let cache = UnsafeMutableRawPointer.allocate(byteCount: MapRoot.cacheBytes, alignment: 16)
    memoryBytes += MapRoot.cacheBytes
    MapRoot.writeHeader(cache, level: level)
    inner.digests = cache
    for group in 0..<Level.fanout / 64 { inner.dirty[group] = ~0 }
    return cache
  }

  private func digest(slot word: UInt64, level: Int) -> Digest {
    if Slot.tag(word) == Slot.inner { return digest(node: Slot.node(word), level: level - 1) }
    if word >> 60 <= 1 { return MapRoot.uniform[level][Int(word >> 60)] }
    scratch.load(word)
    return scratch.withEncoding { Digest.sha256(UnsafeRawBufferPointer($0)) }
  }
}
