import ElideIO
import Glibc
import Synchronization
import Testing

@Suite struct LocalStoreTests {
  let directory: TemporaryDirectory
  let files = TracedFiles()
  let clock = StillClock(1_800_000_000_000)
  let world: World
  let store: LocalStore

  init() throws {
    directory = try TemporaryDirectory()
    world = World(clock: clock, random: SeededRandom(1), files: files)
    store = try LocalStore(root: directory / "store", world: world)
  }

  private func putIfAbsent(_ store: LocalStore, _ key: String, _ bytes: [UInt8]) throws(StoreError) -> PutOutcome {
    try bytes.withUnsafeBufferPointer { (b) throws(StoreError) in
      try store.putIfAbsent(key, UnsafeRawBufferPointer(b))
    }
  }
  private func make(_ path: String) throws { world.files.close(try world.files.open(path, .create)) }

  @Test func putsOnceAndReadsBack() throws {
    #expect(try putIfAbsent(store, "a/b/c", [1, 2, 3]) == .created)
    #expect(try putIfAbsent(store, "a/b/c", [9]) == .exists)
    #expect(try store.get("a/b/c", range: nil) == [1, 2, 3])
    #expect(try store.get("a/b/c", range: 1..<2) == [2])
    #expect(try store.get("a/b/c", range: 2..<100) == [3])
    #expect(try store.get("a/b/c", range: 50..<UInt64.max) == [])
    try store.put("a/b/c", parts: [[7], [], [8, 9]])
    #expect(try store.get("a/b/c", range: nil) == [7, 8, 9])
  }

  /// The order that a power cut asks for: bytes before the name, each name before the report.
  @Test func syncsBytesBeforeTheNameAndTheNameBeforeTheReport() throws {
    _ = try putIfAbsent(store, "x/first", [0])
    files.clear()
    _ = try putIfAbsent(store, "new/deep/key", [1])
    #expect(
      files.calls == [
        "mkdir new", "syncdir store", "mkdir deep", "syncdir new", "open T", "write T", "sync T", "link T key",
        "syncdir deep", "remove T",
      ])
    files.clear()
    #expect(try putIfAbsent(store, "new/deep/key", [1]) == .exists)
    #expect(files.calls.contains("syncdir deep"), "the loser may act on what it found")
    files.clear()
    try store.put("new/deep/other", parts: [[1], [2]])
    #expect(files.calls == ["open T", "write T", "write T", "sync T", "rename T other", "syncdir deep"])
    files.clear()
    try store.delete("new/deep/other")
    try store.delete("new/deep/other")
    #expect(files.calls == ["remove other", "syncdir deep", "remove other", "syncdir deep"])
  }

  @Test func makesTheRootDurably() throws {
    files.clear()
    _ = try LocalStore(root: directory / "p/q", world: world)
    let above = String(directory.path.split(separator: "/")[1])
    #expect(files.calls == ["mkdir \(above)", "mkdir p", "syncdir \(above)", "mkdir q", "syncdir p"])
  }

  @Test func missingRootIsNotAnEmptyStore() {
    #expect(throws: StoreError.self) { try LocalStore(root: directory / "typo", world: world, create: false) }
    #expect(!files.exists(directory / "typo"))
  }

  /// Each call in turn fails, for each kind of put: what the answer promises must hold.
  /// As when the disk that a store is on was unmounted under a running process.
  @Test func aStoreThatHasVanishedIsNotBegunAnew() throws {
    _ = try putIfAbsent(store, "elide.toml", [1])
    _ = try putIfAbsent(store, "a/b", [2])
    let (root, away) = (directory / "store", directory / "away")
    try files.rename(root, to: away)
    try files.makeDirectory(root)
    for key in ["a/b", "a/c", "d"] {
      #expect(throws: StoreError.unknown(key: key, detail: "file://\(root) has no elide.toml any more: is its disk mounted?")) {
        try store.put(key, parts: [[3]])
      }
    }
    #expect(try files.list(root) == [])
    try files.remove(root)
    try files.rename(away, to: root)
    try store.put("a/b", parts: [[3]])
    #expect(try store.get("a/b", range: nil) == [3])
  }

  @Test(arguments: [Errno.io, Errno.noSpace, Errno.notFound], [true, false])
  func everyFailureIsToldRight(error: Errno, conditional: Bool) throws {
    var failures = 0
    for n in 0..<100 {
      let key = "k/d\(n)/object"
      files.fail(after: n, error)
      let before = files.callCount
      var told: StoreError?
      do throws(StoreError) {
        if conditional { _ = try putIfAbsent(store, key, [1, 2, 3, 4]) } else { try store.put(key, parts: [[1, 2], [3, 4]]) }
      } catch {
        told = error
      }
      let calls = files.callCount - before
      files.fail(after: nil, error)
      if calls <= n { break }
      let found = try? store.get(key, range: nil)
      switch told {
      case nil: #expect(found == [1, 2, 3, 4])
      case .refused: #expect(found == nil, "refused, but there: call \(n)")
      case .unknown: #expect(found == nil || found == [1, 2, 3, 4])
      default: Issue.record("\(String(describing: told)) for a put")
      }
      if told != nil { failures += 1 }
      // Whatever happened, putting the same bytes again succeeds.
      _ = try putIfAbsent(store, key, [1, 2, 3, 4])
      #expect(try store.get(key, range: nil) == [1, 2, 3, 4])
    }
    #expect(failures >= 6)
  }

  /// Each store has its own state, so threads with a store each race as processes do: in the file system alone.
  @Test func oneOfManyRacersWins() throws {
    let root = directory / "store"
    let wins = Mutex([String: [Int]]())
    try onThreads(8) { racer in
      guard let store = try? LocalStore(root: root, world: .host()) else { return }
      for round in 0..<20 {
        let key = "race/r\(round)/slot"
        if (try? self.putIfAbsent(store, key, [UInt8](repeating: UInt8(racer), count: 1000))) == .created {
          wins.withLock { $0[key, default: []].append(racer) }
        }
        // Winner or loser, each sees the winner's whole object.
        let seen = (try? store.get(key, range: nil)) ?? []
        #expect(seen.count == 1000 && Set(seen).count == 1)
      }
    }
    let all = wins.withLock { $0 }
    #expect(all.count == 20)
    for (key, winners) in all {
      #expect(winners.count == 1)
      #expect(try store.get(key, range: nil)[0] == UInt8(winners[0]))
    }
    #expect(try files.list(root + "/.tmp").isEmpty)
  }

  @Test func listsInByteOrder() throws {
    for key in ["b", "a/z", "a-x", "a/b/c", "a.b", "a/B"] { _ = try putIfAbsent(store, key, [1]) }
    func keys(_ prefix: String, after: String? = nil, limit: Int = 100) throws -> [String] {
      try store.list(prefix, after: after, limit: limit).map { $0.key }
    }
    #expect(try keys("") == ["a-x", "a.b", "a/B", "a/b/c", "a/z", "b"])
    #expect(try keys("a/") == ["a/B", "a/b/c", "a/z"])
    #expect(try keys("a/b") == ["a/b/c"])
    #expect(try keys("a/", after: "a/B", limit: 1) == ["a/b/c"])
    #expect(try keys("nothing/here/") == [])
    #expect(try keys("a/z/") == [])
    #expect(try store.list("a/z", after: nil, limit: 1) == [StoredObject(key: "a/z", size: 1)])
    #expect(throws: StoreError.self) { try keys("../") }
  }

  @Test func neverListsWhatIsNoKey() throws {
    _ = try putIfAbsent(store, "a/b", [1])
    let root = directory / "store"
    for name in ["/.tmp/x", "/a/.hidden", "/a/b~", "/a/with space"] { try make(root + name) }
    try world.files.makeDirectory(root + "/lost+found")
    #expect(try store.list("", after: nil, limit: 10).map { $0.key } == ["a/b"])
  }

  @Test func deletesWhatMayBeGone() throws {
    _ = try putIfAbsent(store, "a/b", [1])
    try store.delete("a/b")
    try store.delete("a/b")
    try store.delete("a")  // a directory: no object
    try store.delete("x/y/z")
    #expect(throws: StoreError.notFound(key: "a/b")) { try store.get("a/b", range: nil) }
    #expect(throws: StoreError.notFound(key: "a")) { try store.get("a", range: 0..<0) }
    _ = try putIfAbsent(store, "f", [1])
    #expect(throws: StoreError.notFound(key: "f/below")) { try store.get("f/below", range: nil) }
    #expect(throws: StoreError.self) { try putIfAbsent(store, "f/below", [1]) }
    #expect(throws: StoreError.refused(key: "a", detail: "other keys lie below this one")) {
      try putIfAbsent(store, "a", [1])
    }
  }

  @Test(arguments: ["", "/a", "a/", "a//b", "..", "a/../b", ".", ".tmp/x", "a b", "ä", "a\u{0}b", "a\nb"])
  func refusesBadKeys(key: String) {
    for attempt in 0..<4 {
      #expect {
        switch attempt {
        case 0: _ = try putIfAbsent(store, key, [1])
        case 1: try store.put(key, parts: [[1]])
        case 2: _ = try store.get(key, range: nil)
        default: try store.delete(key)
        }
      } throws: {
        if case .refused? = $0 as? StoreError { true } else { false }
      }
    }
    #expect(throws: StoreError.self) { try store.get(String(repeating: "a", count: 513), range: nil) }
  }

  @Test func removesOnlyOldTemporaries() throws {
    let root = directory / "store"
    let now = clock.wallMilliseconds()
    _ = try putIfAbsent(store, "a", [1])
    let old = ULID(high: (now - 86_400_001) << 16, low: 1).description
    let young = ULID(high: (now - 86_399_000) << 16, low: 1).description
    for name in [old, young, "somebody-elses"] { try make(root + "/.tmp/" + name) }
    _ = try LocalStore(root: root, world: world)
    #expect(try files.list(root + "/.tmp") == [young, "somebody-elses"].sorted())
  }

  @Test func countsRequests() throws {
    _ = try putIfAbsent(store, "a", [1, 2])
    _ = try store.get("a", range: 0..<1)
    _ = try? store.get("b", range: nil)
    _ = try store.list("", after: nil, limit: 1)
    try store.delete("a")
    let c = store.counters
    #expect([c.puts, c.gets, c.lists, c.deletes, c.bytesWritten, c.bytesRead] == [1, 2, 1, 1, 2, 1])
    #expect(c.requests == 5)
  }

  @Test(.enabled(if: SmallDisk.available, "mounting a small disk needs root"))
  func fullDiskRefusesAndLeavesNothing() throws {
    let disk = try #require(SmallDisk(kilobytes: 256))
    let store = try LocalStore(root: disk.path, world: .host())
    let big = [UInt8](repeating: 7, count: 1 << 20)
    for _ in 0..<3 {
      #expect(throws: StoreError.refused(key: "big", detail: Errno.noSpace.description)) { try putIfAbsent(store, "big", big) }
      #expect(throws: StoreError.refused(key: "big", detail: Errno.noSpace.description)) { try store.put("big", parts: [big]) }
    }
    #expect(try putIfAbsent(store, "small", [UInt8](repeating: 1, count: 100_000)) == .created)
    #expect(try store.list("", after: nil, limit: 9).map { $0.key } == ["small"])
  }

  @Test(.enabled(if: SmallDisk.available, "mounting a small disk needs root"))
  func readOnlyDiskCanBeRead() throws {
    let disk = try #require(SmallDisk(kilobytes: 256))
    _ = try putIfAbsent(try LocalStore(root: disk.path, world: .host()), "a/b", [1])
    try #require(disk.makeReadOnly())
    let store = try LocalStore(root: disk.path, world: .host(), create: false)
    #expect(try store.get("a/b", range: nil) == [1])
    #expect(throws: StoreError.refused(key: "a/c", detail: Errno(EROFS).description)) { try putIfAbsent(store, "a/c", [1]) }
    #expect(throws: StoreError.refused(key: "a/b", detail: Errno(EROFS).description)) { try store.delete("a/b") }
  }
}

@Suite struct StoreURLTests {
  @Test func parses() throws {
    #expect(try StoreURL("file:///srv/store/") == .directory("/srv/store"))
    #expect(
      try StoreURL("s3://bucket/some/prefix?endpoint=http://h:1&region=r&path-style=1")
        == .s3(
          bucket: "bucket", prefix: "some/prefix", parameters: ["endpoint": "http://h:1", "region": "r", "path-style": "1"]))
  }

  @Test(arguments: ["", "/srv/store", "file://srv/store", "s3://", "s3:///x", "s3://b?secret=1", "http://x", "file:"])
  func refuses(text: String) {
    #expect(throws: StoreURL.Malformed.self) { try StoreURL(text) }
  }

  @Test func opens() throws {
    let directory = try TemporaryDirectory()
    let world = World.host()
    #expect(throws: StoreError.self) { try StoreURL("file://" + directory.path + "/none").open(world: world) }
    #expect(try StoreURL("file://" + directory.path).open(world: world).url == "file://" + directory.path)
  }
}
