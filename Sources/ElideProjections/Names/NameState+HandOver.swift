import ElideEvents
import ElideIO

// Decisions by which a name changes hands, changes its log, or ends.

extension NameState {
  func handOver(_ command: NameCommand, _ author: Author) throws(Refusal) -> NameDecision {
    switch command {
    case .release(let cut):
      if phase == .released, releasedBy == author.host { return .done }
      if phase == .live, isMine(author) { throw refusal(.usage, .stop) }
      try requireOwner(author, in: [.stopped])
      return .append(.released(cut: cut))
    case .claim(let volume, let key, let serve):
      if phase == .released, let cut { return .append(.claimed(volume: volume, key: key, cut: cut, serve: serve)) }
      if isOwned(by: author), self.volume == volume { return .done }
      throw wrong(author)
    case .reclaim(let local, let serve):
      if phase == .released {
        guard releasedBy == author.host, let local, local == cut, local.volume == volume else {
          throw refusal(.usage, .claim, "this host's copy is not exactly what was released")
        }
        return .append(.reclaimed(cut: local, serve: serve))
      }
      if isOwned(by: author), phase == .live || phase == .stopped, let local, local.volume == volume { return .done }
      throw wrong(author)
    case .force(let f): return try force(f, author)
    case .recover(let volume, let basis, let lost):
      if isOwned(by: author), phase == .stopped || phase == .live, self.volume == volume { return .done }
      try requireOwner(author, in: [.recovering])
      if pending?.volume != volume {
        throw refusal(.fenced, .recover, "it is recovered into volume \(pending?.volume.description ?? "")")
      }
      if let fault = basisFault(basis, acceptsLoss: !lost.isEmpty) { throw refusal(.unsafe, .acceptLoss, fault) }
      return .append(.recovered(basis: basis, lost: lost))
    default: throw wrong(author)
    }
  }

  private func force(_ f: Force, _ author: Author) throws(Refusal) -> NameDecision {
    if isOwned(by: author), pending?.volume == f.volume || volume == f.volume { return .done }
    guard [.live, .stopped, .recovering].contains(phase), let owner, let volume else { throw wrong(author) }
    if let expected = f.expectOwner, expected != owner {
      throw refusal(.owned, .dryRun, "the force was meant for host \(expected.prefix(12))")
    }
    if let expected = f.expectEpoch, expected != epoch {
      throw refusal(.owned, .dryRun, "the force was meant for epoch \(expected), the name stands at epoch \(epoch)")
    }
    if owner == author.host, !f.isSelf {
      // A recovery that this host began goes on; anything else of its own it starts, unless its volume is lost.
      if phase == .recovering { throw wrong(author) }
      throw refusal(.usage, .forceSelf, "this host owns it")
    }
    return .append(
      .fenced(Fence(expectOwner: owner, expectEpoch: epoch, volume: f.volume, key: f.key, displaced: volume)))
  }

  func rename(_ command: NameCommand, _ author: Author) throws(Refusal) -> NameDecision {
    switch command {
    case .renameCommit(let new, let reserved, let slot):
      if phase == .renamed, renamedTo == new { return .done }
      if phase == .live, isMine(author) { throw refusal(.usage, .stop) }
      try requireOwner(author, in: [.stopped])
      if slot != nextSeq {
        throw refusal(.tryLater, .again, "slot \(slot), in which the rename would be, is taken by another entry")
      }
      return .append(.renamedTo(new: new, reserved: reserved, slot: slot))
    case .renameFinish(let r):
      if origin == Origin(old: r.old, slot: r.slot) { return .done }
      guard phase == .reserved else { throw wrong(author) }
      if reservation?.old != r.old || reservation?.slot != r.slot {
        throw refusal(.usage, .finishRename, "another rename holds it")
      }
      return .append(.renamedFrom(r))
    case .renameAbort(let fact):
      if isFree { return .done }
      guard phase == .reserved else { throw wrong(author) }
      switch fact {
      case .empty: throw refusal(.tryLater, .voidSlot, "whether the rename takes place is not decided yet")
      case .match: throw refusal(.usage, .finishRename, "the rename has taken place")
      case .other(let found): return .append(.renameAborted(found: found))
      }
    default: throw wrong(author)
    }
  }

  func purge(_ command: NameCommand, _ author: Author) throws(Refusal) -> NameDecision {
    if phase == .purged { return .done }
    switch command {
    case .purge:
      if phase == .purging {
        try requireOwner(author, in: [.purging])
        return .done
      }
      if phase != .readonly {
        if phase == .live, isMine(author) { throw refusal(.usage, .stop) }
        try requireOwner(author, in: [.stopped])
      }
      if let pin = holdings.pins.first {
        throw refusal(.unsafe, .unpin, "\(holdings.pins.count) pins hold it, the first for '\(pin.by)'")
      }
      if let d = holdings.displaced.first {
        throw refusal(.unsafe, .discardDisplaced, "volume \(d.volume) is kept for host \(d.host.prefix(12))")
      }
      return .append(.purging)
    case .takePurge:
      guard phase == .purging else { throw wrong(author) }
      if isOwned(by: author) { return .done }
      if isMine(author) { throw refusal(.usage, .adopt, "this host purges it") }
      return .append(.purgeTaken)
    default:
      try requireOwner(author, in: [.purging])
      return .append(.purged)
    }
  }
}
