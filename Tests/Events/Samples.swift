import ElideEvents
import ElideIO

/// A clock that stands still and a random source that counts: entries made with them are the same on every run.
final class FixedClock: Clock {
  func wallMilliseconds() -> UInt64 { 1_769_860_800_000 }
  func monotonicNanoseconds() -> UInt64 { 0 }
}

/// A small generator with a seed (xorshift64*), for identifiers and for mutations.
final class SeededRandom: Randomness, RandomNumberGenerator, @unchecked Sendable {  // used by one thread of one test
  private var state: UInt64
  init(_ seed: UInt64) { state = seed | 1 }
  func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }
  func bytes(_ count: Int) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: count)
    out.withUnsafeMutableBytes { fill($0) }
    return out
  }
  func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    for i in buffer.indices { buffer[i] = UInt8(truncatingIfNeeded: next() >> 32) }
  }
}

enum Samples {
  static let volume = ULID(high: 0x019B_0000_0000_0001, low: 0x1122_3344_5566_7788)
  static let other = ULID(high: 0x019B_0000_0000_0002, low: 0x99AA_BBCC_DDEE_FF00)
  static let log = "volume/\(volume)"
  static let identity = JournalIdentity(actor: String(repeating: "ab", count: 32), incarnation: other)

  static func digest(_ n: UInt8) -> Digest { Digest.sha256([n]) }
  static let genesis = Genesis(size: 1 << 30, key: [UInt8](0..<32))
  static let lineage = Lineage(
    parent: other, seq: 17, page: 3, pageHash: digest(1), parentKey: [UInt8](32..<64), firstSegment: 12)

  /// At least one event of every kind, with edge values among them.
  static let events: [VolumeEvent] = [
    .created(genesis),
    .created(
      Genesis(
        size: 1 << 50, blockSize: 4096, key: [UInt8](0..<32), incompatibleFeatures: ["a", "b\"\\"],
        readOnlyCompatibleFeatures: ["é"])),
    .forked(genesis, from: lineage),
    .continued(genesis, from: lineage),
    .imported(genesis, source: "file:///srv/images/debian.img", digest: digest(2)),
    .opened(wal: 3, lastFrame: UInt64(Int64.max), lastHeaderCRC: UInt32.max, discarded: 2),
    .closed,
    .bound(name: "db", nameSeq: 42, epoch: 37),
    .fenced(nameSeq: 43),
    .walOpened(wal: (1 << 40) - 1),
    .segmentSealed(SealedSegment(segment: 4, origin: .wal, blocks: 8192, content: digest(3))),
    .segmentSealed(SealedSegment(segment: 5, origin: .import, blocks: 0, content: digest(4))),
    .segmentSealed(SealedSegment(segment: 6, origin: .compaction, blocks: 1 << 20, content: digest(5))),
    .segmentEncoded(EncodedSegment(segment: 4, hash: digest(6), encoding: digest(7), length: 12_345_678, units: 300)),
    .segmentUploaded(segment: 4, hash: digest(6)),
    .snapshotTaken(snapshot: other, label: "before \"upgrade\"\n\u{7F}\u{2028}☃", after: 4),
    .snapshotDeleted(snapshot: other),
    .resized(size: 1 << 31, after: 4),
    .mapRooted(seq: 12, root: digest(8)),
    .compactionPlanned(plan: volume, inputs: [1, 2, 3], outputs: [9], reason: "half dead"),
    .compactionCommitted(plan: volume, moves: digest(9)),
    .compactionAbandoned(plan: volume),
    .segmentsRetired(list: digest(10), count: 3),
    .segmentsDeleted(list: digest(11), count: 3, reapSeq: 99),
    .sourceAdded(volume: other, cut: 17, key: [UInt8](64..<96), first: 100, count: 7),
    .objectPlanned(key: "volumes/\(volume)/maps/0000000000000012-ab"),
    .objectsRetired(keys: ["a/b", "c/d"]),
    .objectsDeleted(keys: []),
    .repaired(detail: "frames from 7 on were lost", lostFromFrame: 7),
  ]

  static func envelope(_ event: VolumeEvent, seq: UInt64 = 0, prev: Digest? = nil) -> Envelope {
    Envelope(
      log: log, seq: seq, prev: prev, id: other, kind: event.kind, at: "2026-01-31T12:00:00.000Z", actor: identity.actor,
      incarnation: identity.incarnation)
  }
}
