import ElideIO
import Glibc

/// What ends a simulated process.
package enum CrashMode: CaseIterable, Sendable {
  /// SIGKILL: all that was written stays visible, and stays unsynced.
  case processKill
  /// The machine stops: any subset of unsynced sectors and names survives.
  case powerLoss
}

/// A file system in memory that loses what was not synced. See `Files` for what the engine may rely on; everything else is
/// decided against it, by the seed: which sectors of an unsynced write survive a power loss, which names, what a failed
/// write left behind, whether an earlier version of a sector is what the disk has.
///
/// Every call that can fail is counted by `faults` at a site named after the operation and the kind of directory.
/// One thread steps a simulated world, hence unchecked.
package final class SimFiles: Files, @unchecked Sendable {
  private struct Handle {
    var inode: SimInode
    var writable: Bool
    var place: String
  }

  package let faults: SimFaults
  var random: SeededRandom
  let root = SimDirectory()
  let meter = SpaceMeter()
  private var handles: [Int32: Handle] = [:]
  /// Never given twice, so that what a dead process still holds is stale for ever.
  private var nextHandle: Int32 = 1000
  private var sites: [String: Int] = [:]
  private let fileCapacity: Int

  /// - Parameter fileCapacity: bytes of the largest file; writing beyond is `EFBIG`. Address space is reserved for it, memory not.
  package init(seed: UInt64, faults: SimFaults = SimFaults(), fileCapacity: Int = 80 << 20) {
    self.faults = faults
    self.fileCapacity = fileCapacity
    random = SeededRandom(seed: seed ^ 0xF11E5)
  }

  /// Bytes of disk; what exceeds it is `ENOSPC`.
  package var spaceLimit: Int {
    get { meter.limit }
    set { meter.limit = newValue }
  }
  package var spaceUsed: Int { meter.used }
  package var openHandles: Int { handles.count }

  // MARK: faults

  private static let changing: Set<String> = [
    "create", "write", "allocate", "truncate", "sync", "makeDirectory", "syncDirectory", "rename", "link", "remove",
  ]

  /// Asks `faults`; throws for a failure and for a crash before. Otherwise the phase of a crash at this call, nil for none.
  func enter(_ operation: String, _ place: String) throws(Errno) -> CrashPhase? {
    let key = operation + place
    let site = sites[key] ?? faults.site(operation, place, mutates: Self.changing.contains(operation))
    sites[key] = site
    switch faults.enter(site) {
    case .proceed: return nil
    case .fail(let error): throw error
    case .crash(.before): throw .crashed
    case .crash(let phase): return phase
    }
  }

  /// The kind of place a path names: the last component that is a plain word, of the directory.
  static func place(_ path: String) -> String {
    for part in parentDirectory(path).split(separator: "/").reversed() {
      if part.utf8.allSatisfy({ (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) }) { return String(part) }
    }
    return ""
  }

  private func handle(_ file: FileID) throws(Errno) -> Handle {
    if faults.isCrashed { throw .crashed }
    guard let h = handles[file.raw] else { throw Errno(EBADF) }
    return h
  }

  // MARK: files

  package func open(_ path: String, _ mode: OpenMode) throws(Errno) -> FileID {
    let place = Self.place(path)
    let (directory, name) = try resolve(path)
    if let node = directory.visible[name] {
      let phase = try enter("open", place)
      if phase != nil { throw .crashed }
      guard case .file(let inode) = node else { throw Errno(EISDIR) }
      if mode == .createNew { throw .exists }
      return register(Handle(inode: inode, writable: mode != .read, place: place))
    }
    guard mode == .create || mode == .createNew else {
      _ = try enter("open", place)
      throw .notFound
    }
    let phase = try enter("create", place)
    let inode = SimInode(capacity: fileCapacity, meter: meter)
    directory.change(.init(names: [(name, .file(inode))]))
    if phase != nil { throw .crashed }
    return register(Handle(inode: inode, writable: true, place: place))
  }

  private func register(_ h: Handle) -> FileID {
    nextHandle += 1
    handles[nextHandle] = h
    return FileID(raw: nextHandle)
  }

  package func close(_ file: FileID) {
    guard let h = handles.removeValue(forKey: file.raw) else { return }
    if h.inode.lockedBy == file.raw { h.inode.lockedBy = -1 }
    h.inode.letGo(file.raw)
  }

  package func hold(_ file: FileID, alone: Bool) throws(Errno) -> Bool {
    let h = try handle(file)
    return h.inode.hold(file.raw, alone: alone)
  }

  package func read(_ file: FileID, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
    let h = try handle(file)
    if try enter("read", h.place) != nil { throw .crashed }
    return h.inode.read(into: buffer, at: Int(clamping: offset))
  }

  package func write(_ file: FileID, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64) throws(Errno) {
    let h = try handle(file)
    guard h.writable else { throw Errno(EBADF) }
    let total = vectors.reduce(0) { $0 + $1.iov_len }
    guard offset + UInt64(total) <= UInt64(fileCapacity) else { throw Errno(EFBIG) }
    var phase: CrashPhase?
    var failure: Errno?
    do { phase = try enter("write", h.place) } catch {
      if error == .crashed { throw error }
      failure = error
    }
    // A failed write, or one that a crash cut, leaves a beginning of itself; of a vector write also one that ends inside.
    let limit = phase == .partly || failure != nil ? random.below(total / 512 + 1) * 512 : total
    var done = 0
    for v in vectors where v.iov_len > 0 && done < limit {
      let n = min(v.iov_len, limit - done)
      let part = UnsafeRawBufferPointer(start: v.iov_base, count: n)
      guard h.inode.write(part, at: Int(offset) + done, &random) else { throw .noSpace }
      done += n
    }
    if let failure { throw failure }
    if phase != nil { throw .crashed }
  }

  package func size(_ file: FileID) throws(Errno) -> UInt64 {
    let h = try handle(file)
    if try enter("size", h.place) != nil { throw .crashed }
    return UInt64(h.inode.size)
  }

  package func allocate(_ file: FileID, size: UInt64) throws(Errno) {
    let h = try handle(file)
    guard size <= UInt64(fileCapacity) else { throw Errno(EFBIG) }
    let phase = try enter("allocate", h.place)
    guard h.inode.allocate(Int(size)) else { throw .noSpace }
    if phase != nil { throw .crashed }
  }

  package func truncate(_ file: FileID, size: UInt64) throws(Errno) {
    let h = try handle(file)
    guard size <= UInt64(fileCapacity) else { throw Errno(EFBIG) }
    let phase = try enter("truncate", h.place)
    h.inode.truncate(Int(size))
    if phase != nil { throw .crashed }
  }

  package func sync(_ file: FileID) throws(Errno) {
    let h = try handle(file)
    let phase: CrashPhase?
    do { phase = try enter("sync", h.place) } catch {
      if error != .crashed { h.inode.failSync(&random) }
      throw error
    }
    // Cut in the middle: which sectors got there is drawn when the power goes.
    if phase == .partly { throw .crashed }
    h.inode.sync()
    if phase != nil { throw .crashed }
  }

  package func startWriteback(_ file: FileID, offset: UInt64, length: UInt64) {
    guard let h = try? handle(file) else { return }
    h.inode.startWriteback(Int(offset)..<Int(offset + length), &random)
  }

  package func dropCache(_ file: FileID) {
    guard let h = try? handle(file) else { return }
    h.inode.dropCache()
  }

  package func isLinked(_ file: FileID) throws(Errno) -> Bool {
    let h = try handle(file)
    return holds(root, h.inode)
  }

  private func holds(_ directory: SimDirectory, _ inode: SimInode) -> Bool {
    directory.visible.values.contains {
      switch $0 {
      case .file(let other): other === inode
      case .directory(let inner): holds(inner, inode)
      }
    }
  }

  package func lock(_ path: String) throws(Errno) -> FileID? {
    let file = try open(path, .create)
    let inode = try handle(file).inode
    if inode.lockedBy >= 0 {
      close(file)
      return nil
    }
    inode.lockedBy = file.raw
    return file
  }

  /// What a copied disk has: everything that readers see, durable. No handle and no lock is copied.
  package func copy(seed: UInt64, faults: SimFaults) -> SimFiles {
    let other = SimFiles(seed: seed, faults: faults, fileCapacity: fileCapacity)
    var inodes: [ObjectIdentifier: SimInode] = [:]
    root.copy(to: other.root) { inode in
      if let known = inodes[ObjectIdentifier(inode)] { return known }
      let new = SimInode(copyOf: inode, meter: other.meter, &other.random)
      inodes[ObjectIdentifier(inode)] = new
      return new
    }
    return other
  }

  // MARK: crashes

  /// The host's process is gone, and comes back: `mode` says what it finds. Handles of before are stale.
  package func restart(_ mode: CrashMode) {
    for (raw, h) in handles {
      h.inode.lockedBy = -1
      h.inode.letGo(raw)
    }
    handles = [:]
    if mode == .powerLoss {
      var seen: Set<ObjectIdentifier> = []
      losePower(root, &seen)
      settle(root, &seen)
    }
    faults.restart()
  }

  private func losePower(_ directory: SimDirectory, _ seen: inout Set<ObjectIdentifier>) {
    guard seen.insert(ObjectIdentifier(directory)).inserted else { return }
    directory.losePower(&random)
    for name in directory.durableNames {
      if case .directory(let inner) = directory.durableNode(name) { losePower(inner, &seen) }
    }
  }

  private func settle(_ directory: SimDirectory, _ seen: inout Set<ObjectIdentifier>) {
    directory.settle()
    for name in directory.durableNames {
      switch directory.durableNode(name) {
      case .directory(let inner): settle(inner, &seen)
      case .file(let inode): if seen.insert(ObjectIdentifier(inode)).inserted { inode.losePower(&random) }
      case nil: break
      }
    }
  }
}
