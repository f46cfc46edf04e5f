import ElideEvents
import ElideIO
import ElideProjections

/// The end of a keeper's work, in good order.
struct Ending {
  enum Phase: Equatable { case sealing, shipping, closing, publishing, done }
  var phase = Phase.sealing
  var ship: Bool
  var replies: [Reply<Void>]
  /// With `ship`: the last page must reach this entry.
  var publishThrough: UInt64?
  var madeCheckpoint = false

  init(ship: Bool, reply: Reply<Void>) {
    self.ship = ship
    replies = [reply]
  }

  func answer(_ result: Result<Void, ElideError>) { for reply in replies { reply.answer(result) } }
}

extension VolumeKeeper {
  func stepEnding() throws(KeeperHalt) -> Bool {
    guard let phase = ending?.phase else { return false }
    switch phase {
    case .sealing: return try endSealing()
    case .shipping:
      guard ending?.ship == false || shipments.isEmpty else { return false }
      ending?.phase = .closing
    case .closing:
      if ending?.ship == true, ending?.madeCheckpoint == false {
        ending?.madeCheckpoint = true
        wantsCheckpoint = lastSealedSeq != nil || checkpoint != nil
        return true
      }
      return try close()
    case .publishing:
      if ending?.ship == false {
        finish()
        return true
      }
      if case .current = hint {} else { return false }
      guard let all = ending?.publishThrough, pageLog.nextSeq > all, intent == nil else { return false }
      finish()
    case .done: return false
    }
    return true
  }

  /// The device is gone. Files it did not close are closed here: nobody appends to them any more.
  private func endSealing() throws(KeeperHalt) -> Bool {
    for number in wals.keys.sorted() { wals[number]?.isDropped = true }
    guard let number = tables.state.openWALs.first, let wal = wals[number] else {
      ending?.phase = .shipping
      return true
    }
    if wal.end == nil {
      let end = try endOf(wal)
      wals[number]?.end = end
      return true
    }
    // `sealNext` had its turn and did nothing: a full disk, or too much that is not sent. Without the store there is no
    // point in waiting; the next opening goes on from the file.
    if case .underWay = judging { return false }
    guard ending?.ship == false else { return false }
    ending?.phase = .shipping
    return true
  }

  private func endOf(_ wal: KeptWal) throws(KeeperHalt) -> WALChain {
    do throws(WALError) {
      do throws(Errno) { try context.world.files.sync(wal.file) } catch {
        throw WALError.system(volume: context.volume, wal: wal.number, operation: "fdatasync", error: error)
      }
      let blocks = try WALFile.checkHeader(context.world.files, wal.file, volume: context.volume, number: wal.number)
      let scan = try WALReader.scan(context.world.files, wal.file, volume: context.volume, wal: wal.number, blocks: blocks)
      return scan.end ?? wals[wal.number - 1]?.end ?? chain
    } catch { throw KeeperHalt(ElideError(error)) }
  }

  private func close() throws(KeeperHalt) -> Bool {
    if tables.state.isServing {
      guard try append([.closed]) else { return false }
    }
    guard ending?.ship == true, let head = journal.head?.seq else {
      finish()
      return true
    }
    ending?.publishThrough = head
    ending?.phase = .publishing
    return true
  }

  private func finish() {
    ending?.phase = .done
    publishStatus()
    ending?.answer(.success(()))
  }
}
