import ElideIO
import ElideProjections

// chosen (no longer attached) ──the I/O thread has let go──▶ taken out of the cache ──header──▶ the next write-ahead file
//
// A new file costs its allocation, and each first write of a place an entry in the file system's own journal, synced with
// every flush. One whose blocks nobody needs here is written already.

extension VolumeKeeper {
  /// How many segments are looked at each time: a few system calls for each.
  private static let spareTries = 8

  /// Picks a segment whose file the next write-ahead file may become, and lets go of it: first one that neither the base nor a
  /// snapshot needs, and when the cache is full the oldest that eviction would take.
  func chooseSpare() {
    guard spare == nil else { return }
    let account = tables.fold.base.account
    for _ in 0..<Self.spareTries {
      guard let row = account.emptied(from: emptyHand) else {
        emptyHand = 0
        break
      }
      emptyHand = row.number + 1
      if isSettled(row.number), !isInSnapshot(row), context.cache.isPlaced(context.volume, row.number) {
        return choose(row.number)
      }
    }
    // Files under way will come into the cache as well: what is kept until then, eviction would remove.
    guard context.cache.isFull(for: walBytes * UInt64(wals.count + 1)) else { return }
    for _ in 0..<Self.spareTries {
      guard let row = account.next(from: fullHand) else {
        fullHand = 0
        return
      }
      fullHand = row.number + 1
      if isSettled(row.number), context.cache.mayTake(volume: context.volume, segment: row.number) { return choose(row.number) }
    }
  }

  private var walBytes: UInt64 { UInt64(context.configuration.geometry.fileBlocks * WALFormat.block) }

  private func choose(_ number: UInt64) {
    segments.detach(number)
    spare = number
  }

  /// The store has it, its file has left `wal/`, and no client may still read from its pages, which go into sockets as they are:
  /// what an earlier process sent, a client that stood still meanwhile has yet to take.
  private func isSettled(_ number: UInt64) -> Bool {
    wals[number] == nil && number >= firstWal && !segments.wasSent(number)
      && (tables.state.segments[number]?.isSafe ?? false)
  }

  /// Only what is needed in the base counts for reads here, but a snapshot may be opened on this host at any time.
  private func isInSnapshot(_ row: SegmentTableRow) -> Bool {
    tables.state.snapshots.contains { snapshot in
      guard let point = snapshot.point, let death = row.death else { return true }
      return row.sealed.seq <= point && point < death.seq
    }
  }

  /// The file of the segment that was chosen, under the name of write-ahead file `number`; nil when there is none, or when
  /// somebody has it open.
  func takeSpare(for number: UInt64) -> FileID? {
    guard let segment = spare else { return nil }
    spare = nil
    segments.closeRetired()
    let path = WALFormat.path(directory: context.directory.wal, number: number)
    // Until it let go the I/O thread may have sent from it.
    return context.cache.takeAway(volume: context.volume, segment: segment, size: walBytes, to: path) {
      !segments.wasSent(segment)
    }
  }
}
