import ElideEvents
import ElideIO

extension NameState {
  /// Why this entry cannot stand in slot `at` of this state's log; nil when it can. What `decide` asks before it answers,
  /// and `apply` of every entry that it reads.
  package func fault(_ event: NameEvent, by author: Author, at: UInt64) -> String? {
    switch event {
    case .created(let v): return freeFault() ?? factsFault(v)
    case .forked(let v, _, let slot):
      if slot != at { return "a fork for slot \(slot) in slot \(at)" }
      return freeFault() ?? factsFault(v)
    case .importStarted(_, let key, _): return freeFault() ?? keyFault(key)
    case .importFinished(let cut, _):
      return ownerFault(author, in: [.importing]) ?? (cut.volume == pending?.volume ? nil : "a cut of another volume")
    case .importAborted(let volume):
      return phaseFault([.importing]) ?? (volume == pending?.volume ? nil : "another import")
    case .adopted:
      if let fault = phaseFault(Self.owned) { return fault }
      if owner != author.host { return "adopted by a host that does not own the name" }
      return incarnation == author.incarnation ? "this incarnation owns the name already" : nil
    case .started: return ownerFault(author, in: [.stopped])
    case .stopped(let cut): return ownerFault(author, in: [.live]) ?? cutFault(cut)
    case .resized(let new):
      return ownerFault(author, in: [.live, .stopped]) ?? (new < size ? "\(size) bytes cannot shrink to \(new)" : nil)
    case .reap(let r): return ownerFault(author, in: [.live, .stopped]) ?? reapFault(r)
    case .released, .claimed, .reclaimed, .fenced, .recovered: return handOverFault(event, author)
    case .pinned, .unpinned, .displacedReleased: return pinsFault(event, author)
    case .renameReserved, .renamedTo, .renamedFrom, .renameAborted: return renameFault(event, author, at)
    case .purging:
      if let fault = phaseFault([.stopped, .readonly]) { return fault }
      if phase == .stopped, !isOwned(by: author) { return "purged by one who does not own the name" }
      if !holdings.pins.isEmpty { return "\(holdings.pins.count) pins hold it" }
      return holdings.displaced.isEmpty ? nil : "a displaced volume is kept"
    case .purgeTaken:
      return phaseFault([.purging]) ?? (owner == author.host ? "taken by the host that purges" : nil)
    case .purged: return ownerFault(author, in: [.purging])
    case .void, .note: return nil
    }
  }

  // MARK: Who, and from which state

  private func phaseFault(_ phases: Set<Phase>) -> String? {
    phases.contains(phase) ? nil : "not possible for a name that is \(phase.rawValue)"
  }
  private func freeFault() -> String? { isFree ? nil : "the name is \(phase.rawValue), not free" }

  private func ownerFault(_ author: Author, in phases: Set<Phase>) -> String? {
    if let fault = phaseFault(phases) { return fault }
    if owner != author.host { return "the name is owned by another host" }
    if incarnation != author.incarnation { return "the name is owned by another incarnation of this host" }
    return epoch == author.epoch ? nil : "epoch \(author.epoch), the name stands at \(epoch)"
  }

  private func keyFault(_ key: [UInt8]) -> String? { key.count == 32 ? nil : "a key of \(key.count) bytes" }
  private func factsFault(_ v: NewVolumeFacts) -> String? {
    if v.size % 512 != 0 || v.size < 512 || v.size > 1 << 50 { return "\(v.size) bytes is not a size" }
    return keyFault(v.key)
  }
  private func isKnown(_ volume: ULID) -> Bool {
    pending?.volume == volume || holdings.episodes.contains { $0.volume == volume }
  }

  /// A cut that the owner reports: of its own volume, not behind what was reported before; or, while the volume has no page,
  /// the one that it continues.
  private func cutFault(_ new: Cut) -> String? {
    guard new.volume == volume else { return new == cut ? nil : "a cut of another volume" }
    if let cut, cut.volume == new.volume, new.seq < cut.seq { return "cut \(new.seq) is behind \(cut.seq)" }
    if let floor = floor(of: new.volume), new.seq < floor.cut { return "cut \(new.seq) is behind a reap at \(floor.cut)" }
    return nil
  }

  // MARK: Hand-over

  private func handOverFault(_ event: NameEvent, _ author: Author) -> String? {
    switch event {
    case .released(let cut): return ownerFault(author, in: [.stopped]) ?? cutFault(cut)
    case .claimed(let volume, let key, let cut, _):
      if let fault = phaseFault([.released]) ?? keyFault(key) { return fault }
      if cut != self.cut { return "claimed from another cut than the one released" }
      return isKnown(volume) ? "volume \(volume) is not new" : nil
    case .reclaimed(let cut, _):
      if let fault = phaseFault([.released]) { return fault }
      if author.host != releasedBy { return "reclaimed by a host that did not release it" }
      return cut == self.cut && cut.volume == volume ? nil : "reclaimed at another cut than the one released"
    case .fenced(let f):
      if let fault = phaseFault([.live, .stopped, .recovering]) ?? keyFault(f.key) { return fault }
      if f.expectOwner != owner || f.expectEpoch != epoch { return "meant for another owner or epoch" }
      if f.displaced != volume { return "names another volume than the one that was granted last" }
      return isKnown(f.volume) ? "volume \(f.volume) is not new" : nil
    case .recovered(let basis, let lost):
      return ownerFault(author, in: [.recovering]) ?? basisFault(basis, acceptsLoss: !lost.isEmpty)
    default: return nil
    }
  }

  /// Why a recovery may not continue `basis`: it starts at the newest granted episode, from its page log or, if that has no
  /// page, from what the episode itself continued; never behind a reap, and behind a reported cut only when that is said.
  package func basisFault(_ basis: Basis, acceptsLoss: Bool) -> String? {
    guard let episode = holdings.episodes.last else { return "no volume was granted" }
    switch basis {
    case .empty(let volume):
      if volume != episode.volume || episode.basis != nil { return "volume \(volume) is not one that began empty" }
      if floor(of: volume) != nil { return "volume \(volume) had pages" }
      return cut?.volume == volume && !acceptsLoss ? "a cut of volume \(volume) was reported" : nil
    case .cut(let c):
      if c.volume != episode.volume {
        if c != episode.basis { return "not of the newest granted volume \(episode.volume), nor what that continues" }
        if floor(of: episode.volume) != nil { return "volume \(episode.volume) had pages" }
        return cut?.volume == episode.volume && !acceptsLoss ? "a cut of volume \(episode.volume) was reported" : nil
      }
      if let floor = floor(of: c.volume), c.seq < floor.cut {
        if !acceptsLoss { return "cut \(c.seq) is behind a reap at \(floor.cut)" }
        if !floor.keeps(c.seq) { return "cut \(c.seq) is behind the floor \(floor.floor): it cannot be opened any more" }
      }
      if let cut, cut.volume == c.volume, c.seq < cut.seq, !acceptsLoss {
        return "cut \(c.seq) is behind the reported \(cut.seq)"
      }
      return nil
    }
  }

  // MARK: What is kept

  private func reapFault(_ r: Reap) -> String? {
    guard r.cut.volume == volume else { return "the cut is not of the name's volume" }
    guard isKnown(r.volume) else { return "volume \(r.volume) is none of this name's" }
    if holdings.displaced.contains(where: { $0.volume == r.volume }) {
      return "volume \(r.volume) is displaced: it is kept whole"
    }
    if let cut, cut.volume == r.cut.volume, r.cut.seq < cut.seq { return "the cut is behind the reported \(cut.seq)" }
    if r.volume == r.cut.volume, r.floor > r.cut.seq { return "the floor is beyond the cut" }
    if r.kept.count > Holdings.maxKept { return "\(r.kept.count) cuts are kept, more than \(Holdings.maxKept)" }
    if zip(r.kept, r.kept.dropFirst()).contains(where: { $0 >= $1 }) { return "kept cuts rise" }
    if let last = r.kept.last, last >= r.floor { return "a kept cut at or above the floor" }
    if let before = floor(of: r.volume) {
      if r.floor < before.floor { return "floors only rise: \(before.floor)" }
      if r.cut.volume == r.volume, r.cut.seq < before.cut { return "the cut is behind an earlier reap at \(before.cut)" }
      if let gone = r.kept.first(where: { !before.keeps($0) }) { return "cut \(gone) is gone already" }
    }
    let left = Floor(volume: r.volume, floor: r.floor, kept: r.kept, cut: 0)
    if let pin = holdings.pins.first(where: { $0.cut.volume == r.volume && !left.keeps($0.cut.seq) }) {
      return "pin \(pin.id) holds cut \(pin.cut.seq)"
    }
    return nil
  }

  private func pinsFault(_ event: NameEvent, _ author: Author) -> String? {
    switch event {
    case .pinned(let cut, _, _):
      if let fault = phaseFault(Self.pinnable) { return fault }
      if !holdings.episodes.contains(where: { $0.volume == cut.volume }) { return "volume \(cut.volume) is none of this name's" }
      if let floor = floor(of: cut.volume), !floor.keeps(cut.seq) { return "cut \(cut.seq) is below the floor \(floor.floor)" }
      return holdings.pins.count < Holdings.maxPins ? nil : "\(Holdings.maxPins) pins hold it already"
    case .unpinned(let id, let ground):
      if let fault = phaseFault(Self.pinnable) { return fault }
      guard let pin = holdings.pins.first(where: { $0.id == id }) else { return "there is no pin \(id)" }
      return groundFault(pin, ground, author)
    case .displacedReleased(let volume):
      if let fault = phaseFault(Self.pinnable) { return fault }
      guard let d = holdings.displaced.first(where: { $0.volume == volume }) else { return "volume \(volume) is not displaced" }
      return d.host == author.host || isOwned(by: author) ? nil : "neither the displaced host nor the owner"
    default: return nil
    }
  }

  private func groundFault(_ pin: Pin, _ ground: UnpinGround, _ author: Author) -> String? {
    var isFork = false
    if case .fork = pin.hold { isFork = true }
    switch ground {
    case .holder: return isFork || pin.host != author.host ? "not the holder's to give up" : nil
    case .orphan, .forkIndependent: return isFork ? nil : "no fork's pin"
    case .expired:
      guard case .until(.some) = pin.hold else { return "a pin without a time does not expire" }
      return isOwned(by: author) ? nil : "only the owner removes what has expired"
    case .removed:
      if isFork { return "a fork's pin is not the owner's to remove" }
      return isOwned(by: author) ? nil : "only the owner removes pins"
    }
  }

  // MARK: Rename

  private func renameFault(_ event: NameEvent, _ author: Author, _ at: UInt64) -> String? {
    switch event {
    case .renameReserved(let old, _): return freeFault() ?? (old == name ? "renamed to itself" : nil)
    case .renameAborted: return phaseFault([.reserved])
    case .renamedTo(let new, _, let slot):
      if slot != at { return "a rename for slot \(slot) in slot \(at)" }
      return ownerFault(author, in: [.stopped]) ?? (new == name ? "renamed to itself" : nil)
    case .renamedFrom(let r):
      if let fault = phaseFault([.reserved]) { return fault }
      if r.old != reservation?.old || r.slot != reservation?.slot { return "another rename than the reserved one" }
      return r.holdings.episodes.isEmpty ? "carries no volume" : nil
    default: return nil
    }
  }
}
