import ElideEvents
import ElideIO
import ElideProjections

/// Reads and folds the history of volumes: for auditors, for `events …`, for tests. Changes nothing and needs no right but
/// to read: a store (or a copy of one), or the journals on this host.
package struct Auditor {
  let store: any Store
  /// The journal of a volume on this host, opened to read; nil when the volume has none here.
  let journal: (ULID) throws(ElideError) -> (any JournalStore)?
  /// Public keys that the caller trusts; other volumes' keys come from their `volume.toml`, "unanchored".
  let trusted: [ULID: [UInt8]]

  package init(
    store: any Store, trusted: [ULID: [UInt8]] = [:],
    journal: @escaping (ULID) throws(ElideError) -> (any JournalStore)? = { _ in nil }
  ) {
    self.store = store
    self.trusted = trusted
    self.journal = journal
  }

  private func hasJournal(_ volume: ULID) throws(ElideError) -> Bool {
    guard let journal = try journal(volume) else { return false }
    journal.close()
    return true
  }

  /// The key that signs a volume's pages, and whether the caller vouched for it.
  func key(of volume: ULID) throws(ElideError) -> (key: [UInt8], isAnchored: Bool) {
    if let key = trusted[volume] { return (key, true) }
    let bytes: [UInt8]
    do throws(StoreError) { bytes = try store.get(StoreLayout.document(volume), range: nil) } catch { throw ElideError(error) }
    do throws(DocumentError) { return (try VolumeDocument.decode(bytes).key, false) } catch {
      throw ElideError(.fault, "\(StoreLayout.document(volume)): \(error)")
    }
  }

  /// A volume's history from its beginning.
  package func history(of volume: ULID, from source: HistorySource) throws(ElideError) -> any History {
    switch source {
    case .local:
      guard let journal = try journal(volume) else {
        throw ElideError(.notFound, "volume \(volume) has no journal on this host; read it from the store")
      }
      return LocalHistory(volume: volume, store: journal)
    case .store: return PageHistory(volume: volume, key: try key(of: volume).key, store: store)
    }
  }

  /// Folds a volume from its first entry through `through` (all there is when nil), its ancestors first.
  ///
  /// - Parameter observe: called before each entry is folded (`nil` fold state: before entry 0) and after the last, with
  ///   the projections at that moment.
  package func fold(
    _ volume: ULID, from source: HistorySource, through: UInt64? = nil, depth: Int = 0,
    observe: (Committed<VolumeEvent>, VolumeFold) throws(ElideError) -> Void = { _, _ in }
  ) throws(ElideError) -> VolumeFold {
    guard depth < 64 else { throw ElideError(.fault, "volume \(volume) has more than 64 ancestors") }
    let history = try history(of: volume, from: source)
    defer { history.close() }
    return try fold(history, from: source, through: through, depth: depth, observe: observe)
  }

  func fold(
    _ history: any History, from source: HistorySource, through: UInt64?, depth: Int,
    observe: (Committed<VolumeEvent>, VolumeFold) throws(ElideError) -> Void
  ) throws(ElideError) -> VolumeFold {
    let volume = history.volume
    var replay = JournalReplay(log: "volume/\(volume)")
    var fold: VolumeFold?
    do throws(ReplayError) {
      while let (raw, _) = try history.next(), replay.nextSeq <= through ?? .max {
        guard let committed = try replay.next(raw) else { continue }
        if fold == nil { fold = try start(volume, committed.event, source, depth) }
        guard let current = fold else { break }
        do throws(FoldError<ReplayError>) {
          try current.apply(committed) { (digest) throws(ReplayError) in try history.blob(digest) }
        } catch {
          switch error {
          case .blob(let e): throw e
          }
        }
        do throws(ElideError) { try observe(committed, current) } catch { throw .store(.refused(error.message)) }
      }
    } catch {
      throw ElideError(error, volume)
    }
    guard let fold else { throw ElideError(.notFound, "volume \(volume) has no history here") }
    if let through, fold.state.seq ?? 0 < through {
      throw ElideError(.notFound, "volume \(volume) ends at entry \(fold.state.seq ?? 0), \(through) is not there")
    }
    return fold
  }

  /// Projections before entry 0: empty, or what the parent had at the cut.
  private func start(
    _ volume: ULID, _ genesis: VolumeEvent, _ source: HistorySource, _ depth: Int
  ) throws(ReplayError) -> VolumeFold {
    let lineage: Lineage
    switch genesis {
    case .forked(_, let l), .continued(_, let l): lineage = l
    default: return VolumeFold(volume: volume)
    }
    do throws(ElideError) {
      // A parent that has no journal here is read from the store: its cut was published.
      let isHere = try hasJournal(lineage.parent)
      let place: HistorySource = source == .local && !isHere ? .store : source
      let parent = try fold(lineage.parent, from: place, through: lineage.seq, depth: depth + 1)
      return VolumeFold(volume: volume, inherited: parent.base)
    } catch {
      throw .store(.damaged("the parent \(lineage.parent) at entry \(lineage.seq): \(error.message)"))
    }
  }

  /// Folds a volume anew and compares: each recorded map root, each checkpoint that a page names, and, when it is given,
  /// the state that this host holds.
  package func replay(_ volume: ULID, from source: HistorySource, live: VolumeState? = nil) throws(ElideError) -> ReplayReport {
    var report = ReplayReport(volume: volume)
    // What is recorded of a state comes later than the state: read the roots first.
    var expected: [UInt64: (entry: UInt64, root: Digest)] = [:]
    let scan = try history(of: volume, from: source)
    var chain = JournalReplay(log: "volume/\(volume)")
    do throws(ReplayError) {
      while let (raw, _) = try scan.next() {
        guard let committed = try chain.next(raw) else { continue }
        if case .mapRooted(let seq, let root) = committed.event { expected[seq] = (committed.seq, root) }
        if case .forked(_, let l) = committed.event { report.ancestors.append(l.parent) }
        if case .continued(_, let l) = committed.event { report.ancestors.append(l.parent) }
      }
    } catch {
      scan.close()
      throw ElideError(error, volume)
    }
    scan.close()
    var checkpoints: [UInt64: CheckpointLocator] = [:]
    for c in scan.checkpoints where c.volume == volume { checkpoints[c.seq] = c }

    var entries: UInt64 = 0
    var found = report
    let fold = try fold(volume, from: source) { (committed, fold) throws(ElideError) in
      entries += 1
      guard found.divergence == nil else { return }
      let seq = committed.seq
      if let violation = fold.state.violations.last, violation.seq == seq {
        found.divergence = .init(
          kind: .illegal, volume: volume, entry: seq, point: seq, expected: "a possible entry", found: violation.detail)
        return
      }
      guard expected[seq] != nil || checkpoints[seq] != nil else { return }
      let root = fold.base.map.root()
      if let (entry, recorded) = expected[seq] {
        found.rootsCompared += 1
        if recorded != root {
          found.divergence = .init(kind: .root, volume: volume, entry: entry, point: seq, expected: recorded.hex, found: root.hex)
        }
      }
      if let checkpoint = checkpoints[seq] {
        found.checkpointsCompared += 1
        try compare(checkpoint, root, fold, &found)
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

  private func compare(
    _ checkpoint: CheckpointLocator, _ root: Digest, _ fold: VolumeFold, _ report: inout ReplayReport
  ) throws(ElideError) {
    guard report.divergence == nil else { return }
    if checkpoint.root != root {
      report.divergence = .init(
        kind: .checkpoint, volume: report.volume, entry: checkpoint.seq, point: checkpoint.seq, expected: checkpoint.root.hex,
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
        kind: .checkpoint, volume: report.volume, entry: checkpoint.seq, point: checkpoint.seq,
        expected: checkpoint.digest.hex, found: digest.hex)
    }
  }

  /// Runs that differ between two states, in LBA order: what the second says there.
  package func diff(_ a: VolumeFold, _ b: VolumeFold, limit: Int = 1 << 20) -> [ChangedRun] {
    var out: [ChangedRun] = []
    let end = max(a.base.map.blocks, b.base.map.blocks)
    var lba: UInt64 = 0
    while lba < end, out.count < limit {
      let (x, n) = a.base.map.run(at: lba, limit: end - lba)
      let (y, m) = b.base.map.run(at: lba, limit: end - lba)
      let count = min(n, m)
      if x != y {
        let kind: ChangedRun.Kind = y.isBlock ? .data : y == .zero ? .zero : .unwritten
        if let last = out.last, last.lba + last.count == lba, last.kind == kind {
          out[out.count - 1].count += count
        } else {
          out.append(ChangedRun(lba: lba, count: count, kind: kind))
        }
      }
      lba += count
    }
    return out
  }
}
