import ElideEvents
import ElideIO
import ElideProjections

/// Who set a block last.
package struct Blame: Equatable, Sendable {
  /// The volume in whose journal the entry stands: the one that was asked for, or an ancestor.
  package var volume: ULID
  package var lba: UInt64
  package var envelope: Envelope
  package var hash: Digest
  /// The page that carries the entry; nil while it is local only.
  package var page: UInt64?
  package var segment: UInt64
  package var origin: SealedSegment.Origin
  package var kind: ChangedRun.Kind
  /// The same bytes as an older block.
  package var isDuplicate: Bool
}

extension Auditor {
  /// The newest entry, through `through`, whose segment says something of block `lba`; nil when none does, and the block reads as
  /// zeros. Compaction moves blocks and sets none.
  package func blame(
    _ volume: ULID, lba: UInt64, from source: HistorySource, through: UInt64? = nil
  ) throws(ElideError) -> Blame? {
    var next: (volume: ULID, source: HistorySource, through: UInt64?)? = (volume, source, through)
    for _ in 0..<64 {
      guard let one = next else { return nil }
      var parent: Lineage?
      if let found = try blame(one.volume, lba, one.source, one.through, &parent) { return found }
      next = nil
      if let parent { next = (parent.parent, try place(of: parent.parent, source), parent.seq) }
    }
    throw ElideError(.fault, "volume \(volume) has more than 64 ancestors")
  }

  private func blame(
    _ volume: ULID, _ lba: UInt64, _ source: HistorySource, _ through: UInt64?, _ parent: inout Lineage?
  ) throws(ElideError) -> Blame? {
    let history = try history(of: volume, from: source)
    defer { history.close() }
    var replay = JournalReplay(log: "volume/\(volume)")
    var last: Blame?
    do throws(ReplayError) {
      while let (raw, page) = try history.next(), replay.nextSeq <= through ?? .max {
        guard let committed = try replay.next(raw) else { continue }
        switch committed.event {
        case .forked(_, let lineage), .continued(_, let lineage): parent = lineage
        case .segmentSealed(let s) where s.origin != .compaction:
          guard let run = try run(of: s, at: lba, history) else { continue }
          last = Blame(
            volume: volume, lba: lba, envelope: committed.envelope, hash: committed.hash, page: page, segment: s.segment,
            origin: s.origin, kind: Self.kind(run.kind), isDuplicate: Self.isDuplicate(run.kind))
        default: break
        }
      }
    } catch { throw ElideError(error, volume) }
    return last
  }

  private func run(
    of s: SealedSegment, at lba: UInt64, _ history: any History
  ) throws(ReplayError) -> SegmentContent.Run? {
    let blob = try history.blob(s.content)
    do throws(FormatError) {
      return try SegmentContent.decode(blob).runs.first { $0.lba <= lba && lba - $0.lba < $0.count }
    } catch { throw .store(.damaged("the content of segment \(s.segment): \(error)")) }
  }

  private static func kind(_ kind: SegmentContent.Kind) -> ChangedRun.Kind {
    switch kind {
    case .data, .duplicate: .data
    case .zero: .zero
    case .trim: .unwritten
    }
  }
  private static func isDuplicate(_ kind: SegmentContent.Kind) -> Bool {
    if case .duplicate = kind { return true }
    return false
  }
}
