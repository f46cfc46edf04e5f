import CElide
import ElideIO
import Synchronization

/// The host's block cache: one directory shared by all processes of the host and all volumes, so that a hundred forks of an
/// image keep one copy. Thread-safe.
///
/// Everything under it can be fetched again: damaged or foreign files are thrown away and counted, and a crash loses
/// nothing. What the store does not have yet lies in `wal/` and never here (but for its `.map`). Files are never punched
/// nor reused: giving space back is `remove` (see `SegmentCache+Eviction`).
package final class SegmentCache: Sendable {
  package let root: String
  let files: any Files
  /// Sets this process's temporary names apart from all others'.
  private let token: String
  let state: Mutex<State>

  struct State {
    var counters = Counters()
    var temporaries: UInt64 = 0
    var budget: UInt64
    /// Bytes this process stored since it last counted the directory, and what it found then.
    var storedSince: UInt64 = 0
    var counted: UInt64?
    /// Where eviction's hand stands.
    var hand: (volume: ULID, segment: UInt64) = (ULID(high: 0, low: 0), 0)
  }

  package struct Counters: Equatable, Sendable {
    package var filesMade: UInt64 = 0
    package var filesDiscarded: UInt64 = 0
    package var filesEvicted: UInt64 = 0
    package var bytesEvicted: UInt64 = 0
    package init() {}
  }
  package var counters: Counters { state.withLock { $0.counters } }

  /// - Parameter budget: bytes on disk that `trimIfDue` holds the directory to.
  package init(root: String, files: any Files, budget: UInt64 = 32 << 30, random: any Randomness = HostRandom()) {
    self.root = root
    self.files = files
    var bits: UInt64 = 0
    withUnsafeMutableBytes(of: &bits) { random.fill($0) }
    token = String(bits, radix: 16)
    state = Mutex(State(budget: budget))
  }

  package func directory(_ volume: ULID) -> String { "\(root)/\(volume)" }
  func path(_ entry: SegmentEntry) -> String { CacheFormat.path(directory(entry.volume), entry.number) }

  /// A name beside `path` that nobody else uses.
  func temporary(_ path: String) -> String {
    let n = state.withLock { s in
      s.temporaries += 1
      return s.temporaries
    }
    return "\(path).new-\(token)-\(n)"
  }

  /// The segment's file in the cache: the one that is there, or a new empty one. An entry that is not uploaded has none
  /// here, and none is made: `notFound`.
  package func open(_ entry: SegmentEntry) throws(Errno) -> CachedSegment { try open(entry, kept: false) }

  /// Opens or makes the file of a segment whose only copy it will be until the upload, as an import's is: eviction passes it
  /// by until `CachedSegment.release`, whichever process comes along.
  package func openKept(_ entry: SegmentEntry) throws(Errno) -> CachedSegment {
    let segment = try open(entry, kept: true)
    segment.markKept()
    // Evicted between: an empty file, made anew.
    return segment.isGone ? try openKept(entry) : segment
  }

  private func open(_ entry: SegmentEntry, kept: Bool) throws(Errno) -> CachedSegment {
    precondition(entry.blocks > 0 && entry.blocks <= CacheFormat.maxBlocks, "a segment of \(entry.blocks) blocks has no file")
    let path = path(entry)
    // Each turn makes progress, unless another process undoes it between: bounded all the same.
    for _ in 0..<8 {
      switch try readable(entry, path) {
      case .whole(let segment): return segment
      case .gone: remove([path])
      case .damaged:
        remove([path])
        state.withLock { $0.counters.filesDiscarded += 1 }
      case .absent: break
      }
      guard entry.uploaded || kept else { throw Errno.notFound }
      try make(entry, path, kept: kept)
    }
    throw Errno.io
  }

  enum Found {
    case whole(CachedSegment), damaged, gone, absent
  }

  /// `existing`, where a file that the disk cannot read is damaged like any other.
  private func readable(_ entry: SegmentEntry, _ path: String) throws(Errno) -> Found {
    do throws(Errno) { return try existing(entry, path) } catch {
      if error == .io { return .damaged }
      throw error
    }
  }

  /// Opens the file in place, whichever kind it is. Throws only what says nothing about the file (descriptors, memory,
  /// space): such a file must not be thrown away.
  private func existing(_ entry: SegmentEntry, _ path: String) throws(Errno) -> Found {
    let file: FileID
    do throws(Errno) { file = try files.open(path, .readWrite) } catch {
      if error == .notFound { return .absent }
      throw error
    }
    var kept = false
    defer { if !kept { files.close(file) } }
    var magic: UInt64 = 0
    let n = try withUnsafeMutableBytes(of: &magic) { (b) throws(Errno) in try files.read(file, into: b, at: 0) }
    let found: Found
    switch UInt64(littleEndian: magic) {
    case CacheFormat.fileMagic where n == 8: found = try mapCacheFile(entry, file)
    case WALFormat.fileMagic where n == 8: found = try mapPlaced(entry, file)
    default: return .damaged
    }
    guard case .whole(let segment) = found else { return found }
    // From here on `segment` closes it.
    kept = true
    return segment.isGone ? .gone : found
  }

  private func mapCacheFile(_ entry: SegmentEntry, _ file: FileID) throws(Errno) -> Found {
    let length = CacheFormat.dataOffset(blocks: entry.blocks)
    guard try files.size(file) == UInt64(length) + UInt64(entry.blocks) * 4096 else { return .damaged }
    let header = try files.readBytes(file, at: 0, count: CacheFormat.fixedBytes)
    guard
      CacheFormat.matches(
        header, magic: CacheFormat.fileMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks)
    else { return .damaged }
    // A copied file may have holes: storing a word into one through the mapping would raise SIGBUS on a full disk.
    try files.allocate(file, size: UInt64(length))
    let map = try files.map(file, length: length, writable: true)
    let source = SegmentSource(
      file: file, dataOffset: UInt64(length), placement: nil, words: UnsafeRawPointer(map + CacheFormat.headerBytes),
      blocks: entry.blocks, seed: segmentSeed(volume: entry.volume, segment: entry.number))
    return .whole(CachedSegment(files: files, source: source, map: map, mapLength: length))
  }

  /// A write-ahead file and its map. Takes over `file` when whole, unless it stays the caller's.
  func mapPlaced(_ entry: SegmentEntry, _ file: FileID, ownsFile: Bool = true) throws(Errno) -> Found {
    let fileBlocks: Int
    do { fileBlocks = try WALFile.checkHeader(files, file, volume: entry.volume, number: entry.number) } catch {
      if case .system(_, _, _, let error) = error { throw error }
      return .damaged
    }
    let mapFile: FileID
    do throws(Errno) { mapFile = try files.open(path(entry) + ".map", .readWrite) } catch {
      if error == .notFound { return .damaged }
      throw error
    }
    defer { files.close(mapFile) }
    let length = CacheFormat.mapLength(blocks: entry.blocks)
    guard try files.size(mapFile) == UInt64(length) else { return .damaged }
    let header = try files.readBytes(mapFile, at: 0, count: CacheFormat.fixedBytes)
    let column = try files.readBytes(
      mapFile, at: UInt64(CacheFormat.placementOffset(blocks: entry.blocks)), count: Int(entry.blocks) * 2)
    guard
      CacheFormat.matches(
        header, magic: CacheFormat.mapMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks,
        positionsCRC: column.withUnsafeBytes { crc32c($0) }), Self.areInside(column, fileBlocks)
    else { return .damaged }
    try files.allocate(mapFile, size: UInt64(length))
    let map = try files.map(mapFile, length: length, writable: true)
    let placement = UnsafeRawPointer(map + CacheFormat.placementOffset(blocks: entry.blocks))
    let source = SegmentSource(
      file: file, dataOffset: 0, placement: placement.assumingMemoryBound(to: UInt16.self),
      words: UnsafeRawPointer(map + CacheFormat.headerBytes), blocks: entry.blocks,
      seed: segmentSeed(volume: entry.volume, segment: entry.number))
    return .whole(CachedSegment(files: files, source: source, map: map, mapLength: length, ownsFile: ownsFile))
  }

  private static func areInside(_ column: [UInt8], _ fileBlocks: Int) -> Bool {
    column.withUnsafeBytes { b in
      (0..<b.count / 2).allSatisfy {
        let position = UInt16(littleEndian: b.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self))
        return position >= CacheFormat.firstPosition && Int(position) < fileBlocks
      }
    }
  }

  /// Makes an empty cache file under a name of its own and links it in place; a process that was faster wins.
  private func make(_ entry: SegmentEntry, _ path: String, kept: Bool) throws(Errno) {
    try files.makeDirectory(directory(entry.volume))
    let temporary = temporary(path)
    let file = try files.open(temporary, .createNew)
    defer { remove([temporary]) }
    do {
      defer { files.close(file) }
      let data = CacheFormat.dataOffset(blocks: entry.blocks)
      // The words are allocated, so that storing one through the mapping cannot meet a full disk.
      try files.allocate(file, size: UInt64(data))
      try files.truncate(file, size: UInt64(data) + UInt64(entry.blocks) * 4096)
      var header = CacheFormat.header(
        magic: CacheFormat.fileMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks)
      if kept { header[CacheFormat.keptOffset] = 1 }
      try header.withUnsafeBufferPointer { (b) throws(Errno) in try files.write(file, UnsafeRawBufferPointer(b), at: 0) }
    }
    do throws(Errno) { try files.link(temporary, to: path) } catch {
      if error == .exists { return }
      throw error
    }
    state.withLock { $0.counters.filesMade += 1 }
  }

  func remove(_ paths: [String]) { for path in paths { try? files.remove(path) } }
}
