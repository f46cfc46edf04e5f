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
  /// The plain blocks of one unit from its stored bytes, after the digest was checked. What the unit claims is bounded by
  /// its number of blocks, at most 1 MiB.
  package static func decode(
    _ unit: SegmentEncoding.Unit, stored: ArraySlice<UInt8>, object: String, codec: ZstdCodec
  ) throws(SegmentError) -> [UInt8] {
    let digest = stored.withUnsafeBytes { Digest.sha256($0) }
    guard digest == unit.digest else {
      throw .damaged(object: object, detail: "the unit at byte \(unit.offset) is not what the journal says it is")
    }
    let size = Int(unit.blocks) * 4096
    switch unit.codec {
    case .raw:
      guard stored.count == size else {
        throw .damaged(object: object, detail: "the raw unit at byte \(unit.offset) has \(stored.count) bytes, not \(size)")
      }
      return Array(stored)
    case .zstd:
      guard let plain = codec.decompressed(stored, size: size) else {
        throw .damaged(object: object, detail: "the unit at byte \(unit.offset) does not decompress to \(size) bytes")
      }
      return plain
    }
  }
}
