import ElideIO

// The body of each kind of volume event as TOML, written and read side by side: what one writes, the other takes.
// Fields, bounds and meaning: docs/formats/journal.md.

/// Bounds on what an entry may say, checked when it is read.
package enum EventLimits {
  package static let integer = 0...UInt64(Int64.max)
  /// Segment and write-ahead file numbers: 40 bits of a block handle.
  package static let segment = 0...(UInt64(1) << 40 - 1)
  /// Blocks of a segment: 20 bits of a block handle.
  package static let blocks = 0...(UInt64(1) << 20)
  /// Bytes of a volume.
  package static let size = UInt64(512)...(UInt64(1) << 50)
  package static let crc = 0...UInt64(UInt32.max)
  /// Bytes of a name, a label, a store key and free text.
  package static let name = 255
  package static let label = 255
  package static let key = 512
  package static let text = 4096
}

extension VolumeEvent {
  /// The word for this kind in an entry.
  package var kind: String {
    switch self {
    case .created: "created"
    case .forked: "forked"
    case .continued: "continued"
    case .imported: "imported"
    case .opened: "opened"
    case .closed: "closed"
    case .bound: "bound"
    case .fenced: "fenced"
    case .walOpened: "wal_opened"
    case .segmentSealed: "segment_sealed"
    case .segmentEncoded: "segment_encoded"
    case .segmentUploaded: "segment_uploaded"
    case .snapshotTaken: "snapshot_taken"
    case .snapshotDeleted: "snapshot_deleted"
    case .resized: "resized"
    case .mapRooted: "map_rooted"
    case .compactionPlanned: "compaction_planned"
    case .compactionCommitted: "compaction_committed"
    case .compactionAbandoned: "compaction_abandoned"
    case .segmentsRetired: "segments_retired"
    case .segmentsDeleted: "segments_deleted"
    case .sourceAdded: "source_added"
    case .objectPlanned: "object_planned"
    case .objectsRetired: "objects_retired"
    case .objectsDeleted: "objects_deleted"
    case .repaired: "repaired"
    }
  }

  /// The blobs this event names: they lie beside its entry, in the journal and in the page that carries it.
  package var blobs: [Digest] {
    switch self {
    case .segmentSealed(let s): [s.content]
    case .segmentEncoded(let e): [e.encoding]
    case .compactionCommitted(_, let moves): [moves]
    case .segmentsRetired(let list, _), .segmentsDeleted(let list, _, _): [list]
    default: []
    }
  }

  func writeBody(_ w: inout TOMLWriter) {
    switch self {
    case .created(let g): g.write(&w)
    case .forked(let g, let from), .continued(let g, let from):
      g.write(&w)
      from.write(&w)
    case .imported(let g, let source, let digest):
      g.write(&w)
      w.string("source", source)
      w.digest("digest", digest)
    case .opened, .closed, .bound, .fenced, .walOpened: writeServing(&w)
    case .segmentSealed, .segmentEncoded, .segmentUploaded: writeSegment(&w)
    case .snapshotTaken, .snapshotDeleted, .resized, .mapRooted: writePoint(&w)
    default: writeCollection(&w)
    }
  }

  private func writeServing(_ w: inout TOMLWriter) {
    switch self {
    case .opened(let wal, let lastFrame, let crc, let discarded):
      w.integer("wal", wal)
      w.integer("last_frame", lastFrame)
      w.integer("last_header_crc", UInt64(crc))
      w.integer("discarded", discarded)
    case .bound(let name, let nameSeq, let epoch):
      w.string("name", name)
      w.integer("name_seq", nameSeq)
      w.integer("epoch", epoch)
    case .fenced(let nameSeq): w.integer("name_seq", nameSeq)
    case .walOpened(let wal): w.integer("wal", wal)
    default: break
    }
  }

  private func writeSegment(_ w: inout TOMLWriter) {
    switch self {
    case .segmentSealed(let s):
      w.integer("segment", s.segment)
      w.string("origin", s.origin.rawValue)
      w.integer("blocks", s.blocks)
      w.digest("content", s.content)
    case .segmentEncoded(let e):
      w.integer("segment", e.segment)
      w.digest("hash", e.hash)
      w.digest("encoding", e.encoding)
      w.integer("length", e.length)
      w.integer("units", e.units)
    case .segmentUploaded(let segment, let hash):
      w.integer("segment", segment)
      w.digest("hash", hash)
    default: break
    }
  }

  private func writePoint(_ w: inout TOMLWriter) {
    switch self {
    case .snapshotTaken(let snapshot, let label, let after):
      w.ulid("snapshot", snapshot)
      w.string("label", label)
      w.integer("after", after)
    case .snapshotDeleted(let snapshot): w.ulid("snapshot", snapshot)
    case .resized(let size, let after):
      w.integer("size", size)
      w.integer("after", after)
    case .mapRooted(let seq, let root):
      w.integer("seq", seq)
      w.digest("root", root)
    default: break
    }
  }

  private func writeCollection(_ w: inout TOMLWriter) {
    switch self {
    case .compactionPlanned(let plan, let inputs, let outputs, let reason):
      w.ulid("plan", plan)
      w.integers("inputs", inputs)
      w.integers("outputs", outputs)
      w.string("reason", reason)
    case .compactionCommitted(let plan, let moves):
      w.ulid("plan", plan)
      w.digest("moves", moves)
    case .compactionAbandoned(let plan): w.ulid("plan", plan)
    case .segmentsRetired(let list, let count):
      w.digest("list", list)
      w.integer("count", count)
    case .segmentsDeleted(let list, let count, let reapSeq):
      w.digest("list", list)
      w.integer("count", count)
      w.integer("reap_seq", reapSeq)
    case .sourceAdded(let volume, let cut, let key, let first, let count):
      w.ulid("volume", volume)
      w.integer("cut", cut)
      w.publicKey("key", key)
      w.integer("first", first)
      w.integer("count", count)
    case .objectPlanned(let key): w.string("key", key)
    case .objectsRetired(let keys), .objectsDeleted(let keys): w.strings("keys", keys)
    case .repaired(let detail, let lost):
      w.string("detail", detail)
      w.integer("lost_from_frame", lost)
    default: break
    }
  }
}

extension Genesis {
  func write(_ w: inout TOMLWriter) {
    w.integer("size", size)
    w.integer("block_size", blockSize)
    w.publicKey("key", key)
    w.strings("incompatible_features", incompatibleFeatures)
    w.strings("read_only_compatible_features", readOnlyCompatibleFeatures)
  }
}

extension Lineage {
  func write(_ w: inout TOMLWriter) {
    w.ulid("parent", parent)
    w.integer("seq", seq)
    w.integer("page", page)
    w.digest("page_hash", pageHash)
    w.publicKey("parent_key", parentKey)
    w.integer("first_segment", firstSegment)
  }
}
