import ElideIO
import Glibc
import Synchronization
import Testing

/// What every store must do, the same cases for each: a directory always, and the bucket of `ELIDE_TEST_S3` where a script
/// has started one (`scripts/moto.sh run swift test --filter StoreConformanceTests`, and `scripts/rgw.sh`).
@Suite struct StoreConformanceTests {
  enum Kind: String, CaseIterable, Sendable { case directory, bucket }

  static var kinds: [Kind] { getenv("ELIDE_TEST_S3") == nil ? [.directory] : [.directory, .bucket] }

  /// Stores on the same place, each as another process would have it.
  final class Place: Sendable {
    let open: @Sendable () throws -> any Store
    init(_ kind: Kind) throws {
      switch kind {
      case .directory:
        let directory = try TemporaryDirectory()
        open = { try LocalStore(root: directory / "store", world: .host()) }
      case .bucket:
        let world = World.host()
        let url = String(cString: try #require(getenv("ELIDE_TEST_S3")))
        // A prefix of its own; and pages so short that lists have several.
        guard case .s3(let bucket, _, let parameters) = try StoreURL(url) else { throw Errno.invalid }
        let prefix = "conformance/\(ULID(clock: world.clock, random: world.random))"
        let environment = AWSEnvironment(files: world.files) { name in getenv(name).map { String(cString: $0) } }
        var settings = try S3Settings(bucket: bucket, prefix: prefix, parameters: parameters, environment: environment)
        settings.listPage = 7
        let fixed = settings
        open = { try S3Store(fixed, environment: environment, world: world) }
      }
    }
  }

  @Test(arguments: kinds) func putsOnceAndReadsBack(kind: Kind) throws {
    let store = try Place(kind).open()
    #expect(try store.putIfAbsent("a/b/c", [1, 2, 3]) == .created)
    #expect(try store.putIfAbsent("a/b/c", [9]) == .exists)
    #expect(try store.putIfAbsent("a/b/c", [1, 2, 3]) == .exists)
    #expect(try store.get("a/b/c", range: nil) == [1, 2, 3])
    try store.put("a/b/c", parts: [[7], [], [8, 9]])
    #expect(try store.get("a/b/c", range: nil) == [7, 8, 9])
    #expect(try store.putIfAbsent("a/b/c", [1]) == .exists)
    let counters = store.counters
    #expect(counters.puts == 5 && counters.gets == 2)
  }

  @Test(arguments: kinds) func rangesAreCutAtTheEnd(kind: Kind) throws {
    let store = try Place(kind).open()
    try store.put("r", parts: [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    for (range, want): (Range<UInt64>, [UInt8]) in [
      (0..<10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), (0..<1, [0]), (9..<10, [9]), (3..<6, [3, 4, 5]), (8..<100, [8, 9]),
      (8..<UInt64.max, [8, 9]), (10..<11, []), (50..<UInt64.max, []), (4..<4, []), (10..<10, []), (99..<99, []),
    ] {
      #expect(try store.get("r", range: range) == want, "\(range)")
    }
    try store.put("empty", parts: [])
    #expect(try store.get("empty", range: 0..<100) == [])
    #expect(try store.get("empty", range: nil) == [])
  }

  @Test(arguments: kinds, [1, 4096, 65_537, 1 << 20, (9 << 20) + 5])
  func everySizeComesBack(kind: Kind, size: Int) throws {
    let store = try Place(kind).open()
    // Random enough: a stretch of 64 KiB and one byte, over and over.
    let stretch = SeededRandom(UInt64(size)).bytes(min(size, 65_537))
    let bytes = Array((0..<size / stretch.count + 1).map { _ in stretch }.joined().prefix(size))
    let cut = size / 3
    try store.put("parts", parts: [Array(bytes[..<cut]), [], Array(bytes[cut...])])
    #expect(try store.get("parts", range: nil) == bytes)
    #expect(try store.putIfAbsent("whole", bytes) == .created)
    #expect(try store.get("whole", range: nil) == bytes)
    #expect(try store.get("whole", range: UInt64(cut)..<UInt64(size)) == Array(bytes[cut...]))
  }

  @Test(arguments: kinds) func whatIsNotThere(kind: Kind) throws {
    let store = try Place(kind).open()
    #expect(throws: StoreError.notFound(key: "no/thing")) { try store.get("no/thing", range: nil) }
    #expect(throws: StoreError.notFound(key: "no/thing")) { try store.get("no/thing", range: 0..<10) }
    #expect(throws: StoreError.notFound(key: "no/thing")) { try store.get("no/thing", range: 0..<0) }
    #expect(try store.list("no/", after: nil, limit: 10) == [])
    try store.delete("no/thing")
    try store.put("thing", parts: [[1]])
    try store.delete("thing")
    #expect(throws: StoreError.notFound(key: "thing")) { try store.get("thing", range: nil) }
    #expect(try store.list("", after: nil, limit: 10) == [])
    try store.delete("thing")
    #expect(try store.putIfAbsent("thing", [2]) == .created)
  }

  @Test(arguments: kinds) func listsInOrderAndInPages(kind: Kind) throws {
    let store = try Place(kind).open()
    // Orders that differ between bytes, characters and directories: "-" < "." < "/" < "0" < "A" < "_" < "a".
    var keys = (0..<23).map { "l/k\($0)" }
    keys += ["l/a-b", "l/a.b", "l/a/b", "l/a0b", "l/aAb", "l/a_b", "l/aab", "l.x", "l0", "m/1", "l/A-Z_0.9"]
    for (i, key) in keys.enumerated() { try store.put(key, parts: [[UInt8](repeating: 1, count: i)]) }
    let sizes = Dictionary(uniqueKeysWithValues: keys.enumerated().map { ($1, UInt64($0)) })
    func expected(_ prefix: String, after: String? = nil, limit: Int = 1000) -> [StoredObject] {
      let found = keys.filter { key in
        key.hasPrefix(prefix) && (after.map { $0.utf8.lexicographicallyPrecedes(key.utf8) } ?? true)
      }
      return found.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }.prefix(limit)
        .map { StoredObject(key: $0, size: sizes[$0] ?? 0) }
    }
    for prefix in ["", "l/", "l/a", "l/k1", "l", "m/", "n"] {
      #expect(try store.list(prefix, after: nil, limit: 1000) == expected(prefix), "\(prefix)")
      for limit in [0, 1, 6, 7, 8, 14, 15] {
        #expect(try store.list(prefix, after: nil, limit: limit) == expected(prefix, limit: limit), "\(prefix) \(limit)")
      }
    }
    #expect(try store.list("l/", after: "l/k1", limit: 9) == expected("l/", after: "l/k1", limit: 9))
    #expect(try store.list("l/", after: "m", limit: 9) == [])
  }

  @Test(arguments: kinds) func keysThatAreNone(kind: Kind) throws {
    let store = try Place(kind).open()
    for key in ["", "/a", "a//b", "a/", "../x", "a/.b", "a b", "a%b", "ä", String(repeating: "k", count: 513)] {
      #expect { try store.putIfAbsent(key, [1]) } throws: {
        if case .refused(key, _)? = $0 as? StoreError { true } else { false }
      }
      #expect { try store.put(key, parts: []) } throws: { if case .refused(key, _)? = $0 as? StoreError { true } else { false } }
      #expect { try store.get(key, range: nil) } throws: { if case .refused(key, _)? = $0 as? StoreError { true } else { false } }
      #expect { try store.delete(key) } throws: { if case .refused(key, _)? = $0 as? StoreError { true } else { false } }
    }
    let longest = [String](repeating: String(repeating: "k", count: 84), count: 6).joined(separator: "/") + ".-"
    #expect(try store.putIfAbsent(longest, [5]) == .created)
    #expect(try store.get(longest, range: nil) == [5])
  }

  /// Of any number of racers one owns the slot. Who is not told (servers answer 500 in a race) reads it, and puts again where
  /// it is free: so everybody ends by knowing, and nobody who won believes that he lost.
  @Test(arguments: kinds) func oneOfManyRacersWins(kind: Kind) throws {
    let place = try Place(kind)
    let rounds = 12
    let results = Mutex([Int: [(racer: Int, told: Bool, won: Bool)]]())
    let gate = Gate(8)
    try onThreads(8) { racer in
      guard let store = try? place.open() else {
        Issue.record("does not open")
        return
      }
      let bytes = [UInt8](repeating: UInt8(racer), count: 3000)
      for round in 0..<rounds {
        gate.pass()
        let key = "race/r\(round)"
        while true {
          let outcome = try? store.putIfAbsent(key, bytes)
          if outcome == .created {
            results.withLock { $0[round, default: []].append((racer, true, true)) }
            break
          }
          if let found = try? store.get(key, range: nil) {
            #expect(found.count == 3000 && Set(found).count == 1)
            results.withLock { $0[round, default: []].append((racer, outcome != nil, found == bytes)) }
            // Told that the slot was taken, while it was taken by oneself, would be a lie.
            #expect(!(outcome == .exists && found == bytes))
            break
          }
        }
      }
    }
    let all = results.withLock { $0 }
    #expect(all.count == rounds)
    for (_, racers) in all {
      #expect(racers.count == 8)
      #expect(racers.filter(\.won).count == 1)
    }
  }

  @Test(arguments: kinds) func manyThreadsReadAndWrite(kind: Kind) throws {
    let store = try Place(kind).open()
    try onThreads(24) { thread in
      let bytes = SeededRandom(UInt64(thread)).bytes(50_000 + thread)
      do {
        for i in 0..<6 {
          try store.put("t\(thread)/o\(i)", parts: [bytes, [UInt8(i)]])
          #expect(try store.get("t\(thread)/o\(i)", range: 7..<40_000) == Array(bytes[7..<40_000]))
          #expect(try store.get("t\(thread)/o\(i)", range: nil) == bytes + [UInt8(i)])
        }
      } catch { Issue.record("\(error)") }
    }
    #expect(try store.list("t", after: nil, limit: 1000).count == 24 * 6)
  }
}

/// Lets `count` threads go on at once, again and again.
final class Gate: Sendable {
  private let count: Int
  private let arrived = Mutex(0)
  private let change = Condition()
  init(_ count: Int) { self.count = count }
  func pass() {
    let seen = change.count
    let mine = arrived.withLock { n -> Int in
      n += 1
      return n
    }
    if mine % count == 0 { return change.broadcast() }
    // The count of signals was read before arriving, so the last one's cannot be missed; others' do no harm.
    let target = (mine - 1) / count + 1
    var last = seen
    while arrived.withLock({ $0 }) < target * count {
      change.wait(after: last)
      last = change.count
    }
  }
}
