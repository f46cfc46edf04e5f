import ElideIO
import Glibc
import Synchronization

/// The host's block cache: one directory shared by all processes of the host and all volumes, so that a hundred forks of an
/// image keep one copy. Thread-safe.
///
/// Everything under it can be fetched again: damaged or foreign files are thrown away and counted, and a crash loses
/// nothing. What the store does not have yet lies in `wal/` and never here (but for its `.map`). Files are never punched, and
/// written anew only when nobody has them open (see `SegmentCache+Reuse`): giving space back is `remove` (see
/// `SegmentCache+Eviction`).
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
    package var filesReused: UInt64 = 0
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
  /// here, and none is made: `notFound`. A file of another sealing than the entry's is thrown away like a damaged one.
  package func open(_ entry: SegmentEntry) throws(Errno) -> CachedSegment {
    guard entry.uploaded, let hash = entry.hash else { throw Errno.notFound }
    return try open(CacheHeader(entry, seal: hash, hash: hash), kept: false)
  }

  /// Opens or makes the file of a segment whose only copy it will be until the upload, as an import's is: eviction passes it
  /// by until `CachedSegment.release`, whichever process comes along.
  ///
  /// - Parameter seal: what its blocks are known by (`CacheFormat.seal`).
  package func openKept(_ entry: SegmentEntry, seal: Digest) throws(Errno) -> CachedSegment {
    let segment = try open(CacheHeader(entry, seal: seal, hash: nil), kept: true)
    segment.markKept()
    // Evicted between: an empty file, made anew.
    return segment.isGone ? try openKept(entry, seal: seal) : segment
  }

  private func open(_ header: CacheHeader, kept: Bool) throws(Errno) -> CachedSegment {
    precondition(header.blocks > 0 && header.blocks <= CacheFormat.maxBlocks, "a segment of \(header.blocks) blocks has no file")
    let path = CacheFormat.path(directory(header.volume), header.segment)
    // Each turn makes progress, unless another process undoes it between: bounded all the same.
    for _ in 0..<8 {
      switch try readable(header, path) {
      case .whole(let segment): return segment
      case .gone: continue
      case .damaged:
        remove([path])
        state.withLock { $0.counters.filesDiscarded += 1 }
      case .absent: break
      }
      try make(header, path, kept: kept)
    }
    throw Errno.io
  }

  enum Found {
    case whole(CachedSegment), damaged, gone, absent
  }

  /// `existing`, where a file that the disk cannot read is damaged like any other.
  private func readable(_ header: CacheHeader, _ path: String) throws(Errno) -> Found {
    do throws(Errno) { return try existing(header, path) } catch {
      if error == .io { return .damaged }
      throw error
    }
  }

  /// Opens the file in place, whichever kind it is. Throws only what says nothing about the file (descriptors, memory,
  /// space): such a file must not be thrown away.
  private func existing(_ header: CacheHeader, _ path: String) throws(Errno) -> Found {
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
    case CacheFormat.fileMagic where n == 8: found = try readCacheFile(header, file)
    case WALFormat.fileMagic where n == 8:
      // Somebody is taking it away. Where files cannot be held nobody can take them, either.
      if (try? files.hold(file, alone: false)) == false { return .gone }
      found = try readPlaced(header, file, path + ".map") { $0.hash == header.hash }
    default: return .damaged
    }
    guard case .whole(let segment) = found else { return found }
    // From here on `segment` closes it.
    kept = true
    return segment.isGone ? .gone : found
  }

  private func readCacheFile(_ expected: CacheHeader, _ file: FileID) throws(Errno) -> Found {
    let head = try files.readBytes(file, at: 0, count: CacheHeader.fixedBytes)
    guard
      let header = CacheHeader.decode(
        head, magic: CacheFormat.fileMagic, volume: expected.volume, segment: expected.segment, blocks: expected.blocks),
      header.hash == expected.hash, header.hash != nil || header.seal == expected.seal,
      try files.size(file) == UInt64(CacheFormat.dataOffset(blocks: expected.blocks)) + UInt64(expected.blocks) * 4096
    else { return .damaged }
    let words = try files.readBytes(file, at: UInt64(CacheFormat.headerBytes), count: Int(expected.blocks) * 4)
    return .whole(CachedSegment(files: files, header: header, file: file, words: words, placement: nil))
  }

  /// A write-ahead file and its map, which must be the one that `isRight` says. Takes over `file` when whole.
  func readPlaced(
    _ expected: CacheHeader, _ file: FileID, _ mapPath: String, where isRight: (CacheHeader) -> Bool
  ) throws(Errno) -> Found {
    let fileBlocks: Int
    do { fileBlocks = try WALFile.checkHeader(files, file, volume: expected.volume, number: expected.segment) } catch {
      if case .system(_, _, _, let error) = error { throw error }
      return .damaged
    }
    let bytes: [UInt8]
    do throws(Errno) { bytes = try files.readFile(mapPath, limit: CacheFormat.mapLength(blocks: expected.blocks)) } catch {
      if error == .notFound || error.code == EFBIG { return .damaged }
      throw error
    }
    let (words, positions) = (CacheFormat.headerBytes, CacheFormat.placementOffset(blocks: expected.blocks))
    guard bytes.count == CacheFormat.mapLength(blocks: expected.blocks),
      let header = CacheHeader.decode(
        bytes, magic: CacheFormat.mapMagic, volume: expected.volume, segment: expected.segment, blocks: expected.blocks),
      isRight(header)
    else { return .damaged }
    let column = Array(bytes[positions..<positions + Int(expected.blocks) * 2])
    guard header.tableCRC == column.withUnsafeBytes({ crc32c($0) }), Self.areInside(column, fileBlocks) else { return .damaged }
    return .whole(
      CachedSegment(
        files: files, header: header, file: file, words: Array(bytes[words..<words + Int(expected.blocks) * 4]), placement: column
      ))
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
  private func make(_ header: CacheHeader, _ path: String, kept: Bool) throws(Errno) {
    try files.makeDirectory(directory(header.volume))
    let temporary = temporary(path)
    let file = try files.open(temporary, .createNew)
    defer { remove([temporary]) }
    do {
      defer { files.close(file) }
      let data = CacheFormat.dataOffset(blocks: header.blocks)
      // So that a full disk is met here, and not at each word.
      try files.allocate(file, size: UInt64(data))
      try files.truncate(file, size: UInt64(data) + UInt64(header.blocks) * 4096)
      try header.encode(kept: kept).withUnsafeBufferPointer { (b) throws(Errno) in
        try files.write(file, UnsafeRawBufferPointer(b), at: 0)
      }
    }
    do throws(Errno) { try files.link(temporary, to: path) } catch {
      if error == .exists { return }
      throw error
    }
    state.withLock { $0.counters.filesMade += 1 }
  }

  func remove(_ paths: [String]) { for path in paths { try? files.remove(path) } }
}

extension CacheHeader {
  /// Of a cache file of this segment.
  init(_ entry: SegmentEntry, seal: Digest, hash: Digest?) {
    self.init(
      magic: CacheFormat.fileMagic, volume: entry.volume, segment: entry.number, blocks: entry.blocks, seal: seal, hash: hash)
  }
}
