import ElideIO
import Synchronization

/// The host's block cache: one directory shared by all processes of the host and all volumes, so that a hundred forks of an
/// image keep one copy. Everything in it can be fetched again; damaged or foreign files are thrown away and counted.
/// Thread-safe. Files are never punched nor reused: giving space back is `remove`.
package final class SegmentCache: Sendable {
  package let root: String
  let files: any Files
  private let tallies = Mutex(Counters())

  package struct Counters: Equatable, Sendable {
    package var filesMade: UInt64 = 0
    package var filesDiscarded: UInt64 = 0
    package var filesEvicted: UInt64 = 0
    package var bytesEvicted: UInt64 = 0
  }
  package var counters: Counters { tallies.withLock { $0 } }

  package init(root: String, files: any Files) {
    self.root = root
    self.files = files
  }

  package func directory(_ volume: ULID) -> String { "\(root)/\(volume)" }

  /// The segment's file in the cache: the one that is there, or a new empty one.
  package func open(_ entry: SegmentEntry) throws(Errno) -> CachedSegment {
    let directory = directory(entry.volume)
    let path = CacheFormat.path(directory, entry.number)
    if let segment = openMapped(entry, data: path) { return segment }
    if let segment = openCacheFile(entry, path) { return segment }
    try files.makeDirectory(directory)
    if files.exists(path) {
      // Neither of the two: damaged, or of another make.
      try? files.remove(path)
      tallies.withLock { $0.filesDiscarded += 1 }
    }
    try make(entry, path)
    guard let segment = openCacheFile(entry, path) else { throw Errno.io }
    return segment
  }

  /// Makes an empty cache file under a name of its own and links it in place; a process that was faster wins.
  private func make(_ entry: SegmentEntry, _ path: String) throws(Errno) {
    let temporary = path + ".new"
    try? files.remove(temporary)
    let file = try files.open(temporary, .createNew)
    do throws(Errno) {
      defer { files.close(file) }
      let data = CacheFormat.dataOffset(blocks: entry.blocks)
      // The words are allocated, so that storing one through the mapping cannot meet a full disk.
      try files.allocate(file, size: UInt64(data))
      let header = CacheFormat.header(
        magic: CacheFormat.fileMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks)
      try header.withUnsafeBufferPointer { (b) throws(Errno) in try files.write(file, UnsafeRawBufferPointer(b), at: 0) }
      try files.truncate(file, size: UInt64(data) + UInt64(entry.blocks) * 4096)
      try files.link(temporary, to: path)
      tallies.withLock { $0.filesMade += 1 }
    } catch {
      try? files.remove(temporary)
      if error != .exists { throw error }
      return
    }
    try? files.remove(temporary)
  }

  private func openCacheFile(_ entry: SegmentEntry, _ path: String) -> CachedSegment? {
    guard let file = try? files.open(path, .readWrite) else { return nil }
    let length = CacheFormat.dataOffset(blocks: entry.blocks)
    guard let header = try? files.readBytes(file, at: 0, count: 48),
      CacheFormat.matches(
        header, magic: CacheFormat.fileMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks),
      let size = try? files.size(file), size == UInt64(length) + UInt64(entry.blocks) * 4096,
      let map = try? files.map(file, length: length, writable: true)
    else {
      files.close(file)
      return nil
    }
    let source = SegmentSource(
      file: file, dataOffset: UInt64(length), placement: nil, words: UnsafeRawPointer(map + CacheFormat.headerBytes),
      blocks: entry.blocks, seed: segmentSeed(volume: entry.volume, segment: entry.number))
    return CachedSegment(files: files, source: source, map: map, mapLength: length, ownsFile: true)
  }

  /// A sealed write-ahead file with its map; `data` is where the file lies now.
  private func openMapped(_ entry: SegmentEntry, data path: String) -> CachedSegment? {
    let mapPath = CacheFormat.path(directory(entry.volume), entry.number) + ".map"
    guard files.exists(mapPath), let file = try? files.open(path, .readWrite) else { return nil }
    guard let segment = map(entry, mapPath, over: file, ownsFile: true) else {
      files.close(file)
      return nil
    }
    return segment
  }

  private func map(_ entry: SegmentEntry, _ mapPath: String, over file: FileID, ownsFile: Bool) -> CachedSegment? {
    guard let mapFile = try? files.open(mapPath, .readWrite) else { return nil }
    defer { files.close(mapFile) }
    let length = CacheFormat.mapLength(blocks: entry.blocks)
    guard let header = try? files.readBytes(mapFile, at: 0, count: 48),
      CacheFormat.matches(
        header, magic: CacheFormat.mapMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks),
      let size = try? files.size(mapFile), size == UInt64(length),
      let map = try? files.map(mapFile, length: length, writable: true)
    else { return nil }
    let placement = (map + CacheFormat.placementOffset(blocks: entry.blocks)).assumingMemoryBound(to: UInt16.self)
    let source = SegmentSource(
      file: file, dataOffset: 0, placement: UnsafePointer(placement), words: UnsafeRawPointer(map + CacheFormat.headerBytes),
      blocks: entry.blocks, seed: segmentSeed(volume: entry.volume, segment: entry.number))
    return CachedSegment(files: files, source: source, map: map, mapLength: length, ownsFile: ownsFile)
  }

  /// Makes the blocks of a sealed write-ahead file readable as segment blocks, while the file is still in `wal/`: writes
  /// its map. `file` stays the caller's. Not synced: after a power cut the map is made again from the frames.
  package func mapSealed(
    _ entry: SegmentEntry, file: FileID, words: [UInt32], placement: [UInt16]
  ) throws(Errno) -> CachedSegment {
    precondition(words.count == Int(entry.blocks) && placement.count == words.count)
    let directory = directory(entry.volume)
    try files.makeDirectory(directory)
    let path = CacheFormat.path(directory, entry.number) + ".map"
    try? files.remove(path)
    let mapFile = try files.open(path, .createNew)
    do {
      defer { files.close(mapFile) }
      try files.allocate(mapFile, size: UInt64(CacheFormat.mapLength(blocks: entry.blocks)))
      var w = ByteWriter(capacity: CacheFormat.mapLength(blocks: entry.blocks))
      w.raw(
        CacheFormat.header(magic: CacheFormat.mapMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks))
      for word in words { w.u32(word) }
      w.padding(to: 4096)
      for position in placement { w.u16(position) }
      w.padding(to: 4096)
      let bytes = w.bytes
      try bytes.withUnsafeBufferPointer { (b) throws(Errno) in try files.write(mapFile, UnsafeRawBufferPointer(b), at: 0) }
    }
    guard let segment = map(entry, path, over: file, ownsFile: false) else { throw Errno.io }
    return segment
  }

  /// Moves an uploaded segment's write-ahead file into the cache, where it may be evicted.
  package func adopt(_ entry: SegmentEntry, walPath: String) throws(Errno) {
    let directory = directory(entry.volume)
    try files.makeDirectory(directory)
    try files.rename(walPath, to: CacheFormat.path(directory, entry.number))
  }

  /// Removes a segment's files; whoever has them open keeps reading. Returns the bytes given back.
  @discardableResult
  package func evict(volume: ULID, segment: UInt64) -> UInt64 {
    let path = CacheFormat.path(directory(volume), segment)
    var freed: UInt64 = 0
    for p in [path, path + ".map"] {
      if let file = try? files.open(p, .read) {
        freed += (try? files.size(file)) ?? 0
        files.close(file)
        try? files.remove(p)
      }
    }
    tallies.withLock {
      $0.filesEvicted += 1
      $0.bytesEvicted += freed
    }
    return freed
  }
}
