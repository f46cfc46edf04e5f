import ElideIO

extension VolumeEvent {
  /// The event of a body of `kind`, schema 1; nil when the kind is not known. Every field must be there, of its type
  /// and within its bounds, and no other.
  static func parse(kind: String, _ body: TOMLFields) throws(TOMLError) -> VolumeEvent? {
    var f = body
    var event = try parseGenesis(kind, &f)
    if event == nil { event = try parseServing(kind, &f) }
    if event == nil { event = try parseSegment(kind, &f) }
    if event == nil { event = try parsePoint(kind, &f) }
    if event == nil { event = try parseCollection(kind, &f) }
    if event != nil { try f.end() }
    return event
  }

  private static func parseGenesis(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> VolumeEvent? {
    switch kind {
    case "created": .created(try Genesis(&f))
    case "forked": .forked(try Genesis(&f), from: try Lineage(&f))
    case "continued": .continued(try Genesis(&f), from: try Lineage(&f))
    case "imported":
      .imported(try Genesis(&f), source: try f.string("source", limit: EventLimits.text), digest: try f.digest("digest"))
    default: nil
    }
  }

  private static func parseServing(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> VolumeEvent? {
    switch kind {
    case "opened":
      .opened(
        wal: try f.integer("wal", EventLimits.segment), lastFrame: try f.integer("last_frame"),
        lastHeaderCRC: UInt32(try f.integer("last_header_crc", EventLimits.crc)), discarded: try f.integer("discarded"))
    case "closed": .closed
    case "bound":
      .bound(
        name: try f.string("name", limit: EventLimits.name), nameSeq: try f.integer("name_seq"), epoch: try f.integer("epoch"))
    case "fenced": .fenced(nameSeq: try f.integer("name_seq"))
    case "wal_opened": .walOpened(wal: try f.integer("wal", EventLimits.segment))
    default: nil
    }
  }

  private static func parseSegment(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> VolumeEvent? {
    switch kind {
    case "segment_sealed":
      let segment = try f.integer("segment", EventLimits.segment)
      let text = try f.string("origin", limit: EventLimits.name)
      guard let origin = SealedSegment.Origin(rawValue: text) else { throw TOMLError("body.origin is \"\(text)\"") }
      return .segmentSealed(
        SealedSegment(
          segment: segment, origin: origin, blocks: try f.integer("blocks", EventLimits.blocks),
          content: try f.digest("content")))
    case "segment_encoded":
      return .segmentEncoded(
        EncodedSegment(
          segment: try f.integer("segment", EventLimits.segment), hash: try f.digest("hash"),
          encoding: try f.digest("encoding"), length: try f.integer("length"),
          units: try f.integer("units", EventLimits.blocks)))
    case "segment_uploaded":
      return .segmentUploaded(segment: try f.integer("segment", EventLimits.segment), hash: try f.digest("hash"))
    default: return nil
    }
  }

  private static func parsePoint(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> VolumeEvent? {
    switch kind {
    case "snapshot_taken":
      .snapshotTaken(
        snapshot: try f.ulid("snapshot"), label: try f.string("label", limit: EventLimits.label),
        after: try f.integer("after", EventLimits.segment))
    case "snapshot_deleted": .snapshotDeleted(snapshot: try f.ulid("snapshot"))
    case "resized": .resized(size: try volumeSize(&f), after: try f.integer("after", EventLimits.segment))
    case "map_rooted": .mapRooted(seq: try f.integer("seq"), root: try f.digest("root"))
    default: nil
    }
  }

  private static func parseCollection(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> VolumeEvent? {
    switch kind {
    case "compaction_planned":
      .compactionPlanned(
        plan: try f.ulid("plan"), inputs: try f.integers("inputs", EventLimits.segment),
        outputs: try f.integers("outputs", EventLimits.segment), reason: try f.string("reason", limit: EventLimits.text))
    case "compaction_committed": .compactionCommitted(plan: try f.ulid("plan"), moves: try f.digest("moves"))
    case "compaction_abandoned": .compactionAbandoned(plan: try f.ulid("plan"))
    case "segments_retired": .segmentsRetired(list: try f.digest("list"), count: try f.integer("count"))
    case "segments_deleted":
      .segmentsDeleted(list: try f.digest("list"), count: try f.integer("count"), reapSeq: try f.integer("reap_seq"))
    case "source_added":
      .sourceAdded(
        volume: try f.ulid("volume"), cut: try f.integer("cut"), key: try f.publicKey("key"),
        first: try f.integer("first", EventLimits.segment), count: try f.integer("count", EventLimits.segment))
    case "object_planned": .objectPlanned(key: try f.string("key", limit: EventLimits.key))
    case "objects_retired": .objectsRetired(keys: try f.strings("keys", limit: EventLimits.key))
    case "objects_deleted": .objectsDeleted(keys: try f.strings("keys", limit: EventLimits.key))
    case "repaired":
      .repaired(detail: try f.string("detail", limit: EventLimits.text), lostFromFrame: try f.integer("lost_from_frame"))
    default: nil
    }
  }

  fileprivate static func volumeSize(_ f: inout TOMLFields) throws(TOMLError) -> UInt64 {
    let size = try f.integer("size", EventLimits.size)
    guard size % 512 == 0 else { throw TOMLError("body.size is \(size), not a multiple of 512") }
    return size
  }
}

extension Genesis {
  init(_ f: inout TOMLFields) throws(TOMLError) {
    self.init(
      size: try VolumeEvent.volumeSize(&f), blockSize: try f.integer("block_size", 512...65536), key: try f.publicKey("key"),
      incompatibleFeatures: try f.strings("incompatible_features", limit: EventLimits.name),
      readOnlyCompatibleFeatures: try f.strings("read_only_compatible_features", limit: EventLimits.name))
  }
}

extension Lineage {
  init(_ f: inout TOMLFields) throws(TOMLError) {
    self.init(
      parent: try f.ulid("parent"), seq: try f.integer("seq"), page: try f.integer("page"), pageHash: try f.digest("page_hash"),
      parentKey: try f.publicKey("parent_key"), firstSegment: try f.integer("first_segment", EventLimits.segment))
  }
}
