import ElideEngine
import ElideIO

// What `--json` prints. The fields are a contract: docs/cli-json.md lists them, and names are never reused.

struct VolumeJSON: Encodable {
  let name: String?
  let volume: String
  let size: UInt64
  let image: Bool
  let writable: Bool
  let parent: String?
  let parentSeq: UInt64?
  let created: UInt64
  let phase: String?
  let owner: String?

  init(_ v: VolumeSummary) {
    name = v.name
    volume = v.volume.description
    size = v.size
    image = v.isImage
    writable = v.isWritable
    parent = v.parent?.volume.description
    parentSeq = v.parent?.seq
    created = v.created
    phase = v.phase
    owner = v.owner
  }
}

struct SnapshotJSON: Codable {
  let snapshot: String
  let label: String
  let point: UInt64?
  let size: UInt64
  let published: Bool

  init(_ s: SnapshotInfo) {
    snapshot = s.snapshot.description
    label = s.label
    point = s.point
    size = s.size
    published = s.isPublished
  }
}

struct StageJSON: Codable {
  let stage: String
  let count: UInt64
  let bytes: UInt64
  let microseconds: UInt64
}

struct StatusJSON: Codable {
  let volume: String
  let state: String
  let reason: String?
  let size: UInt64
  let head: UInt64
  let cut: UInt64?
  let page: UInt64?
  let checkpoint: UInt64?
  let unsealedFiles: Int
  let unsealedBytes: UInt64
  let unsentBytes: UInt64
  let exposureMilliseconds: UInt64
  let unreachableMilliseconds: UInt64
  let waitingFetches: Int
  let writing: String
  let segments: Int
  let snapshots: [SnapshotJSON]
  let segmentsUploaded: UInt64
  let bytesUploaded: UInt64
  let pagesPublished: UInt64
  let fetches: UInt64
  let duplicateBlocks: UInt64
  let storeFailures: UInt64
  let stages: [StageJSON]
  let lastError: String?
  let failedReads: UInt64
  let lastReadError: String?
  /// Of the process that serves it, if one does.
  let process: Int32?
  let name: String?
  let epoch: UInt64?
  let clients: UInt64?

  init(_ s: VolumeStatus, _ served: ServedFacts? = nil) {
    volume = s.volume.description
    state = s.state.rawValue
    reason = s.reason
    size = s.size
    head = s.head
    cut = s.cut
    page = s.page
    checkpoint = s.checkpoint
    unsealedFiles = s.unsealedWals
    unsealedBytes = s.unsealedBytes
    unsentBytes = s.unsentBytes
    exposureMilliseconds = s.exposureMilliseconds
    unreachableMilliseconds = s.unreachableMilliseconds
    waitingFetches = s.waitingFetches
    writing = s.writing.rawValue
    segments = s.segments
    snapshots = s.snapshots.map(SnapshotJSON.init)
    segmentsUploaded = s.counters.segmentsUploaded
    bytesUploaded = s.counters.bytesUploaded
    pagesPublished = s.counters.pagesPublished
    fetches = s.counters.fetches
    duplicateBlocks = s.counters.duplicateBlocks
    storeFailures = s.counters.storeFailures
    stages = zip(Stage.allCases, s.stages).map { stage, t in
      StageJSON(stage: "\(stage)", count: t.count, bytes: t.bytes, microseconds: t.nanoseconds / 1000)
    }
    lastError = s.lastError
    failedReads = s.failedReads
    lastReadError = s.lastReadError
    process = served?.process
    name = served?.name
    epoch = served?.epoch
    clients = served?.clients
  }
}
