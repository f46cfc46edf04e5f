import ElideEvents
import ElideIO
import ElideProjections
import Glibc

/// A sealed segment on its way to the store.
struct Shipment {
  enum Phase {
    case waiting
    case encoding
    /// Named in the journal; its body waits to be put, or to be put again.
    case encoded(EncodedSegmentBody)
    case uploading(EncodedSegmentBody)
  }
  let segment: UInt64
  let blocks: UInt64
  var phase = Phase.waiting
  var backoff: Backoff

  /// It holds a slot, and the memory of one body.
  var isInFlight: Bool { if case .waiting = phase { false } else { true } }
}

/// Makes a segment's body from its local file: runs on the ship lane.
enum SegmentEncoderJob {
  /// Every block is checked by its word as it is read: what leaves is what was sealed.
  static func run(
    entry: SegmentEntry, content: Digest, file: CachedSegment, cache: SegmentCache, level: Int32
  ) throws(SegmentError) -> EncodedSegmentBody {
    guard let zstd = ZstdCodec() else { throw .disk(Errno(ENOMEM)) }
    let count = Int(entry.blocks)
    let plain = UnsafeMutableRawBufferPointer.allocate(byteCount: count * 4096, alignment: 4096)
    defer { plain.deallocate() }
    guard let base = plain.baseAddress else { throw .unknownSegment(entry.number) }
    for r in 0..<count {
      guard file.read(UInt32(r), into: base + r * 4096) else {
        throw .damaged(object: "segment \(entry.number) of volume \(entry.volume)", detail: "block \(r) of its local file is not what was sealed")
      }
    }
    let hashes = BlockSums.read(for: entry, in: cache) ?? (0..<count).map {
      Digest.sha256(UnsafeRawBufferPointer(start: base + $0 * 4096, count: 4096))
    }
    let body = BodyEncoder.encode(count: entry.blocks, hashes: hashes, level: level, codec: zstd) {
      UnsafeRawPointer(base + Int($0) * 4096)
    }
    let blob = body.encoding.encode(zstd)
    let encoding = Digest.sha256(blob)
    let event = EncodedSegment(
      segment: entry.number, hash: SegmentEncoding.segmentHash(content: content, encoding: encoding), encoding: encoding,
      length: body.length, units: UInt64(body.encoding.units.count))
    return EncodedSegmentBody(event: event, blob: blob, parts: body.parts)
  }
}
