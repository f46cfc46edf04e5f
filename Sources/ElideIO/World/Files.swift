import Glibc

/// An open file of a `Files`. A plain number (the descriptor in production), so that it can be copied on the I/O path
/// without reference counting; who opened it closes it, once.
package struct FileID: Equatable, Hashable, Sendable {
  package let raw: Int32
  @inlinable package init(raw: Int32) { self.raw = raw }
  package static let none = FileID(raw: -1)
}

package enum OpenMode: Sendable {
  /// Must exist; reads only.
  case read
  /// Must exist; reads and writes.
  case readWrite
  /// Made if absent, kept if present.
  case create
  /// Must not exist (`EEXIST` otherwise).
  case createNew
}

/// Files and directories, with just the operations whose crash meaning the engine relies on:
///
/// - Bytes written are visible to readers at once, and survive a process kill; they survive power loss only after
///   `sync` of that file, and until then any subset of 512-byte sectors may have reached the disk.
/// - Names (create, rename, link, remove) survive power loss only after `syncDirectory` of the directory that holds
///   them; a file's own size counts as data.
/// - After `sync` failed, nothing may be assumed of what was written since the last success; it is not retried.
///
/// Paths are absolute, or relative to the process. Errors are `Errno`s as the system gave them; `EINTR` and short
/// transfers are dealt with inside, except that `read` returns short at the end of the file.
package protocol Files: AnyObject, Sendable {
  func open(_ path: String, _ mode: OpenMode) throws(Errno) -> FileID
  func close(_ file: FileID)

  /// Reads up to `buffer.count` bytes at `offset`; fewer only at the end of the file.
  func read(_ file: FileID, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int
  /// Writes all bytes of all vectors, in order, starting at `offset`. On error any part may have been written.
  func write(_ file: FileID, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64) throws(Errno)

  func size(_ file: FileID) throws(Errno) -> UInt64
  /// Reserves disk space for [0, size) and extends the file to it; the new bytes read as zeros.
  func allocate(_ file: FileID, size: UInt64) throws(Errno)
  func truncate(_ file: FileID, size: UInt64) throws(Errno)
  /// Makes the file's data and size durable (fdatasync).
  func sync(_ file: FileID) throws(Errno)
  /// Starts write-back of a range without waiting for it. A hint: no error, no promise.
  func startWriteback(_ file: FileID, offset: UInt64, length: UInt64)
  /// Drops clean cached pages, so that the next read sees what the disk holds. A hint in production.
  func dropCache(_ file: FileID)
  /// Whether the file still has a name: false once the last was removed, or given to another file.
  func isLinked(_ file: FileID) throws(Errno) -> Bool
  /// Maps [0, length) for `elide_copy_matching`, the one reader that survives a disk that fails under a mapping; anything else
  /// that touches it may end the process. nil where files are read by `read` only, as simulated ones are, so that every fault
  /// is seen. Valid until `endView`, even after `close` and `remove`.
  func view(_ file: FileID, length: Int) -> UnsafeRawPointer?
  func endView(_ address: UnsafeRawPointer, length: Int)

  func makeDirectory(_ path: String) throws(Errno)  // parents too; success when it exists
  func syncDirectory(_ path: String) throws(Errno)
  func rename(_ from: String, to: String) throws(Errno)
  /// Hard link; `EEXIST` when `to` exists. The put-if-absent of a directory.
  func link(_ from: String, to: String) throws(Errno)
  /// Removes a file, or a directory that is empty.
  func remove(_ path: String) throws(Errno)
  /// Names in a directory, sorted, without "." and "..".
  func list(_ path: String) throws(Errno) -> [String]
  func exists(_ path: String) -> Bool

  /// Marks the open file as in use (flock on the descriptor itself): together with others that say the same, or, with
  /// `alone`, by nobody else at all, in this process or another. Held until `close`, or until said anew. False when it is not to
  /// be had now; an error where the file system knows no such thing.
  func hold(_ file: FileID, alone: Bool) throws(Errno) -> Bool

  /// Takes an exclusive lock (flock) on `path`, made if absent; nil when another process holds it. Held until `close`.
  func lock(_ path: String) throws(Errno) -> FileID?
}

extension Files {
  package func view(_ file: FileID, length: Int) -> UnsafeRawPointer? { nil }
  package func endView(_ address: UnsafeRawPointer, length: Int) {}
  package func hold(_ file: FileID, alone: Bool) throws(Errno) -> Bool { throw Errno(EOPNOTSUPP) }

  /// Writes one buffer; see `write(_:_:at:)`.
  package func write(_ file: FileID, _ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
    var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
    try withUnsafePointer(to: &vector) { (p) throws(Errno) in
      try write(file, UnsafeBufferPointer(start: p, count: 1), at: offset)
    }
  }

  /// Reads exactly [offset, offset+count), or throws `EIO` when the file is shorter.
  package func readBytes(_ file: FileID, at offset: UInt64, count: Int) throws(Errno) -> [UInt8] {
    // Not even memory for what the file cannot hold: counts may come from damaged headers.
    if count > 1 << 20, try size(file) < UInt64(count) { throw Errno.io }
    var bytes = [UInt8](repeating: 0, count: count)
    let got = try bytes.withUnsafeMutableBufferPointer { (b) throws(Errno) in
      try read(file, into: UnsafeMutableRawBufferPointer(b), at: offset)
    }
    if got != count { throw Errno.io }
    return bytes
  }

  /// Reads a whole file of at most `limit` bytes; larger ones throw `EFBIG`.
  package func readFile(_ path: String, limit: Int = 1 << 30) throws(Errno) -> [UInt8] {
    let file = try open(path, .read)
    defer { close(file) }
    let size = try size(file)
    if size > UInt64(limit) { throw Errno(EFBIG) }
    return try readBytes(file, at: 0, count: Int(size))
  }

  /// Replaces `path` as a whole, durably: temporary beside it, sync, rename, directory sync. One caller per path at a time.
  package func replaceFile(_ path: String, with bytes: [UInt8]) throws(Errno) {
    let temporary = path + ".tmp"
    do throws(Errno) {
      try writeSynced(temporary, .create, bytes)
      try rename(temporary, to: path)
    } catch {
      try? remove(temporary)
      throw error
    }
    try syncDirectory(parentDirectory(path))
  }

  private func writeSynced(_ path: String, _ mode: OpenMode, _ bytes: [UInt8]) throws(Errno) {
    let file = try open(path, mode)
    defer { close(file) }
    try truncate(file, size: 0)
    try bytes.withUnsafeBufferPointer { (b) throws(Errno) in try write(file, UnsafeRawBufferPointer(b), at: 0) }
    try sync(file)
  }

  /// Makes `path` with `bytes`, durably and all at once, unless it exists: then false, and nothing changes. Exactly one of
  /// any number of racing callers gets true. `temporary` is a name in the same file system that nobody else uses.
  package func createFile(_ path: String, with bytes: [UInt8], temporary: String) throws(Errno) -> Bool {
    defer { try? remove(temporary) }
    try writeSynced(temporary, .createNew, bytes)
    var made = true
    do throws(Errno) { try link(temporary, to: path) } catch {
      guard error == .exists else { throw error }
      made = false
    }
    try syncDirectory(parentDirectory(path))
    return made
  }

  /// Makes a directory and the missing ones above it, each durable in its parent.
  package func makeDirectoryDurably(_ path: String) throws(Errno) {
    let parent = parentDirectory(path)
    if exists(path) || parent == path { return try makeDirectory(path) }
    try makeDirectoryDurably(parent)
    try makeDirectory(path)
    try syncDirectory(parent)
  }
}

/// The directory part of a path; "." when there is none.
package func parentDirectory(_ path: String) -> String {
  guard let slash = path.lastIndex(of: "/") else { return "." }
  return slash == path.startIndex ? "/" : String(path[..<slash])
}
