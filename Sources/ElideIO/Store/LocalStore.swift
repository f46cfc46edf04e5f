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

  /// Opens the store in `root`, making the directory if needed.
  package init(root: String, world: World) throws(StoreError) {
    self.root = root
    self.world = world
    url = "file://\(root)"
    do throws(Errno) {
      try world.files.makeDirectory(root)
      try world.files.makeDirectory(root + "/.tmp")
      try world.files.syncDirectory(root)
      try world.files.syncDirectory(parentDirectory(root))
    } catch {
      throw .refused(key: "", detail: "\(url): \(error)")
    }
  }

  package var counters: StoreCounters { tallies.withLock { $0 } }

  private func path(_ key: String) throws(StoreError) -> String {
    if let fault = StoreKey.fault(key) { throw .refused(key: key, detail: "the key \(fault)") }
    return root + "/" + key
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

  /// Writes and syncs a temporary, then hands its path to `place`; removes it in any case.
  private func withTemporary(_ parts: [UnsafeRawBufferPointer], _ place: (String) throws(Errno) -> Void) throws(Errno) {
    let temporary = root + "/.tmp/" + ULID(clock: world.clock, random: world.random).description
    let file = try world.files.open(temporary, .createNew)
    defer { try? world.files.remove(temporary) }
    do {
      defer { world.files.close(file) }
      var offset: UInt64 = 0
      for part in parts {
        try world.files.write(file, part, at: offset)
        offset += UInt64(part.count)
      }
      try world.files.sync(file)
    }
    try place(temporary)
  }

  package func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    let path = try path(key)
    tallies.withLock {
      $0.puts += 1
      $0.bytesWritten += UInt64(bytes.count)
    }
    var outcome = PutOutcome.created
    do throws(Errno) {
      try makeParent(path)
      try withTemporary([bytes]) { (temporary) throws(Errno) in
        do throws(Errno) {
          try world.files.link(temporary, to: path)
        } catch {
          guard error == .exists else { throw error }
          outcome = .exists
        }
        // The loser syncs too: it may act on the winner's object before the winner has.
        try world.files.syncDirectory(parentDirectory(path))
      }
    } catch {
      throw fault(key, error)
    }
    return outcome
  }

  package func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    let path = try path(key)
    tallies.withLock {
      $0.puts += 1
      $0.bytesWritten += UInt64(parts.reduce(0) { $0 + $1.count })
    }
    do throws(Errno) {
      try makeParent(path)
      let temporary = root + "/.tmp/" + ULID(clock: world.clock, random: world.random).description
      let file = try world.files.open(temporary, .createNew)
      do throws(Errno) {
        defer { world.files.close(file) }
        var offset: UInt64 = 0
        for part in parts {
          try part.withUnsafeBufferPointer { (b) throws(Errno) in
            try world.files.write(file, UnsafeRawBufferPointer(b), at: offset)
          }
          offset += UInt64(part.count)
        }
        try world.files.sync(file)
        try world.files.rename(temporary, to: path)
      } catch {
        try? world.files.remove(temporary)
        throw error
      }
      try world.files.syncDirectory(parentDirectory(path))
    } catch {
      throw fault(key, error)
    }
  }

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
      throw fault(key, error)
    }
  }

  package func delete(_ key: String) throws(StoreError) {
    let path = try path(key)
    tallies.withLock { $0.deletes += 1 }
    do throws(Errno) {
      try world.files.remove(path)
      try world.files.syncDirectory(parentDirectory(path))
    } catch {
      if error == .notFound { return }
      throw fault(key, error)
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
      throw fault(prefix, error)
    }
    keys = keys.filter { $0.hasPrefix(prefix) }.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    if let after { keys = keys.filter { after.utf8.lexicographicallyPrecedes($0.utf8) } }
    var out: [StoredObject] = []
    for key in keys.prefix(limit) {
      do throws(Errno) {
        let file = try world.files.open(root + "/" + key, .read)
        defer { world.files.close(file) }
        out.append(StoredObject(key: key, size: try world.files.size(file)))
      } catch {
        if error != .notFound { throw fault(key, error) }  // deleted meanwhile
      }
    }
    return out
  }

  private func collect(_ directory: String, into keys: inout [String]) throws(Errno) {
    let names: [String]
    do throws(Errno) {
      names = try world.files.list(directory.isEmpty ? root : root + "/" + directory)
    } catch {
      switch error.code {
      case ENOENT: return
      case ENOTDIR:
        keys.append(directory)
        return
      default: throw error
      }
    }
    for name in names where !name.hasPrefix(".") {
      try collect(directory.isEmpty ? name : directory + "/" + name, into: &keys)
    }
  }

  private func fault(_ key: String, _ error: Errno) -> StoreError {
    switch error.code {
    case ENOENT, ENOTDIR, EISDIR: .notFound(key: key)
    case ENOSPC, EDQUOT, EACCES, EPERM, EROFS, ENAMETOOLONG: .refused(key: key, detail: "\(error)")
    default: .unknown(key: key, detail: "\(error)")
    }
  }
}
