import CElide
import ElideIO
import Synchronization

/// One segment's local file, open, with its table of words in memory. Closed when the last reference goes, which the holder
/// (`VolumeSegments`) arranges to be after the I/O thread has let go of its `SegmentSource`.
///
/// The table was read once, when the file was opened, and is written through: a mapping of it would make an error of the
/// disk a SIGBUS of the process. The blocks are mapped for one reader only, which survives that (`Files.view`). What other
/// processes store meanwhile is seen after `refresh`. Reading and storing are safe from any thread and any process: a block
/// counts once its word matches its bytes.
package final class CachedSegment: @unchecked Sendable {  // a table whose words are accessed atomically
  package let source: SegmentSource
  let header: CacheHeader
  private let files: any Files
  private let table: UnsafeMutableRawPointer
  private var ownsFile: Bool
  private let used = Atomic<Bool>(false)

  /// Takes over the file if `ownsFile`. `words` and, for a write-ahead file, `placement` have one element a block.
  init(files: any Files, header: CacheHeader, file: FileID, words: [UInt8], placement: [UInt8]?, ownsFile: Bool = true) {
    let blocks = header.blocks
    precondition(
      words.count == Int(blocks) * 4 && (placement.map { $0.count == Int(blocks) * 2 } ?? true), "a table of another size")
    let column = placement ?? []
    let table = UnsafeMutableRawPointer.allocate(byteCount: words.count + column.count, alignment: 64)
    words.withUnsafeBytes { if let p = $0.baseAddress { table.copyMemory(from: p, byteCount: $0.count) } }
    column.withUnsafeBytes { if let p = $0.baseAddress { (table + words.count).copyMemory(from: p, byteCount: $0.count) } }
    let positions = placement == nil ? nil : UnsafePointer((table + words.count).assumingMemoryBound(to: UInt16.self))
    let plain = SegmentSource(
      volume: header.volume, file: file, dataOffset: placement == nil ? UInt64(CacheFormat.dataOffset(blocks: blocks)) : 0,
      placement: positions,
      words: UnsafeRawPointer(table), blocks: blocks,
      seed: segmentSeed(volume: header.volume, segment: header.segment, seal: header.seal))
    source = Self.viewed(plain, files)
    self.table = table
    self.files = files
    self.header = header
    self.ownsFile = ownsFile
  }

  deinit {
    table.deallocate()
    if let data = source.data {
      files.endView(data - Int(source.dataOffset), length: Int(source.dataLength + source.dataOffset))
      Self.views.subtract(1, ordering: .relaxed)
    }
    if ownsFile { files.close(source.file) }
  }

  /// Of this process, which may have some 65,000 mappings for everything.
  private static let views = Atomic<Int>(0)
  private static let viewLimit = 16384

  /// Has the blocks mapped too, which spares the I/O thread a system call a run. Without that all goes on as before.
  private static func viewed(_ source: SegmentSource, _ files: any Files) -> SegmentSource {
    guard views.load(ordering: .relaxed) < viewLimit, let size = try? files.size(source.file), size > source.dataOffset,
      let start = files.view(source.file, length: Int(size))
    else { return source }
    views.add(1, ordering: .relaxed)
    var viewed = source
    viewed.data = start + Int(source.dataOffset)
    viewed.dataLength = size - source.dataOffset
    return viewed
  }

  /// The file, so far its opener's, is closed with this object. Called once, by the opener, while it is attached.
  package func takeFile() { ownsFile = true }

  /// A write-ahead file, which is complete from the beginning: its map is never written again.
  var isPlaced: Bool { source.placement != nil }

  @inline(__always)
  func word(_ r: UInt32) -> UInt32 { elide_load_acquire_u32(source.words + 4 * Int(r)) }

  private func position(_ r: UInt32) -> UInt32 { source.placement.map { UInt32($0[Int(r)]) } ?? r }

  private func offset(_ r: UInt32) -> UInt64 { source.dataOffset + UInt64(position(r)) * 4096 }

  /// Whether block r was stored. Its bytes may have been damaged since: only `read` tells.
  package func isPresent(_ r: UInt32) -> Bool { r < source.blocks && word(r) != 0 }

  /// Out of the cache, by whichever process: its name is gone, or another file's. Fetch nothing into it, and close it soon.
  package var isGone: Bool { !((try? files.isLinked(source.file)) ?? true) }

  // MARK: Marks

  /// Keeps eviction away for another round, once `noteUsed` has said so. No system call: the I/O thread does it.
  @inline(__always)
  package func touch() { if !used.load(ordering: .relaxed) { used.store(true, ordering: .relaxed) } }

  /// Whether it was read through since the last call.
  func takeUsed() -> Bool { used.load(ordering: .relaxed) && used.exchange(false, ordering: .relaxed) }

  /// Eviction must pass the file by, since the store does not have its blocks (see `SegmentCache.openKept`).
  func markKept() { mark(CacheHeader.keptOffset, 1) }

  func markUsed() { mark(CacheHeader.usedOffset, 1) }

  /// The store has the blocks, under this hash: the file may be evicted, and other processes may read it. Best effort: a
  /// file that stays kept costs space.
  package func release(_ hash: Digest) {
    guard !isPlaced else { return }
    var named = header
    named.hash = hash
    named.encode()[..<(CacheHeader.keptOffset + 4)].withUnsafeBytes { try? files.write(source.file, $0, at: 0) }
  }

  private func mark(_ offset: Int, _ value: UInt8) {
    [value, 0, 0, 0].withUnsafeBytes { try? files.write(source.file, $0, at: UInt64(offset)) }
  }

  // MARK: Reading

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

  /// Takes over what other processes stored around blocks [r, r+count) since the table was read: one read of 4 KiB for
  /// 1024 blocks. What is absent here and present there counts; whether it is right every read checks.
  func refresh(_ r: UInt32, count: UInt32) {
    guard !isPlaced, r < source.blocks else { return }
    var first = Int(r) & ~1023
    let end = min(Int(source.blocks), (Int(r) + Int(count) + 1023) & ~1023)
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 1024) { page in
      while first < end {
        let n = min(1024, end - first)
        let bytes = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(page)[..<(4 * n)])
        let got = (try? files.read(source.file, into: bytes, at: UInt64(CacheFormat.headerBytes + 4 * first))) ?? 0
        for i in 0..<got / 4 where page[i] != 0 && word(UInt32(first + i)) == 0 {
          elide_store_release_u32(table + 4 * (first + i), UInt32(littleEndian: page[i]))
        }
        first += n
      }
    }
  }

  /// Whether blocks [r, r+count) are all here and right. With `forgetting`, those that are unreadable or not what their word
  /// says are forgotten, to be fetched anew. Without it (the store does not have them) nothing is: the word is the only
  /// witness of what was sealed, and a read may fail today and succeed tomorrow.
  package func holds(_ r: UInt32, count: UInt32, forgetting: Bool) -> Bool {
    if !(r..<r + count).allSatisfy(isPresent) { refresh(r, count: count) }
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

  // MARK: Storing

  /// Forgets block r, whose bytes did not match: it will be fetched anew.
  package func discard(_ r: UInt32) {
    guard r < source.blocks else { return }
    elide_store_release_u32(table + 4 * Int(r), 0)
    writeThrough(r, count: 1)
  }

  /// The file's words are what the next process, and others at their next miss, will believe. One that does not get there
  /// costs a fetch.
  private func writeThrough(_ r: UInt32, count: UInt32) {
    if isPlaced { return }
    let words = UnsafeRawBufferPointer(start: table + 4 * Int(r), count: 4 * Int(count))
    try? files.write(source.file, words, at: UInt64(CacheFormat.headerBytes + 4 * Int(r)))
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
    let fresh = [UInt32](unsafeUninitializedCapacity: Int(count)) { words, n in
      for i in 0..<Int(count) {
        words.initializeElement(at: i, to: blockWord(seed: source.seed, r: r + UInt32(i), blocks + i * 4096))
      }
      n = Int(count)
    }
    while at < end {
      let n = stretch(from: at, to: end) { word($0) != fresh[Int($0 - r)] }
      if n == 0 {
        at += 1
        continue
      }
      let bytes = UnsafeRawBufferPointer(start: blocks + Int(at - r) * 4096, count: Int(n) * 4096)
      try files.write(source.file, bytes, at: offset(at))
      for i in at..<at + n { elide_store_release_u32(table + 4 * Int(i), fresh[Int(i - r)]) }
      writeThrough(at, count: n)
      written += n
      at += n
    }
    return written
  }
}
