import ElideEvents
import ElideIO

extension VolumeState {
  /// Why this event cannot happen in this state; nil when it can. What the keeper asks before it appends, and what `apply`
  /// asks of every entry it reads.
  package func fault(_ event: VolumeEvent) -> String? {
    switch event {
    case .created, .forked, .continued, .imported: return genesisFault(event)
    default: if genesis == nil { return "the journal does not begin with a genesis" }
    }
    switch event {
    case .walOpened(let wal):
      if wal >= 1 << 40 { return "segment numbers are used up" }
      return wal == nextSegment ? nil : "wal \(wal) opened where \(nextSegment) is next"
    case .segmentSealed(let s): return sealFault(s)
    case .segmentEncoded(let e): return encodeFault(e)
    case .segmentUploaded(let n, let hash): return uploadFault(n, hash)
    case .snapshotTaken(let id, let label, let after):
      if snapshots.contains(where: { $0.id == id }) { return "snapshot \(id) exists" }
      if !label.isEmpty, snapshots.contains(where: { $0.label == label }) { return "a snapshot is labelled \(label) already" }
      return barrierFault(after)
    case .snapshotDeleted(let id): return snapshots.contains { $0.id == id } ? nil : "there is no snapshot \(id)"
    case .resized(let size, let after):
      if size < deviceSize { return "a volume of \(deviceSize) bytes cannot shrink to \(size)" }
      if size % 512 != 0 || size > 1 << 50 { return "\(size) bytes is not a size" }
      return barrierFault(after)
    case .mapRooted(let at, _): return at <= seq ?? 0 ? nil : "speaks of entry \(at), which is not there yet"
    case .compactionPlanned(let plan, let inputs, let outputs, _): return planFault(plan, inputs, outputs)
    case .compactionCommitted(let plan, _): return commitFault(plan)
    case .compactionAbandoned(let plan):
      return compactions.contains { $0.plan == plan } ? nil : "there is no plan \(plan)"
    case .objectPlanned(let key): return plannedObjects.contains(key) ? "object \(key) is planned already" : nil
    case .objectsRetired(let keys), .objectsDeleted(let keys):
      return keys.first { !plannedObjects.contains($0) }.map { "object \($0) was never planned" }
    case .sourceAdded(_, _, _, let first, let count):
      if count == 0 || count > 1 << 40 - min(first, 1 << 40) { return "a source of \(count) segments" }
      return first == nextSegment ? nil : "source numbered from \(first), \(nextSegment) is next"
    default: return nil
    }
  }

  private func genesisFault(_ event: VolumeEvent) -> String? {
    if seq != nil { return "a genesis after the first entry" }
    let g: Genesis
    var from: Lineage?
    switch event {
    case .created(let v), .imported(let v, _, _): g = v
    case .forked(let v, let l), .continued(let v, let l):
      g = v
      from = l
    default: return "no genesis"
    }
    if g.size % 512 != 0 || g.size > 1 << 50 { return "\(g.size) bytes is not a size" }
    if g.blockSize != 4096 { return "blocks of \(g.blockSize) bytes" }
    if g.key.count != 32 { return "a key of \(g.key.count) bytes" }
    if let from, from.parentKey.count != 32 { return "a parent's key of \(from.parentKey.count) bytes" }
    if let from, from.parent == volume { return "a volume that is its own parent" }
    if let from, from.firstSegment == 0 || from.firstSegment >= 1 << 40 { return "first segment \(from.firstSegment)" }
    return nil
  }

  private func barrierFault(_ after: UInt64) -> String? {
    after < nextSegment ? nil : "comes after wal \(after), which does not exist"
  }

  private func sealFault(_ s: SealedSegment) -> String? {
    if segments[s.segment] != nil { return "segment \(s.segment) is sealed already" }
    if s.blocks > 1 << 20 { return "segment \(s.segment) of \(s.blocks) blocks" }
    switch s.origin {
    case .wal:
      guard let first = openWALs.first else { return "wal \(s.segment) is not open" }
      return first == s.segment ? nil : "wal \(s.segment) sealed before \(first)"
    case .import:
      if source == nil { return "an imported segment in a volume that is no import" }
      return s.segment == nextSegment ? nil : "segment \(s.segment) where \(nextSegment) is next"
    case .compaction:
      return compactions.contains { $0.outputs.contains(s.segment) } ? nil : "segment \(s.segment) is in no plan"
    }
  }

  private func encodeFault(_ e: EncodedSegment) -> String? {
    guard let s = segments[e.segment] else { return "segment \(e.segment) is not sealed" }
    if s.blocks == 0 { return "segment \(e.segment) has no blocks to encode" }
    if s.uploadedSeq != nil { return "segment \(e.segment) is uploaded already" }
    if s.phase == .retired || s.phase == .deleted { return "segment \(e.segment) is \(s.phase)" }
    if e.hash != SegmentEncoding.segmentHash(content: s.content, encoding: e.encoding) {
      return "segment \(e.segment): the hash is not that of its content and encoding"
    }
    // Stored units are not longer than plain, and every block has a hash of 32 bytes.
    if e.length < 32 * s.blocks || e.length > 4128 * s.blocks || e.units == 0 || e.units > s.blocks {
      return "segment \(e.segment): \(e.units) units and \(e.length) bytes for \(s.blocks) blocks"
    }
    return nil
  }

  private func uploadFault(_ n: UInt64, _ hash: Digest) -> String? {
    guard let s = segments[n], let e = s.encoded else { return "segment \(n) is not encoded" }
    if s.uploadedSeq != nil { return "segment \(n) is uploaded already" }
    return e.hash == hash ? nil : "segment \(n) uploaded as \(hash), encoded as \(e.hash)"
  }

  private func planFault(_ plan: ULID, _ inputs: [UInt64], _ outputs: [UInt64]) -> String? {
    if compactions.contains(where: { $0.plan == plan }) { return "plan \(plan) exists" }
    if inputs.isEmpty || zip(inputs, inputs.dropFirst()).contains(where: { $0 >= $1 }) { return "inputs of a plan rise" }
    for n in inputs { if let fault = collectFault(n) { return fault } }
    return outputs == Array(nextSegment..<nextSegment + UInt64(outputs.count)) ? nil : "outputs are not the next numbers"
  }

  /// Why a segment may not be planned or retired.
  private func collectFault(_ n: UInt64) -> String? {
    guard let s = segments[n] else { return "segment \(n) is none of this volume's" }
    if s.phase == .retired || s.phase == .deleted { return "segment \(n) is \(s.phase)" }
    return compactions.contains { $0.inputs.contains(n) || $0.outputs.contains(n) } ? "segment \(n) is in another plan" : nil
  }

  private func commitFault(_ id: ULID) -> String? {
    guard let plan = compactions.first(where: { $0.plan == id }) else { return "there is no plan \(id)" }
    for n in plan.outputs {
      guard let s = segments[n] else { return "output \(n) is not sealed" }
      if !s.isSafe { return "output \(n) is not uploaded" }
    }
    return nil
  }

  /// A sealed segment may point only at what will stay: a seal with such a target is refused and computed again.
  package func targetFault(_ content: SegmentContent) -> UInt64? {
    for case .duplicate(let target) in content.runs.lazy.map(\.kind) {
      if let s = segments[target.segment], s.phase == .retired || s.phase == .deleted { return target.segment }
      if compactions.contains(where: { $0.inputs.contains(target.segment) }) { return target.segment }
    }
    return nil
  }

  /// The highest entry up to which nothing is missing in the store if pages end at `last`: a reader that has pages up to
  /// there, and the bodies, has every block. Every segment sealed at or below it is uploaded at or below `last`.
  package func cut(through last: UInt64) -> UInt64 {
    var cut = last
    for s in segments.values where s.blocks > 0 && s.sealedSeq <= cut {
      if let uploaded = s.uploadedSeq, uploaded <= last { continue }
      cut = s.sealedSeq - 1
    }
    return cut
  }

  /// The structure's own rules; the first that does not hold.
  package func checkInvariants() -> String? {
    if openWALs != openWALs.sorted() || Set(openWALs).count != openWALs.count { return "open wals are not rising" }
    if let n = openWALs.first(where: { segments[$0] != nil }) { return "wal \(n) is open and sealed" }
    if let n = segments.keys.first(where: { $0 >= nextSegment }) { return "segment \(n) beyond the counter" }
    for s in segments.values {
      if s.uploadedSeq != nil && s.encoded == nil { return "segment \(s.number) uploaded but never encoded" }
      if let e = s.encodedSeq, e < s.sealedSeq { return "segment \(s.number) encoded before it was sealed" }
      if let u = s.uploadedSeq, let e = s.encodedSeq, u < e { return "segment \(s.number) uploaded before it was encoded" }
    }
    for s in snapshots {
      if let p = s.point, let n = segments[s.after], p != n.sealedSeq { return "snapshot \(s.id) off its point" }
    }
    return nil
  }
}
