import ElideEvents
import ElideIO
import Testing

@Suite struct NameEntryTests {
  @Test func everyKindComesBackAsItWentIn() throws {
    var kinds = Set<String>()
    for entry in try NameSamples.chain() {
      let read = try NameEntryCodec.decode(entry.raw, of: "db", at: entry.envelope.seq)
      #expect(read == entry)
      #expect(read.isSigned && read.hash == Digest.sha256(entry.raw))
      kinds.insert(entry.envelope.kind)
    }
    #expect(kinds.count == 27)
  }

  @Test func everyKindIsWrittenAndReadAsItWas() throws {
    for (i, entry) in try NameSamples.chain().enumerated() {
      let name = "names/schema-1/\(i < 10 ? "0" : "")\(i)-\(entry.envelope.kind).toml"
      let golden = try Fixtures.bytes(name) { entry.raw }
      #expect(golden == entry.raw, "\(name) is written differently now")
      #expect(try NameEntryCodec.decode(golden, of: "db", at: UInt64(i)) == entry, "\(name) is read differently now")
    }
  }

  @Test func theGoldenEntriesReplayAsOneChain() throws {
    let names = try HostFiles().list(Fixtures.directory + "/names/schema-1").sorted()
    #expect(names.count == NameSamples.events.count)
    var replay = NameReplay(name: "db")
    for (i, name) in names.enumerated() {
      let step = replay.next(try HostFiles().readFile("\(Fixtures.directory)/names/schema-1/\(name)"))
      guard case .event(let committed) = step else {
        Issue.record("\(name): \(step)")
        continue
      }
      #expect(committed.event == NameSamples.events[i] && committed.seq == UInt64(i))
    }
  }

  private func entry(_ event: NameEvent = .note(text: "x"), _ change: (inout Envelope) -> Void = { _ in }) throws -> NameEntry {
    var e = NameSamples.envelope(event)
    change(&e)
    return try NameEntryCodec.encode(e, event, key: NameSamples.key)
  }

  /// `entry`'s text with a change, sealed again by a host that means it.
  private func resealed(_ event: NameEvent, _ from: String, _ to: String) throws -> [UInt8] {
    let (body, _) = try #require(SealedDocument.split(try entry(event).raw))
    let text = String(decoding: body, as: UTF8.self)
    let at = try #require(text.ranges(of: from).first, "\(from) is not in the entry")
    return SealedDocument.seal(Array(text.replacingCharacters(at, with: to).utf8), subject: "name/db") {
      NameSamples.key.sign($0)
    }
  }

  @Test(arguments: [
    ("seq = 17", "seq = 17\ncut_seq = 17"), ("cut_seq = 17", ""), ("cut_seq = 17", "cut_seq = -1"),
    ("cut_page = 3", "cut_page = 3.0"),
    ("cut_page = 3", "cut_page = 100000000"), ("by = \"web-2\"", "by = \"\""), ("by = \"web-2\"", "by = \"web 2\""),
    ("by = \"web-2\"", "by = \"01J0000000000000000000000A\""), ("slot = 9", "slot = 9\nuntil = \"\""), ("slot = 9", ""),
    ("[body]", "[body]\nmore = 1"), ("[body]", "[bodi]"), ("log = \"name/", "log = \"volume/"), ("actor = \"", "actor = \"0"),
    ("key = \"ed25519:", "key = \"ed25519:00"), ("[body]", "[seal]\nsignature = \"\"\n[body]"),
  ])
  func refuses(_ from: String, _ to: String) throws {
    let raw = try resealed(.pinned(cut: NameSamples.cut, by: "web-2", hold: .fork(slot: 9)), from, to)
    #expect(throws: EntryError.self) { try NameEntryCodec.decode(raw, of: "db", at: 0) }
    var replay = NameReplay(name: "db")
    guard case .violation = replay.next(raw) else {
      Issue.record("no violation: \(from) → \(to)")
      return
    }
    // It occupies its slot all the same, and the next entry continues its bytes.
    #expect(replay.nextSeq == 1)
    let next = try entry(.note(text: "goes on")) {
      $0.seq = 1
      $0.prev = Digest.sha256(raw)
    }
    guard case .event = replay.next(next.raw) else {
      Issue.record("the log does not go on")
      return
    }
  }

  @Test func aHostCannotSignForAnother() throws {
    let other = try #require(SigningKey(secret: [UInt8](repeating: 9, count: 32)))
    let good = try entry()
    let (body, _) = try #require(SealedDocument.split(good.raw))
    let forged = SealedDocument.seal(body, subject: "name/db") { other.sign($0) }
    #expect(try !NameEntryCodec.decode(forged, of: "db", at: 0).isSigned)
    // Nor does a signature for one log hold in another, nor one over other bytes.
    let moved = SealedDocument.seal(body, subject: "name/dc") { NameSamples.key.sign($0) }
    #expect(try !NameEntryCodec.decode(moved, of: "db", at: 0).isSigned)
    let changed = Array(String(decoding: good.raw, as: UTF8.self).replacing("epoch = 3", with: "epoch = 4").utf8)
    #expect(changed != good.raw)
    for raw in [forged, moved, changed] {
      var replay = NameReplay(name: "db")
      guard case .violation = replay.next(raw) else {
        Issue.record("a forged entry is taken")
        continue
      }
    }
  }

  @Test func whatDoesNotBelongInTheSlotIsAViolation() throws {
    let first = try entry()
    let wrong: [(String, (inout Envelope) -> Void)] = [
      ("log", { $0.log = "name/other" }), ("seq", { $0.seq = 2 }), ("prev", { $0.prev = Samples.digest(0) }),
    ]
    for (what, change) in wrong {
      var replay = NameReplay(name: "db")
      guard case .event = replay.next(first.raw) else {
        Issue.record("entry 0")
        continue
      }
      let second = try entry {
        $0.seq = 1
        $0.prev = first.hash
        change(&$0)
      }
      guard case .violation = replay.next(second.raw) else {
        Issue.record("a wrong \(what) is taken")
        continue
      }
    }
  }

  @Test func unknownKindsAndNewerSchemasVerify() throws {
    for (from, to) in [("kind = \"note\"", "kind = \"noted\""), ("schema = 1", "schema = 2")] {
      let raw = try resealed(.note(text: "x"), from, to)
      let read = try NameEntryCodec.decode(raw, of: "db", at: 0)
      #expect(read.event == nil && read.isSigned)
      var replay = NameReplay(name: "db")
      guard case .unknown(let envelope) = replay.next(raw) else {
        Issue.record("\(to) is not unknown")
        continue
      }
      #expect(!envelope.ignorable)
    }
  }

  /// Schemas to come are reached step by step, and what was written in an old one is read for ever.
  @Test func olderSchemasAreUpcastOneStepAtATime() throws {
    let renamed: NameUpcaster.Step = { (kind, body) throws(TOMLError) in
      guard kind == "remark" else { return (kind, body) }
      return ("comment", body)
    }
    let filled: NameUpcaster.Step = { (kind, body) throws(TOMLError) in
      guard kind == "comment" else { return (kind, body) }
      var f = body
      return ("note", TOMLFields([("text", .string("\(try f.string("words"))!"))], table: "body"))
    }
    let three = NameUpcaster(schema: 3, steps: [1: renamed, 2: filled])
    let raw = try resealed(.note(text: "x"), "kind = \"note\"", "kind = \"remark\"")
    let text = String(decoding: raw, as: UTF8.self).replacing("text = ", with: "words = ")
    let old = try NameEntryCodec.decode(Array(text.utf8), of: "db", at: 0, upcaster: three)
    #expect(old.event == .note(text: "x!") && old.envelope.schema == 1)
    let alone = NameUpcaster(schema: 3, steps: [2: filled])
    #expect(try NameEntryCodec.decode(raw, of: "db", at: 0, upcaster: alone).event == nil, "no way from schema 1")
  }

  @Test func longEntriesAreRefused() throws {
    #expect(throws: EntryError.self) {
      try NameEntryCodec.decode([UInt8](repeating: 10, count: Entry.maxBytes + 1), of: "db", at: 0)
    }
    var h = NameSamples.holdings
    h.pins = [Pin](repeating: h.pins[0], count: 400)
    let event = NameEvent.renamedFrom(
      Renamed(
        old: "a", slot: 1, stateHash: Samples.digest(1), owner: NameSamples.host, incarnation: Samples.other, size: 512, cut: nil,
        holdings: h))
    #expect(throws: EntryError.self) { try entry(event) }
  }

  @Test(arguments: [
    "db", "a", "0", "Web-1.prod_x", String(repeating: "a", count: 63), "01J000000000000000000000",
    "x" + String(repeating: "1", count: 25),
  ])
  func isAName(_ name: String) { #expect(VolumeName.fault(name) == nil) }

  @Test(arguments: [
    "", ".", "..", "-a", "_a", ".a", "a/b", "a b", "a\n", "é", "a:b", "a@b", String(repeating: "a", count: 64),
    "01J0000000000000000000000A", "01j0000000000000000000000a", "o1JILO00000000000000000000",
  ])
  func isNoName(_ name: String) { #expect(VolumeName.fault(name) != nil) }

  @Test func theMerkleEdgeGivesTheTreesRoot() {
    // RFC 6962: the root of n leaves splits at the largest power of two below n.
    func root(_ leaves: ArraySlice<[UInt8]>) -> Digest {
      guard leaves.count > 1 else { return leaves.first.map(MerkleFrontier.leaf) ?? Digest.sha256([]) }
      var k = 1
      while 2 * k < leaves.count { k *= 2 }
      let middle = leaves.startIndex + k
      return MerkleFrontier.node(root(leaves[..<middle]), root(leaves[middle...]))
    }
    var edge = MerkleFrontier()
    var leaves: [[UInt8]] = []
    for i in 0..<70 as Range<UInt8> {
      #expect(edge.root == root(leaves[...]), "\(i) leaves")
      #expect(MerkleFrontier(count: edge.count, peaks: edge.peaks) == edge)
      leaves.append([i, i])
      edge.append([i, i])
    }
    #expect(MerkleFrontier(count: 3, peaks: []) == nil)
  }
}
