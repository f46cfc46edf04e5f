import CElide
import ElideIO
import ElideProjections

/// What came of blocks that nobody had asked for yet.
package enum AheadOutcome: Equatable, Sendable {
  /// They are in the cache now, or were, or somebody else is fetching them.
  case kept
  /// The disk took none of them.
  case notKept
  case failed
}

/// Blocks [r, r+count) of a segment that are to be asked for ahead.
struct AheadRange {
  var segment: UInt64
  var r: UInt32
  var end: UInt32
}

// Reading ahead: `ReadStreams` says how far, the map says which blocks of which segments that is, and the keeper passes it to
// a lane of its own. What is under way there no guest waits behind: a read that wants the same blocks joins, another passes by.
extension VolumeDevice {
  /// A guest's read of these bytes; `missed`: not all of them were local.
  @inline(__always)
  func noteRead(_ offset: UInt64, _ length: UInt64, missed: Bool) {
    if streams.isEmpty && !missed { return }
    let first = offset >> 12
    streams.note(lba: first, count: (offset &+ length &+ 4095) >> 12 &- first, missed: missed)
    readAhead()
  }

  /// Asks for what is due ahead of readers, as far as the limit of requests goes. A bounded piece of work.
  func readAhead() {
    let end = (size &+ 4095) >> 12
    for _ in 0..<64 {
      guard aheadUnderWay < limits.readAhead.fetches, let (stream, from, to) = streams.due(end: end) else { return }
      guard let asked = ask(ahead: from, to) else { return }
      // The encoding that comes next is a round trip that need not be waited for.
      if to &- from >= Self.encodingsAheadFrom { askEncoding(stream, at: to &+ Self.encodingsAhead) }
      streams.asked(stream, upTo: asked.end, missing: asked.missing)
    }
  }

  /// Half a segment of 32 MiB, for those who read megabytes.
  private static let encodingsAhead: UInt64 = 4096
  private static let encodingsAheadFrom: UInt64 = 128

  private func askEncoding(_ stream: Int, at lba: UInt64) {
    guard lba < (size &+ 4095) >> 12 else { return }
    let (handle, _) = map.run(at: lba, limit: 1)
    guard handle.isBlock, streams.wantsEncoding(stream, of: handle.segment), sources.source(for: handle.segment) == nil else {
      return
    }
    if toKeeper.send(.ahead(segment: handle.segment, r: 0, count: 0)) { aheadUnderWay &+= 1 }
  }

  /// Asks for the blocks of [from, to) that are in no local file. Returns up to where, which is nearer when there are many
  /// pieces, how many blocks the map names there, and how many were missing; nil when the keeper's box is full: later, then.
  func ask(ahead from: UInt64, _ to: UInt64) -> (end: UInt64, mapped: UInt64, missing: UInt64)? {
    var lba = from
    var mapped: UInt64 = 0
    var missing: UInt64 = 0
    aheadRanges.removeAll(keepingCapacity: true)
    for _ in 0..<256 where lba < to {
      let over = overlay.run(lba, limit: to &- lba)
      if over.kind != nil {
        lba &+= max(1, over.count)
        continue
      }
      let (handle, n) = map.run(at: lba, limit: over.count)
      if n == 0 {
        lba = to
        break
      }
      if handle.isBlock {
        mapped &+= n
        missing &+= gather(handle, UInt32(truncatingIfNeeded: n))
      }
      lba &+= n
      if aheadRanges.count >= Self.mostRanges { break }
    }
    for range in aheadRanges {
      guard toKeeper.send(.ahead(segment: range.segment, r: range.r, count: range.end &- range.r)) else {
        // Asked for by nobody: a later read of it misses, and asks.
        wake.signal()
        return nil
      }
      aheadUnderWay &+= 1
      counters.blocksAhead &+= UInt64(range.end &- range.r)
    }
    return (lba, mapped, missing)
  }

  /// Pieces that one chunk is asked for in.
  static let mostRanges = 8

  /// Adds what is absent of a run of blocks, to a piece that it continues if there is one: blocks of one segment lie in the
  /// order of their LBAs, with others between them. Returns how many blocks are absent.
  private func gather(_ handle: BlockHandle, _ count: UInt32) -> UInt64 {
    var (r, end) = (handle.r, handle.r &+ count)
    if let source = sources.source(for: handle.segment), end <= source.blocks {
      while r < end, elide_load_acquire_u32(source.words + 4 &* Int(r)) != 0 { r &+= 1 }
      while end > r, elide_load_acquire_u32(source.words + 4 &* Int(end &- 1)) != 0 { end &-= 1 }
      if r == end { return 0 }
    }
    let unit = UInt32(truncatingIfNeeded: limits.readAhead.unit)
    for i in aheadRanges.indices
    where aheadRanges[i].segment == handle.segment && r >= aheadRanges[i].r && r <= aheadRanges[i].end &+ unit {
      aheadRanges[i].end = max(aheadRanges[i].end, end)
      return UInt64(end &- r)
    }
    aheadRanges.append(AheadRange(segment: handle.segment, r: r, end: end))
    return UInt64(end &- r)
  }

  func aheadDone(_ outcome: AheadOutcome) {
    aheadUnderWay = max(0, aheadUnderWay &- 1)
    switch outcome {
    case .kept: streams.succeeded()
    case .notKept, .failed: streams.failed()
    }
    notePrefetch(outcome)
    readAhead()
    goOnPrefetching()
  }
}
