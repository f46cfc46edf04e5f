import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Simulator
import Testing

/// How a log's end is found, at what price, and what happens when somebody lies: hints, checkpoints, edited, removed and added
/// entries, a bucket that was rolled back.
@Suite struct NameReadTests {
  private static func host(_ n: UInt64, _ bucket: SimBucket) -> NamesHost {
    NamesHost(seed: n, bucket: bucket, weather: .clear)
  }

  /// A log of so many entries, of one host.
  private static func bucket(_ count: Int) throws -> SimBucket {
    let bucket = SimBucket()
    let a = host(1, bucket)
    let log = try a.log("db")
    log.hintInterval = 1
    _ = try log.perform(.create(NewVolumeFacts(volume: ULID(high: 4, low: 1), key: [UInt8](repeating: 3, count: 32), size: 512)))
    // Hints cost more than entries here: only the last one counts.
    log.hintInterval = 1 << 40
    for i in 1..<count {
      if i == count - 1 { log.hintInterval = 1 }
      _ = try log.perform(.note(text: "note \(i)"))
    }
    return bucket
  }

  private static func replayed(_ bucket: SimBucket) -> NameFold {
    var fold = NameFold(name: "db")
    while let raw = bucket.objects[StoreLayout.nameEntry("db", fold.nextSeq)] { fold.next(raw) }
    return fold
  }

  /// Requests that a host needs that sees the name for the first time; its state is that of a full replay.
  private func requests(_ bucket: SimBucket, _ change: (SimBucket) -> Void = { _ in }) throws -> UInt64 {
    let copy = bucket.copy()
    change(copy)
    let b = Self.host(2, copy)
    let log = try b.log("db")
    log.hintInterval = 1 << 40
    try log.refresh()
    #expect(log.state == Self.replayed(bucket).state && log.head == Self.replayed(bucket).head)
    return b.store.counters.gets
  }
  private func withoutHint(_ bucket: SimBucket) { bucket.remove(StoreLayout.nameHint("db")) }

  @Test func tenThousandEntriesOpenInTheTimeOfSixtyFour() throws {
    #if DEBUG
      let count = 1000
    #else
      let count = 10_000
    #endif
    let (short, long) = (try Self.bucket(64), try Self.bucket(count))
    // Hint, the slot it names, the next one.
    #expect(try requests(short) == 3)
    #expect(try requests(long) == 3)
    let (shortWithout, longWithout) = (try requests(short, withoutHint), try requests(long, withoutHint))
    print("requests to open without a hint: \(shortWithout) of 64 entries, \(longWithout) of \(count)")
    // Without a hint: a checkpoint is galloped for, then at most 63 entries are read.
    #expect(longWithout <= 64 + 24)
    let entries = long.keys.filter { $0.hasPrefix("events/db/0") }.count
    #expect(entries == count && long.keys.filter { $0.hasPrefix("events/db/checkpoints/") }.count == count / 64)
    Situation.met(.tenThousandEntries)
  }

  @Test func anOldHintIsReadOnFrom() throws {
    let bucket = try Self.bucket(10)
    let hint = try #require(bucket.objects[StoreLayout.nameHint("db")])
    let a = Self.host(3, bucket)
    for i in 0..<5 { _ = try a.log("db").perform(.note(text: "more \(i)")) }
    bucket.write(StoreLayout.nameHint("db"), hint)
    let before = try requests(bucket)
    #expect(before == 3 + 5)
  }

  /// D11: whatever a hint says, nothing is appended beyond the end, and the state is the log's.
  @Test func hintsThatLieAreDropped() throws {
    let bucket = try Self.bucket(10)
    let stored = try #require(bucket.objects[StoreLayout.nameHint("db")])
    let good = try NameHint.decode(stored)
    var lies: [[UInt8]] = [[], Array("format = 1\n".utf8), [UInt8](repeating: 0xFF, count: 100)]
    var lie = good
    // An entry that was never in the log, signed by somebody: the slot it names is free, or has other bytes.
    let b = Self.host(8, bucket)
    for seq in [9, 10, 12] as [UInt64] {
      var e = Envelope(
        log: "name/db", seq: seq, prev: good.hash, id: ULID(high: 1, low: 1), kind: "note", at: "2026-01-31T12:00:00.000Z",
        actor: b.author.id, incarnation: b.author.incarnation)
      e.epoch = 0
      let entry = try NameEntryCodec.encode(e, .note(text: "lie"), key: b.key)
      lie = good
      lie.entries = Array(good.entries.prefix(Int(seq))) + [entry.raw]
      (lie.seq, lie.hash) = (UInt64(lie.entries.count) - 1, entry.hash)
      lies.append(lie.encode() ?? [])
    }
    lie = good
    lie.seq = 12
    lies.append(lie.encode() ?? [])
    lie = good
    lie.name = "dc"
    lies.append(lie.encode() ?? [])
    for (i, bytes) in lies.enumerated() {
      let copy = bucket.copy()
      copy.write(StoreLayout.nameHint("db"), bytes)
      let c = Self.host(20 + UInt64(i), copy)
      #expect(try c.log("db").perform(.note(text: "x")).isAt(10), "lie \(i)")
      let slots = copy.keys.filter { $0.hasPrefix("events/db/0") }
      #expect(slots.count == 11 && slots.last == StoreLayout.nameEntry("db", 10))
      #expect(try c.log("db").state == Self.replayed(copy).state)
    }
    Situation.met(.d11)
  }

  @Test func aRolledBackOrEditedLogIsAnAlarm() throws {
    let bucket = try Self.bucket(8)
    let a = Self.host(2, bucket)
    try a.log("db").refresh()
    let saved = bucket.copy()
    let cases: [(String, (SimBucket) -> Void)] = [
      ("the last entry is gone", { $0.remove(StoreLayout.nameEntry("db", 7)) }),
      ("the log is cut", { b in for n in 3..<8 as Range<UInt64> { b.remove(StoreLayout.nameEntry("db", n)) } }),
      (
        "the last entry is another",
        { b in b.write(StoreLayout.nameEntry("db", 7), b.objects[StoreLayout.nameEntry("db", 6)] ?? []) }
      ),
      ("a byte of the last entry", { $0.flip(StoreLayout.nameEntry("db", 7), byte: 40) }),
      ("the bucket is empty", { b in for key in b.keys { b.remove(key) } }),
    ]
    for (what, change) in cases {
      let copy = saved.copy()
      change(copy)
      let rows = a.rows.copy(faults: SimFaults())
      let log = try NameLog(
        "db", store: SimStore(copy, seed: 1), rows: rows, author: a.author, clock: a.clock, random: SimRandom(seed: 3))
      let keys = copy.keys
      let error = #expect(throws: ElideError.self, "\(what)") { try log.perform(.note(text: "x")) }
      #expect(error?.kind == .fault)
      #expect(copy.keys == keys, "\(what): something was appended")
      #expect(try NameWitness.alarms(rows).count == 1)
      // And when the store is right again, so is the log.
      let again = try NameLog(
        "db", store: SimStore(saved.copy(), seed: 1), rows: rows, author: a.author, clock: a.clock, random: SimRandom(seed: 4))
      #expect(try again.perform(.note(text: "x")).isAt(8))
    }
  }

  /// A host that was away sees an edit behind what it knows by the entry that no longer continues.
  @Test func entriesThatWereEditedAreViolationsForAll() throws {
    let bucket = try Self.bucket(8)
    bucket.flip(StoreLayout.nameEntry("db", 4), byte: 60)
    bucket.remove(StoreLayout.nameHint("db"))
    let b = Self.host(2, bucket)
    let log = try b.log("db")
    try log.refresh()
    #expect(log.state.violations.map(\.seq) == [4, 5], "the changed one, and the one that does not continue it")
    #expect(log.state == Self.replayed(bucket).state)
  }

  @Test func aPoisonEntryDoesNotBrickTheName() throws {
    let bucket = try Self.bucket(3)
    let a = Self.host(2, bucket)
    try a.log("db").refresh()
    for (i, poison) in [[], [0xFF, 0x00], Array("schema = 1\n".utf8), [UInt8](repeating: 0x61, count: Entry.maxBytes + 1)]
      .enumerated()
    {
      bucket.write(StoreLayout.nameEntry("db", 3 + 2 * UInt64(i)), poison)
      #expect(try a.log("db").perform(.note(text: "after \(i)")).isAt(4 + 2 * UInt64(i)))
    }
    #expect(try a.log("db").state.violationCount == 4)
    let b = Self.host(3, bucket)
    try b.log("db").refresh()
    #expect(try b.log("db").state == a.log("db").state)
  }

  @Test func aCheckpointThatLiesIsFoundBeforeAnythingIsDeleted() throws {
    let bucket = try Self.bucket(70)
    bucket.remove(StoreLayout.nameHint("db"))
    let key = StoreLayout.nameCheckpoint("db", 63)
    let sealed = try #require(bucket.objects[key])
    let good = try NameCheckpoint.decode(sealed, of: "db")
    // A host seals a state that says that it owns the name.
    let liar = Self.host(9, bucket)
    var state = good.fold.state
    state.owner = liar.author.id
    state.incarnation = liar.author.incarnation
    let end = try #require(good.fold.head)
    let fold = try #require(NameFold(state: state, tree: good.fold.tree, head: end))
    bucket.write(key, try #require(NameCheckpoint.encode(fold, isWhole: true, at: good.at, key: liar.key)))
    let log = try liar.log("db")
    try log.refresh()
    #expect(log.state.owner == liar.author.id && !log.isOwnFold)
    let error = #expect(throws: ElideError.self) { try log.perform(.purge) }
    #expect(error?.kind == .fault)
    #expect(try NameWitness.alarms(liar.rows).contains { $0.contains("checkpoint") })
    // A host that comes by such a slot itself notices as well.
    let other = bucket.copy()
    for n in 63..<70 as Range<UInt64> { other.remove(StoreLayout.nameEntry("db", n)) }
    let c = Self.host(10, other)
    other.remove(key)
    try c.log("db").refresh()
    other.write(key, try #require(bucket.objects[key]))
    #expect(try c.log("db").perform(.note(text: "the 64th")).isAt(63))
    #expect(try NameWitness.alarms(c.rows).contains { $0.contains("checkpoint") })
  }

  @Test func sealsOfCheckpointsAndHintsHold() throws {
    let bucket = try Self.bucket(64)
    let bytes = try #require(bucket.objects[StoreLayout.nameCheckpoint("db", 63)])
    let checkpoint = try NameCheckpoint.decode(bytes, of: "db")
    #expect(checkpoint.isWhole && checkpoint.fold == Self.replayed(bucket))
    #expect(throws: TOMLError.self) { try NameCheckpoint.decode(bytes, of: "dc") }
    var random = SeededRandom(seed: 4)
    for _ in 0..<300 {
      var changed = bytes
      changed[random.below(changed.count)] ^= UInt8(1 + random.below(255))
      #expect(throws: TOMLError.self) { try NameCheckpoint.decode(changed, of: "db") }
    }
    let hint = try #require(bucket.objects[StoreLayout.nameHint("db")])
    #expect(try NameHint.decode(hint).fold() == Self.replayed(bucket))
    for _ in 0..<300 {
      var changed = hint
      changed[random.below(changed.count)] ^= UInt8(1 + random.below(255))
      if let read = try? NameHint.decode(changed), let fold = read.fold() { #expect(fold.head == checkpoint.fold.head) }
    }
  }

  @Test func aDecisionToDeleteStandsOnAFoldOfOnesOwn() throws {
    let bucket = try Self.bucket(70)
    bucket.remove(StoreLayout.nameHint("db"))
    let b = Self.host(2, bucket)
    let log = try b.log("db")
    try log.refresh()
    #expect(!log.isOwnFold)
    let before = b.store.counters.gets
    _ = try log.perform(.unpin(pin: ULID(high: 1, low: 1), because: .removed))
    #expect(log.isOwnFold && b.store.counters.gets >= before + 70)
  }
}
