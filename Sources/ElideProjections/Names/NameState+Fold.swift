import ElideEvents
import ElideIO

// What each legal entry changes. Nothing here asks whether it may.

extension NameState {
  mutating func fold(_ event: NameEvent, _ e: Envelope, _ at: UInt64) {
    switch event {
    case .created(let v): begin(v, .stopped, e, at)
    case .forked(let v, let from, _):
      begin(v, .stopped, e, at)
      holdings.episodes[0].basis = from.cut
      cut = from.cut
    case .importStarted(let volume, let key, let source):
      clear()
      pending = Pending(volume: volume, key: key)
      self.source = source
      grant(to: e, at)
      enter(.importing, e, at)
    case .importFinished(let cut, let size):
      grantPending(at, basis: nil)
      self.cut = cut
      self.size = size
      ungrant(e, at)
      enter(.readonly, e, at)
    case .importAborted:
      clear()
      ungrant(e, at)
      enter(.purged, e, at)
    case .adopted: grant(to: e, at)
    case .started: enter(.live, e, at)
    case .stopped(let cut):
      self.cut = cut
      enter(.stopped, e, at)
    case .resized(let size): self.size = size
    case .reap(let r): fold(r)
    case .released, .claimed, .reclaimed, .fenced, .recovered: foldHandOver(event, e, at)
    case .pinned(let cut, let by, let hold):
      holdings.pins.append(Pin(id: e.id, host: e.actor, cut: cut, by: by, hold: hold))
    case .unpinned(let pin, _): holdings.pins.removeAll { $0.id == pin }
    case .displacedReleased(let volume): holdings.displaced.removeAll { $0.volume == volume }
    case .renameReserved, .renamedTo, .renamedFrom, .renameAborted: foldRename(event, e, at)
    case .purging:
      // An owner keeps its epoch; a read-only name has none until now.
      if owner == nil { grant(to: e, at) }
      enter(.purging, e, at)
    case .purgeTaken: grant(to: e, at)
    case .purged:
      clear()
      ungrant(e, at)
      enter(.purged, e, at)
    case .void, .note: break
    }
  }

  private mutating func foldHandOver(_ event: NameEvent, _ e: Envelope, _ at: UInt64) {
    switch event {
    case .released(let cut):
      self.cut = cut
      releasedBy = owner
      ungrant(e, at)
      enter(.released, e, at)
    case .claimed(let volume, let key, let cut, let serve):
      holdings.episodes.append(Episode(volume: volume, key: key, granted: at, basis: cut))
      releasedBy = nil
      grant(to: e, at)
      enter(serve ? .live : .stopped, e, at)
    case .reclaimed(_, let serve):
      releasedBy = nil
      grant(to: e, at)
      enter(serve ? .live : .stopped, e, at)
    case .fenced(let f):
      if !holdings.displaced.contains(where: { $0.volume == f.displaced }) {
        holdings.displaced.append(Displaced(volume: f.displaced, host: f.expectOwner, fenced: at))
      }
      pending = Pending(volume: f.volume, key: f.key)
      grant(to: e, at)
      enter(.recovering, e, at)
    case .recovered(let basis, _):
      var from: Cut?
      if case .cut(let c) = basis { from = c }
      grantPending(at, basis: from)
      cut = from
      enter(.stopped, e, at)
    default: break
    }
  }

  private mutating func foldRename(_ event: NameEvent, _ e: Envelope, _ at: UInt64) {
    switch event {
    case .renameReserved(let old, let slot):
      reservation = Reservation(old: old, slot: slot, seq: at, before: phase)
      enter(.reserved, e, at)
    case .renameAborted:
      let before = reservation?.before ?? .absent
      reservation = nil
      enter(before, e, at)
    case .renamedTo(let new, _, _):
      renamedTo = new
      ungrant(e, at)
      enter(.renamed, e, at)
    case .renamedFrom(let r):
      clear()
      origin = Origin(old: r.old, slot: r.slot)
      (size, cut, holdings) = (r.size, r.cut, r.holdings)
      (owner, incarnation, epoch, grant) = (r.owner, r.incarnation, at, e.id)
      enter(.stopped, e, at)
    default: break
    }
  }

  private mutating func fold(_ r: Reap) {
    let before = floor(of: r.volume)?.cut ?? 0
    holdings.floors.removeAll { $0.volume == r.volume }
    let named = r.cut.volume == r.volume ? max(before, r.cut.seq) : before
    holdings.floors.append(Floor(volume: r.volume, floor: r.floor, kept: r.kept, cut: named))
    if r.cut.volume == r.volume { return }
    // A reap of an ended volume binds the cut of the living one all the same.
    if let i = holdings.floors.firstIndex(where: { $0.volume == r.cut.volume }) {
      holdings.floors[i].cut = max(holdings.floors[i].cut, r.cut.seq)
    } else {
      holdings.floors.append(Floor(volume: r.cut.volume, floor: 0, kept: [], cut: r.cut.seq))
    }
  }

  private mutating func begin(_ v: NewVolumeFacts, _ phase: Phase, _ e: Envelope, _ at: UInt64) {
    clear()
    holdings.episodes = [Episode(volume: v.volume, key: v.key, granted: at, basis: nil)]
    size = v.size
    grant(to: e, at)
    enter(phase, e, at)
  }

  private mutating func grantPending(_ at: UInt64, basis: Cut?) {
    guard let p = pending else { return }
    holdings.episodes.append(Episode(volume: p.volume, key: p.key, granted: at, basis: basis))
    pending = nil
  }

  /// Ownership: each entry that changes owner or incarnation is the new epoch.
  private mutating func grant(to e: Envelope, _ at: UInt64) {
    (owner, incarnation, epoch, grant) = (e.actor, e.incarnation, at, e.id)
  }
  private mutating func ungrant(_ e: Envelope, _ at: UInt64) {
    (owner, incarnation, epoch, grant) = (nil, nil, at, e.id)
  }

  private mutating func enter(_ phase: Phase, _ e: Envelope, _ at: UInt64) {
    self.phase = phase
    since = at
    sinceAt = e.at
  }

  private mutating func clear() {
    (size, cut, pending, source, reservation, origin, releasedBy) = (0, nil, nil, nil, nil, nil, nil)
    holdings = Holdings()
  }
}
