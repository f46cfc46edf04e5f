import ElideEvents
import ElideIO
import ElideProjections

// Before names had logs they were rows of one data directory. At the first use of such a name its row becomes a log in the store,
// if the name is free there. Each step has its request, so that a crash anywhere is gone on from.

extension Lifecycle {
  /// Turns the old row of `name` into a log, if there is one.
  package func migrate(_ name: String) throws(ElideError) {
    guard let old = names.old, let row = try old.get(name), !row.flags.contains(.clashes) else { return }
    if row.flags.contains(.creating) { return try clear(row, old) }
    guard let local = try engine.localState(row.volume), let key = try engine.key(of: row.volume, nil) else {
      // A row without its volume: there is nothing to own.
      _ = try old.replace(name, row, with: nil)
      return
    }
    let log = try names.log(name)
    try log.refresh()
    let isOurs = log.state.holdings.episodes.contains { $0.volume == row.volume } || log.state.pending?.volume == row.volume
    if !log.state.isFree, !isOurs {
      var clashing = row
      clashing.flags.insert(.clashes)
      _ = try old.replace(name, row, with: clashing)
      throw ElideError(
        .usage,
        "'\(name)' of this data directory is volume \(row.volume), and in the store it is another's: "
          + "\(log.state.sentence). Reach yours by its ULID (\(row.volume)); the name now means the store's")
    }
    try enter(row, local, key, log)
    try pinSource(row, local)
    _ = try old.replace(name, row, with: nil)
  }

  private func enter(_ row: NameRow, _ local: VolumeState, _ key: [UInt8], _ log: NameLog) throws(ElideError) {
    let request = "migrate-\(row.volume)"
    if !row.flags.contains(.image) {
      let facts = NewVolumeFacts(volume: row.volume, key: key, size: local.deviceSize)
      if log.state.holdings.episodes.contains(where: { $0.volume == row.volume }) { return }
      return try require(try log.perform(.create(facts), request: request))
    }
    if log.state.phase == .readonly { return }
    guard let cut = try engine.publishedCut(row.volume) else {
      throw ElideError(.tryLater, "'\(row.name)': the image \(row.volume) is not in the store yet")
    }
    let source = local.source ?? "an image"
    try require(try log.perform(.importStart(volume: row.volume, key: key, source: source), request: request))
    if log.state.incarnation != names.author.incarnation { try require(try log.perform(.adopt)) }
    try require(try log.perform(.importFinish(cut: cut, size: local.deviceSize), request: "\(request)-end"))
  }

  /// A fork reads its source: the source's name keeps the cut, as a fork of today has it kept.
  private func pinSource(_ row: NameRow, _ local: VolumeState) throws(ElideError) {
    guard let lineage = local.lineage else { return }
    if let old = names.old {
      for parent in try old.list() where parent.volume == lineage.parent { try migrate(parent.name) }
    }
    guard let source = try names.name(of: lineage.parent) else { return }
    let cut = Cut(volume: lineage.parent, seq: lineage.seq, page: lineage.page, pageHash: lineage.pageHash)
    let log = try names.log(source.name)
    try require(try log.perform(.pin(cut: cut, by: row.name, hold: .until(nil)), request: "migrate-pin-\(row.volume)"))
  }

  /// What a crash left of a volume that was being made by an earlier version.
  private func clear(_ row: NameRow, _ old: any NameTable) throws(ElideError) {
    let place = engine.directory.volume(row.volume)
    if engine.world.files.exists(place.root) {
      let lock = try VolumeLock.take(engine.world.files, place, row.volume)
      defer { engine.world.files.close(lock) }
      engine.world.files.removeTree(place.root)
    }
    engine.world.files.removeTree(engine.cache.directory(row.volume))
    _ = try old.replace(row.name, row, with: nil)
  }
}
