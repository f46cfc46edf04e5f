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
  /// As the seal had them: 32 bytes a block, so only so many shipments keep them; others hash again.
  var hashes: [Digest]?
  static let withHashes = 64

  /// It holds a slot, and the memory of one body.
  var isInFlight: Bool { if case .waiting = phase { false } else { true } }
}

/// Makes a segment's body from its local file: runs on the ship lane.
enum SegmentEncoderJob {
  /// Every block is checked by its word as it is read: what leaves is what was sealed.
  static func run(
    entry: SegmentEntry, content: Digest, file: CachedSegment, hashes: [Digest]?, cache: SegmentCache, level: Int32
  ) throws(SegmentError) -> EncodedSegmentBody {
    guard let zstd = ZstdCodec() else { throw .disk(Errno(ENOMEM)) }
    let (body, hashes) = try BodyEncoder.encode(
      file, number: entry.number, hashes: hashes, level: level, codec: zstd)
    let blob = body.encoding.encode(zstd)
    let encoding = Digest.sha256(blob)
    let event = EncodedSegment(
      segment: entry.number, hash: SegmentEncoding.segmentHash(content: content, encoding: encoding), encoding: encoding,
      length: body.length, units: UInt64(body.encoding.units.count))
    // Their hash says which sealing they belong to. Losing them loses dedup hits.
    var named = entry
    named.hash = event.hash
    try? BlockSums.write(hashes, for: named, in: cache)
    return EncodedSegmentBody(event: event, blob: blob, parts: body.parts)
  }
}
