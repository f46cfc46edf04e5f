/// Where the device asks for a segment's local file. Implemented by the segment cache; called on the I/O thread only, so
/// it neither waits nor allocates.
package protocol SegmentSources: AnyObject {
  /// How to read segment `segment` locally; nil while nothing of it is here. What is returned stays readable (descriptor
  /// open, mappings in place) until the calling thread's next `quiesce`.
  func source(for segment: UInt64) -> SegmentSource?
  /// The I/O thread holds no source it got before.
  func quiesce()
  /// Pages of the write-ahead file that is segment `segment`, or will be, go into sockets: whatever becomes of the file, it
  /// is not written again.
  func noteSent(_ segment: UInt64)
}

/// A volume without segments.
package final class NoSegmentSources: SegmentSources {
  package init() {}
  package func source(for segment: UInt64) -> SegmentSource? { nil }
  package func quiesce() {}
  package func noteSent(_ segment: UInt64) {}
}
