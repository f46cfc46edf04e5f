import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Simulator
import Testing

/// In a copied bucket any one entry or page is edited, cut out, reordered, replaced or rolled back: each kind of tampering with
/// each object. `verify` names the first bad one, each time; where nothing in the bucket can tell, it says how far it could.
@Suite struct TamperTests {
  /// A way to change the bytes of one object.
  private struct Edit {
    let what: String
    let change: ([UInt8]) -> [UInt8]
  }

  /// Bytes that are changed: the first and last, and a few between, so that every field is met by some object.
  private static func edits(_ count: Int, step: Int) -> [Edit] {
    var out = [
      Edit(what: "emptied") { _ in [] }, Edit(what: "cut short") { Array($0.dropLast()) },
      Edit(what: "lengthened") { $0 + [10] },
    ]
    for at in Set(stride(from: 0, to: count, by: step)).union([count - 1]).sorted() {
      out.append(
        Edit(what: "byte \(at)") { bytes in
          var edited = bytes
          edited[at] ^= at % 2 == 0 ? 0xFF : 0x01
          return edited
        })
    }
    return out
  }

  /// A sealed entry for slot `seq`, of a host that exists, in the place of the true one.
  private func insider(_ world: HandedOverWorld, _ seq: UInt64, continues: Bool) throws -> [UInt8] {
    let before = seq > 0 ? Digest.sha256(try world.bytes(StoreLayout.nameEntry("db", seq - 1))) : nil
    let event = NameEvent.note(text: "nothing happened")
    let key = world.engines[0].host.key
    let envelope = Envelope(
      log: "name/db", seq: seq, prev: continues ? before : Digest.sha256([1]), id: ULID(high: 8, low: seq), kind: event.kind,
      at: "2026-09-21T14:13:20.000Z", actor: world.engines[0].host.id, incarnation: ULID(high: 5, low: 0))
    return try NameEntryCodec.encode(envelope, event, key: key).raw
  }

  private func expect(
    _ world: HandedOverWorld, _ what: String, at key: String, _ changes: [(key: String, bytes: [UInt8]?)], volumes: Bool = false,
    deep: Bool = false
  ) throws {
    let report = try world.with(changes) { try world.verify(deep: deep, volumes: volumes) }
    #expect(report.firstFault?.place == key, "\(what): \(report.firstFault.map { "\($0)" } ?? "nothing found")")
  }

  @Test func theHistoryIsSound() throws {
    let world = try HandedOverWorld()
    let report = try world.verify(deep: true)
    #expect(report.isSound, "\(report.faults) \(report.volumes.flatMap(\.faults))")
    #expect(report.violations.isEmpty && report.notes.isEmpty, "\(report.notes)")
    #expect(report.volumes.map(\.volume) == world.volumes && report.volumes.map(\.isEnded) == [true, true, false])
    #expect(report.volumes.allSatisfy { $0.isAnchored && $0.segments > 0 && $0.segmentBytes > 0 })
    #expect(report.witness?.seq == report.head?.seq && report.seals == report.entries)
    for name in ["web", "old", "new"] {
      let other = try world.verify(name)
      #expect(other.isSound && other.crossings == (name == "new" || name == "old" ? 1 : 1), "\(name): \(other.faults)")
    }
  }

  @Test func everyEntryEditedCutReorderedReplaced() throws {
    let world = try HandedOverWorld()
    let count = try world.count("events/db/")
    for seq in 0..<count {
      let key = StoreLayout.nameEntry("db", seq)
      let raw = try world.bytes(key)
      for edit in Self.edits(raw.count, step: 61) { try expect(world, "\(seq) \(edit.what)", at: key, [(key, edit.change(raw))]) }
      try expect(world, "\(seq) removed", at: key, [(key, nil)])
      if seq + 1 < count {
        let next = StoreLayout.nameEntry("db", seq + 1)
        try expect(world, "\(seq) swapped with the next", at: key, [(key, try world.bytes(next)), (next, raw)])
      }
      let earlier = try world.bytes(StoreLayout.nameEntry("db", (seq + 3) % count))
      try expect(world, "\(seq) replaced by another entry", at: key, [(key, earlier)])
      if seq < 2 {
        try expect(
          world, "\(seq) replaced by one of another log", at: key, [(key, try world.bytes(StoreLayout.nameEntry("old", seq)))])
      }
      for continues in [true, false] {
        let forged = try insider(world, seq, continues: continues)
        try expect(world, "\(seq) sealed anew (\(continues))", at: key, [(key, forged)])
      }
    }
  }

  /// Without the hint fewer things are known; everything but the last entry is still found by the chain alone.
  @Test func theChainAloneTellsAllButTheEnd() throws {
    let world = try HandedOverWorld()
    let count = try world.count("events/db/")
    var bare: [(key: String, bytes: [UInt8]?)] = [(StoreLayout.nameHint("db"), nil)]
    for object in try world.store.list("hosts/", after: nil, limit: 100) where object.key.contains("/heads/") {
      bare.append((object.key, nil))
    }
    for seq in 0..<count {
      let key = StoreLayout.nameEntry("db", seq)
      let raw = try world.bytes(key)
      let isLast = seq == count - 1
      try expect(world, "\(seq) edited", at: key, bare + [(key, raw.dropLast(40) + raw.suffix(39) + [32])])
      try world.with(bare + [(key, try insider(world, seq, continues: true))]) {
        let report = try world.verify(volumes: false)
        #expect(isLast ? report.isSound && report.witness == nil : report.firstFault?.place == key, "\(seq)")
      }
      try world.with(bare + [(key, nil)]) {
        let report = try world.verify(volumes: false)
        #expect(isLast ? report.isSound && report.witness == nil : report.firstFault?.place == key, "\(seq)")
      }
    }
  }

  @Test func aLogCutShortIsFoundByWhoeverSawMore() throws {
    let world = try HandedOverWorld()
    let count = try world.count("events/db/")
    let head = try #require(try world.verify(volumes: false).head)
    let hint = StoreLayout.nameHint("db")
    let heads = try world.store.list("hosts/", after: nil, limit: 100).map(\.key).filter { $0.contains("/heads/") }
    for seq in 1..<count {
      let key = StoreLayout.nameEntry("db", seq)
      let rolled = (seq..<count).map { (key: StoreLayout.nameEntry("db", $0), bytes: [UInt8]?.none) }
      try expect(world, "from \(seq) on, with all witnesses", at: key, rolled)
      try expect(world, "from \(seq) on, heads alone", at: key, rolled + [(hint, nil)])
      try expect(world, "from \(seq) on, the hint alone", at: key, rolled + heads.map { ($0, nil) })
      // Rolled back altogether: nothing in the bucket tells; what the auditor kept does.
      try world.with(rolled + heads.map { ($0, nil) } + [(hint, nil)]) {
        let report = try world.verify(volumes: false)
        #expect(report.isSound && report.witness == nil && report.entries == seq)
        let kept = NameWitnessed(name: "db", seq: head.seq, says: .hash(head.hash), by: "this host")
        #expect(try world.verify(volumes: false, kept: [kept]).firstFault?.place == key)
      }
    }
    // The whole log is gone.
    let all = (0..<count).map { (key: StoreLayout.nameEntry("db", $0), bytes: [UInt8]?.none) }
    try expect(world, "all of it", at: StoreLayout.nameEntry("db", 0), all)
  }

  @Test func everyPageEditedCutReorderedReplaced() throws {
    let world = try HandedOverWorld()
    for (host, volume) in world.volumes.enumerated() {
      let count = try world.count("volumes/\(volume)/journal/")
      let other = world.volumes[(host + 1) % 3]
      for n in 0..<count {
        let key = StoreLayout.page(volume, n)
        let raw = try world.bytes(key)
        func check(_ what: String, _ changes: [(key: String, bytes: [UInt8]?)]) throws {
          try expect(world, "\(volume) page \(n) \(what)", at: key, changes, volumes: true)
        }
        for edit in Self.edits(raw.count, step: max(97, raw.count / 24)) { try check(edit.what, [(key, edit.change(raw))]) }
        try check("of another volume", [(key, try world.bytes(StoreLayout.page(other, min(n, 1))))])
        try check("replaced by another page", [(key, try world.bytes(StoreLayout.page(volume, (n + 1) % count)))])
        if n + 1 < count {
          let next = StoreLayout.page(volume, n + 1)
          try check("swapped with the next", [(key, try world.bytes(next)), (next, raw)])
        }
        let page = try JournalPage.parse(raw)
        if !page.header.isTerminal { try check("signed anew", [(key, try resigned(world, host, page, raw))]) }
        // Nothing but the claimer's own word says that it ended what it claimed.
        if n == count - 1, host == 0 {
          let report = try world.with([(key, nil)]) { try world.verify() }
          #expect(report.isSound && report.volumes[0].isEnded == false)
        } else {
          try check("removed", [(key, nil)])
          let rest = (n..<count).map { (key: StoreLayout.page(volume, $0), bytes: [UInt8]?.none) }
          try check("removed with all after it", rest)
        }
      }
    }
  }

  /// By the volume's own key, with another time in it: as by whoever stole it.
  private func resigned(_ world: HandedOverWorld, _ host: Int, _ page: JournalPage, _ raw: [UInt8]) throws -> [UInt8] {
    let key = try world.volumeKey(host, page.header.volume)
    var header = page.header
    header.at += 1
    let blobs = try page.frames.map { try page.blob($0.digest, in: raw) }
    return try PageWriter.build(header, entries: page.entries(), fold: blobs, other: []) { key.sign($0) }.bytes
  }

  @Test func everythingBesideTheLogsToo() throws {
    let world = try HandedOverWorld(notes: 64)
    let store = try world.store
    #expect(try world.verify().isSound && world.verify().checkpoints == 1)
    var objects: [(key: String, mustExist: Bool)] = [(StoreLayout.nameCheckpoint("db", 63), false)]
    for engine in world.engines { objects.append((StoreLayout.host(engine.host.id), true)) }
    objects += try store.list("hosts/", after: nil, limit: 100).filter { $0.key.contains("/heads/") }.map { ($0.key, false) }
    for volume in world.volumes {
      objects.append((StoreLayout.document(volume), true))
      objects += try store.list("volumes/\(volume)/segments/", after: nil, limit: 100).map { ($0.key, true) }
    }
    for object in objects {
      let raw = try world.bytes(object.key)
      for at in [0, raw.count / 2, raw.count - 1] {
        var edited = raw
        edited[at] ^= 1
        try expect(world, "\(object.key) byte \(at)", at: object.key, [(object.key, edited)], volumes: true, deep: true)
      }
      try world.with([(object.key, nil)]) {
        let place = try world.verify(deep: true).firstFault?.place
        #expect(place == (object.mustExist ? object.key : nil), "\(object.key) removed")
      }
    }
  }

  /// What one log says of another is looked up there.
  @Test func anotherLogIsAsked() throws {
    let world = try HandedOverWorld()
    let count = try world.count("events/db/")
    // The pin of the fork is the last entry of db.
    let pin = StoreLayout.nameEntry("db", count - 1)
    try world.with([(pin, nil), (StoreLayout.nameHint("db"), nil)]) {
      let report = try world.verify("web")
      #expect(report.firstFault?.what == "other log" && report.firstFault?.place == StoreLayout.nameEntry("web", 0))
    }
    for (name, other, seq) in [("new", "old", UInt64(1)), ("old", "new", 0)] {
      let key = StoreLayout.nameEntry(other, seq)
      let report = try world.with([(key, Array("void".utf8))]) { try world.verify(name) }
      #expect(report.firstFault?.what == "other log", "\(name): \(report.faults)")
    }
  }
}
