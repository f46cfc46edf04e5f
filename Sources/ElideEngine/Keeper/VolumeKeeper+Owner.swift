import ElideEvents
import ElideIO
import ElideProjections

// Whose the name is. Asked on the ship lane: before each page and after it, and at a steady beat. A store that does not answer is
// no fence; what the log says is.

extension VolumeKeeper {
  /// When the name's log is asked next though no page goes out; never for a volume without a name.
  var ownerDue: UInt64 {
    guard context.ownership != nil, !isAskingOwner else { return .max }
    return ownerAsked &+ context.configuration.ownershipMilliseconds &* 1_000_000
  }

  func stepOwner() -> Bool {
    guard let ownership = context.ownership, context.now >= ownerDue else { return false }
    isAskingOwner = true
    let results = results
    context.executor.submit(.ship) { _ = results.send(.ownerRead(ownership.ask())) }
    return true
  }

  func ownerRead(_ answer: ServiceAnswer) throws(KeeperHalt) {
    isAskingOwner = false
    ownerAsked = context.now
    guard case .lost(let seq, let why) = answer, let grant = context.ownership?.grant else { return }
    throw KeeperHalt(
      .fenced, "volume \(context.volume) may not serve '\(grant.name)' any more: \(why); what it holds is kept", nameSeq: seq)
  }

  /// Says in the journal that the volume was fenced, if the journal still takes it: whoever opens it must know.
  func noteFence(_ why: KeeperHalt) {
    guard why.kind == .fenced, let seq = why.nameSeq, haltReason == nil, !tables.state.isFenced else { return }
    do throws(KeeperHalt) { _ = try append([.fenced(nameSeq: seq)]) } catch { lastError = error.detail }
  }
}
