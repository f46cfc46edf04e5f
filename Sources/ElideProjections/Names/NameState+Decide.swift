import ElideEvents
import ElideIO

extension NameState {
  /// Whether `command` of `author` is an entry (for slot `nextSeq`), is so already, or is refused. Pure.
  package func decide(_ command: NameCommand, by author: Author) throws(Refusal) -> NameDecision {
    if let s = stranger {
      throw Refusal(
        .usage, .upgrade,
        "entry \(s.seq) of '\(name)' has the kind \(s.kind) of schema \(s.schema), which this program does not know: it may read "
          + "the log, and must not append; \(Refusal.Instead.upgrade.advice(name, self))")
    }
    let decision = try choose(command, author)
    if case .append(let event) = decision, let fault = fault(event, by: author, at: nextSeq) {
      throw refusal(.usage, .again, fault)
    }
    return decision
  }

  private func choose(_ command: NameCommand, _ author: Author) throws(Refusal) -> NameDecision {
    switch command {
    case .create, .fork, .importStart, .renameReserve: return try begin(command, author)
    case .importFinish, .importAbort: return try importing(command, author)
    case .adopt, .start, .stop, .resize, .reap: return try own(command, author)
    case .release, .claim, .reclaim, .force, .recover: return try handOver(command, author)
    case .pin, .unpin, .discardDisplaced: return try keep(command, author)
    case .renameCommit, .renameFinish, .renameAbort: return try rename(command, author)
    case .purge, .takePurge, .finishPurge: return try purge(command, author)
    case .void(let id): return .append(.void(id: id))
    case .note(let text):
      if isFree { throw wrong(author) }
      return .append(.note(text: text))
    }
  }

  // MARK: Sentences

  /// What the state is, who owns the name, since when.
  package var sentence: String {
    if phase == .absent { return "there is no '\(name)'" }
    let who =
      if let owner { ", owned by host \(owner.prefix(12))" } else if let releasedBy { ", by host \(releasedBy.prefix(12))" } else
      { "" }
    return "'\(name)' is \(phase.rawValue)\(who), since entry \(since) (\(sinceAt))"
  }

  func refusal(_ kind: Refusal.Kind, _ instead: Refusal.Instead, _ why: String = "") -> Refusal {
    Refusal(kind, instead, "\(sentence)\(why.isEmpty ? "" : ": \(why)"); \(instead.advice(name, self))")
  }

  func isMine(_ author: Author) -> Bool { owner == author.host }

  /// The refusal of a command that this phase does not take: what would be right in it.
  func wrong(_ author: Author, _ why: String = "") -> Refusal {
    let mine = isMine(author)
    switch phase {
    case .absent, .purged: return refusal(.notFound, .create, why)
    case .reserved: return refusal(.tryLater, .finishRename, why)
    case .importing: return refusal(mine ? .usage : .owned, .abortImport, why)
    case .live: return refusal(mine ? .usage : .owned, mine ? .stop : .force, why)
    case .stopped: return refusal(mine ? .usage : .owned, mine ? .start : .force, why)
    case .released: return refusal(.usage, .claim, why)
    case .readonly: return refusal(.usage, .fork, why)
    case .recovering: return refusal(mine ? .usage : .owned, mine ? .recover : .force, why)
    case .renamed: return refusal(.usage, .follow, why)
    case .purging: return refusal(mine ? .usage : .owned, mine ? .finishPurge : .takePurge, why)
    }
  }

  /// Refuses unless the phase is one of `phases` and `author` is its owner.
  func requireOwner(_ author: Author, in phases: Set<Phase>) throws(Refusal) {
    guard phases.contains(phase), owner == author.host else { throw wrong(author) }
    if incarnation != author.incarnation {
      throw refusal(.usage, .adopt, "its owner is an earlier process of this host")
    }
    if epoch != author.epoch {
      throw refusal(.fenced, .restart, "it is held in epoch \(epoch), and this process knows epoch \(author.epoch)")
    }
  }

  // MARK: Beginnings

  private func begin(_ command: NameCommand, _ author: Author) throws(Refusal) -> NameDecision {
    if isFree {
      switch command {
      case .create(let v): return .append(.created(v))
      case .fork(let v, let from, let slot):
        if slot != nextSeq {
          throw refusal(.tryLater, .again, "the pin is for slot \(slot) of this name, which another entry has taken")
        }
        return .append(.forked(v, from: from, slot: slot))
      case .importStart(let volume, let key, let source): return .append(.importStarted(volume: volume, key: key, source: source))
      case .renameReserve(let old, let slot): return .append(.renameReserved(old: old, slot: slot))
      default: break
      }
    }
    let mine = isOwned(by: author)
    switch command {
    case .create(let v): if mine, volume == v.volume { return .done }
    case .fork(let v, _, _): if mine, volume == v.volume { return .done }
    case .importStart(let v, _, _): if mine, phase == .importing, pending?.volume == v { return .done }
    case .renameReserve(let old, let slot):
      if let r = reservation, r.old == old, r.slot == slot { return .done }
      if origin == Origin(old: old, slot: slot) { return .done }
    default: break
    }
    if phase == .reserved { throw refusal(.tryLater, .finishRename, "the name is not free") }
    throw refusal(.usage, .otherName, "the name is taken")
  }

  private func importing(_ command: NameCommand, _ author: Author) throws(Refusal) -> NameDecision {
    switch command {
    case .importFinish(let cut, let size):
      if phase == .readonly, self.cut == cut { return .done }
      try requireOwner(author, in: [.importing])
      return .append(.importFinished(cut: cut, size: size))
    default:
      if phase == .purged { return .done }
      guard phase == .importing, let pending else { throw wrong(author) }
      return .append(.importAborted(volume: pending.volume))
    }
  }

  // MARK: The owner at work

  private func own(_ command: NameCommand, _ author: Author) throws(Refusal) -> NameDecision {
    switch command {
    case .adopt:
      guard Self.owned.contains(phase), isMine(author) else { throw wrong(author) }
      return incarnation == author.incarnation ? .done : .append(.adopted)
    case .start:
      if mayServe(author) { return .done }
      try requireOwner(author, in: [.live, .stopped])
      return .append(.started)
    case .stop(let cut, let clients, let force):
      try requireOwner(author, in: [.live, .stopped])
      if phase == .stopped { return .done }
      if clients > 0, !force { throw refusal(.tryLater, .disconnect, "\(clients) clients are connected") }
      return .append(.stopped(cut: cut))
    case .resize(let new):
      try requireOwner(author, in: [.live, .stopped])
      if new == size { return .done }
      if new < size { throw refusal(.usage, .largerSize, "\(size) bytes cannot shrink to \(new)") }
      return .append(.resized(size: new))
    case .reap(let reap):
      try requireOwner(author, in: [.live, .stopped])
      if holdings.displaced.contains(where: { $0.volume == reap.volume }) {
        throw refusal(.unsafe, .discardDisplaced, "volume \(reap.volume) is kept whole for the host it was taken from")
      }
      return .append(.reap(reap))
    default: throw wrong(author)
    }
  }

  // MARK: Kept points

  private func keep(_ command: NameCommand, _ author: Author) throws(Refusal) -> NameDecision {
    guard Self.pinnable.contains(phase) else { throw wrong(author) }
    switch command {
    case .pin(let cut, let by, let hold):
      if holdings.pins.contains(where: { $0.cut == cut && $0.by == by && $0.hold == hold && $0.host == author.host }) {
        return .done
      }
      if let floor = floor(of: cut.volume), !floor.keeps(cut.seq) {
        throw refusal(.usage, .newerCut, "cut \(cut) is gone: it is below the floor \(floor.floor)")
      }
      if !holdings.episodes.contains(where: { $0.volume == cut.volume }) {
        throw refusal(.usage, .newerCut, "cut \(cut) is of a volume that is none of this name's")
      }
      return .append(.pinned(cut: cut, by: by, hold: hold))
    case .unpin(let id, let reason):
      guard let pin = holdings.pins.first(where: { $0.id == id }) else { return .done }
      return .append(.unpinned(pin: id, ground: try ground(pin, reason, author)))
    case .discardDisplaced(let volume):
      guard let displaced = holdings.displaced.first(where: { $0.volume == volume }) else { return .done }
      if displaced.host != author.host { try requireOwner(author, in: Self.owned) }
      return .append(.displacedReleased(volume: volume))
    default: throw wrong(author)
    }
  }

  private func ground(_ pin: Pin, _ reason: UnpinReason, _ author: Author) throws(Refusal) -> UnpinGround {
    var isFork = false
    if case .fork = pin.hold { isFork = true }
    switch reason {
    case .holder:
      if isFork || pin.host != author.host { throw refusal(.owned, .unpin, "pin \(pin.id) is held by '\(pin.by)'") }
      return .holder
    case .expired(let now):
      guard case .until(let time?) = pin.hold, let end = Timestamp.milliseconds(time), let now = Timestamp.milliseconds(now),
        end <= now
      else { throw refusal(.usage, .unpin, "pin \(pin.id) has not expired") }
      try requireOwner(author, in: Self.owned)
      return .expired
    case .removed:
      if isFork { throw refusal(.unsafe, .unpin, "pin \(pin.id) is held by the fork '\(pin.by)', which reads it") }
      try requireOwner(author, in: Self.owned)
      return .removed
    case .orphan(let fact):
      if !isFork { throw refusal(.usage, .unpin, "pin \(pin.id) is no fork's") }
      switch fact {
      case .empty: throw refusal(.tryLater, .voidSlot, "whether the fork '\(pin.by)' exists is not decided yet")
      case .match: throw refusal(.unsafe, .nothing, "the fork '\(pin.by)' exists and needs its pin")
      case .other(let found): return .orphan(found: found)
      }
    case .forkIndependent(let epoch):
      if !isFork { throw refusal(.usage, .unpin, "pin \(pin.id) is no fork's") }
      return .forkIndependent(epoch: epoch)
    }
  }
}
