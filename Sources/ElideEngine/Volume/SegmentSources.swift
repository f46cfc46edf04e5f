import CElide
import ElideIO

/// Where the device asks for a segment's local file. Implemented by the segment cache; called on the I/O thread only, so
/// it neither waits nor allocates.
package protocol SegmentSources: AnyObject {
  /// How to read segment `segment` locally; nil while nothing of it is here. What is returned stays readable (descriptor
  /// open, mappings in place) until the calling thread's next `quiesce`.
  func source(for segment: UInt64) -> SegmentSource?
  /// The I/O thread holds no source it got before.
  func quiesce()
}

/// A volume without segments.
package final class NoSegmentSources: SegmentSources {
  package init() {}
  package func source(for segment: UInt64) -> SegmentSource? { nil }
  package func quiesce() {}
}

/// The seed of all words of a segment: CRC-32C of the owning volume (16 bytes, most significant first) and the segment's
/// number (8 bytes, little-endian).
package func segmentSeed(volume: ULID, segment: UInt64) -> UInt32 {
  var bytes = (volume.high.bigEndian, volume.low.bigEndian, segment.littleEndian)
  return withUnsafeBytes(of: &bytes) { elide_crc32c(0, $0.baseAddress, 24) }
}

/// The word that says that block r of a segment is present, and what its bytes are: CRC-32C of r (4 bytes,
/// little-endian) and the block, continuing from the segment's seed; a CRC of 0 is stored as 0xFFFFFFFF.
@inline(__always)
package func blockWord(seed: UInt32, r: UInt32, _ block: UnsafeRawPointer) -> UInt32 {
  var prefix = r.littleEndian
  let crc = elide_crc32c(elide_crc32c(seed, &prefix, 4), block, 4096)
  return crc == 0 ? 0xFFFF_FFFF : crc
}
