import ElideEvents
import ElideIO
import ElideProjections
import Testing

/// A journal in memory: entries as real bytes through the real codec and the real replay, blobs by digest.
final class TestJournal {
  let volume: ULID
  private(set) var raw: [[UInt8]] = []
  private(set) var blobs: [Digest: [UInt8]] = [:]
  private var replay: JournalReplay

  init(volume: ULID = ULID(high: 0x0190_0000, low: 1)) {
    self.volume = volume
    replay = JournalReplay(log: "volume/\(volume)")
  }

  func put(_ blob: [UInt8]) -> Digest {
    let digest = Digest.sha256(blob)
    blobs[digest] = blob
    return digest
  }

  /// The next entry, durable.
  func append(_ event: VolumeEvent) throws -> Committed<VolumeEvent> {
    let envelope = Envelope(
      log: "volume/\(volume)", seq: replay.nextSeq, prev: replay.position?.hash, id: ULID(high: 5, low: replay.nextSeq),
      kind: event.kind, at: "2026-01-31T12:00:00.000Z", actor: String(repeating: "a", count: 64),
      incarnation: ULID(high: 6, low: 6))
    let bytes = try EntryCodec.encode(envelope, event)
    raw.append(bytes)
    return try #require(try replay.next(bytes))
  }

  func blob(_ digest: Digest) throws(JournalError) -> [UInt8] {
    guard let b = blobs[digest] else { throw .missingBlob(digest) }
    return b
  }

  /// Appends and folds.
  @discardableResult
  func fold(_ event: VolumeEvent, into fold: VolumeFold) throws -> Violation? {
    let committed = try append(event)
    return try fold.apply(committed) { (d) throws(JournalError) in try blob(d) }
  }

  /// A seal of `content` as the journal says it.
  func seal(_ n: UInt64, _ content: SegmentContent, _ origin: SealedSegment.Origin = .wal) -> VolumeEvent {
    .segmentSealed(SealedSegment(segment: n, origin: origin, blocks: content.blocks, content: put(content.encode())))
  }

  /// An encoding that the legality rules accept.
  func encoded(_ n: UInt64, _ state: VolumeState) -> EncodedSegment {
    let s = state.segments[n]
    let blocks = s?.blocks ?? 1
    let encoding = Digest.sha256(Array("encoding of \(n)".utf8))
    let hash = SegmentEncoding.segmentHash(content: s?.content ?? encoding, encoding: encoding)
    return EncodedSegment(segment: n, hash: hash, encoding: encoding, length: 33 * blocks, units: 1)
  }

  /// All entries again into fresh projections.
  func refold() throws -> VolumeFold {
    var replay = JournalReplay(log: "volume/\(volume)")
    let fold = VolumeFold(volume: volume)
    for bytes in raw {
      let committed = try #require(try replay.next(bytes))
      try fold.apply(committed) { (d) throws(JournalError) in try blob(d) }
    }
    return fold
  }

  static func genesis(size: UInt64) -> Genesis { Genesis(size: size, key: [UInt8](repeating: 7, count: 32)) }
}

extension SegmentContent {
  /// `count` blocks of data at `lba`.
  static func data(_ lba: UInt64, _ count: UInt64) -> SegmentContent {
    SegmentContent(runs: [.init(lba: lba, count: count, kind: .data(r: 0))])
  }
}
