import ElideEvents
import ElideIO
import Testing

@Suite struct EntryCodecTests {
  @Test func everyKindComesBackAsItWentIn() throws {
    var kinds = Set<String>()
    for (i, event) in Samples.events.enumerated() {
      var envelope = Samples.envelope(event, seq: UInt64(i), prev: i == 0 ? nil : Samples.digest(0))
      envelope.request = i % 2 == 0 ? nil : "request \(i)"
      envelope.operator = i % 3 == 0 ? nil : "uid:1000"
      envelope.reason = i % 4 == 0 ? nil : "because"
      envelope.epoch = UInt64(i)
      envelope.ignorable = i % 2 == 0
      let raw = try EntryCodec.encode(envelope, event)
      let entry = try EntryCodec.decode(raw)
      #expect(entry.envelope == envelope)
      #expect(entry.event == event)
      #expect(entry.raw == raw && entry.hash == Digest.sha256(raw))
      kinds.insert(event.kind)
    }
    #expect(kinds.count == 26)
  }

  /// A copy of a good entry with one text replaced by another.
  private func altered(_ from: String, _ to: String, _ event: VolumeEvent = .walOpened(wal: 7)) throws -> [UInt8] {
    let text = String(decoding: try EntryCodec.encode(Samples.envelope(event), event), as: UTF8.self)
    let at = try #require(text.ranges(of: from).first, "\(from) is not in the entry")
    return Array(text.replacingCharacters(at, with: to).utf8)
  }

  @Test(arguments: [
    ("wal = 7", "wal = 7\nwal = 7"), ("wal = 7", "wal = 7.0"), ("wal = 7", "wal = nan"), ("wal = 7", "wal = -7"),
    ("wal = 7", "wal = \"7\""), ("wal = 7", "wal = 1099511627776"), ("wal = 7", "wal = 9223372036854775808"),
    ("wal = 7", ""), ("wal = 7", "wal = 7\nmore = 1"), ("wal = 7", "wal = [7]"), ("[body]", "[Body]"),
    ("[body]", "extra = 1\n[body]"), ("wal = 7", "wal = 7\n[seal]\nsignature = \"x\""), ("schema = 1", "schema = 0"),
    ("schema = 1", ""), ("seq = 0", "seq = 0\nseq = 0"), ("seq = 0", "seq = -1"), ("seq = 0", "seq = 1"),
    ("ignorable = false", "ignorable = 0"), ("prev = \"none\"", "prev = \"\""), ("epoch = 0", "epoch = inf"),
    ("at = \"2026", "at = \"26"), ("at = \"2026-01-31T12:00:00.000Z\"", "at = 2026-01-31T12:00:00.000Z"),
    ("log = \"volume/", "log = \"volum/"), ("kind = \"", "kind = \"\\u0000"), ("actor = \"", "actor = \"\0"),
  ])
  func refuses(_ from: String, _ to: String) throws {
    let raw = try altered(from, to)
    let error = #expect(throws: EntryError.self) { try EntryCodec.decode(raw, of: Samples.log, at: 12) }
    #expect(error?.log == Samples.log && error?.seq == 12)
  }

  @Test func unknownKindsAndSchemasHaveNoEventButVerify() throws {
    let unknown = try EntryCodec.decode(try altered("kind = \"wal_opened\"", "kind = \"wal_polished\""))
    #expect(unknown.event == nil && unknown.envelope.kind == "wal_polished")
    let newer = try EntryCodec.decode(try altered("schema = 1", "schema = 2"))
    #expect(newer.event == nil && newer.envelope.schema == 2)
  }

  @Test func entriesOfANameAreNoneOfAJournal() throws {
    #expect(throws: EntryError.self) { try EntryCodec.decode(try altered(Samples.log, "name/db")) }
  }

  @Test func longEntriesAreRefusedBeforeTheyAreParsed() throws {
    let long = [UInt8](repeating: UInt8(ascii: "#"), count: Entry.maxBytes + 1)
    #expect(throws: EntryError.self) { try EntryCodec.decode(long) }
    let event = VolumeEvent.objectsRetired(keys: [String](repeating: String(repeating: "k", count: 500), count: 200))
    #expect(throws: EntryError.self) { try EntryCodec.encode(Samples.envelope(event), event) }
  }

  @Test func whatTOMLCannotHoldIsRefusedWhenWritten() throws {
    for event in [VolumeEvent.fenced(nameSeq: 1 << 63), .repaired(detail: "a\0b", lostFromFrame: 0)] {
      #expect(throws: EntryError.self) { try EntryCodec.encode(Samples.envelope(event), event) }
    }
  }

  /// Within 64 KiB a hostile document must cost neither the stack nor seconds.
  @Test(arguments: ["[", "{a=", "a.", "\"a\".", "[[a]]\n", "a={b=", "['''", "\"\\", "[a.b]\n", "#\n"])
  func hostileNestingIsAnError(_ unit: String) throws {
    let head = Array("x = ".utf8)
    let body = Array(String(repeating: unit, count: (Entry.maxBytes - 8) / unit.utf8.count).utf8)
    #expect(throws: EntryError.self) { try EntryCodec.decode(body) }
    #expect(throws: EntryError.self) { try EntryCodec.decode(head + body) }
  }

  @Test func timesAreReadAsWritten() {
    for ms: UInt64 in [0, 1, 951_782_400_000, 1_769_860_800_123, 4_102_444_799_999, 253_402_300_799_999] {
      #expect(Timestamp.milliseconds(Timestamp.text(milliseconds: ms)) == ms)
    }
    #expect(Timestamp.text(milliseconds: 1_769_860_800_000) == "2026-01-31T12:00:00.000Z")
    #expect(Timestamp.text(milliseconds: 951_782_400_000) == "2000-02-29T00:00:00.000Z")
    #expect(Timestamp.milliseconds("2026-02-29T00:00:00.000Z") == nil)
    #expect(Timestamp.milliseconds("2026-02-28T24:00:00.000Z") == nil)
  }
}

extension String {
  func replacingCharacters(_ range: Range<String.Index>, with text: String) -> String {
    String(self[..<range.lowerBound]) + text + String(self[range.upperBound...])
  }
}
