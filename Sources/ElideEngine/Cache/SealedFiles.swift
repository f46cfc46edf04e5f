import ElideIO

// A sealed write-ahead file is its segment's local copy: first where it was written, private to its volume; after the
// upload in the cache, where every process of the host may read it and eviction may take it.

extension SegmentCache {
  /// Makes the blocks of a sealed write-ahead file readable as segment blocks, while the file is still in `wal/`: writes
  /// its map. `file` stays the caller's (see `CachedSegment.takeFile`). The map is made whole under another name, synced
  /// and renamed: after a crash there is a whole one or there is none.
  package func mapSealed(
    _ entry: SegmentEntry, file: FileID, words: [UInt32], placement: [UInt16]
  ) throws(Errno) -> CachedSegment {
    precondition(words.count == Int(entry.blocks) && placement.count == words.count)
    let directory = directory(entry.volume)
    try files.makeDirectory(directory)
    let path = path(entry) + ".map"
    let temporary = temporary(path)
    let mapFile = try files.open(temporary, .createNew)
    do {
      defer { files.close(mapFile) }
      let length = CacheFormat.mapLength(blocks: entry.blocks)
      try files.allocate(mapFile, size: UInt64(length))
      var positions = ByteWriter(capacity: 2 * placement.count)
      for position in placement { positions.u16(position) }
      var w = ByteWriter(capacity: length)
      w.raw(
        CacheFormat.header(
          magic: CacheFormat.mapMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks,
          positionsCRC: positions.bytes.withUnsafeBytes { crc32c($0) }))
      for word in words { w.u32(word) }
      w.padding(to: 4096)
      w.raw(positions.bytes)
      w.padding(to: 4096)
      let bytes = w.bytes
      try bytes.withUnsafeBufferPointer { (b) throws(Errno) in try files.write(mapFile, UnsafeRawBufferPointer(b), at: 0) }
      try files.sync(mapFile)
      try files.rename(temporary, to: path)
    } catch {
      remove([temporary])
      throw error
    }
    try files.syncDirectory(directory)
    guard case .whole(let segment) = try mapPlaced(entry, file, ownsFile: false) else { throw Errno.io }
    return segment
  }

  /// Opens a sealed write-ahead file that is still at `walPath`, with its map; nil when the file or the map is absent or
  /// damaged, or lacks the word of a block: then the caller makes the map again from the frames (`Sealer.places`).
  package func openSealed(_ entry: SegmentEntry, walPath: String) throws(Errno) -> CachedSegment? {
    let file: FileID
    do throws(Errno) { file = try files.open(walPath, .readWrite) } catch {
      if error == .notFound { return nil }
      throw error
    }
    do throws(Errno) {
      if case .whole(let segment) = try mapPlaced(entry, file) {
        if (0..<entry.blocks).allSatisfy(segment.isPresent) { return segment }
        return nil
      }
    } catch {
      files.close(file)
      throw error
    }
    files.close(file)
    return nil
  }

  /// Moves an uploaded segment's write-ahead file into the cache, where it may be evicted. Readers that have it open are
  /// not disturbed. Done already counts as success: after a crash the caller does it again. `EINVAL` when the store does not
  /// have the segment: nothing that is only here may be where it can be evicted.
  package func adopt(_ entry: SegmentEntry, walPath: String) throws(Errno) {
    guard entry.uploaded else { throw Errno.invalid }
    try files.makeDirectory(directory(entry.volume))
    // A fork's process may have made an empty file for it meanwhile.
    let other = try? files.open(path(entry), .readWrite)
    defer { if let other { files.close(other) } }
    if other != nil, !files.exists(walPath) { return }
    try files.rename(walPath, to: path(entry))
    if let other { setGone(other) }
  }

  /// Moves a sealed write-ahead file back from the cache to `walPath`, when the journal says that the store lacks it and it is
  /// not there: a disk that lost the journal's last transaction may have kept the move. False when there is none.
  package func takeBack(_ entry: SegmentEntry, walPath: String) throws(Errno) -> Bool {
    guard !files.exists(walPath), files.exists(path(entry)) else { return false }
    let file = try files.open(path(entry), .read)
    defer { files.close(file) }
    guard (try? WALFile.checkHeader(files, file, volume: entry.volume, number: entry.number)) != nil else { return false }
    try files.rename(path(entry), to: walPath)
    try files.syncDirectory(parentDirectory(walPath))
    return true
  }

  /// Says to all who have this cache file open that it is out of the cache.
  func setGone(_ header: FileID) {
    let one: [UInt8] = [1, 0, 0, 0]
    one.withUnsafeBytes { try? files.write(header, $0, at: UInt64(CacheFormat.goneOffset)) }
  }
}

/// Where the blocks of a sealed write-ahead file lie: what its map says.
package struct SealedPlaces: Equatable, Sendable {
  /// r → position of the block in the write-ahead file.
  package var placement: [UInt16]
  /// r → its word (`blockWord`).
  package var words: [UInt32]
  package init(placement: [UInt16] = [], words: [UInt32] = []) {
    self.placement = placement
    self.words = words
  }
}

extension SegmentCache {
  /// Writes a small file whole, under another name first: readers see the old one, the new one, or none.
  func writeWhole(_ bytes: [UInt8], to path: String, in volume: ULID) throws(Errno) {
    try files.makeDirectory(directory(volume))
    let temporary = temporary(path)
    let file = try files.open(temporary, .createNew)
    do throws(Errno) {
      defer { files.close(file) }
      try bytes.withUnsafeBufferPointer { (b) throws(Errno) in try files.write(file, UnsafeRawBufferPointer(b), at: 0) }
      try files.rename(temporary, to: path)
    } catch {
      remove([temporary])
      throw error
    }
  }
}
