import ElideEvents
import ElideIO

enum NameSamples {
  static let key = SigningKey(secret: [UInt8](repeating: 7, count: 32)) ?? SigningKey(random: SeededRandom(7))
  static let host = Digest.sha256(key.publicKey).hex
  static let facts = NewVolumeFacts(volume: Samples.volume, key: [UInt8](0..<32), size: 1 << 30)
  static let cut = Cut(volume: Samples.volume, seq: 17, page: 3, pageHash: Samples.digest(1))
  static let inner = Cut(volume: Samples.other, seq: UInt64(Int64.max), page: 99_999_999, pageHash: Samples.digest(2))

  static let holdings: Holdings = {
    var h = Holdings()
    h.episodes = [
      Episode(volume: Samples.other, key: [UInt8](32..<64), granted: 0, basis: nil),
      Episode(volume: Samples.volume, key: [UInt8](0..<32), granted: 7, basis: inner),
    ]
    h.pins = [
      Pin(id: Samples.other, host: host, cut: cut, by: "web-2", hold: .fork(slot: 9)),
      Pin(id: Samples.volume, host: host, cut: inner, by: "audit", hold: .until("2026-01-31T12:00:00.000Z")),
      Pin(id: Samples.volume, host: host, cut: inner, by: "Keep.it_", hold: .until(nil)),
    ]
    h.floors = [Floor(volume: Samples.volume, floor: 12, kept: [3, 9], cut: 17)]
    h.displaced = [Displaced(volume: Samples.other, host: host, fenced: 5)]
    return h
  }()

  /// At least one event of every kind, with edge values among them.
  static let events: [NameEvent] = [
    .created(facts),
    .created(NewVolumeFacts(volume: Samples.other, key: [UInt8](0..<32), size: 1 << 50)),
    .forked(facts, from: ForkSource(name: "debian-12.img", pin: Samples.other, cut: inner), slot: 2),
    .importStarted(volume: Samples.volume, key: [UInt8](0..<32), source: "docker://debian:12 \"é\""),
    .importFinished(cut: cut, size: 4096),
    .importAborted(volume: Samples.volume),
    .adopted,
    .started,
    .stopped(cut: cut),
    .resized(size: 1 << 31),
    .reap(Reap(volume: Samples.volume, cut: cut, floor: 12, kept: [3, 9], list: Samples.digest(3), count: 400)),
    .reap(Reap(volume: Samples.volume, cut: cut, floor: 0, kept: [], list: Samples.digest(3), count: 0)),
    .released(cut: cut),
    .claimed(volume: Samples.other, key: [UInt8](32..<64), cut: cut, serve: true),
    .reclaimed(cut: cut, serve: false),
    .fenced(Fence(expectOwner: host, expectEpoch: 37, volume: Samples.other, key: [UInt8](32..<64), displaced: Samples.volume)),
    .recovered(basis: .cut(cut), lost: ""),
    .recovered(basis: .empty(Samples.volume), lost: "page 4 cannot be read"),
    .pinned(cut: cut, by: "web-2", hold: .fork(slot: 9)),
    .pinned(cut: cut, by: "audit", hold: .until("2026-01-31T12:00:00.000Z")),
    .pinned(cut: cut, by: "audit", hold: .until(nil)),
    .unpinned(pin: Samples.other, ground: .holder),
    .unpinned(pin: Samples.other, ground: .expired),
    .unpinned(pin: Samples.other, ground: .removed),
    .unpinned(pin: Samples.other, ground: .orphan(found: Samples.digest(4))),
    .unpinned(pin: Samples.other, ground: .forkIndependent(epoch: 12)),
    .displacedReleased(volume: Samples.volume),
    .renameReserved(old: "db", slot: 12),
    .renamedTo(new: "db2", reserved: 0, slot: 12),
    .renamedFrom(
      Renamed(
        old: "db", slot: 12, stateHash: Samples.digest(5), owner: host, incarnation: Samples.other, size: 512, cut: cut,
        holdings: holdings)),
    .renamedFrom(
      Renamed(
        old: "db", slot: 12, stateHash: Samples.digest(5), owner: host, incarnation: Samples.other, size: 1 << 50, cut: nil,
        holdings: Holdings())),
    .renameAborted(found: Samples.digest(6)),
    .purging,
    .purgeTaken,
    .purged,
    .void(id: Samples.other),
    .note(text: "moved to rack 7\n\u{7F}\u{2028}☃"),
  ]

  static func envelope(_ event: NameEvent, seq: UInt64 = 0, prev: Digest? = nil) -> Envelope {
    var e = Envelope(
      log: NameEntryCodec.log("db"), seq: seq, prev: prev, id: Samples.other, kind: event.kind, at: "2026-01-31T12:00:00.000Z",
      actor: host, incarnation: Samples.other)
    e.epoch = 3
    return e
  }

  /// All of `events` as one chain.
  static func chain() throws -> [NameEntry] {
    var entries: [NameEntry] = []
    for (i, event) in events.enumerated() {
      var e = envelope(event, seq: UInt64(i), prev: entries.last?.hash)
      if i % 2 == 1 {
        e.request = "r-\(i)"
        e.operator = "uid:1000"
        e.reason = "a reason with \"quotes\" and a \\"
      }
      entries.append(try NameEntryCodec.encode(e, event, key: key))
    }
    return entries
  }
}
