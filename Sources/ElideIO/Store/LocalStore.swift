import Glibc
import Synchronization

// Layout under the root directory:
//
//   <key>             the object, one file
//   .tmp/<ulid>       objects being written; what a crash leaves there is nobody's, and is removed when a day old
//
// put-if-absent is link(2) of a synced temporary: the name appears at once, with all its bytes, or not at all, and exactly
// one of any number of racing processes gets it. The directory is synced before the put is reported, and so is each new
// directory's entry in its parent, so a reported object survives a power cut.

/// An object store in a directory, shared by any number of processes and hosts that mount it (with POSIX link and rename
/// semantics). Safe on any thread.
package final class LocalStore: Store {
  package let url: String
  private let root: String
  private let world: World
  private let tallies = Mutex(StoreCounters())
  private let knownDirectories = Mutex(Set<String>())
  /// The object that each store has. Once it was seen, its absence means that the store's disk is not there.
  private static let mark = "elide.toml"
  private let wasMarked = Mutex(false)

  /// A temporary older than this belongs to a process that is gone.
  private static let temporaryLifeMilliseconds: UInt64 = 86_400_000

  /// Opens the store in `root`. Nothing is written until the first put, except that with `create` a missing directory is
  /// made; without it a missing one is refused, so that a mistyped path is not mistaken for an empty store.
  package init(root: String, world: World, create: Bool = true) throws(StoreError) {
    self.root = root
    self.world = world
    url = "file://\(root)"
    do throws(Errno) {
      if create {
        try world.files.makeDirectoryDurably(root)
      } else {
        _ = try world.files.list(root)
      }
    } catch {
      throw .refused(key: "", detail: "\(url): \(error)")
    }
    removeOldTemporaries()
  }

  package var counters: StoreCounters { tallies.withLock { $0 } }

  // MARK: Writing

  package func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    let path = try path(key)
    tallies.withLock {
      $0.puts += 1
      $0.bytesWritten += UInt64(bytes.count)
    }
    let temporary = try withTemporary(key, path) { (file) throws(Errno) in try self.world.files.write(file, bytes, at: 0) }
    defer { try? world.files.remove(temporary) }
    var outcome = PutOutcome.created
    do throws(Errno) {
      try world.files.link(temporary, to: path)
    } catch {
      guard error == .exists else { throw writeFault(key, error) }
      if (try? world.files.list(path)) != nil { throw .refused(key: key, detail: "other keys lie below this one") }
      outcome = .exists
    }
    // The loser syncs too: it may act on the winner's object before the winner has.
    try confirm(key, path)
    return outcome
  }

  package func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    let path = try path(key)
    tallies.withLock {
      $0.puts += 1
      $0.bytesWritten += UInt64(parts.reduce(0) { $0 + $1.count })
    }
    let temporary = try withTemporary(key, path) { (file) throws(Errno) in
      var offset: UInt64 = 0
      for part in parts {
        try part.withUnsafeBufferPointer { (b) throws(Errno) in
          try self.world.files.write(file, UnsafeRawBufferPointer(b), at: offset)
        }
        offset += UInt64(part.count)
      }
    }
    do throws(Errno) {
      try world.files.rename(temporary, to: path)
    } catch {
      try? world.files.remove(temporary)
      throw writeFault(key, error)
    }
    try confirm(key, path)
  }

  package func delete(_ key: String) throws(StoreError) {
    let path = try path(key)
    tallies.withLock { $0.deletes += 1 }
    // A directory is no object, and `remove` would take an empty one.
    if (try? world.files.list(path)) != nil { return }
    do throws(Errno) {
      try world.files.remove(path)
    } catch {
      // A directory of that name is no object; nor is anything below a file.
      guard [ENOENT, ENOTDIR, EISDIR].contains(error.code) else { throw writeFault(key, error) }
    }
    do throws(Errno) {
      // Also when it was gone: whoever removed it may have stopped before this.
      try world.files.syncDirectory(parentDirectory(path))
    } catch {
      if error != .notFound && error.code != ENOTDIR { throw .unknown(key: key, detail: "\(error)") }
    }
  }

  /// A store that has vanished (an unmounted disk) is not begun anew in its place: what is put there would be lost to everyone.
  private func requireMark(_ key: String) throws(StoreError) {
    let isMarked = world.files.exists(root + "/" + Self.mark)
    let wasMarked = wasMarked.withLock { was in
      was = was || isMarked
      return was
    }
    if wasMarked && !isMarked {
      throw .unknown(key: key, detail: "\(url) has no \(Self.mark) any more: is its disk mounted?")
    }
  }

  /// Makes the parent of `path`, then a synced temporary that `write` has filled; its path. It is removed on error.
  private func withTemporary(
    _ key: String, _ path: String, _ write: (FileID) throws(Errno) -> Void
  ) throws(StoreError) -> String {
    try requireMark(key)
    let temporary = root + "/.tmp/" + ULID(clock: world.clock, random: world.random).description
    do throws(Errno) {
      try makeParent(path)
      try makeParent(temporary)
      let file = try world.files.open(temporary, .createNew)
      defer { world.files.close(file) }
      try write(file)
      try world.files.sync(file)
    } catch {
      try? world.files.remove(temporary)
      throw writeFault(key, error)
    }
    return temporary
  }

  /// Makes the name durable. The object is there for all to see by now, so a failure is not a refusal.
  private func confirm(_ key: String, _ path: String) throws(StoreError) {
    do throws(Errno) {
      try world.files.syncDirectory(parentDirectory(path))
    } catch {
      throw .unknown(key: key, detail: "\(error)")
    }
  }

  /// Makes the directory of `path` and each missing one above it, durably.
  private func makeParent(_ path: String) throws(Errno) {
    let directory = parentDirectory(path)
    if directory == root || knownDirectories.withLock({ $0.contains(directory) }) { return }
    try makeParent(directory)
    try world.files.makeDirectory(directory)
    // Also when it was there: the process that made it may not have synced it yet.
    try world.files.syncDirectory(parentDirectory(directory))
    knownDirectories.withLock { _ = $0.insert(directory) }
  }

  private func removeOldTemporaries() {
    guard let names = try? world.files.list(root + "/.tmp") else { return }
    let now = world.clock.wallMilliseconds()
    for name in names {
      // Its name says when it was begun; what is no ULID is not ours.
      guard let id = ULID(name), id.milliseconds + Self.temporaryLifeMilliseconds < now else { continue }
      try? world.files.remove(root + "/.tmp/" + name)
    }
  }

  // MARK: Reading

  package func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    let path = try path(key)
    tallies.withLock { $0.gets += 1 }
    do throws(Errno) {
      let file = try world.files.open(path, .read)
      defer { world.files.close(file) }
      let size = try world.files.size(file)
      let first = min(range?.lowerBound ?? 0, size)
      let last = min(range?.upperBound ?? size, size)
      let bytes = try world.files.readBytes(file, at: first, count: Int(last - first))
      tallies.withLock { $0.bytesRead += UInt64(bytes.count) }
      return bytes
    } catch {
      throw readFault(key, error)
    }
  }

  package func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    tallies.withLock { $0.lists += 1 }
    // Walk only the deepest directory that the prefix names.
    let base = prefix.lastIndex(of: "/").map { String(prefix[..<$0]) } ?? ""
    if !base.isEmpty, let fault = StoreKey.fault(base) { throw .refused(key: prefix, detail: "the prefix \(fault)") }
    var keys: [String] = []
    do throws(Errno) {
      try collect(base, into: &keys)
    } catch {
      throw readFault(prefix, error)
    }
    keys = keys.filter { key in
      key.hasPrefix(prefix) && (after.map { $0.utf8.lexicographicallyPrecedes(key.utf8) } ?? true)
    }
    keys.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    var out: [StoredObject] = []
    for key in keys {
      // Not keys.prefix(limit): a short answer means the end of the list.
      if out.count == limit { break }
      do throws(Errno) {
        let file = try world.files.open(root + "/" + key, .read)
        defer { world.files.close(file) }
        out.append(StoredObject(key: key, size: try world.files.size(file)))
      } catch {
        if error != .notFound { throw readFault(key, error) }  // deleted meanwhile
      }
    }
    return out
  }

  /// All keys at or below `directory`, in no particular order. Names that could not be keys are not ours: temporaries,
  /// `lost+found`, what editors leave.
  private func collect(_ directory: String, into keys: inout [String]) throws(Errno) {
    let names: [String]
    do throws(Errno) {
      names = try world.files.list(directory.isEmpty ? root : root + "/" + directory)
    } catch {
      switch error.code {
      case ENOENT: return
      case ENOTDIR:
        if !directory.isEmpty { keys.append(directory) }
        return
      default: throw error
      }
    }
    for name in names {
      let key = directory.isEmpty ? name : directory + "/" + name
      if StoreKey.fault(key) == nil { try collect(key, into: &keys) }
    }
  }

  // MARK: Faults

  private func path(_ key: String) throws(StoreError) -> String {
    if let fault = StoreKey.fault(key) { throw .refused(key: key, detail: "the key \(fault)") }
    return root + "/" + key
  }

  private func readFault(_ key: String, _ error: Errno) -> StoreError {
    switch error.code {
    case ENOENT, ENOTDIR, EISDIR: .notFound(key: key)
    case EACCES, EPERM, ENAMETOOLONG, ELOOP: .refused(key: key, detail: "\(error)")
    default: .unknown(key: key, detail: "\(error)")
    }
  }

  /// An error before the object got its name.
  private func writeFault(_ key: String, _ error: Errno) -> StoreError {
    // A directory that was there has gone: look again next time.
    if error == .notFound { knownDirectories.withLock { $0.removeAll() } }
    return switch error.code {
    case ENOSPC, EDQUOT, EACCES, EPERM, EROFS, ENAMETOOLONG, ELOOP, ENOTDIR, EISDIR, EEXIST, EFBIG:
      .refused(key: key, detail: "\(error)")
    default: .unknown(key: key, detail: "\(error)")
    }
  }
}
