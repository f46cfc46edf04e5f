import ElideEvents
import ElideIO

/// A run moved by a compaction: the base changes only where it still says `from`.
package struct BlockMove: Equatable, Sendable {
  package var lba: UInt64
  package var count: UInt64
  package var from: BlockHandle
  package var to: BlockHandle
  package init(lba: UInt64, count: UInt64, from: BlockHandle, to: BlockHandle) {
    self.lba = lba
    self.count = count
    self.from = from
    self.to = to
  }
}

/// The base of a volume at a seq: the block map and the space account, folded together from committed events. This is the
/// only code that changes either. Owned by the keeper's thread (or a replay); `map` may have one reader beside it.
package final class BaseState {
  package let map: BlockMap
  package private(set) var account: SpaceAccount
  /// The last entry folded; nil before entry 0.
  package private(set) var seq: UInt64?
  private var updates: [MapUpdate] = []

  /// The base of a volume that begins empty, or from what its parent had at the cut, or from a checkpoint.
  package init(map: BlockMap, account: SpaceAccount, seq: UInt64?) {
    self.map = map
    self.account = account
    self.seq = seq
  }

  /// Folds one entry that `VolumeState` accepted. `content` is the decoded content blob of a `segment_sealed`, `outputs`
  /// are those of the plan that the entry ends.
  package func fold(
    _ committed: Committed<VolumeEvent>, content: SegmentContent? = nil, moves: [BlockMove] = [], outputs: [UInt64] = []
  ) {
    switch committed.event {
    case .segmentSealed(let sealed): seal(sealed, content ?? SegmentContent(runs: []), committed.seq)
    case .compactionCommitted: move(moves, committed.seq)
    default: break
    }
    for output in outputs { account.giveUp(output, at: committed.seq) }
    seq = committed.seq
  }

  /// Passes over an entry that changed nothing.
  func skip(to seq: UInt64) { self.seq = seq }

  /// Sets the device's size; growth only.
  package func grow(toBytes size: UInt64) {
    let blocks = (size + 4095) / 4096
    if blocks > map.blocks { map.grow(to: blocks) }
  }

  private func seal(_ sealed: SealedSegment, _ content: SegmentContent, _ seq: UInt64) {
    var account = exchange(&self.account, with: SpaceAccount(volume: self.account.volume))
    var updates = exchange(&self.updates, with: [])
    updates.removeAll(keepingCapacity: true)
    account.seal(sealed.segment, blocks: UInt32(sealed.blocks), at: seq)
    let size = map.blocks
    for run in content.runs {
      if case .duplicate(let target) = run.kind { account.refer(from: sealed.segment, to: target.segment) }
      guard run.lba < size else { continue }
      updates.append(
        MapUpdate(lba: run.lba, count: min(run.count, size - run.lba), handle: run.handle(in: sealed.segment)))
    }
    // An output of a compaction enters the table, never the base: only moves change the base.
    if sealed.origin != .compaction { write(updates, &account, seq) }
    self.account = account
    self.updates = updates
  }

  private func move(_ moves: [BlockMove], _ seq: UInt64) {
    var account = exchange(&self.account, with: SpaceAccount(volume: self.account.volume))
    var updates: [MapUpdate] = []
    for move in moves {
      var done: UInt64 = 0
      while done < move.count {
        let (handle, count) = map.run(at: move.lba + done, limit: move.count - done)
        if handle == move.from.advanced(by: done) {
          updates.append(MapUpdate(lba: move.lba + done, count: count, handle: move.to.advanced(by: done)))
        }
        done += count
      }
    }
    write(updates, &account, seq)
    self.account = account
  }

  /// Gains first, so that a segment that gives and takes in one entry does not pass through zero.
  private func write(_ updates: [MapUpdate], _ account: inout SpaceAccount, _ seq: UInt64) {
    for u in updates { account.add(u.count, to: u.handle) }
    updates.withUnsafeBufferPointer { runs in map.update(runs) { old, n in account.take(n, from: old) } }
    account.settle(at: seq)
  }
}

/// Takes a value out of its place for a while: it is changed in a local variable, without the checks and reference counts
/// that each access to a class's property costs.
private func exchange<T>(_ place: inout T, with other: T) -> T {
  let value = place
  place = other
  return value
}
