import ElideIO
import Glibc

// unsent < limit/2: free ─▶ slowed: bytes on credit, asked for by the front, given at `WritePressure`'s rate
//                            ─▶ limit: held (no credit), or refused once shipping has failed for `outageSeconds`
// The front never waits for an answer: what has no credit is stalled there, in order, as what has no file is.

/// What the keeper knows of the front's writing.
struct WriteGate {
  /// What it was told last; of `.slowed` only that.
  var said = WriteAllowance.free
  /// Bytes it asked for, and how they are given out.
  var wanted: UInt64 = 0
  var grants = PacedGrants()
  var rate: UInt64 = 0
  var isHeld = false
  /// When the first of the shipments failed after which none has succeeded.
  var failingSince: UInt64?

  var isSlowed: Bool { if case .slowed = said { true } else { false } }

  var writing: VolumeStatus.Writing {
    switch said {
    case .free: .free
    case .slowed: isHeld ? .held : .slowed
    case .refused: .refused
    }
  }

  func hasFailed(_ now: UInt64, _ configuration: KeeperConfiguration) -> Bool {
    failingSince.map { now &- $0 >= configuration.outageSeconds * 1_000_000_000 } ?? false
  }

  /// When there is something to say though nothing happened; 0: never.
  func deadline(_ now: UInt64, _ configuration: KeeperConfiguration) -> UInt64 {
    guard isSlowed, wanted > 0 else { return 0 }
    if isHeld { return failingSince.map { $0 &+ configuration.outageSeconds * 1_000_000_000 } ?? 0 }
    // The rate changes meanwhile.
    return min(grants.due(rate: rate), now &+ 1_000_000_000)
  }
}

extension VolumeKeeper {
  /// Bytes of data that the store lacks: of sealed segments, of files closed and of the open one.
  var unsentTotal: UInt64 { unsentBytes &+ unsealedClosedBytes &+ context.openBytes.bytes }

  /// Tells the front what it may write, when that has changed or it has asked.
  func stepPressure() -> Bool {
    guard isServed, ending == nil else { return false }
    let (now, configuration) = (context.now, context.configuration)
    let pressure = WritePressure(limit: configuration.unsentBytes, easeSeconds: configuration.easeSeconds)
    let unsent = unsentTotal
    let verdict = pressure.verdict(unsent: unsent, hasFailed: writes.hasFailed(now, configuration))
    if writes.isHeld != (verdict == .held) {
      writes.isHeld = verdict == .held
      publishStatus()
    }
    switch verdict {
    case .free: return say(.free)
    case .refused: return say(.refused)
    case .held: return writes.isSlowed ? false : say(.slowed(0))
    case .slowed(let rate):
      writes.rate = rate
      if !writes.isSlowed { return say(.slowed(0)) }
      let room = configuration.unsentBytes - unsent
      guard writes.wanted > 0, let bytes = writes.grants.grant(writes.wanted, rate: rate, room: room, now: now) else {
        return false
      }
      writes.wanted = 0
      tell(.allowance(.slowed(bytes)))
      return true
    }
  }

  private func say(_ allowance: WriteAllowance) -> Bool {
    if writes.said == allowance { return false }
    writes.said = allowance
    writes.wanted = 0
    tell(.allowance(allowance))
    return true
  }

  /// No file could be made, for want of space. After a while whoever waits for one is told so.
  func noteFull() {
    let since = fullSince ?? context.now
    fullSince = since
    guard !isFullSaid, context.now &- since >= context.configuration.spaceSeconds * 1_000_000_000 else { return }
    isFullSaid = true
    tell(.noFile(error: ENOSPC))
    publishStatus()
  }
}
