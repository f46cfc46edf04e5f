import ElideEvents
import ElideIO

/// A segment of the volume's own, as its journal tells it.
package struct OwnSegment: Equatable, Sendable {
  package enum Phase: UInt8, Sendable { case sealed, encoded, uploaded, retired, deleted }
  package var number: UInt64
  package var origin: SealedSegment.Origin
  package var blocks: UInt64
  package var content: Digest
  package var sealedSeq: UInt64
  package var encoded: EncodedSegment?
  package var encodedSeq: UInt64?
  package var uploadedSeq: UInt64?
  package var phase: Phase
  /// Nothing of it need leave this host: it has no blocks, or the store has them.
  package var isSafe: Bool { blocks == 0 || uploadedSeq != nil }
}

package struct Snapshot: Equatable, Sendable {
  package var id: ULID
  package var label: String
  /// The write-ahead file it comes after; `point` is the entry that sealed it, nil until then.
  package var after: UInt64
  package var takenSeq: UInt64
  package var point: UInt64?
}

package struct PendingResize: Equatable, Sendable {
  package var size: UInt64
  package var after: UInt64
}

package struct Compaction: Equatable, Sendable {
  package var plan: ULID
  package var inputs: [UInt64]
  package var outputs: [UInt64]
}

/// An entry that was not possible where it stands: it occupies its slot and changed nothing.
package struct Violation: Error, Equatable, Sendable, CustomStringConvertible {
  package var seq: UInt64
  package var detail: String
  package var description: String { "entry \(seq): \(detail)" }
}

/// What a volume's journal says, but for the block map: a pure fold of committed events. The same log gives the same
/// state, and `encode()` the same bytes, on every machine.
package struct VolumeState: Equatable, Sendable {
  package let volume: ULID
  package var genesis: Genesis?
  package var lineage: Lineage?
  package var source: String?
  /// Bytes, as of the last barrier whose wal is sealed; what the device shows may be ahead of it.
  package var size: UInt64 = 0
  /// The last entry folded.
  package var seq: UInt64?
  package var nextSegment: UInt64 = 1
  package var segments: [UInt64: OwnSegment] = [:]
  /// Write-ahead files that exist and are not sealed, rising.
  package var openWALs: [UInt64] = []
  package var isServing = false
  /// The end of the write-ahead log as the last `opened` found it.
  package var lastFrame: UInt64 = 0
  package var lastHeaderCRC: UInt32 = 0
  package var snapshots: [Snapshot] = []
  package var resizes: [PendingResize] = []
  package var compactions: [Compaction] = []
  package var plannedObjects: [String] = []
  package var boundName: String?
  package var boundSeq: UInt64?
  package var epoch: UInt64 = 0
  package var isFenced = false
  package var violations: [Violation] = []

  package init(volume: ULID) { self.volume = volume }

  /// The first segment number of the volume's own.
  package var firstSegment: UInt64 { lineage?.firstSegment ?? 1 }
  /// Own segments in the order of their numbers.
  package var ordered: [OwnSegment] { segments.values.sorted { $0.number < $1.number } }

  /// Bytes the device shows: the newest size asked for.
  package var deviceSize: UInt64 { resizes.last?.size ?? size }

  /// The entry at which wal `after` was sealed; nil while it is not.
  package func barrierPoint(after: UInt64) -> UInt64? {
    if let segment = segments[after] { return segment.sealedSeq }
    return openWALs.contains(where: { $0 <= after }) ? nil : seq
  }

  /// Folds an entry. An impossible one is kept as a violation and returned. Without the blob that the entry names
  /// (`FoldBlob.needed`) only what the entry itself says is judged, and lists of segments change nothing: a look at a
  /// journal, not its meaning.
  @discardableResult
  package mutating func apply(_ committed: Committed<VolumeEvent>, _ blob: FoldBlob = .none) -> Violation? {
    let seq = committed.seq
    if let detail = orderFault(seq) ?? fault(committed.event) ?? blobFault(committed.event, blob) {
      let violation = Violation(seq: seq, detail: detail)
      violations.append(violation)
      self.seq = max(seq, self.seq ?? 0)
      return violation
    }
    self.seq = seq
    fold(committed.event, seq)
    if case .segments(let list) = blob { collect(committed.event, list.numbers) }
    return nil
  }

  private mutating func fold(_ event: VolumeEvent, _ seq: UInt64) {
    switch event {
    case .created(let g): begin(g, nil, nil)
    case .forked(let g, let from), .continued(let g, let from): begin(g, from, nil)
    case .imported(let g, let source, _): begin(g, nil, source)
    case .opened(_, let lastFrame, let crc, _):
      isServing = true
      self.lastFrame = lastFrame
      lastHeaderCRC = crc
    case .closed: isServing = false
    case .bound(let name, let nameSeq, let epoch):
      boundName = name
      boundSeq = nameSeq
      self.epoch = epoch
      isFenced = false
    case .fenced: isFenced = true
    case .walOpened(let wal):
      openWALs.append(wal)
      nextSegment = wal + 1
    case .segmentSealed(let s): seal(s, seq)
    case .segmentEncoded(let e):
      segments[e.segment]?.encoded = e
      segments[e.segment]?.encodedSeq = seq
      segments[e.segment]?.phase = .encoded
    case .segmentUploaded(let segment, _):
      segments[segment]?.uploadedSeq = seq
      segments[segment]?.phase = .uploaded
    case .snapshotTaken(let id, let label, let after):
      snapshots.append(Snapshot(id: id, label: label, after: after, takenSeq: seq, point: barrierPoint(after: after)))
    case .snapshotDeleted(let id): snapshots.removeAll { $0.id == id }
    case .resized(let size, let after):
      resizes.append(PendingResize(size: size, after: after))
      settleResizes()
    case .compactionPlanned(let plan, let inputs, let outputs, _):
      compactions.append(Compaction(plan: plan, inputs: inputs, outputs: outputs))
      nextSegment = max(nextSegment, (outputs.max() ?? 0) + 1)
    case .compactionCommitted(let plan, _), .compactionAbandoned(let plan): compactions.removeAll { $0.plan == plan }
    case .objectPlanned(let key): plannedObjects.append(key)
    case .objectsRetired: break
    case .objectsDeleted(let keys): plannedObjects.removeAll { keys.contains($0) }
    case .sourceAdded(_, _, _, let first, let count): nextSegment = first + count
    case .repaired(_, let lostFromFrame): lastFrame = lostFromFrame == 0 ? 0 : lostFromFrame - 1
    case .mapRooted, .segmentsRetired, .segmentsDeleted: break
    }
  }

  private mutating func collect(_ event: VolumeEvent, _ numbers: [UInt64]) {
    var phase = OwnSegment.Phase.retired
    if case .segmentsDeleted = event { phase = .deleted }
    for n in numbers { segments[n]?.phase = phase }
  }

  private mutating func begin(_ g: Genesis, _ from: Lineage?, _ source: String?) {
    genesis = g
    lineage = from
    self.source = source
    size = g.size
    nextSegment = from?.firstSegment ?? 1
  }

  private mutating func seal(_ s: SealedSegment, _ seq: UInt64) {
    segments[s.segment] = OwnSegment(
      number: s.segment, origin: s.origin, blocks: s.blocks, content: s.content, sealedSeq: seq, phase: .sealed)
    openWALs.removeAll { $0 == s.segment }
    nextSegment = max(nextSegment, s.segment + 1)
    for i in snapshots.indices where snapshots[i].point == nil {
      // The output of a plan may have a higher number than a wal that is still open: it opens no barrier.
      if !openWALs.contains(where: { $0 <= snapshots[i].after }) { snapshots[i].point = seq }
    }
    settleResizes()
  }

  private mutating func settleResizes() {
    while let first = resizes.first, !openWALs.contains(where: { $0 <= first.after }) {
      size = first.size
      resizes.removeFirst()
    }
  }
}
