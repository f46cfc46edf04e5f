import ElideIO

// A leaf's canonical encoding (docs/formats/checkpoint.md): byte 1, then for each maximal run in order
//
//     varint  blocks * 4 + kind          kind 0 unwritten, 1 zero, 2 block
//     block:  varint zigzag(segment - segment of the block run before in this leaf, 0 at first)
//             varint zigzag(r - r that would follow the block run before, 0 at first)
//
// A leaf has 1024 blocks always; those past the end of the volume are unwritten. There is one encoding for a leaf.

/// Encodes and decodes leaves.
enum LeafCoding {
  /// No encoding is longer: 2 bytes of length and kind, 6 of segment, 4 of r for each block, and the first byte.
  static let maxBytes = 1 + Level.fanout * 12

  static func encode(constant: BlockHandle) -> [UInt8] {
    let n = UInt64(Level.fanout) * 4 + UInt64(constant.tag)
    return [1, UInt8(n & 127) | 128, UInt8(n >> 7)]
  }

  /// Reads one leaf, which must be all of `bytes`, into `leaf`. Refuses whatever `encode` would not have written.
  static func decode(_ bytes: UnsafeRawBufferPointer, into leaf: LeafScratch) throws(FormatError) {
    var at = 0
    func bad(_ what: String) -> FormatError { FormatError("map leaf", offset: at, what) }
    func varint() throws(FormatError) -> UInt64 {
      var v: UInt64 = 0
      var shift: UInt64 = 0
      while true {
        guard at < bytes.count else { throw bad("ends early") }
        let b = bytes[at]
        at += 1
        v |= UInt64(b & 127) << shift
        if b < 128 {
          guard b != 0 || shift == 0 else { throw bad("number not in shortest form") }
          return v
        }
        shift += 7
        // The longest number here is a segment difference: 42 bits.
        guard shift < 49 else { throw bad("number too large") }
      }
    }
    func signed() throws(FormatError) -> Int64 {
      let v = try varint()
      return Int64(bitPattern: v >> 1) ^ -Int64(bitPattern: v & 1)
    }
    guard bytes.count > 0, bytes[0] == 1 else { throw bad("unknown version of leaf") }
    at = 1
    leaf.clear()
    var block = 0
    var segment: Int64 = 0
    var r: Int64 = 0
    while block < Level.fanout {
      let head = try varint()
      guard head >> 2 > 0, head >> 2 <= UInt64(Level.fanout - block) else {
        throw bad("a run of \(head >> 2) blocks at block \(block)")
      }
      let n = Int(head >> 2)
      var handle = BlockHandle(raw: (head & 3) << 60)
      switch head & 3 {
      case 0, 1: break
      case 2:
        segment += try signed()
        r += try signed()
        guard segment >= 0, segment < 1 << 40, r >= 0, r + Int64(n) <= 1 << 20 else {
          throw bad("no such block: segment \(segment), r \(r)")
        }
        handle = BlockHandle(segment: UInt64(segment), r: UInt32(r))
        r += Int64(n)
      default: throw bad("unknown kind of run")
      }
      let before = leaf.count
      leaf.append(block, handle)
      guard leaf.count > before else { throw bad("a run that continues the one before") }
      block += n
    }
    guard at == bytes.count else { throw bad("\(bytes.count - at) bytes too many") }
  }
}

extension LeafScratch {
  /// The canonical encoding of what is loaded.
  func withEncoding<R>(_ body: (UnsafeBufferPointer<UInt8>) -> R) -> R {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: LeafCoding.maxBytes) { out in
      let p = out.baseAddress.unsafelyUnwrapped
      var n = 0
      func varint(_ value: UInt64) {
        var v = value
        while v >= 128 {
          p[n] = UInt8(truncatingIfNeeded: v) | 128
          n &+= 1
          v >>= 7
        }
        p[n] = UInt8(truncatingIfNeeded: v)
        n &+= 1
      }
      func signed(_ v: Int64) { varint(UInt64(bitPattern: v << 1 ^ v >> 63)) }
      p[0] = 1
      n = 1
      var segment: Int64 = 0
      var r: Int64 = 0
      for i in 0..<count {
        let handle = BlockHandle(raw: handles[i])
        let blocks = end(i) - Int(starts[i])
        varint(UInt64(blocks) << 2 | UInt64(handle.tag))
        guard handle.isBlock else { continue }
        signed(Int64(handle.segment) - segment)
        signed(Int64(handle.r) - r)
        segment = Int64(handle.segment)
        r = Int64(handle.r) + Int64(blocks)
      }
      return body(UnsafeBufferPointer(start: p, count: n))
    }
  }
}
