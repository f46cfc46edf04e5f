import ElideIO
import ElideProjections

/// How far bringing all of a volume has come. A value, read on the device's thread.
package struct PrefetchProgress: Equatable, Sendable {
  package enum State: Equatable, Sendable {
    case running
    /// Every block that the map names was local or came.
    case done
    /// Something failed to come. It begins again, from what is missing, when the store has answered a read.
    case waiting
    /// The disk takes no more: that is the end of it.
    case full
  }
  package var state = State.running
  /// Blocks that the map names in all, and those passed until now: local, come, or on their way.
  package var mapped: UInt64
  package var passed: UInt64 = 0
  /// Up to here the device was looked at.
  var next: UInt64 = 0
}

// All of a volume, from its first block to its last, by the same requests as ahead of readers, and behind those: half of
// them at most. What is written meanwhile is local anyway.
extension VolumeDevice {
  /// Blocks of the volume that are in segments, counted up to `limit`: it is small, or it is not. Looks at the map alone.
  package func mappedBlocks(limit: UInt64) -> UInt64 {
    var lba: UInt64 = 0
    var mapped: UInt64 = 0
    let end = (size &+ 4095) >> 12
    while lba < end, mapped <= limit {
      let (handle, n) = map.run(at: lba, limit: min(end &- lba, Self.longestLook))
      if n == 0 { break }
      if handle.isBlock { mapped &+= n }
      lba &+= n
    }
    map.quiesce()
    return min(mapped, limit &+ 1)
  }

  /// Blocks of a hole that are passed over at once: 4 GiB.
  private static let longestLook: UInt64 = 1 << 20

  /// Begins to bring everything into the cache; `mapped` is what `mappedBlocks` said. Goes on in `poll`.
  package func startPrefetch(mapped: UInt64) {
    prefetching = PrefetchProgress(mapped: mapped)
    wake.signal()
  }

  /// Asks for what comes next, a bounded piece of work; readers come first.
  func goOnPrefetching() {
    guard prefetching?.state == .running, streams.due(end: (size &+ 4095) >> 12) == nil else { return }
    let end = (size &+ 4095) >> 12
    for _ in 0..<64 {
      guard var p = prefetching, p.next < end else { break }
      guard aheadUnderWay < max(1, limits.readAhead.fetches / 2) else { return }
      let (handle, n) = map.run(at: p.next, limit: min(end &- p.next, Self.longestLook))
      if !handle.isBlock || n == 0 {
        p.next = n == 0 ? end : p.next &+ n
      } else {
        guard let asked = ask(ahead: p.next, min(p.next &+ limits.readAhead.chunk, end)) else { return }
        p.next = asked.end
        p.passed &+= asked.mapped
      }
      prefetching = p
    }
    guard let p = prefetching else { return }
    if p.next < end {
      // Nothing was missing on the way: no answer will come, and the guest is to go on between.
      wake.signal()
    } else if aheadUnderWay == 0 {
      prefetching?.state = .done
    }
  }

  /// What came of something that was asked for ahead, by whomever.
  func notePrefetch(_ outcome: AheadOutcome) {
    guard prefetching?.state == .running else { return }
    switch outcome {
    case .kept: break
    case .failed: prefetching?.state = .waiting
    case .notKept: prefetching?.state = .full
    }
  }

  /// A read's fetch was answered: the store is there.
  func storeAnswered() {
    guard let p = prefetching, p.state == .waiting else { return }
    startPrefetch(mapped: p.mapped)
  }
}
