import ElideIO
import ElideProjections

/// What is wrong with a segment's body or encoding: which object, where in it, what.
package enum SegmentError: Error, Equatable, Sendable, CustomStringConvertible {
  case damaged(object: String, detail: String)
  case store(StoreError)
  case disk(Errno)
  case unknownSegment(UInt64)

  package var description: String {
    switch self {
    case .damaged(let object, let detail): "\(object): \(detail)"
    case .store(let error): "\(error)"
    case .disk(let error): "\(error)"
    case .unknownSegment(let n): "segment \(n) is not in the volume's table"
    }
  }
}

package enum BodyDecoder {
  /// Units carry at most so many plain bytes: `SegmentEncoding` takes no longer ones.
  static let maxPlain = 1 << 20

  /// The plain blocks of one unit from its stored bytes, after the digest was checked. What the unit claims is bounded by
  /// its number of blocks, at most 1 MiB.
  package static func decode(
    _ unit: SegmentEncoding.Unit, stored: ArraySlice<UInt8>, object: String, codec: ZstdCodec
  ) throws(SegmentError) -> [UInt8] {
    let size = Int(unit.blocks) * 4096
    var out = [UInt8](repeating: 0, count: size)
    let result = stored.withUnsafeBytes { stored in
      out.withUnsafeMutableBytes { out -> Result<Void, SegmentError> in
        do throws(SegmentError) {
          let isRight = digest(unit, stored) == unit.digest
          let bytes = try plain(unit, stored, isRight: isRight, object: object, codec: codec, scratch: out)
          if bytes.baseAddress != UnsafeRawPointer(out.baseAddress) { out.copyMemory(from: bytes) }
          return .success(())
        } catch { return .failure(error) }
      }
    }
    try result.get()
    return out
  }

  /// The plain blocks of one unit, in place: in `stored` itself where they are stored raw, else in `scratch`, which holds at
  /// least so many bytes.
  ///
  /// - Parameter isRight: whether the digest of `stored` is the unit's, which the caller has computed.
  static func plain(
    _ unit: SegmentEncoding.Unit, _ stored: UnsafeRawBufferPointer, isRight: Bool, object: String, codec: ZstdCodec,
    scratch: UnsafeMutableRawBufferPointer
  ) throws(SegmentError) -> UnsafeRawBufferPointer {
    guard isRight else {
      throw .damaged(object: object, detail: "the unit at byte \(unit.offset) is not what the journal says it is")
    }
    let size = Int(unit.blocks) * 4096
    precondition(size <= scratch.count, "a unit larger than its buffer")
    switch unit.codec {
    case .raw, .hashed:
      guard stored.count == size else {
        throw .damaged(object: object, detail: "the raw unit at byte \(unit.offset) has \(stored.count) bytes, not \(size)")
      }
      return stored
    case .zstd:
      guard codec.decompress(stored, into: UnsafeMutableRawBufferPointer(rebasing: scratch[..<size])) else {
        throw .damaged(object: object, detail: "the unit at byte \(unit.offset) does not decompress to \(size) bytes")
      }
      return UnsafeRawBufferPointer(rebasing: scratch[..<size])
    }
  }

  /// What the digest of these stored bytes is for this unit's codec.
  private static func digest(_ unit: SegmentEncoding.Unit, _ stored: UnsafeRawBufferPointer) -> Digest {
    guard unit.codec == .hashed else { return Digest.sha256(stored) }
    // Bytes that make no whole blocks have the digest of no hashes, which no unit has.
    return SegmentEncoding.digest(of: stored.count % 4096 == 0 ? Digest.ofBlocks(stored) : [])
  }

  /// For each unit whether its stored bytes have its digest; `stored` begins with the first of them. Two at a time, where the
  /// processor can.
  static func areRight(_ units: [SegmentEncoding.Unit], _ stored: UnsafeRawBufferPointer) -> [Bool] {
    guard let first = units.first else { return [] }
    func bytes(_ i: Int) -> UnsafeRawBufferPointer {
      let start = Int(units[i].offset - first.offset)
      return UnsafeRawBufferPointer(rebasing: stored[start..<start + Int(units[i].length)])
    }
    var right: [Bool] = []
    right.reserveCapacity(units.count)
    var i = 0
    while i < units.count {
      if i + 1 < units.count, units[i].codec != .hashed, units[i + 1].codec != .hashed {
        let (a, b) = Digest.sha256(bytes(i), bytes(i + 1))
        right.append(a == units[i].digest)
        right.append(b == units[i + 1].digest)
        i += 2
      } else {
        right.append(digest(units[i], bytes(i)) == units[i].digest)
        i += 1
      }
    }
    return right
  }
}
