import ElideIO

// A sealed write-ahead file is its segment's local copy: first where it was written, private to its volume; after the
// upload in the cache, where every process of the host may read it and eviction may take it.

/// Where the blocks of a sealed write-ahead file lie, and what they are: what its map is made of.
package struct SealedPlaces: Equatable, Sendable {
  /// r → position of the block in the write-ahead file.
  package var placement: [UInt16]
  /// r → CRC-32C of the block.
  package var crcs: [UInt32]
  package init(placement: [UInt16] = [], crcs: [UInt32] = []) {
    self.placement = placement
    self.crcs = crcs
  }
}

extension SegmentCache {
  /// The blocks of a sealed write-ahead file as segment blocks, while the file is still in `wal/`; touches nothing. `file`
  /// stays the caller's (see `CachedSegment.takeFile`).
  ///
  /// - Parameter seal: what the sealing is known by (`CacheFormat.seal`).
  package func placed(_ entry: SegmentEntry, seal: Digest, file: FileID, _ places: SealedPlaces) -> CachedSegment {
    precondition(places.crcs.count == Int(entry.blocks) && places.placement.count == places.crcs.count, "a block without a place")
    var column = ByteWriter(capacity: 2 * places.placement.count)
    for position in places.placement { column.u16(position) }
    var header = CacheHeader(entry, seal: seal, hash: nil)
    header.magic = CacheFormat.mapMagic
    header.tableCRC = column.bytes.withUnsafeBytes { crc32c($0) }
    let seed = segmentSeed(volume: entry.volume, segment: entry.number, seal: seal)
    var words = ByteWriter(capacity: 4 * places.crcs.count)
    for (r, crc) in places.crcs.enumerated() { words.u32(BlockWords.shared.word(seed: seed, r: UInt32(r), crc: crc)) }
    return CachedSegment(
      files: files, header: header, file: file, words: words.bytes, placement: column.bytes, ownsFile: false)
  }

  /// Keeps the map of a file in `wal/`, so that the next opening need not read the file. Made whole under another name,
  /// synced and renamed: after a crash there is a whole one or there is none, and then it is made again from the frames.
  package func writeMap(_ segment: CachedSegment) throws(Errno) {
    let directory = directory(segment.header.volume)
    try writeWhole(segment.mapBytes(hash: nil), to: mapPath(segment.header), in: segment.header.volume, synced: true)
    try files.syncDirectory(directory)
  }

  private func mapPath(_ header: CacheHeader) -> String {
    CacheFormat.path(directory(header.volume), header.segment) + ".map"
  }

  /// Opens a sealed write-ahead file that is still at `walPath`, with its map; nil when the file or the map is absent,
  /// damaged, of another sealing, or lacks the word of a block: then the caller makes the map again from the frames
  /// (`Sealer.places`).
  package func openSealed(_ entry: SegmentEntry, seal: Digest, walPath: String) throws(Errno) -> CachedSegment? {
    let file: FileID
    do throws(Errno) { file = try files.open(walPath, .readWrite) } catch {
      if error == .notFound { return nil }
      throw error
    }
    let expected = CacheHeader(entry, seal: seal, hash: nil)
    do throws(Errno) {
      if case .whole(let segment) = try readPlaced(expected, file, mapPath(expected), where: { $0.seal == seal }) {
        return (0..<entry.blocks).allSatisfy(segment.isPresent) ? segment : nil
      }
    } catch {
      files.close(file)
      // A map that the disk does not give back is made again like any other that is lost.
      if error == .io { return nil }
      throw error
    }
    files.close(file)
    return nil
  }

  /// Moves an uploaded segment's write-ahead file into the cache, where it may be evicted: first its map, which now says
  /// which body it has, then the file. Readers that have either open are not disturbed. Done already counts as success: after
  /// a crash the caller does it again. `EINVAL` when the store does not have the segment: nothing that is only here may be
  /// where it can be evicted.
  package func adopt(_ entry: SegmentEntry, _ segment: CachedSegment, walPath: String) throws(Errno) {
    guard entry.uploaded, let hash = entry.hash, segment.isPlaced else { throw Errno.invalid }
    try files.makeDirectory(directory(entry.volume))
    if !files.exists(walPath), files.exists(path(entry)) { return }
    try writeWhole(segment.mapBytes(hash: hash), to: mapPath(segment.header), in: entry.volume)
    // In the cache anyone may open it, and only who holds it alone may take it away.
    _ = try? files.hold(segment.source.file, alone: false)
    // A fork's process may have made an empty file for it meanwhile: who has that open sees that it is gone.
    try files.rename(walPath, to: path(entry))
    noteStored((try? files.size(segment.source.file)) ?? 0)
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

  /// Writes a small file whole, under another name first: readers see the old one, the new one, or none.
  func writeWhole(_ bytes: [UInt8], to path: String, in volume: ULID, synced: Bool = false) throws(Errno) {
    try files.makeDirectory(directory(volume))
    let temporary = temporary(path)
    let file = try files.open(temporary, .createNew)
    do throws(Errno) {
      defer { files.close(file) }
      try bytes.withUnsafeBufferPointer { (b) throws(Errno) in try files.write(file, UnsafeRawBufferPointer(b), at: 0) }
      if synced { try files.sync(file) }
      try files.rename(temporary, to: path)
    } catch {
      remove([temporary])
      throw error
    }
  }
}

extension CachedSegment {
  /// The map of a write-ahead file, as it is on disk.
  fileprivate func mapBytes(hash: Digest?) -> [UInt8] {
    var named = header
    named.magic = CacheFormat.mapMagic
    named.hash = hash
    var w = ByteWriter(capacity: CacheFormat.mapLength(blocks: source.blocks))
    w.raw(named.encode())
    for r in 0..<source.blocks { w.u32(word(r)) }
    w.padding(to: 4096)
    if let placement = source.placement { for r in 0..<Int(source.blocks) { w.u16(UInt16(littleEndian: placement[r])) } }
    w.padding(to: 4096)
    return w.bytes
  }
}
