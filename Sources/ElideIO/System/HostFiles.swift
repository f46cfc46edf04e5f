import CElide
import Glibc

/// `Files` over the system. Holds no state: descriptors are the file identifiers.
package final class HostFiles: Files {
  package init() {}

  /// Repeats a call that a signal interrupted; -1 becomes the error.
  @inline(__always)
  private func checked<T: SignedInteger>(_ call: () -> T) throws(Errno) -> T {
    while true {
      let result = call()
      if result >= 0 { return result }
      let error = Errno.current
      if error.code != EINTR { throw error }
    }
  }

  package func open(_ path: String, _ mode: OpenMode) throws(Errno) -> FileID {
    let flags: Int32 =
      switch mode {
      case .read: O_RDONLY
      case .readWrite: O_RDWR
      case .create: O_RDWR | O_CREAT
      case .createNew: O_RDWR | O_CREAT | O_EXCL
      }
    return FileID(raw: try checked { Glibc.open(path, flags | O_CLOEXEC, 0o600) })
  }

  package func close(_ file: FileID) { _ = Glibc.close(file.raw) }

  /// Where a transfer starts, as the system counts: offsets beyond it come from damaged formats.
  @inline(__always)
  private func position(_ offset: UInt64) throws(Errno) -> off_t {
    guard offset < 1 << 62 else { throw Errno.invalid }
    return off_t(offset)
  }

  package func read(_ file: FileID, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
    let start = try position(offset)
    var done = 0
    while done < buffer.count {
      let n = try checked { pread(file.raw, buffer.baseAddress! + done, buffer.count - done, start + off_t(done)) }
      if n == 0 { break }
      done += n
    }
    return done
  }

  package func write(_ file: FileID, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64) throws(Errno) {
    var position = try position(offset)
    var index = 0
    var skip = 0  // bytes of vectors[index] already written
    while true {
      while index < vectors.count, vectors[index].iov_len == skip {
        index += 1
        skip = 0
      }
      if index == vectors.count { return }
      var n: Int
      if skip == 0 {
        let count = min(vectors.count - index, 1024)  // IOV_MAX
        n = try checked { pwritev(file.raw, vectors.baseAddress! + index, Int32(count), position) }
      } else {
        // A short write ended inside a vector: finish that one alone, then go on with the rest.
        let v = vectors[index]
        n = try checked { pwrite(file.raw, v.iov_base! + skip, v.iov_len - skip, position) }
      }
      if n == 0 { throw Errno.io }
      position += off_t(n)
      while n > 0 {
        let step = min(n, vectors[index].iov_len - skip)
        n -= step
        skip += step
        if skip == vectors[index].iov_len {
          index += 1
          skip = 0
        }
      }
    }
  }

  package func size(_ file: FileID) throws(Errno) -> UInt64 {
    var info = stat()
    _ = try checked { fstat(file.raw, &info) }
    if info.st_mode & S_IFMT == S_IFDIR { throw Errno(EISDIR) }
    return UInt64(info.st_size)
  }

  package func allocate(_ file: FileID, size: UInt64) throws(Errno) {
    let size = try position(size)
    do throws(Errno) {
      _ = try checked { elide_fallocate(file.raw, Int64(size)) }
    } catch {
      guard error.code == EOPNOTSUPP else { throw error }
      // A file system without fallocate: posix_fallocate writes zeros.
      let code = posix_fallocate(file.raw, 0, size)
      if code != 0 { throw Errno(code) }
    }
  }

  package func truncate(_ file: FileID, size: UInt64) throws(Errno) {
    let size = try position(size)
    _ = try checked { ftruncate(file.raw, size) }
  }

  package func sync(_ file: FileID) throws(Errno) { _ = try checked { fdatasync(file.raw) } }

  package func startWriteback(_ file: FileID, offset: UInt64, length: UInt64) {
    elide_start_writeback(file.raw, Int64(clamping: offset), Int64(clamping: length))
  }

  package func dropCache(_ file: FileID) { _ = posix_fadvise(file.raw, 0, 0, POSIX_FADV_DONTNEED) }

  package func isLinked(_ file: FileID) throws(Errno) -> Bool {
    var info = stat()
    _ = try checked { fstat(file.raw, &info) }
    return info.st_nlink > 0
  }

  package func view(_ file: FileID, length: Int) -> UnsafeRawPointer? {
    elide_catch_bus_errors()
    guard let address = mmap(nil, length, PROT_READ, MAP_SHARED, file.raw, 0), address != MAP_FAILED else { return nil }
    return UnsafeRawPointer(address)
  }

  package func endView(_ address: UnsafeRawPointer, length: Int) {
    _ = munmap(UnsafeMutableRawPointer(mutating: address), length)
  }

  package func makeDirectory(_ path: String) throws(Errno) {
    if mkdir(path, 0o700) == 0 { return }
    switch Errno.current.code {
    case EEXIST:
      var info = stat()
      if stat(path, &info) == 0 && info.st_mode & S_IFMT != S_IFDIR { throw Errno(ENOTDIR) }
    case ENOENT:
      let parent = parentDirectory(path)
      if parent == path || parent == "." { throw Errno.notFound }
      try makeDirectory(parent)
      if mkdir(path, 0o700) != 0 && Errno.current != .exists { throw Errno.current }
    case let code: throw Errno(code)
    }
  }

  package func syncDirectory(_ path: String) throws(Errno) {
    let fd = try checked { Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    defer { _ = Glibc.close(fd) }
    _ = try checked { fsync(fd) }
  }

  package func rename(_ from: String, to: String) throws(Errno) { _ = try checked { Glibc.rename(from, to) } }
  package func link(_ from: String, to: String) throws(Errno) { _ = try checked { Glibc.link(from, to) } }
  package func remove(_ path: String) throws(Errno) {
    do throws(Errno) { _ = try checked { Glibc.unlink(path) } } catch {
      guard error.code == EISDIR else { throw error }
      _ = try checked { rmdir(path) }
    }
  }

  package func list(_ path: String) throws(Errno) -> [String] {
    guard let directory = opendir(path) else { throw Errno.current }
    defer { closedir(directory) }
    var names: [String] = []
    while true {
      errno = 0
      guard let entry = readdir(directory) else {
        // The end and an error look alike but for errno, and a list that ends early would pass for a whole one.
        if errno != 0 { throw Errno.current }
        break
      }
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  package func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  package func hold(_ file: FileID, alone: Bool) throws(Errno) -> Bool {
    while flock(file.raw, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0 {
      let error = Errno.current
      if error.code == EWOULDBLOCK { return false }
      if error.code != EINTR { throw error }
    }
    return true
  }

  package func lock(_ path: String) throws(Errno) -> FileID? {
    let file = try open(path, .create)
    while true {
      if flock(file.raw, LOCK_EX | LOCK_NB) == 0 { return file }
      let error = Errno.current
      if error.code == EINTR { continue }
      close(file)
      if error.code == EWOULDBLOCK { return nil }
      throw error
    }
  }
}
