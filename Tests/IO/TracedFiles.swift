import ElideIO
import Glibc
import Synchronization

/// `HostFiles` with each call that changes or makes durable written down by name, and one call failing if asked.
final class TracedFiles: Files {
  private struct State {
    var calls: [String] = []
    var names: [FileID: String] = [:]
    var count = 0
    var failing: (call: Int, error: Errno)?
  }
  private let host = HostFiles()
  private let state = Mutex(State())

  /// Temporaries, which are named by a ULID, show as T.
  var calls: [String] { state.withLock { $0.calls.map { $0.replacing(/[0-9A-Z]{26}/, with: "T") } } }
  var callCount: Int { state.withLock { $0.count } }
  func clear() { state.withLock { $0.calls = [] } }
  /// The call after `skip` more calls fails with `error`, once, and the system is not asked; nil ends that.
  func fail(after skip: Int?, _ error: Errno) { state.withLock { s in s.failing = skip.map { (s.count + $0, error) } } }

  private func step(_ name: String?) throws(Errno) {
    let error = state.withLock { s -> Errno? in
      defer { s.count += 1 }
      if let failing = s.failing, failing.call == s.count { return failing.error }
      if let name { s.calls.append(name) }
      return nil
    }
    if let error { throw error }
  }
  private func last(_ path: String) -> String { String(path.split(separator: "/").last ?? "/") }
  private func name(_ file: FileID) -> String { state.withLock { $0.names[file] ?? "?" } }

  func open(_ path: String, _ mode: OpenMode) throws(Errno) -> FileID {
    try step(mode == .read ? nil : "open \(last(path))")
    let file = try host.open(path, mode)
    state.withLock { $0.names[file] = last(path) }
    return file
  }
  func close(_ file: FileID) { host.close(file) }
  func read(_ file: FileID, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
    try step(nil)
    return try host.read(file, into: buffer, at: offset)
  }
  func write(_ file: FileID, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64) throws(Errno) {
    try step("write \(name(file))")
    try host.write(file, vectors, at: offset)
  }
  func size(_ file: FileID) throws(Errno) -> UInt64 {
    try step(nil)
    return try host.size(file)
  }
  func allocate(_ file: FileID, size: UInt64) throws(Errno) {
    try step("allocate \(name(file))")
    try host.allocate(file, size: size)
  }
  func truncate(_ file: FileID, size: UInt64) throws(Errno) {
    try step("truncate \(name(file))")
    try host.truncate(file, size: size)
  }
  func sync(_ file: FileID) throws(Errno) {
    try step("sync \(name(file))")
    try host.sync(file)
  }
  func startWriteback(_ file: FileID, offset: UInt64, length: UInt64) {}
  func dropCache(_ file: FileID) {}
  func hold(_ file: FileID, alone: Bool) throws(Errno) -> Bool { try host.hold(file, alone: alone) }
  func isLinked(_ file: FileID) throws(Errno) -> Bool { try host.isLinked(file) }
  func makeDirectory(_ path: String) throws(Errno) {
    try step("mkdir \(last(path))")
    try host.makeDirectory(path)
  }
  func syncDirectory(_ path: String) throws(Errno) {
    try step("syncdir \(last(path))")
    try host.syncDirectory(path)
  }
  func rename(_ from: String, to: String) throws(Errno) {
    try step("rename \(last(from)) \(last(to))")
    try host.rename(from, to: to)
  }
  func link(_ from: String, to: String) throws(Errno) {
    try step("link \(last(from)) \(last(to))")
    try host.link(from, to: to)
  }
  func remove(_ path: String) throws(Errno) {
    try step("remove \(last(path))")
    try host.remove(path)
  }
  func list(_ path: String) throws(Errno) -> [String] {
    try step(nil)
    return try host.list(path)
  }
  func exists(_ path: String) -> Bool { host.exists(path) }
  func lock(_ path: String) throws(Errno) -> FileID? { try host.lock(path) }
}
