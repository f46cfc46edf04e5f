import ElideEvents
import ElideIO
import ElideProjections

/// A volume's projections from what this host keeps: the newest local checkpoint and the journal after it, or the journal
/// alone. Also for reading beside a process that serves the volume.
package enum LocalFold {
  /// Folds to the journal's head. `recovered` says which checkpoint; it is told the size in it, and to forget a damaged one.
  package static func open(
    _ engine: Engine, _ context: KeeperContext, _ journal: any JournalStore, _ recovered: inout RecoveredKeeper
  ) throws(ElideError) -> VolumeTables {
    let start = try begin(engine, context.volume, context.directory, journal, &recovered)
    let tables = VolumeTables(start.fold)
    var replay = StoreReplay(journal, log: context.log, after: start.after)
    do throws(ReplayError) {
      while let committed = try replay.next() {
        do throws(FoldError<JournalError>) {
          try tables.apply(committed) { (digest) throws(JournalError) in try journal.blob(digest) }
        } catch { throw ReplayError.store(.damaged("entry \(committed.seq): \(error)")) }
      }
    } catch { throw ElideError(error, context.volume) }
    guard tables.state.genesis != nil else { throw ElideError(.notFound, "volume \(context.volume) has an empty journal") }
    try enterPages(tables, journal, recovered)
    return tables
  }

  private static func begin(
    _ engine: Engine, _ volume: ULID, _ directory: VolumeDirectory, _ journal: any JournalStore,
    _ recovered: inout RecoveredKeeper
  ) throws(ElideError) -> (fold: VolumeFold, after: JournalHead?) {
    var damage: ElideError?
    if let checkpoint = recovered.checkpoint {
      do throws(ElideError) {
        let loaded = try load(engine, directory, checkpoint)
        let fold = VolumeFold(
          state: try CheckpointFile.state(loaded, checkpoint.locator),
          base: BaseState(map: loaded.map, account: SpaceAccount(volume: volume, rows: loaded.rows), seq: loaded.seq))
        recovered.checkpointedSize = fold.state.size
        return (fold, JournalHead(seq: loaded.seq, hash: checkpoint.entryHash))
      } catch { damage = error }
      // Dropping a projection loses nothing: fold from the beginning.
      recovered.checkpoint = nil
    }
    return (try fromGenesis(engine, volume, journal, damage), nil)
  }

  private static func load(
    _ engine: Engine, _ directory: VolumeDirectory, _ checkpoint: LocalCheckpoint
  ) throws(ElideError) -> MapCheckpoint {
    let path = "\(directory.maps)/\(checkpoint.fileName)"
    let bytes: [UInt8]
    do throws(Errno) { bytes = try engine.world.files.readFile(path) } catch { throw ElideError(.fault, "\(path): \(error)") }
    return try CheckpointFile.read(checkpoint.locator, bytes: bytes)
  }

  /// Before entry 0: nothing, or for a fork what its parent had at the cut, which then comes from the store.
  private static func fromGenesis(
    _ engine: Engine, _ volume: ULID, _ journal: any JournalStore, _ damage: ElideError?
  ) throws(ElideError) -> VolumeFold {
    let raw: [UInt8]?
    do throws(JournalError) { raw = try journal.entry(0) } catch { throw ElideError(error, volume) }
    guard let raw, let event = (try? EntryCodec.decode(raw))?.event else { return VolumeFold(volume: volume) }
    switch event {
    case .forked(_, let from), .continued(_, let from):
      do throws(ElideError) {
        let cut = Cut(volume: from.parent, seq: from.seq, page: from.page, pageHash: from.pageHash)
        let parent = try PublishedReader(store: engine.store).open(cut, key: from.parentKey)
        return VolumeFold(volume: volume, inherited: parent.tables.inheritance)
      } catch { throw damage ?? error }
    default: return VolumeFold(volume: volume)
    }
  }

  /// Where pages since the checkpoint carry encodings.
  private static func enterPages(
    _ tables: VolumeTables, _ journal: any JournalStore, _ recovered: RecoveredKeeper
  ) throws(ElideError) {
    guard let last = recovered.pageLog.last?.page else { return }
    let rows = KeptRows(journal, tables.volume)
    var n = recovered.checkpoint?.horizon ?? 0
    while n <= last {
      if let page = try rows.page(n) { for encoding in page.encodings { tables.publish(encoding) } }
      n += 1
    }
  }

  /// Encodings that no page carries yet stay at hand.
  package static func shelve(_ tables: VolumeTables, _ journal: any JournalStore, _ encodings: Encodings) throws(ElideError) {
    for segment in tables.state.ordered {
      guard let e = segment.encoded, tables.directory[segment.number]?.locator == .local else { continue }
      do throws(JournalError) { encodings.shelve(segment.number, try journal.blob(e.encoding)) } catch {
        throw ElideError(error, tables.volume)
      }
    }
  }
}

extension VolumeTables {
  /// The base as a child takes it over: map and table with the bodies' places.
  package var inheritance: BaseState {
    BaseState(map: map, account: SpaceAccount(volume: volume, rows: rows), seq: nil)
  }
}

/// Write-ahead files that are sealed and still in `wal/`: kept while the store lacks their blocks, moved or removed else.
struct SealedFiles {
  private let context: KeeperContext
  private let tables: VolumeTables
  private let segments: VolumeSegments
  private let journal: any JournalStore

  init(_ context: KeeperContext, _ tables: VolumeTables, _ segments: VolumeSegments, _ journal: any JournalStore) {
    self.context = context
    self.tables = tables
    self.segments = segments
    self.journal = journal
  }

  func recover(into recovered: inout RecoveredKeeper) throws(ElideError) {
    for segment in tables.state.ordered where segment.origin == .wal && !segment.isSafe {
      recovered.wals[segment.number] = try reattach(segment)
    }
    removeLeftovers(recovered)
  }

  private func reattach(_ segment: OwnSegment) throws(ElideError) -> KeptWal {
    let n = segment.number
    let rows = KeptRows(journal, context.volume)
    guard let entry = tables.directory[n], let end = try rows.sealedEnd(n) else {
      throw ElideError(.fault, "volume \(context.volume): segment \(n) is not in the store, and nothing says where its file ends")
    }
    let path = WALFormat.path(directory: context.directory.wal, number: n)
    var kept = KeptWal(number: n, file: .none, bytes: segment.blocks * 4096)
    kept.end = end
    kept.isSealed = true
    kept.isDropped = true
    do throws(Errno) {
      _ = try context.cache.takeBack(entry, walPath: path)
      let seal = CacheFormat.seal(content: segment.content, end: end)
      if let mapped = try context.cache.openSealed(entry, seal: seal, walPath: path) {
        segments.attach(n, mapped)
        return kept
      }
    } catch { throw ElideError(error, doing: "open \(path)") }
    let opened: (file: FileID, blocks: Int)
    do throws(WALError) {
      opened = try WALFile.open(context.world.files, directory: context.directory.wal, volume: context.volume, number: n)
    } catch { throw ElideError(error) }
    do throws(ElideError) {
      let mapped = try remap(segment, entry, opened.file, opened.blocks, end)
      mapped.takeFile()
      segments.attach(n, mapped)
    } catch {
      context.world.files.close(opened.file)
      throw error
    }
    return kept
  }

  private func remap(
    _ segment: OwnSegment, _ entry: SegmentEntry, _ file: FileID, _ blocks: Int, _ end: WALChain
  ) throws(ElideError) -> CachedSegment {
    let content: SegmentContent
    do throws(JournalError) {
      let blob = try journal.blob(segment.content)
      do throws(FormatError) { content = try SegmentContent.decode(blob) } catch { throw JournalError.damaged("\(error)") }
    } catch { throw ElideError(error, context.volume) }
    let places: SealedPlaces
    do throws(WALError) {
      var scan = try WALReader.scan(context.world.files, file, volume: context.volume, wal: segment.number, blocks: blocks)
      guard scan.cut(at: end) else {
        throw .wrongFile(
          volume: context.volume, wal: segment.number, detail: "it no longer holds frame \(end.frame), sealed from it")
      }
      places = try Sealer(files: context.world.files, volume: context.volume).places(of: content, scan, file: file)
    } catch { throw ElideError(error) }
    guard places.crcs.count == Int(entry.blocks) else {
      throw ElideError(
        .fault,
        "volume \(context.volume): write-ahead file \(segment.number) holds \(places.crcs.count) blocks "
          + "of \(entry.blocks) sealed"
      )
    }
    let mapped = context.cache.placed(
      entry, seal: CacheFormat.seal(content: segment.content, end: end), file: file, places)
    // For the next opening; on a full disk it is made again then.
    try? context.cache.writeMap(mapped)
    return mapped
  }

  /// Files that the journal does not need: sealed without blocks, in the store already, or never named.
  private func removeLeftovers(_ recovered: RecoveredKeeper) {
    let files = context.world.files
    for name in (try? files.list(context.directory.wal)) ?? [] {
      guard name.hasSuffix(".wal"), let n = UInt64(name.dropLast(4)), recovered.wals[n] == nil else { continue }
      let path = context.directory.wal + "/" + name
      if let entry = tables.directory[n], tables.state.segments[n] != nil, adopt(entry, path) { continue }
      try? files.remove(path)
    }
  }

  /// Moves an uploaded file into the cache if its map is whole.
  private func adopt(_ entry: SegmentEntry, _ path: String) -> Bool {
    guard entry.uploaded, let content = tables.state.segments[entry.number]?.content,
      let end = try? KeptRows(journal, context.volume).sealedEnd(entry.number)
    else { return false }
    let seal = CacheFormat.seal(content: content, end: end)
    guard let whole = try? context.cache.openSealed(entry, seal: seal, walPath: path) else { return false }
    return (try? context.cache.adopt(entry, whole, walPath: path)) != nil
  }
}

extension LocalFold {
  /// The state in a checkpoint, by two reads of it; nil when it is not to be had: then the journal tells all.
  private static func loadState(_ engine: Engine, _ path: String, _ locator: CheckpointLocator) -> VolumeState? {
    let files = engine.world.files
    guard let file = try? files.open(path, .read) else { return nil }
    defer { files.close(file) }
    guard let head = try? files.readBytes(file, at: 0, count: MapCheckpoint.headerBytes),
      let header = try? MapCheckpoint.header(head[...]), header.volume == locator.volume, header.seq == locator.seq,
      header.root == locator.root, let range = try? MapCheckpoint.stateRange(header),
      let section = try? files.readBytes(file, at: range.lowerBound, count: range.count),
      let state = try? MapCheckpoint.state(section, header, ZstdCodec())
    else { return nil }
    return try? VolumeState.decode(state)
  }

  /// The state alone, without the map: from the checkpoint's state section and the entries after it. For lists and status.
  package static func stateOnly(
    _ engine: Engine, _ volume: ULID, _ directory: VolumeDirectory, _ journal: any JournalStore
  ) throws(ElideError) -> VolumeState {
    var state = VolumeState(volume: volume)
    var after: JournalHead?
    if let checkpoint = try KeptRows(journal, volume).read().checkpoint,
      let decoded = loadState(engine, "\(directory.maps)/\(checkpoint.fileName)", checkpoint.locator)
    {
      state = decoded
      after = JournalHead(seq: checkpoint.locator.seq, hash: checkpoint.entryHash)
    }
    var replay = StoreReplay(journal, log: "volume/\(volume)", after: after)
    do throws(ReplayError) {
      while let committed = try replay.next() {
        // Blobs change nothing here but whether a seal is legal, which the map's fold judges.
        state.apply(committed, .none)
      }
    } catch { throw ElideError(error, volume) }
    return state
  }
}
