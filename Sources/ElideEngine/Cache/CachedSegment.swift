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

  /// Takes over the mapping, which begins with the header, and the file if `ownsFile`.
  init(files: any Files, source: SegmentSource, map: UnsafeMutableRawPointer, mapLength: Int, ownsFile: Bool = true) {
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

  private var words: UnsafeMutableRawPointer { map + CacheFormat.headerBytes }

  @inline(__always)
  private func word(_ r: UInt32) -> UInt32 { elide_load_acquire_u32(source.words + 4 * Int(r)) }

  private func position(_ r: UInt32) -> UInt32 { source.placement.map { UInt32($0[Int(r)]) } ?? r }

  private func offset(_ r: UInt32) -> UInt64 { source.dataOffset + UInt64(position(r)) * 4096 }

  /// Whether block r was stored. Its bytes may have been damaged since: only `read` tells.
  package func isPresent(_ r: UInt32) -> Bool { r < source.blocks && word(r) != 0 }

  /// Out of the cache, by whichever process: fetch nothing into it, and close it soon.
  package var isGone: Bool { elide_load_acquire_u32(map + CacheFormat.goneOffset) != 0 }

  func markGone() { elide_store_release_u32(map + CacheFormat.goneOffset, 1) }

  /// Whether eviction must pass the file by, since the store does not have its blocks (see `SegmentCache.openKept`).
  package var isKept: Bool { elide_load_acquire_u32(map + CacheFormat.keptOffset) != 0 }

  func markKept() { elide_store_release_u32(map + CacheFormat.keptOffset, 1) }

  /// The store has the blocks: the file may be evicted.
  package func release() { elide_store_release_u32(map + CacheFormat.keptOffset, 0) }

  /// Keeps eviction away for another round.
  @inline(__always)
  package func touch() {
    if elide_load_acquire_u32(map + CacheFormat.usedOffset) == 0 { elide_store_release_u32(map + CacheFormat.usedOffset, 1) }
  }

  /// Reads block r into 4096 bytes and checks it; false when absent, unreadable or not what the word says.
  package func read(_ r: UInt32, into block: UnsafeMutableRawPointer) -> Bool { read(r, count: 1, into: block) == 1 }

  /// Reads blocks from r on, and returns how many of them are right up to the first that is absent, unreadable or not
  /// what its word says. One read of the file for each stretch of neighbours.
  package func read(_ r: UInt32, count: UInt32, into blocks: UnsafeMutableRawPointer) -> UInt32 {
    guard r < source.blocks else { return 0 }
    let end = r + min(count, source.blocks - r)
    var at = r
    while at < end {
      let stretch = stretch(from: at, to: end) { self.word($0) != 0 }
      if stretch == 0 { return at - r }
      let target = UnsafeMutableRawBufferPointer(start: blocks + Int(at - r) * 4096, count: Int(stretch) * 4096)
      // Words first: a block stored after this read its bytes cannot count.
      let got = (try? files.read(source.file, into: target, at: offset(at))) ?? 0
      for i in 0..<stretch {
        let expected = word(at + i)
        let bytes = blocks + Int(at + i - r) * 4096
        guard expected != 0, got >= (Int(i) + 1) * 4096, blockWord(seed: source.seed, r: at + i, bytes) == expected else {
          return at + i - r
        }
      }
      at += stretch
    }
    return end - r
  }

  /// How many blocks from `first` on satisfy the condition and lie side by side in the file.
  private func stretch(from first: UInt32, to end: UInt32, where holds: (UInt32) -> Bool) -> UInt32 {
    var n: UInt32 = 0
    while first + n < end, holds(first + n), source.placement == nil || position(first + n) == position(first) + n { n += 1 }
    return n
  }

  /// Whether blocks [r, r+count) are all here and right. With `forgetting`, those that are unreadable or not what their word
  /// says are forgotten, to be fetched anew. Without it (the store does not have them) nothing is: the word is the only
  /// witness of what was sealed, and a read may fail today and succeed tomorrow.
  package func holds(_ r: UInt32, count: UInt32, forgetting: Bool) -> Bool {
    guard (r..<r + count).allSatisfy(isPresent) else { return false }
    return withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 64) { block in
      guard let base = block.baseAddress else { return false }
      var whole = true
      for i in r..<r + count where !read(i, into: base) {
        if forgetting { discard(i) }
        whole = false
      }
      return whole
    }
  }

  /// Forgets block r, whose bytes did not match: it will be fetched anew.
  package func discard(_ r: UInt32) {
    if r < source.blocks { elide_store_release_u32(words + 4 * Int(r), 0) }
  }

  /// Stores `count` blocks from r on: data first, then their words. The blocks become present; a crash between leaves
  /// them absent. Those that are present already are not written again. Returns how many were written; throws when the
  /// disk does not take them: then they stay absent.
  @discardableResult
  package func store(_ r: UInt32, count: UInt32, _ blocks: UnsafeRawPointer) throws(Errno) -> UInt32 {
    precondition(r < source.blocks && count <= source.blocks - r, "stored past the end of a segment")
    var written: UInt32 = 0
    var at = r
    let end = r + count
    func fresh(_ i: UInt32) -> UInt32 { blockWord(seed: source.seed, r: i, blocks + Int(i - r) * 4096) }
    while at < end {
      let n = stretch(from: at, to: end) { word($0) != fresh($0) }
      if n == 0 {
        at += 1
        continue
      }
      let bytes = UnsafeRawBufferPointer(start: blocks + Int(at - r) * 4096, count: Int(n) * 4096)
      try files.write(source.file, bytes, at: offset(at))
      for i in at..<at + n { elide_store_release_u32(words + 4 * Int(i), fresh(i)) }
      written += n
      at += n
    }
    return written
  }
}
