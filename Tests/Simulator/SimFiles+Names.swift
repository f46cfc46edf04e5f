import ElideIO
import Glibc

// Names: create, rename, link and remove are seen at once, and are on disk after `syncDirectory`.
extension SimFiles {
  private func parts(_ path: String) -> [Substring] { path.split(separator: "/") }

  /// The directory that holds the last component of a path, and that component.
  func resolve(_ path: String) throws(Errno) -> (SimDirectory, String) {
    if faults.isCrashed { throw .crashed }
    let parts = parts(path)
    guard let last = parts.last else { throw Errno(EISDIR) }
    return (try walk(parts.dropLast()), String(last))
  }

  private func walk(_ parts: some Sequence<Substring>) throws(Errno) -> SimDirectory {
    var directory = root
    for part in parts {
      switch directory.visible[String(part)] {
      case .directory(let next): directory = next
      case .file: throw Errno(ENOTDIR)
      case nil: throw .notFound
      }
    }
    return directory
  }

  package func makeDirectory(_ path: String) throws(Errno) {
    if faults.isCrashed { throw .crashed }
    var directory = root
    for part in parts(path) {
      let name = String(part)
      switch directory.visible[name] {
      case .directory(let next): directory = next
      case .file: throw Errno(ENOTDIR)
      case nil:
        let phase = try enter("makeDirectory", name.utf8.allSatisfy { $0 >= 97 && $0 <= 122 } ? name : "")
        let next = SimDirectory()
        directory.change(.init(names: [(name, .directory(next))]))
        if phase != nil { throw .crashed }
        directory = next
      }
    }
  }

  package func syncDirectory(_ path: String) throws(Errno) {
    if faults.isCrashed { throw .crashed }
    let directory = try walk(parts(path))
    let phase: CrashPhase?
    do { phase = try enter("syncDirectory", Self.place(path + "/x")) } catch {
      if error != .crashed { directory.failSync(&random) }
      throw error
    }
    if phase == .partly { throw .crashed }
    directory.sync()
    if phase != nil { throw .crashed }
  }

  package func rename(_ from: String, to: String) throws(Errno) {
    let (source, old) = try resolve(from)
    let (target, new) = try resolve(to)
    let phase = try enter("rename", Self.place(to))
    guard let node = source.visible[old] else { throw .notFound }
    if source === target {
      if old != new { source.change(.init(names: [(new, node), (old, nil)])) }
    } else {
      let order = target.change(.init(names: [(new, node)]))
      source.change(.init(names: [(old, nil)], companion: (target, new, node, order)))
    }
    if phase != nil { throw .crashed }
  }

  package func link(_ from: String, to: String) throws(Errno) {
    let (source, old) = try resolve(from)
    let (target, new) = try resolve(to)
    let phase = try enter("link", Self.place(to))
    guard let node = source.visible[old] else { throw .notFound }
    if target.visible[new] != nil { throw .exists }
    target.change(.init(names: [(new, node)]))
    if phase != nil { throw .crashed }
  }

  package func remove(_ path: String) throws(Errno) {
    let (directory, name) = try resolve(path)
    let phase = try enter("remove", Self.place(path))
    switch directory.visible[name] {
    case nil: throw .notFound
    case .directory(let inner) where !inner.visible.isEmpty: throw Errno(ENOTEMPTY)
    default: directory.change(.init(names: [(name, nil)]))
    }
    if phase != nil { throw .crashed }
  }

  package func list(_ path: String) throws(Errno) -> [String] {
    if faults.isCrashed { throw .crashed }
    let directory = try walk(parts(path))
    if try enter("list", Self.place(path + "/x")) != nil { throw .crashed }
    return directory.names
  }

  package func exists(_ path: String) -> Bool {
    guard let (directory, name) = try? resolve(path) else { return false }
    return directory.visible[name] != nil
  }

  /// For tests: what the disk holds of a file now; nil when its name is not there for readers.
  package func onDisk(_ path: String) -> [UInt8]? {
    guard let (directory, name) = try? resolve(path), case .file(let inode) = directory.visible[name] else { return nil }
    return inode.onDisk
  }
}
