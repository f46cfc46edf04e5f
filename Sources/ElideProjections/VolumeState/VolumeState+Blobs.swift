import ElideEvents
import ElideIO

// What is legal about the blob beside an entry: a seal's content, a compaction's moves, a list of segments.

extension VolumeState {
  func orderFault(_ at: UInt64) -> String? {
    if let seq, at <= seq { return "follows entry \(seq)" }
    return seq == nil && at != 0 ? "the journal does not begin with entry 0" : nil
  }

  /// Why this event cannot happen with this blob; nil when it can, or when there is none to judge. The keeper asks before
  /// it appends a seal: the answer to a target that will not stay is to seal again.
  package func blobFault(_ event: VolumeEvent, _ blob: FoldBlob) -> String? {
    switch (event, blob) {
    case (_, .meaningless(let error)): return "its blob means nothing: \(error)"
    case (.segmentSealed(let s), .content(let content)): return contentFault(s, content)
    case (.compactionCommitted(let plan, _), .moves(let moves)): return movesFault(plan, moves)
    case (.segmentsRetired(_, let count), .segments(let list)):
      if UInt64(list.numbers.count) != count { return "a list of \(list.numbers.count) segments, not \(count)" }
      for n in list.numbers { if let fault = retireFault(n) { return fault } }
      return nil
    case (.segmentsDeleted(_, let count, _), .segments(let list)):
      if UInt64(list.numbers.count) != count { return "a list of \(list.numbers.count) segments, not \(count)" }
      return list.numbers.first { segments[$0]?.phase != .retired }.map { "segment \($0) is not retired" }
    default: return nil
    }
  }

  private func retireFault(_ n: UInt64) -> String? {
    guard let s = segments[n] else { return "segment \(n) is none of this volume's" }
    if s.phase == .retired || s.phase == .deleted { return "segment \(n) is \(s.phase)" }
    return compactions.contains { $0.inputs.contains(n) || $0.outputs.contains(n) } ? "segment \(n) is in a plan" : nil
  }

  private func contentFault(_ s: SealedSegment, _ content: SegmentContent) -> String? {
    if let fault = content.fault { return "content of segment \(s.segment): \(fault)" }
    if content.blocks != s.blocks { return "segment \(s.segment) has \(s.blocks) blocks, its content \(content.blocks)" }
    let blocks = (size + 4095) / 4096
    if s.origin != .compaction, let last = content.runs.last, last.lba + last.count > blocks {
      return "segment \(s.segment) writes block \(last.lba + last.count - 1) of \(blocks)"
    }
    for run in content.runs {
      guard case .duplicate(let target) = run.kind else { continue }
      if let fault = targetFault(target, run.count, of: s) { return fault }
    }
    return nil
  }

  /// New references go only to blocks that exist and will stay. Inherited segments and those of sources are not in this
  /// state: their table is the checkpoint's.
  private func targetFault(_ target: BlockHandle, _ count: UInt64, of s: SealedSegment) -> String? {
    let n = target.segment
    let end = UInt64(target.r) + count
    if n == s.segment { return end <= s.blocks ? nil : "segment \(n) names its own block \(end - 1) of \(s.blocks)" }
    guard let row = segments[n] else {
      // Numbers of this volume's own range belong to its segments, or to sources.
      return n < firstSegment || n < nextSegment && !openWALs.contains(n) && !compactions.contains { $0.outputs.contains(n) }
        ? nil : "segment \(s.segment) names segment \(n), which is not there"
    }
    if end > row.blocks { return "segment \(s.segment) names block \(end - 1) of segment \(n)" }
    if row.phase == .retired || row.phase == .deleted { return "segment \(s.segment) names segment \(n), which is \(row.phase)" }
    return compactions.contains { $0.inputs.contains(n) || $0.outputs.contains(n) }
      ? "segment \(s.segment) names segment \(n), which is planned" : nil
  }

  private func movesFault(_ id: ULID, _ moves: [BlockMove]) -> String? {
    guard let plan = compactions.first(where: { $0.plan == id }) else { return nil }
    var end: UInt64 = 0
    for m in moves {
      if m.lba < end || m.lba + m.count > (size + 4095) / 4096 { return "a move of block \(m.lba), out of order or past the end" }
      end = m.lba + m.count
      if !plan.inputs.contains(m.from.segment) || !plan.outputs.contains(m.to.segment) {
        return "a move from segment \(m.from.segment) to \(m.to.segment), not of plan \(id)"
      }
      for h in [m.from, m.to] where UInt64(h.r) + m.count > segments[h.segment]?.blocks ?? 0 {
        return "a move names block \(UInt64(h.r) + m.count - 1) of segment \(h.segment)"
      }
    }
    return nil
  }
}
