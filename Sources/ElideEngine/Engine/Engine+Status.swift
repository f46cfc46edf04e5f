import ElideEvents
import ElideIO
import ElideProjections

extension Engine {
  /// Status of a volume that no process serves, from what is on disk. Takes no lock, asks no store, and reads neither the
  /// map nor a body: a few rows, the state of the newest checkpoint, the entries after it, the headers of open files.
  package func closedStatus(_ volume: ULID) throws(ElideError) -> VolumeStatus {
    let place = directory.volume(volume)
    guard world.files.exists(place.key) else { throw ElideError(.notFound, "volume \(volume) is not in \(directory.root)") }
    let journal: any JournalStore
    do throws(JournalError) { journal = try journals.open(place, write: false) } catch { throw ElideError(error, volume) }
    defer { journal.close() }
    let state = try LocalFold.stateOnly(self, volume, place, journal)
    let log = try KeptRows(journal, volume).read().pageLog
    var s = VolumeStatus(volume: volume)
    if state.isFenced { (s.state, s.reason) = (.fenced, "'\(state.boundName ?? "")' is another host's; what it held is kept") }
    s.size = state.deviceSize
    s.head = journal.head?.seq ?? 0
    s.cut = log.cut
    s.page = log.last?.page
    s.cutMilliseconds = log.last?.at
    s.checkpoint = log.checkpoint?.seq
    s.unsealedWals = state.openWALs.count
    s.unsentBytes = state.segments.values.reduce(0) { $0 + ($1.isSafe ? 0 : $1.blocks * 4096) }
    s.segments = state.segments.count
    do throws(JournalError) {
      try addExposure(&s, state, log, JournalLook(journal))
      let sizes = try JournalLook(journal).sizes(of: state)
      s.snapshots = state.snapshots.map { snapshot in
        SnapshotInfo(
          snapshot: snapshot.id, label: snapshot.label, point: snapshot.point, size: sizes[snapshot.id] ?? state.deviceSize,
          isPublished: log.publishes(snapshot))
      }
    } catch { throw ElideError(error, volume) }
    return s
  }

  /// What lies in files that are not sealed, and since when something waits at most.
  private func addExposure(
    _ s: inout VolumeStatus, _ state: VolumeState, _ log: PageLog, _ look: JournalLook
  ) throws(JournalError) {
    var oldest: UInt64?
    for number in state.openWALs {
      let (bytes, isEmpty) = held(state.volume, number)
      s.unsealedBytes += bytes
      if !isEmpty { oldest = min(oldest ?? number, number) }
    }
    for segment in state.segments.values where !segment.isCovered(log.cut) {
      oldest = min(oldest ?? segment.number, segment.number)
    }
    guard let oldest, let began = try look.began(oldest) else { return }
    let now = world.clock.wallMilliseconds()
    s.exposureMilliseconds = now - min(now, began)
  }

  /// Bytes of data in a write-ahead file, by its headers alone, whether or not recovery will find them whole.
  private func held(_ volume: ULID, _ number: UInt64) -> (bytes: UInt64, isEmpty: Bool) {
    let path = WALFormat.path(directory: directory.volume(volume).wal, number: number)
    guard let file = try? world.files.open(path, .read) else { return (0, true) }
    defer { world.files.close(file) }
    guard let blocks = try? WALFile.checkHeader(world.files, file, volume: volume, number: number),
      let scan = try? WALReader.scan(world.files, file, volume: volume, wal: number, blocks: blocks)
    else { return (0, true) }
    return (scan.dataBytes, scan.frames.isEmpty)
  }
}
