import ElideEvents
import ElideIO
import ElideProjections

extension VolumeKeeper {
  /// Takes a checkpoint when one is wanted, and puts it when the store lacks it.
  func stepCheckpoint() throws(KeeperHalt) -> Bool {
    guard checkpointBackoff.isReady(at: context.now) else { return false }
    if wantsCheckpoint {
      if isCheckpointCurrent {
        wantsCheckpoint = false
        return true
      }
      return try takeCheckpoint()
    }
    guard let checkpoint, checkpoint.storage == .planned, !isPuttingCheckpoint, ending?.ship ?? true else { return false }
    return putCheckpoint(checkpoint)
  }

  /// Nothing of the map has changed since the newest one, and few pages follow it.
  private var isCheckpointCurrent: Bool {
    guard let checkpoint else { return journal.head == nil }
    return !hasSealedSince(checkpoint.locator.seq) && checkpointedSize == tables.state.size && pagesSinceCheckpoint < 2
  }

  /// Pages that a reader of the newest checkpoint folds.
  var pagesSinceCheckpoint: Int { Int(pageLog.nextPage - (checkpoint?.horizon ?? 0)) }

  func hasSealedSince(_ seq: UInt64) -> Bool { lastSealedSeq.map { $0 > seq } ?? false }

  /// Writes the state at the head as a checkpoint: file here, then its name in the journal (`object_planned`, with the
  /// root), and only then is it put.
  private func takeCheckpoint() throws(KeeperHalt) -> Bool {
    guard let head = journal.head else { return false }
    let map = MapCheckpoint(
      volume: context.volume, seq: head.seq, map: tables.map, rows: tables.rows, state: tables.state.encode())
    let bytes = map.encode(ZstdCodec())
    let digest = Digest.sha256(bytes)
    let locator = CheckpointLocator(
      volume: context.volume, key: StoreLayout.checkpoint(context.volume, seq: head.seq, digest: digest), seq: head.seq,
      root: map.root, length: UInt64(bytes.count), digest: digest)
    let made = LocalCheckpoint(locator: locator, entryHash: head.hash, horizon: pageLog.nextPage, storage: .planned)
    let path = "\(context.directory.maps)/\(made.fileName)"
    do throws(Errno) { try context.world.files.replaceFile(path, with: bytes) } catch {
      lastError = "a checkpoint cannot be written: \(error)"
      checkpointBackoff.failed(at: context.now)
      return false
    }
    let rows: [(key: String, value: [UInt8]?)] = [(RowKey.checkpoint, made.encodeRow())]
    guard try append([.objectPlanned(key: locator.key), .mapRooted(seq: head.seq, root: map.root)], rows: rows) else {
      checkpointBackoff.failed(at: context.now)
      return false
    }
    if let old = checkpoint, old.fileName != made.fileName {
      try? context.world.files.remove("\(context.directory.maps)/\(old.fileName)")
    }
    checkpoint = made
    checkpointedSize = tables.state.size
    bytesSinceCheckpoint = 0
    wantsCheckpoint = false
    isPuttingCheckpoint = false
    counters.checkpoints += 1
    return true
  }

  private func putCheckpoint(_ checkpoint: LocalCheckpoint) -> Bool {
    isPuttingCheckpoint = true
    let path = "\(context.directory.maps)/\(checkpoint.fileName)"
    let locator = checkpoint.locator
    let (files, store, results) = (context.world.files, context.store, results)
    context.executor.submit(.ship) {
      var failure: StoreError?
      do throws(StoreError) {
        guard let bytes = try? files.readFile(path), Digest.sha256(bytes) == locator.digest else {
          throw .corrupt(key: locator.key, detail: "the local file \(path) is not what was written")
        }
        try store.put(locator.key, parts: [bytes])
      } catch { failure = error }
      _ = results.send(.checkpointPut(key: locator.key, failure))
    }
    return true
  }

  func checkpointPut(_ key: String, _ failure: StoreError?) throws(KeeperHalt) {
    guard var stored = checkpoint, stored.locator.key == key, isPuttingCheckpoint else { return }
    isPuttingCheckpoint = false
    if let failure {
      checkpointBackoff.failed(at: context.now)
      counters.storeFailures += 1
      lastError = "the checkpoint \(key) is not in the store yet: \(failure)"
      // A local file that is damaged will not get better: make another.
      if case .corrupt = failure {
        checkpoint = nil
        wantsCheckpoint = true
      }
      return
    }
    checkpointBackoff.succeeded()
    stored.storage = .stored
    guard try append([], rows: [(RowKey.checkpoint, stored.encodeRow())]) else { return }
    checkpoint = stored
  }

  /// The pages or contents since the newest checkpoint have grown over their bounds.
  var isCheckpointDue: Bool {
    pagesSinceCheckpoint >= context.configuration.checkpointPages || bytesSinceCheckpoint >= context.configuration.checkpointBytes
  }
}
