import ElideEvents
import ElideIO
import ElideProjections

// prepare ──wal_opened──▶ open (front appends) ──walClosed──▶ closed ──segment_sealed──▶ sealed
//   ──dropped, and uploaded or without blocks──▶ retired: moved into the cache, or removed

extension VolumeKeeper {
  // MARK: Preparing

  /// Makes the next write-ahead file when the front will need it: file, header and names durable, then `wal_opened`.
  func prepareWal() throws(KeeperHalt) -> Bool {
    guard wantsWal, ending == nil, walBackoff.isReady(at: context.now) else { return false }
    let limits = context.configuration
    guard tables.state.openWALs.count < limits.unsealedWals else { return false }
    let number = tables.state.nextSegment
    let file: FileID
    do throws(Errno) { file = try makeWal(number) } catch {
      lastError = "write-ahead file \(number) cannot be made: \(error)"
      walBackoff.failed(at: context.now)
      if error.isWantOfSpace { noteFull() }
      return false
    }
    var appended = false
    defer { if !appended { context.world.files.close(file) } }
    guard try append([.walOpened(wal: number)]) else {
      walBackoff.failed(at: context.now)
      noteFull()
      return false
    }
    appended = true
    walBackoff.succeeded()
    fullSince = nil
    isFullSaid = false
    wantsWal = false
    wals[number] = KeptWal(number: number, file: file, bytes: UInt64(limits.geometry.fileBlocks * WALFormat.block))
    tell(.walReady(number: number, file: file))
    chooseSpare()
    return true
  }

  /// A file that nobody needs, made into the next. Else a new one, after the reserve, which is the journal's: when the disk is
  /// full the cache gives back first, since what is in it the store has.
  private func makeWal(_ number: UInt64) throws(Errno) -> FileID {
    let (files, geometry, incarnation) = (context.world.files, context.configuration.geometry, context.identity.incarnation)
    let written = flushesAreSmall()
    if let file = takeSpare(for: number) {
      do throws(Errno) {
        try WALFile.reuse(
          files, file, directory: context.directory.wal, volume: context.volume, number: number, geometry: geometry,
          incarnation: incarnation)
        counters.walsReused += 1
        return file
      } catch {
        files.close(file)
        throw error
      }
    }
    func make() throws(Errno) -> FileID {
      try context.reserve.refill()
      return try WALFile.create(
        files, directory: context.directory.wal, volume: context.volume, number: number, geometry: geometry,
        incarnation: incarnation, written: written)
    }
    do throws(Errno) { return try make() } catch {
      guard error.isWantOfSpace, context.cache.makeRoom() else { throw error }
      segments.sweep()
      return try make()
    }
  }

  /// Whether flushes were frequent and brought little each since the last file was prepared. Then the first write of a place
  /// costs more than its bytes: the file system notes each time, in its own journal, that the place is written now. Writing
  /// the file with zeros beforehand, here where nobody waits, takes that from the flushes.
  private func flushesAreSmall() -> Bool {
    let seen = context.stages[.sync]
    let (count, bytes) = (seen.count &- flushesSeen.count, seen.bytes &- flushesSeen.bytes)
    flushesSeen = seen
    return count >= 64 && bytes / count <= 16 << 10
  }

  func closed(_ number: UInt64, _ end: WALChain) throws(KeeperHalt) {
    guard let wal = wals[number], wal.end == nil else {
      throw KeeperHalt(.failed, "write-ahead file \(number) was closed, but is not open")
    }
    wals[number]?.end = end
  }

  // MARK: Sealing

  /// Seals the oldest unsealed file, if it is closed. First it is judged, on a lane that steps back for the guest; then its
  /// contents go into the journal, then into the base, then the front may let go of its overlay entries.
  func sealNext() throws(KeeperHalt) -> Bool {
    guard let number = tables.state.openWALs.first, let wal = wals[number], let end = wal.end,
      sealBackoff.isReady(at: context.now)
    else { return false }
    switch judging {
    case .nobody:
      judge(wal, end)
      return true
    case .underWay: return false
    case .judged(let judged): return try seal(wal, end, judged)
    }
  }

  /// Sealing and encoding may wait while there is room and nobody waits for them.
  var isSealingOverdue: Bool {
    round?.isAwaited == true || ending != nil || tables.state.openWALs.count * 2 > context.configuration.unsealedWals
  }

  private func judge(_ wal: KeptWal, _ end: WALChain) {
    judging = .underWay
    let (files, volume, stages, clock) = (context.world.files, context.volume, context.stages, context.world.clock)
    let (chain, results) = (chain, results)
    context.executor.submit(isSealingOverdue ? .overdue : .seal) {
      let start = clock.monotonicNanoseconds()
      let result: Result<JudgedWAL, WALError>
      do throws(WALError) {
        var scan = WALScan(wal: wal.number)
        if let recovered = wal.scan {
          scan = recovered
        } else if end.frame > chain.frame {
          scan = try WALReader.read(files, wal.file, volume: volume, wal: wal.number, start: chain, end: end)
        }
        var judged = try Sealer(files: files, volume: volume, stages: stages).judge(scan, file: wal.file)
        judged.nanoseconds = clock.monotonicNanoseconds() &- start
        result = .success(judged)
      } catch { result = .failure(error) }
      _ = results.send(.judged(result))
    }
  }

  func judged(_ result: Result<JudgedWAL, WALError>) throws(KeeperHalt) {
    switch result {
    case .success(let judged): judging = .judged(judged)
    case .failure(let error): throw KeeperHalt(ElideError(error))
    }
  }

  private func seal(_ wal: KeptWal, _ end: WALChain, _ judged: JudgedWAL) throws(KeeperHalt) -> Bool {
    let (start, number) = (context.stages.now(), wal.number)
    let sealed: SealedWAL
    do throws(WALError) {
      sealed = try Sealer(files: context.world.files, volume: context.volume).seal(
        judged, file: wal.file, dedup: { self.dedup[$0] },
        keep: { (target, bytes) throws(WALError) in
          counters.duplicateBlocks += 1
          try keepLocal(target, bytes)
        })
    } catch { throw KeeperHalt(ElideError(error)) }
    let content = KeptBlob(sealed.content.encode())
    if let target = tables.state.targetFault(sealed.content) {
      dedup.remove(segments: [target])
      return true
    }
    let event = SealedSegment(segment: number, origin: .wal, blocks: UInt64(sealed.blocks), content: content.digest)
    let rows: [(key: String, value: [UInt8]?)] = [
      (RowKey.chain, end.encodeRow()), (RowKey.sealedEnd(number), sealed.blocks > 0 ? end.encodeRow() : nil),
    ]
    guard try append([.segmentSealed(event)], blobs: [content], rows: rows) else {
      sealBackoff.failed(at: context.now)
      return false
    }
    sealBackoff.succeeded()
    judging = .nobody
    chain = end
    lastSealedSeq = journal.head?.seq
    exposure.seal(number, seq: lastSealedSeq ?? 0)
    wals[number]?.isSealed = true
    wals[number]?.scan = nil
    waitingBytes += UInt64(content.bytes.count)
    bytesSinceCheckpoint += UInt64(content.bytes.count)
    counters.walsSealed += 1
    counters.blocksSealed += UInt64(sealed.blocks)
    becomeSegment(wal, sealed, content: content.digest, end: end)
    context.stages.add(
      .seal, bytes: Int(sealed.blocks) * 4096, nanoseconds: judged.nanoseconds &+ (context.stages.now() &- start))
    if checkpointAfterSeal.remove(number) != nil { wantsCheckpoint = true }
    return true
  }

  /// A duplicate's older block that is not on this host: keep what was written, so that it does not become remote.
  private func keepLocal(_ target: BlockHandle, _ bytes: () throws(WALError) -> [UInt8]) throws(WALError) {
    if segments.attached(target.segment)?.isPresent(target.r) ?? false { return }
    // A full disk costs locality only: the block can be fetched.
    try bytes().withUnsafeBytes { if let p = $0.baseAddress { segments.keep(segment: target.segment, r: target.r, p) } }
  }

  private func becomeSegment(_ wal: KeptWal, _ sealed: SealedWAL, content: Digest, end: WALChain) {
    guard sealed.blocks > 0, let entry = tables.directory[wal.number] else {
      tell(.segmentFolded(number: wal.number, source: nil))
      return
    }
    let mapped = context.cache.placed(
      entry, seal: CacheFormat.seal(content: content, end: end), file: wal.file, sealed.places)
    // Only so that the next opening need not read the file again.
    do throws(Errno) { try context.cache.writeMap(mapped) } catch {
      lastError = "the map of segment \(wal.number) cannot be written: \(error)"
    }
    segments.attach(wal.number, mapped)
    dedup.insert(segment: wal.number, hashes: sealed.hashes)
    addShipment(wal.number, blocks: UInt64(sealed.blocks), hashes: sealed.hashes)
    tell(.segmentFolded(number: wal.number, source: mapped.source))
  }

  // MARK: Retiring

  /// Moves one file out of `wal/`: nothing of it is in the overlay any more, and the store has its blocks.
  func retireNext() throws(KeeperHalt) -> Bool {
    guard let number = wals.keys.sorted().first(where: { isDone(wals[$0]) }), let wal = wals[number] else { return false }
    wals[number] = nil
    let path = WALFormat.path(directory: context.directory.wal, number: number)
    guard let mapped = segments.attached(number) else {
      context.world.files.close(wal.file)
      try? context.world.files.remove(path)
      return true
    }
    // Closed when the last reader has let go of it.
    if wal.file != .none { mapped.takeFile() }
    do throws(Errno) { try segments.adopt(number, walPath: path) } catch {
      // The store has it: give up the local copy.
      segments.detach(number)
      try? context.world.files.remove(path)
    }
    trimCache()
    // Not urgent, and lost without harm: it only says where a file ends that is no longer there.
    _ = try append([], rows: [(RowKey.sealedEnd(number), nil)])
    return true
  }

  /// A volume that is only written fills the cache too. Counting it is for a thread that may wait.
  private func trimCache() {
    let (cache, segments) = (context.cache, segments)
    context.executor.submit(.fetch) { if cache.trimIfDue() { segments.sweep() } }
  }

  private func isDone(_ wal: KeptWal?) -> Bool {
    guard let wal, wal.isSealed, wal.isDropped else { return false }
    return tables.state.segments[wal.number]?.isSafe ?? false
  }
}
