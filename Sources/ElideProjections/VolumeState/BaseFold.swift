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

  /// The base of a volume that begins empty, or from what its parent had at the cut, or from a checkpoint.
  package init(map: BlockMap, account: SpaceAccount, seq: UInt64?) {
    self.map = map
    self.account = account
    self.seq = seq
  }

  /// Folds one entry that `VolumeState` accepted. `content` is the decoded content blob of a `segment_sealed`.
  package func fold(_ committed: Committed<VolumeEvent>, content: SegmentContent? = nil, moves: [BlockMove] = []) {
    switch committed.event {
    case .segmentSealed(let sealed): seal(sealed, content ?? SegmentContent(runs: []), committed.seq)
    case .compactionCommitted: move(moves, committed.seq)
    default: break
    }
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
    account.seal(sealed.segment, blocks: UInt32(sealed.blocks), at: seq)
    // An output of a compaction enters the table, never the base: only moves change the base.
    if sealed.origin == .compaction { return }
    var touched = Set<UInt64>()
    var taken: [(BlockHandle, UInt64)] = []
    for run in content.runs {
      let handle: BlockHandle
      switch run.kind {
      case .data(let r): handle = BlockHandle(segment: sealed.segment, r: r)
      case .zero: handle = .zero
      case .trim: handle = .unwritten
      case .duplicate(let target):
        handle = target
        account.refer(from: sealed.segment, to: target.segment)
      }
      guard run.lba < map.blocks else { continue }
      let count = min(run.count, map.blocks - run.lba)
      taken.removeAll(keepingCapacity: true)
      map.assign(run.lba, count: count, handle: handle) { old, n in taken.append((old, n)) }
      account.add(count, to: handle)
      for (old, n) in taken { account.take(n, from: old, touched: &touched) }
    }
    account.settle(touched, at: seq)
  }

  private func move(_ moves: [BlockMove], _ seq: UInt64) {
    var touched = Set<UInt64>()
    for move in moves {
      var done: UInt64 = 0
      while done < move.count {
        let (handle, count) = map.run(at: move.lba + done, limit: move.count - done)
        if count == 0 { break }
        if handle == move.from.advanced(by: done) {
          let to = move.to.advanced(by: done)
          map.assign(move.lba + done, count: count, handle: to) { _, _ in }
          account.add(count, to: to)
          account.take(count, from: handle, touched: &touched)
        }
        done += count
      }
    }
    account.settle(touched, at: seq)
  }
}
