import ElideIO
import Foundation
import Synchronization

/// A directory that goes away with the value.
final class TemporaryDirectory: Sendable {
  let path: String
  init() throws {
    var template = Array("/tmp/elide-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Errno.current }
    path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  static func / (directory: TemporaryDirectory, name: String) -> String { directory.path + "/" + name }
}

/// A small file system of its own, for disks that are full or read-only; needs root.
final class SmallDisk: Sendable {
  let directory: TemporaryDirectory
  var path: String { directory.path }

  /// nil where mounting is not allowed.
  init?(kilobytes: Int) {
    guard let directory = try? TemporaryDirectory(),
      mount("tmpfs", directory.path, "tmpfs", 0, "size=\(kilobytes)k") == 0
    else { return nil }
    self.directory = directory
  }
  deinit { umount2(path, Int32(MNT_DETACH)) }
  func makeReadOnly() -> Bool { mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), nil) == 0 }

  static let available = SmallDisk(kilobytes: 64) != nil
}

/// Numbers that look random and are the same in each run (SplitMix64).
final class SeededRandom: Randomness, RandomNumberGenerator {
  private let state: Mutex<UInt64>
  init(_ seed: UInt64) { state = Mutex(seed) }
  func next() -> UInt64 {
    state.withLock { s in
      s &+= 0x9E37_79B9_7F4A_7C15
      var z = s
      z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
      return z ^ z >> 31
    }
  }
  func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    for i in buffer.indices { buffer[i] = UInt8(truncatingIfNeeded: next()) }
  }
  func bytes(_ count: Int) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: count)
    out.withUnsafeMutableBytes { fill($0) }
    return out
  }
  func below(_ n: Int) -> Int { Int(next() % UInt64(n)) }
}

/// A clock that stands where it is put.
final class StillClock: Clock {
  let milliseconds: Mutex<UInt64>
  init(_ milliseconds: UInt64) { self.milliseconds = Mutex(milliseconds) }
  func wallMilliseconds() -> UInt64 { milliseconds.withLock { $0 } }
  func monotonicNanoseconds() -> UInt64 { wallMilliseconds() * 1_000_000 }
}

/// Runs `body` on `count` threads at once and waits for all.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws {
  let threads = try (0..<count).map { i in try spawnThread(name: "test-\(i)") { body(i) } }
  for thread in threads { thread.join() }
}

extension Store {
  func putIfAbsent(_ key: String, _ bytes: [UInt8]) throws(StoreError) -> PutOutcome {
    try bytes.withUnsafeBufferPointer { (b) throws(StoreError) in try putIfAbsent(key, UnsafeRawBufferPointer(b)) }
  }
}
