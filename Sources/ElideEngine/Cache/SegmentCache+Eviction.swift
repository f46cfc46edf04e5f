import ElideIO

/// A segment's files in the cache, as eviction and `elide cache status` see them.
package struct CacheUsage: Equatable, Sendable {
  package var volume: ULID
  package var segment: UInt64
  /// Bytes on disk of blocks and tables: present blocks of a cache file, all of a write-ahead file. 0 when only hashes or the
  /// encoding are left.
  package var bytes: UInt64
  /// Bytes of hashes and encoding.
  package var sidecars: UInt64 = 0
  package var total: UInt64 { bytes + sidecars }
  /// Read through since the hand last passed.
  package var used: Bool
  /// A write-ahead file with its map, rather than a cache file.
  package var isPlaced: Bool
  /// The store does not have it: it is not evicted.
  package var isKept: Bool
}

// Eviction is a clock over all files of the directory: the hand clears `used`, and takes what it finds without it. All
// processes share the marks, since they stand in the files' headers; one of them at a time evicts.
extension SegmentCache {
  /// What `trimIfDue` holds the directory to, in bytes.
  package var budget: UInt64 {
    get { state.withLock { $0.budget } }
    set { state.withLock { $0.budget = newValue } }
  }

  /// Bytes that went into cache files of this process: they make the next count due.
  func noteStored(_ bytes: UInt64) { state.withLock { $0.storedSince += bytes } }

  /// Counts the directory when this process has stored enough since it last did, and evicts down to the budget. Called
  /// after fetches, on their threads. True when something was evicted.
  @discardableResult
  package func trimIfDue() -> Bool {
    let due = state.withLock { s -> UInt64? in
      // Half of what was free then, or a sixteenth: so that many processes together do not overshoot by much.
      let slack = s.counted.map { max(s.budget / 16, (s.budget - min($0, s.budget)) / 2) } ?? s.budget / 16
      guard s.storedSince >= slack else { return nil }
      s.storedSince = 0
      return s.budget
    }
    guard let budget = due else { return false }
    return trim(to: budget) > 0
  }

  /// Evicts until the directory holds at most `target` bytes; returns the bytes given back. 0 while another process does.
  @discardableResult
  package func trim(to target: UInt64) -> UInt64 {
    guard let lock = try? files.lock(root + "/lock") else { return 0 }
    defer { files.close(lock) }
    let all = usage()
    var total = all.reduce(0) { $0 + $1.total }
    var freed: UInt64 = 0
    func give(_ bytes: UInt64) {
      freed += bytes
      total -= min(total, bytes)
    }
    if total > target, !all.isEmpty {
      let hand = state.withLock { $0.hand }
      let start = all.firstIndex { ($0.volume, $0.segment) >= hand } ?? 0
      // Two rounds at most: whatever has a second chance in the first has lost it in the second.
      for step in 0..<2 * all.count where total > target {
        let file = all[(start + step) % all.count]
        if file.isKept { continue }
        if step < all.count, file.used {
          clearUsed(file)
          continue
        }
        if step >= all.count, !file.used { continue }
        // Hashes and encoding outlive the blocks by one round: they are small, and save a request or a duplicate.
        give(file.bytes > 0 ? evict(volume: file.volume, segment: file.segment) : removeSidecars(file))
        state.withLock { $0.hand = (file.volume, file.segment + 1) }
      }
      for file in all where total > target && !file.isKept && file.bytes > 0 { give(removeSidecars(file)) }
    }
    state.withLock { $0.counted = total }
    return freed
  }

  /// The disk is full: gives back a sixteenth of the cache, 64 MiB at least. False when there was nothing to give.
  func makeRoom() -> Bool {
    let total = usage().reduce(0) { $0 + $1.total }
    return trim(to: total - min(total, max(total / 16, 64 << 20))) > 0
  }

  /// Every segment with anything in the cache, of all volumes, in order of volume and number. Reads each file's table: 4 bytes a
  /// block.
  package func usage() -> [CacheUsage] {
    var all: [CacheUsage] = []
    for name in (try? files.list(root)) ?? [] {
      guard let volume = ULID(name) else { continue }
      var sidecars: [UInt64: UInt64] = [:]
      var found: [CacheUsage] = []
      for name in (try? files.list(directory(volume))) ?? [] {
        if let n = CacheFormat.segment(named: name) {
          if let blocks = usage(volume, n) { found.append(blocks) }
        } else if Self.sidecars.contains(where: name.hasSuffix), let n = CacheFormat.segment(named: name.prefix(16)) {
          sidecars[n, default: 0] += size(directory(volume) + "/" + name)
        }
      }
      for i in found.indices { found[i].sidecars = sidecars.removeValue(forKey: found[i].segment) ?? 0 }
      all += found
      for (n, bytes) in sidecars.sorted(by: { $0.key < $1.key }) {
        all.append(
          CacheUsage(volume: volume, segment: n, bytes: 0, sidecars: bytes, used: false, isPlaced: false, isKept: false))
      }
    }
    return all.sorted { ($0.volume, $0.segment) < ($1.volume, $1.segment) }
  }

  /// What is kept beside a segment's blocks, and has no use of its own to be marked.
  private static let sidecars = [".sums", ".encoding"]

  private func size(_ path: String) -> UInt64 {
    guard let file = try? files.open(path, .read) else { return 0 }
    defer { files.close(file) }
    return (try? files.size(file)) ?? 0
  }

  private func removeSidecars(_ usage: CacheUsage) -> UInt64 {
    let path = CacheFormat.path(directory(usage.volume), usage.segment)
    remove(Self.sidecars.map { path + $0 })
    return usage.sidecars
  }

  func usage(_ volume: ULID, _ segment: UInt64) -> CacheUsage? {
    let path = CacheFormat.path(directory(volume), segment)
    guard let file = try? files.open(path, .read) else { return nil }
    defer { files.close(file) }
    guard let size = try? files.size(file) else { return nil }
    var found = CacheUsage(volume: volume, segment: segment, bytes: size, used: false, isPlaced: false, isKept: false)
    guard let head = try? files.readBytes(file, at: 0, count: CacheHeader.fixedBytes + 8) else { return found }
    let magic = number(head, 0, UInt64.self)
    if magic == WALFormat.fileMagic {
      found.isPlaced = true
      if let map = try? files.open(path + ".map", .read) {
        defer { files.close(map) }
        found.bytes += (try? files.size(map)) ?? 0
        found.used =
          (try? files.readBytes(map, at: UInt64(CacheHeader.usedOffset), count: 4)).map { $0 != [0, 0, 0, 0] } ?? false
      }
      return found
    }
    let blocks = number(head, 12, UInt32.self)
    guard magic == CacheFormat.fileMagic, number(head, 8, UInt32.self) == CacheFormat.version, blocks <= CacheFormat.maxBlocks
    else { return found }
    found.used = number(head, CacheHeader.usedOffset, UInt32.self) != 0
    found.isKept = number(head, CacheHeader.keptOffset, UInt32.self) != 0
    guard let words = try? files.readBytes(file, at: UInt64(CacheFormat.headerBytes), count: Int(blocks) * 4) else {
      return found
    }
    let present = words.withUnsafeBytes { b in b.bindMemory(to: UInt32.self).reduce(0) { $1 == 0 ? $0 : $0 + 1 } }
    found.bytes = UInt64(CacheFormat.dataOffset(blocks: blocks)) + UInt64(present) * 4096
    return found
  }

  private func number<T: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int, _: T.Type) -> T {
    bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
  }

  func clearUsed(_ usage: CacheUsage) {
    setUsed(CacheFormat.path(directory(usage.volume), usage.segment) + (usage.isPlaced ? ".map" : ""), 0)
  }

  /// Somebody read through this file lately: eviction passes it by once.
  func noteUsed(_ segment: CachedSegment) {
    if !segment.isPlaced { return segment.markUsed() }
    // One that is still in `wal/` is not evicted. A map is not held open; should another have its name by now, it is
    // another sealing's, and passed by once too often.
    guard segment.header.hash != nil else { return }
    setUsed(CacheFormat.path(directory(segment.header.volume), segment.header.segment) + ".map", 1)
  }

  private func setUsed(_ path: String, _ value: UInt8) {
    guard let file = try? files.open(path, .readWrite) else { return }
    defer { files.close(file) }
    [value, 0, 0, 0].withUnsafeBytes { try? files.write(file, $0, at: UInt64(CacheHeader.usedOffset)) }
  }

  /// Takes a segment's blocks out of the cache and returns the bytes given back. Whoever has them open keeps reading, sees
  /// that the name is gone, and closes them soon (`VolumeSegments.sweep`).
  @discardableResult
  package func evict(volume: ULID, segment: UInt64, ifKept: Bool = false) -> UInt64 {
    let path = CacheFormat.path(directory(volume), segment)
    guard let found = usage(volume, segment), !found.isKept || ifKept, (try? files.remove(path)) != nil else { return 0 }
    if found.isPlaced { remove([path + ".map"]) }
    state.withLock {
      $0.counters.filesEvicted += 1
      $0.counters.bytesEvicted += found.bytes
    }
    return found.bytes
  }

  /// Removes all that is kept of a segment that is deleted: also hashes and encoding.
  package func forget(volume: ULID, segment: UInt64) {
    evict(volume: volume, segment: segment, ifKept: true)
    let path = CacheFormat.path(directory(volume), segment)
    remove([".map", ".sums", ".encoding"].map { path + $0 })
  }

  /// Removes what crashes left of files being made by any process. For a process that knows to be alone on the host, such as
  /// `elide cache trim`; others would lose a file they are making, and make it again.
  package func removeTemporaries() {
    for name in (try? files.list(root)) ?? [] {
      guard let volume = ULID(name) else { continue }
      for name in (try? files.list(directory(volume))) ?? [] where name.contains(".new-") {
        remove([directory(volume) + "/" + name])
      }
    }
  }
}
