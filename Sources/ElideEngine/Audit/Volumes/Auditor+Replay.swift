import ElideEvents
import ElideIO
import ElideProjections

/// What a volume's history records of its own states.
private struct Recorded {
  /// Roots of the block map: by the entry whose state is meant, with the entry that says so.
  var roots: [UInt64: (entry: UInt64, root: Digest)] = [:]
  /// Checkpoints that pages name.
  var checkpoints: [UInt64: CheckpointLocator] = [:]
  var parent: ULID?
}

extension Auditor {
  /// Folds a volume anew, its ancestors first, and compares: each recorded map root, each checkpoint that a page names, of
  /// ancestors up to where the volume begins, and, when it is given, the state that this host holds.
  package func replay(_ volume: ULID, from source: HistorySource, live: VolumeState? = nil) throws(ElideError) -> ReplayReport {
    var report = ReplayReport(volume: volume)
    let records = try recorded(volume, source, &report)
    var entries: UInt64 = 0
    var found = report
    let fold = try fold(volume, from: source) { (committed, fold) throws(ElideError) in
      let one = fold.state.volume
      if one == volume { entries += 1 }
      guard found.divergence == nil, let recorded = records[one] else { return }
      let seq = committed.seq
      if let violation = fold.state.violations.last, violation.seq == seq {
        found.divergence = .init(
          kind: .illegal, volume: one, entry: seq, point: seq, expected: "a possible entry", found: violation.detail)
        return
      }
      guard recorded.roots[seq] != nil || recorded.checkpoints[seq] != nil else { return }
      let root = fold.base.map.root()
      if let (entry, expected) = recorded.roots[seq] {
        found.rootsCompared += 1
        if expected != root {
          found.divergence = .init(kind: .root, volume: one, entry: entry, point: seq, expected: expected.hex, found: root.hex)
        }
      }
      if let checkpoint = recorded.checkpoints[seq] {
        found.checkpointsCompared += 1
        try compare(checkpoint, root, one, &found)
      }
    }
    report = found
    report.entries = entries
    report.seq = fold.state.seq ?? 0
    report.root = fold.base.map.root()
    // A process that serves the volume may have gone on meanwhile: then there is nothing to compare.
    if let live, report.divergence == nil, live.seq == fold.state.seq {
      report.comparedWithLive = true
      let bytes = fold.state.encode()
      if live.encode() != bytes {
        report.divergence = .init(
          kind: .live, volume: volume, entry: report.seq, point: report.seq, expected: Digest.sha256(live.encode()).hex,
          found: Digest.sha256(bytes).hex)
      }
    }
    return report
  }

  /// Of the volume and of each ancestor. What is recorded of a state comes later than the state, so it is read first.
  private func recorded(
    _ volume: ULID, _ source: HistorySource, _ report: inout ReplayReport
  ) throws(ElideError) -> [ULID: Recorded] {
    var records: [ULID: Recorded] = [:]
    var next: (volume: ULID, source: HistorySource)? = (volume, source)
    while let (one, place) = next, records.count < 64 {
      // A history that comes back to itself is refused by the fold.
      guard records[one] == nil else { break }
      let found = try recorded(one, place)
      records[one] = found
      next = nil
      if let parent = found.parent {
        report.ancestors.append(parent)
        next = (parent, try self.place(of: parent, source))
      }
    }
    return records
  }

  private func recorded(_ volume: ULID, _ source: HistorySource) throws(ElideError) -> Recorded {
    var out = Recorded()
    let scan = try history(of: volume, from: source)
    defer { scan.close() }
    var chain = JournalReplay(log: "volume/\(volume)")
    do throws(ReplayError) {
      while let (raw, _) = try scan.next() {
        guard let committed = try chain.next(raw) else { continue }
        switch committed.event {
        case .mapRooted(let seq, let root): out.roots[seq] = (committed.seq, root)
        case .forked(_, let lineage), .continued(_, let lineage): out.parent = lineage.parent
        default: break
        }
      }
    } catch { throw ElideError(error, volume) }
    for c in scan.checkpoints where c.volume == volume { out.checkpoints[c.seq] = c }
    return out
  }

  private func compare(
    _ checkpoint: CheckpointLocator, _ root: Digest, _ volume: ULID, _ report: inout ReplayReport
  ) throws(ElideError) {
    guard report.divergence == nil else { return }
    if checkpoint.root != root {
      report.divergence = .init(
        kind: .checkpoint, volume: volume, entry: checkpoint.seq, point: checkpoint.seq, expected: checkpoint.root.hex,
        found: root.hex)
      return
    }
    let bytes: [UInt8]
    do throws(StoreError) { bytes = try store.get(checkpoint.key, range: nil) } catch {
      // Retired checkpoints may be gone; the root in the page has been compared.
      if case .notFound = error { return }
      throw ElideError(error)
    }
    let digest = Digest.sha256(bytes)
    if digest != checkpoint.digest || UInt64(bytes.count) != checkpoint.length {
      report.divergence = .init(
        kind: .checkpoint, volume: volume, entry: checkpoint.seq, point: checkpoint.seq, expected: checkpoint.digest.hex,
        found: digest.hex)
    }
  }
}
