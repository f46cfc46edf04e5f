import ElideIO
import Glibc
import Testing

@Suite struct HostFilesTests {
  let directory: TemporaryDirectory
  let files = HostFiles()
  init() throws { directory = try TemporaryDirectory() }

  @Test func openModes() throws {
    let path = directory / "f"
    #expect(throws: Errno.notFound) { try files.open(path, .read) }
    #expect(throws: Errno.notFound) { try files.open(path, .readWrite) }
    files.close(try files.open(path, .createNew))
    #expect(throws: Errno.exists) { try files.open(path, .createNew) }
    let file = try files.open(path, .create)
    defer { files.close(file) }
    try [UInt8]([1, 2, 3]).withUnsafeBytes { try files.write(file, $0, at: 10) }
    #expect(try files.size(file) == 13)
    files.close(try files.open(path, .create))
    #expect(try files.size(file) == 13, "create keeps what is there")
    var info = stat()
    #expect(stat(path, &info) == 0 && info.st_mode & 0o777 == 0o600, "others may not read")
  }

  /// More vectors than one system call takes, empty ones among them.
  @Test func writesManyVectors() throws {
    let file = try files.open(directory / "f", .createNew)
    defer { files.close(file) }
    var plain = SeededRandom(3).bytes(3000 * 7)
    let wanted = plain
    try plain.withUnsafeMutableBytes { bytes in
      var vectors = (0..<3000).map { iovec(iov_base: bytes.baseAddress! + $0 * 7, iov_len: 7) }
      for i in [3000, 2999, 1024, 1023, 512, 0] { vectors.insert(iovec(iov_base: nil, iov_len: 0), at: i) }
      try vectors.withUnsafeBufferPointer { try files.write(file, $0, at: 5) }
    }
    #expect(try files.readBytes(file, at: 5, count: wanted.count) == wanted)
    try files.write(file, UnsafeBufferPointer(start: nil, count: 0), at: 0)
  }

  @Test func readsEndAtTheEnd() throws {
    let file = try files.open(directory / "f", .createNew)
    defer { files.close(file) }
    try files.truncate(file, size: 100)
    var buffer = [UInt8](repeating: 1, count: 200)
    #expect(try buffer.withUnsafeMutableBytes { try files.read(file, into: $0, at: 40) } == 60)
    #expect(try buffer.withUnsafeMutableBytes { try files.read(file, into: $0, at: 100) } == 0)
    #expect(throws: Errno.io) { try files.readBytes(file, at: 40, count: 61) }
  }

  /// Offsets and counts from damaged headers: an error, and no memory for them.
  @Test func absurdNumbersAreErrors() throws {
    let file = try files.open(directory / "f", .createNew)
    defer { files.close(file) }
    try files.truncate(file, size: 4096)
    #expect(throws: Errno.invalid) { try files.readBytes(file, at: .max, count: 1) }
    #expect(throws: Errno.invalid) { try files.readBytes(file, at: 1 << 63, count: 1) }
    #expect(throws: Errno.io) { try files.readBytes(file, at: 0, count: 1 << 50) }
    #expect(throws: Errno.invalid) { try [UInt8]([1]).withUnsafeBytes { try files.write(file, $0, at: .max) } }
    #expect(throws: Errno.self) { try files.truncate(file, size: .max) }
    #expect(throws: Errno.self) { try files.allocate(file, size: .max) }
    #expect(throws: Errno(EFBIG)) { try files.readFile(directory / "f", limit: 4095) }
    #expect(try files.size(file) == 4096)
  }

  @Test func allocatesAndOutlivesRemoval() throws {
    let path = directory / "f"
    let file = try files.open(path, .createNew)
    try files.allocate(file, size: 8192)
    #expect(try files.readBytes(file, at: 0, count: 8192).allSatisfy { $0 == 0 })
    try [77].withUnsafeBytes { try files.write(file, $0, at: 5000) }
    try files.sync(file)
    files.startWriteback(file, offset: 0, length: 8192)
    files.dropCache(file)
    #expect(try files.isLinked(file))
    // Moved is not gone; written over by another file is.
    try files.rename(path, to: directory / "g")
    #expect(try files.isLinked(file))
    files.close(try files.open(path, .createNew))
    try files.rename(path, to: directory / "g")
    #expect(try !files.isLinked(file))
    #expect(try files.readBytes(file, at: 5000, count: 1) == [77])
    files.close(file)
  }

  @Test func directories() throws {
    let path = directory / "a/b/c"
    try files.makeDirectory(path)
    try files.makeDirectory(path)
    try files.syncDirectory(path)
    for name in ["z", "Z", "a.b", "a-b", "é"] { files.close(try files.open(path + "/" + name, .create)) }
    #expect(try files.list(path) == ["Z", "a-b", "a.b", "z", "é"])
    #expect(throws: Errno(ENOTDIR)) { try files.makeDirectory(path + "/z") }
    #expect(throws: Errno(ENOTDIR)) { try files.list(path + "/z") }
    #expect(throws: Errno.notFound) { try files.list(path + "/none") }
    let handle = try files.open(path, .read)
    defer { files.close(handle) }
    #expect(throws: Errno(EISDIR)) { try files.size(handle) }
  }

  @Test func namesMoveAndLink() throws {
    let (a, b) = (directory / "a", directory / "b")
    try files.replaceFile(a, with: [1])
    try files.link(a, to: b)
    #expect(throws: Errno.exists) { try files.link(a, to: b) }
    try files.replaceFile(a, with: [2, 3])
    #expect(try files.readFile(a) == [2, 3])
    #expect(try files.readFile(b) == [1], "replaced as a whole, not written into")
    try files.rename(a, to: b)
    #expect(!files.exists(a))
    #expect(try files.readFile(b) == [2, 3])
    #expect(try files.createFile(b, with: [9], temporary: directory / "t") == false)
    #expect(try files.createFile(a, with: [9], temporary: directory / "t"))
    #expect(try files.readFile(a) == [9])
    #expect(try files.list(directory.path) == ["a", "b"])
  }

  @Test func replacingSyncsInOrder() throws {
    let traced = TracedFiles()
    try traced.replaceFile(directory / "r", with: [1])
    let above = String(directory.path.split(separator: "/")[1])
    #expect(
      traced.calls == [
        "open r.tmp", "truncate r.tmp", "write r.tmp", "sync r.tmp", "rename r.tmp r", "syncdir \(above)",
      ])
  }

  @Test func oneHolderOfALock() throws {
    let path = directory / "lock"
    let first = try #require(try files.lock(path))
    #expect(try files.lock(path) == nil)
    files.close(first)
    let second = try #require(try files.lock(path))
    files.close(second)
  }

  @Test(.enabled(if: SmallDisk.available, "mounting a small disk needs root"))
  func fullDisk() throws {
    let disk = try #require(SmallDisk(kilobytes: 64))
    let file = try files.open(disk.path + "/f", .createNew)
    defer { files.close(file) }
    let bytes = [UInt8](repeating: 5, count: 200_000)
    // Part of it fits, so the first call is short and a later one fails.
    #expect(throws: Errno.noSpace) { try bytes.withUnsafeBytes { try files.write(file, $0, at: 0) } }
    #expect(throws: Errno.noSpace) { try files.allocate(file, size: 1 << 20) }
    #expect(throws: Errno.noSpace) { try files.replaceFile(disk.path + "/g", with: bytes) }
    #expect(try files.list(disk.path) == ["f"])
  }

  @Test func worldIsReal() {
    let world = World.host()
    #expect(world.clock.wallMilliseconds() > 1_700_000_000_000)
    let a = world.clock.monotonicNanoseconds()
    #expect(world.clock.monotonicNanoseconds() >= a)
    var bytes = [UInt8](repeating: 0, count: 1000)
    bytes.withUnsafeMutableBytes { world.random.fill($0) }
    #expect(Set(bytes).count > 100)
    #expect(parentDirectory("/a/b") == "/a" && parentDirectory("/a") == "/" && parentDirectory("a") == ".")
    #expect(Errno.noSpace.description == "No space left on device")
  }
}
