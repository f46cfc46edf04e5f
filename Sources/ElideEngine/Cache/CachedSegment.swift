import CElide
import ElideIO

/// One segment's local file, open and mapped. Closed and unmapped when the last reference goes, which the holder
/// (`VolumeSegments`) arranges to be after the I/O thread has let go of its `SegmentSource`.
///
/// Reading and storing are safe from any thread and any process: a block counts once its word matches its bytes.
package final class CachedSegment: @unchecked Sendable {  // pointers into a shared mapping, accessed by atomic words
  package let source: SegmentSource
  private let files: any Files
  private let map: UnsafeMutableRawPointer
  private let mapLength: Int
  private var ownsFile: Bool

  /// Takes over the mapping, and the file if `ownsFile`.
  init(files: any Files, source: SegmentSource, map: UnsafeMutableRawPointer, mapLength: Int, ownsFile: Bool) {
    self.files = files
    self.source = source
    self.map = map
    self.mapLength = mapLength
    self.ownsFile = ownsFile
  }

  deinit {
    files.unmap(map, length: mapLength)
    if ownsFile { files.close(source.file) }
  }

  /// The file, so far its opener's, is closed with this object. Called once, by the opener, while it is attached.
  package func takeFile() { ownsFile = true }

  package func isPresent(_ r: UInt32) -> Bool { r < source.blocks && word(r) != 0 }

  @inline(__always)
  private func word(_ r: UInt32) -> UInt32 { elide_load_acquire_u32(source.words + 4 * Int(r)) }

  private func offset(_ r: UInt32) -> UInt64 {
    source.dataOffset + UInt64(source.placement.map { UInt32($0[Int(r)]) } ?? r) * 4096
  }

  /// Reads block r into 4096 bytes and checks it; false when absent, unreadable or not what the word says.
  package func read(_ r: UInt32, into block: UnsafeMutableRawPointer) -> Bool {
    guard r < source.blocks else { return false }
    let expected = word(r)
    guard expected != 0 else { return false }
    let buffer = UnsafeMutableRawBufferPointer(start: block, count: 4096)
    guard let n = try? files.read(source.file, into: buffer, at: offset(r)), n == 4096 else { return false }
    return blockWord(seed: source.seed, r: r, block) == expected
  }

  /// Forgets block r, whose bytes did not match: it will be fetched anew.
  package func discard(_ r: UInt32) {
    if r < source.blocks { elide_store_release_u32(map + (source.words - UnsafeRawPointer(map)) + 4 * Int(r), 0) }
  }

  /// Stores `count` blocks from r on: data first, then their words. The blocks become present; a crash between leaves
  /// them absent. Throws when the disk does not take them; then they stay absent.
  package func store(_ r: UInt32, count: UInt32, _ blocks: UnsafeRawPointer) throws(Errno) {
    precondition(r + count <= source.blocks, "stored past the end of a segment")
    if source.placement == nil {
      let bytes = UnsafeRawBufferPointer(start: blocks, count: Int(count) * 4096)
      try files.write(source.file, bytes, at: offset(r))
    } else {
      for i in 0..<count {
        let bytes = UnsafeRawBufferPointer(start: blocks + Int(i) * 4096, count: 4096)
        try files.write(source.file, bytes, at: offset(r + i))
      }
    }
    let words = map + (source.words - UnsafeRawPointer(map))
    for i in 0..<count {
      elide_store_release_u32(words + 4 * Int(r + i), blockWord(seed: source.seed, r: r + i, blocks + Int(i) * 4096))
    }
  }
}
