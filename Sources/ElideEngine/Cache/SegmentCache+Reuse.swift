import ElideIO

// A file of blocks that nobody needs here any more is worth more than its space: its places are written, and its pages may
// still be in memory. The next write-ahead file is made of it.
//
// Whoever opens a write-ahead file in the cache holds it together with all others that do (`Files.hold`); who takes it away
// holds it alone. So none is ever written while somebody reads it, in this process or another, and whoever opened the name a
// moment too early finds that it is held, and looks again.

extension SegmentCache {
  /// Takes the write-ahead file of a segment out of the cache, to `path`, if it is `size` bytes long and nobody has it open:
  /// what the store has of the segment will be fetched when it is wanted. The caller owns the open file, and writes its header
  /// before anything else.
  ///
  /// nil when there is no such file, or when it is in use, or `mayBeWritten`, asked when nobody else has it any more, says no:
  /// then it is evicted as any other, and goes when the last has closed it. A crash inside leaves a name without a map, or a file
  /// at `path` that no journal knows: both count for nothing.
  func takeAway(
    volume: ULID, segment: UInt64, size: UInt64, to path: String, mayBeWritten: () -> Bool = { true }
  ) -> FileID? {
    let from = CacheFormat.path(directory(volume), segment)
    guard let file = try? files.open(from, .readWrite) else { return nil }
    var isTaken = false
    defer { if !isTaken { files.close(file) } }
    guard (try? files.size(file)) == size,
      (try? WALFile.checkHeader(files, file, volume: volume, number: segment)) != nil
    else { return nil }
    // Without its map it is no segment's any more, whichever of its names a crash leaves.
    do throws(Errno) { try files.remove(from + ".map") } catch { if error != .notFound { return nil } }
    guard (try? files.rename(from, to: path)) != nil else { return nil }
    isTaken = ((try? files.hold(file, alone: true)) ?? false) && mayBeWritten()
    if !isTaken { remove([path]) }
    state.withLock { s in
      s.counters.filesReused += isTaken ? 1 : 0
      s.counters.filesEvicted += isTaken ? 0 : 1
      if let counted = s.counted { s.counted = counted - min(counted, size) }
    }
    return isTaken ? file : nil
  }

  /// Whether a segment's file is a write-ahead file, as far as its map tells.
  func isPlaced(_ volume: ULID, _ segment: UInt64) -> Bool {
    files.exists(CacheFormat.path(directory(volume), segment) + ".map")
  }

  /// Whether a segment's file could be taken away, and eviction would: it is a write-ahead file, and was not read through
  /// since this was last asked.
  func mayTake(volume: ULID, segment: UInt64) -> Bool {
    guard let file = usage(volume, segment), file.isPlaced else { return false }
    if file.used { clearUsed(file) }
    return !file.used
  }

  /// Whether `bytes` more would not fit the budget, as far as this process knows.
  func isFull(for bytes: UInt64) -> Bool {
    state.withLock { s in s.counted.map { $0 + s.storedSince + bytes > s.budget } ?? false }
  }
}
