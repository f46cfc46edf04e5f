import ElideEvents
import ElideIO
import ElideProjections

// The end of a name, of a copy, of an attempt.

extension Lifecycle {
  // MARK: Cancel

  /// Gives up what is under way for the name. Attempts of this process are voided in their slots; those of earlier ones are found
  /// out, which is all that may be done about them. An import is ended, whoever began it.
  func cancel(_ name: String, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    let log = try names.log(name)
    if context.isDryRun {
      try log.refresh()
      let count = try log.open().count
      if log.state.phase == .importing { return try plan(.importAbort, log, context) }
      return report(.planned, log.state, "\(count) attempts are open")
    }
    var said: [String] = []
    for intent in try log.open() {
      let outcome = intent.incarnation == names.author.incarnation ? try log.cancel(intent.id) : log.resolve(intent)
      switch outcome {
      case .committed(let seq, _): said.append("\(intent.kind) had taken effect, in entry \(seq)")
      case .unknown: return try report(outcome, log, "")
      default: said.append("\(intent.kind) never takes effect")
      }
    }
    try settle(name)
    try log.refresh()
    if log.state.phase == .importing {
      let ended = try log.perform(.importAbort, request: context.request, context: AppendContext(context))
      let done = try report(ended, log, "the import is ended")
      if done.outcome != .unknown { try settle(name) }
      return done
    }
    return report(.done, log.state, said.isEmpty ? "nothing was under way" : said.joined(separator: "; "))
  }

  // MARK: Remove

  /// Removes this host's copies of the name's volumes, and nothing else: no entry, no object in the store. Refused while this
  /// host owns the name, while something is here that the store has not, and while another volume here builds on them.
  func remove(_ name: String, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    let found = try names.log(name)
    try found.refresh()
    let state = found.state
    if state.owner == me {
      throw ElideError(
        .usage,
        "\(state.sentence): this host's copy is what the name stands on; "
          + (state.phase == .live
            ? Refusal.Instead.stop.advice(name, state) : Refusal.Instead.release.advice(name, state)))
    }
    let here = state.holdings.episodes.map(\.volume).filter { engine.world.files.exists(engine.directory.volume($0).key) }
    guard !here.isEmpty else { return report(.done, state, "nothing of it is in \(engine.directory.root)") }
    for volume in here { try requireRemovable(volume, state) }
    if context.isDryRun {
      return report(.planned, state, "would be removed here: " + here.map(\.description).joined(separator: ", "))
    }
    for volume in here { try removeCopy(volume) }
    return report(.done, state, "removed here: " + here.map(\.description).joined(separator: ", "))
  }

  private func requireRemovable(_ volume: ULID, _ state: NameState) throws(ElideError) {
    guard try isWhollyPublished(volume) else {
      throw ElideError(.failed, "volume \(volume) holds what the store has not: it is not removed")
    }
    for other in try localVolumes() where other != volume && !state.holdings.episodes.contains(where: { $0.volume == other }) {
      if let lineage = try engine.localState(other)?.lineage, lineage.parent == volume {
        throw ElideError(.failed, "volume \(other) of this host builds on volume \(volume): it is not removed")
      }
    }
  }

  /// Volumes of which this host has the key.
  func localVolumes() throws(ElideError) -> [ULID] {
    let entries: [String]
    do throws(Errno) { entries = try engine.world.files.list(engine.directory.volumes) } catch {
      if error == .notFound { return [] }
      throw ElideError(error, doing: "list \(engine.directory.volumes)")
    }
    let volumes = entries.compactMap { ULID($0) }
    return volumes.filter { engine.world.files.exists(engine.directory.volume($0).key) }.sorted()
  }

  /// The key goes last: as long as it is there the copy is one.
  private func removeCopy(_ volume: ULID) throws(ElideError) {
    let files = engine.world.files
    let place = engine.directory.volume(volume)
    let lock = try VolumeLock.take(files, place, volume)
    defer { files.close(lock) }
    for part in [place.wal, place.maps, place.blobs, place.journal] { files.removeTree(part) }
    files.removeTree(place.root)
    guard !files.exists(place.root) else {
      throw ElideError(.tryLater, "the copy of volume \(volume) in \(place.root) could not be removed as a whole; ask again")
    }
    try? files.syncDirectory(engine.directory.volumes)
    files.removeTree(engine.cache.directory(volume))
  }

  // MARK: Purge

  /// Deletes what the name's volumes have in the store, and ends the name. Pages stay: a slot that becomes free would let a
  /// stalled writer believe that it committed. May be cut short and gone on with, by any host when this one is gone.
  func purge(_ name: String, _ context: CommandContext, _ progress: ProgressHandler) throws(ElideError) -> LifecycleReport {
    let log = try owned(name, context)
    if context.isDryRun {
      return try plan(log.state.phase == .purging && log.state.owner != me ? .takePurge : .purge, log, context)
    }
    let appending = AppendContext(context)
    let volumes = log.state.holdings.episodes.map(\.volume)
    if log.state.phase == .purging, log.state.owner != me {
      try require(try log.perform(.takePurge, context: appending))
    } else {
      let begun = try log.perform(.purge, context: appending)
      if case .unknown = begun { return try report(begun, log, "") }
      try require(begun)
      if log.state.phase == .purged { return report(.done, log.state, "it is purged") }
    }
    for volume in volumes { try deleteObjects(volume, progress) }
    // Before the end is noted: nobody comes back for them afterwards.
    for volume in volumes where engine.world.files.exists(engine.directory.volume(volume).root) { try removeCopy(volume) }
    let ended = try log.perform(.finishPurge, request: context.request, context: appending)
    return try report(ended, log, "purged: " + volumes.map(\.description).joined(separator: ", "))
  }

  private func deleteObjects(_ volume: ULID, _ progress: ProgressHandler) throws(ElideError) {
    do throws(StoreError) {
      for kind in ["segments", "maps", "filemaps"] {
        let prefix = "\(StoreLayout.volume(volume))/\(kind)/"
        var after: String?
        var count: UInt64 = 0
        while true {
          let page = try engine.store.list(prefix, after: after, limit: 1000)
          guard let last = page.last else { break }
          for object in page {
            count += 1
            guard progress(WorkProgress(step: .delete, done: count, total: 0)) else {
              throw StoreError.unknown(key: prefix, detail: "interrupted; run it again to go on")
            }
            try engine.store.delete(object.key)
          }
          after = last.key
        }
      }
      try engine.store.delete(StoreLayout.head(volume))
    } catch { throw ElideError(error) }
  }
}
