import ElideEvents
import ElideIO
import ElideProjections

/// A volume of this data directory, locked and folded to its head: what a keeper is made of. Whoever has it serves the
/// volume; `close` (or the end of the process) gives it up.
///
/// Opening asks the store for one page, the one that would come next (`PagesAhead`), loads the newest local checkpoint and folds
/// the journal's tail. Then the write-ahead files are recovered: everything kept is durable, and `opened` says in the journal
/// where the log ended.
package final class LocalOpening {
  package let context: KeeperContext
  package let journalStore: any JournalStore
  package let journal: Journal
  package let tables: VolumeTables
  package let segments: VolumeSegments
  package let encodings: Encodings
  package private(set) var recovered = RecoveredKeeper()
  /// What the write-ahead files held.
  package private(set) var log: RecoveredLog
  private let lock: FileID
  private var isClosed = false

  /// Opens `volume`. `.owned` when another process has it, `.notFound` when it is not here, `.fault` when what is stored is
  /// damaged (and nothing was changed).
  ///
  /// - Parameter grant: what gives the volume the right to serve a name; nil: it is not served under one.
  package static func open(
    _ engine: Engine, _ volume: ULID, grant: ServiceGrant? = nil
  ) throws(ElideError) -> LocalOpening {
    let directory = engine.directory.volume(volume)
    guard let key = try KeyFile.read(engine.world.files, directory.key) else {
      throw ElideError(
        .notFound, "volume \(volume) does not belong to the data directory \(engine.directory.root): it has no key here")
    }
    let lock = try VolumeLock.take(engine.world.files, directory, volume)
    let journal: any JournalStore
    do throws(JournalError) { journal = try engine.journals.open(directory, write: true) } catch {
      engine.world.files.close(lock)
      throw ElideError(error, volume)
    }
    do throws(ElideError) {
      let context = engine.context(volume, key: key, grant: grant)
      try PagesAhead(context, journal).readIn()
      let opening = try LocalOpening(engine, context, journal, lock)
      opening.removeOldMaps()
      opening.log = try opening.recoverLog(try KeptRows(journal, volume).marks())
      return opening
    } catch {
      journal.close()
      engine.world.files.close(lock)
      throw error
    }
  }

  private init(_ engine: Engine, _ context: KeeperContext, _ store: any JournalStore, _ lock: FileID) throws(ElideError) {
    var recovered = try KeptRows(store, context.volume).read()
    let tables = try LocalFold.open(engine, context, store, &recovered)
    let encodings = Encodings(store: engine.store)
    try LocalFold.shelve(tables, store, encodings)
    self.context = context
    self.lock = lock
    self.tables = tables
    self.encodings = encodings
    self.recovered = recovered
    journalStore = store
    journal = Journal(
      store: store, log: context.log, identity: context.identity, clock: engine.world.clock, random: engine.world.random)
    segments = VolumeSegments(directory: tables.directory, cache: engine.cache)
    log = RecoveredLog(end: recovered.chain)
  }

  /// Local checkpoints that no row names: older ones, and what a crash left between the file and its row. Their objects in the
  /// store stay, since only an entry of the journal may delete there.
  private func removeOldMaps() {
    let named = [recovered.checkpoint?.fileName, recovered.pageLog.checkpoint?.key.split(separator: "/").last.map(String.init)]
    for name in (try? context.world.files.list(context.directory.maps)) ?? [] where !named.contains(name) {
      try? context.world.files.remove("\(context.directory.maps)/\(name)")
    }
  }

  /// Closes the journal and gives up the lock. Files of the log are the keeper's.
  package func close() {
    guard !isClosed else { return }
    isClosed = true
    journalStore.close()
    context.world.files.close(lock)
  }

  /// Closes the write-ahead files, when no keeper took them over.
  package func closeFiles() {
    for wal in recovered.wals.values where wal.file != .none { context.world.files.close(wal.file) }
    recovered.wals = [:]
  }

  // MARK: The write-ahead log

  private func recoverLog(_ marks: [OpenedMark]) throws(ElideError) -> RecoveredLog {
    let state = tables.state
    let recovery = WALRecovery(
      files: context.world.files, directory: context.directory.wal, volume: context.volume,
      blocks: (state.deviceSize + 4095) / 4096)
    let log: RecoveredLog
    do throws(WALError) { log = try recovery.recover(wals: state.openWALs, start: recovered.chain, marks: marks) } catch {
      throw ElideError(error)
    }
    var end = recovered.chain
    for w in log.wals {
      end = w.scan.end ?? end
      var kept = KeptWal(number: w.number, file: w.file, bytes: w.scan.dataBytes)
      kept.end = end
      kept.scan = w.scan
      recovered.wals[w.number] = kept
    }
    do throws(ElideError) {
      try SealedFiles(context, tables, segments, journalStore).recover(into: &recovered)
    } catch {
      for w in recovered.wals.values where w.file != .none { context.world.files.close(w.file) }
      throw error
    }
    return log
  }

  /// Says in the journal that this process serves, by which right, and where the log ended. Everything kept is durable already.
  package func commitOpened() throws(ElideError) {
    let last = tables.state.openWALs.last ?? tables.state.nextSegment - 1
    let event = VolumeEvent.opened(
      wal: last, lastFrame: log.end.frame, lastHeaderCRC: log.end.crc, discarded: log.discarded)
    var events = [event]
    if let grant = context.ownership?.grant {
      events.append(.bound(name: grant.name, nameSeq: grant.seq, epoch: grant.epoch))
    }
    let first = tables.state.openWALs.first ?? .max
    var marks = try KeptRows(journalStore, context.volume).marks().filter { $0.wal >= first }
    if first != .max { marks.append(OpenedMark(wal: last, end: log.end)) }
    if let fault = tables.state.fault(event) { throw ElideError(.failed, "volume \(context.volume): \(fault)") }
    do throws(JournalError) {
      for committed in try journal.append(events, rows: [(RowKey.marks, MarksRow.encode(marks))]) {
        do throws(FoldError<JournalError>) {
          try tables.apply(committed) { (digest) throws(JournalError) in try journal.blob(digest) }
        } catch { throw JournalError.damaged("entry \(committed.seq): \(error)") }
      }
    } catch { throw ElideError(error, context.volume) }
  }

  /// The newest wals, oldest first: what duplicates may point at.
  package var dedup: DedupIndex {
    var index = DedupIndex()
    index.load(tables.directory.all, from: context.cache)
    return index
  }
}

/// The serve gate: one process per volume.
package enum VolumeLock {
  package static func take(_ files: any Files, _ directory: VolumeDirectory, _ volume: ULID) throws(ElideError) -> FileID {
    do throws(Errno) {
      if let lock = try files.lock(directory.lock) { return lock }
    } catch { throw ElideError(error, doing: "lock volume \(volume)") }
    throw ElideError(.owned, "volume \(volume) is in use by another process of this host")
  }
}

/// The keeper's rows, read back.
package struct KeptRows {
  private let store: any JournalStore
  private let volume: ULID
  package init(_ store: any JournalStore, _ volume: ULID) {
    self.store = store
    self.volume = volume
  }

  package func read() throws(ElideError) -> RecoveredKeeper {
    var r = RecoveredKeeper()
    r.chain = try row(RowKey.chain) { (b) throws(FormatError) in try WALChain(row: b) } ?? .genesis
    r.pageLog = try row(RowKey.pages) { (b) throws(FormatError) in try PageLog(row: b) } ?? PageLog()
    r.intent = try row(RowKey.intent) { (b) throws(FormatError) in try PageIntent(row: b) }
    r.checkpoint = try row(RowKey.checkpoint) { (b) throws(FormatError) in try LocalCheckpoint(row: b) }
    return r
  }
  package func marks() throws(ElideError) -> [OpenedMark] {
    try row(RowKey.marks) { (b) throws(FormatError) in try MarksRow.decode(b) } ?? []
  }
  package func page(_ n: UInt64) throws(ElideError) -> PublishedPage? {
    try row(RowKey.page(n)) { (b) throws(FormatError) in try PublishedPage(row: b) }
  }
  package func sealedEnd(_ n: UInt64) throws(ElideError) -> WALChain? {
    try row(RowKey.sealedEnd(n)) { (b) throws(FormatError) in try WALChain(row: b) }
  }

  private func row<T>(_ key: String, _ decode: ([UInt8]) throws(FormatError) -> T) throws(ElideError) -> T? {
    let bytes: [UInt8]?
    do throws(JournalError) { bytes = try store.row(key) } catch { throw ElideError(error, volume) }
    guard let bytes else { return nil }
    do throws(FormatError) { return try decode(bytes) } catch { throw ElideError(.fault, "volume \(volume): \(error)") }
  }
}
