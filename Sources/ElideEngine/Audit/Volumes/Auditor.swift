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
  /// - Parameter observe: called after each entry that was folded, of ancestors too, with the projections at that moment.
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
        if fold == nil { fold = try start(volume, committed.event, source, depth, observe) }
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
    _ volume: ULID, _ genesis: VolumeEvent, _ source: HistorySource, _ depth: Int,
    _ observe: (Committed<VolumeEvent>, VolumeFold) throws(ElideError) -> Void
  ) throws(ReplayError) -> VolumeFold {
    let lineage: Lineage
    switch genesis {
    case .forked(_, let l), .continued(_, let l): lineage = l
    default: return VolumeFold(volume: volume)
    }
    do throws(ElideError) {
      let place = try self.place(of: lineage.parent, source)
      let parent = try fold(lineage.parent, from: place, through: lineage.seq, depth: depth + 1, observe: observe)
      return VolumeFold(volume: volume, inherited: parent.base)
    } catch {
      throw .store(.damaged("the parent \(lineage.parent) at entry \(lineage.seq): \(error.message)"))
    }
  }

  /// A parent that has no journal here is read from the store: its cut was published.
  func place(of parent: ULID, _ source: HistorySource) throws(ElideError) -> HistorySource {
    let isHere = try hasJournal(parent)
    return source == .local && !isHere ? .store : source
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
