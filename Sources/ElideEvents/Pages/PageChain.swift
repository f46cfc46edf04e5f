import ElideIO

/// Verifies pages in order: place, hash of the page before, signature, continuity of entries, and that the cut does not
/// fall. A value without I/O.
package struct PageChain: Sendable {
  package let volume: ULID
  private let key: [UInt8]
  /// The last page accepted.
  package private(set) var last: Link?

  /// What the next page must continue.
  package struct Link: Equatable, Sendable {
    package var page: UInt64
    package var hash: Digest
    package var nextSeq: UInt64
    package var cut: UInt64
    package var isTerminal: Bool

    package init(page: UInt64, hash: Digest, nextSeq: UInt64, cut: UInt64, isTerminal: Bool = false) {
      self.page = page
      self.hash = hash
      self.nextSeq = nextSeq
      self.cut = cut
      self.isTerminal = isTerminal
    }

    package init(_ p: JournalPage) {
      self.init(page: p.page, hash: p.hash, nextSeq: p.nextSeq, cut: p.header.cut, isTerminal: p.header.isTerminal)
    }
  }

  /// `key` is the volume's public key. Starts at page 0, or after a page that is already trusted.
  package init(volume: ULID, key: [UInt8], after last: Link? = nil) {
    self.volume = volume
    self.key = key
    self.last = last
  }

  package mutating func accept(_ page: JournalPage) throws(PageError) {
    let h = page.header
    let expected = last.map { $0.page + 1 } ?? 0
    guard h.volume == volume else { throw .wrongPlace(page: h.page, "it is of volume \(h.volume)") }
    guard h.page == expected else { throw .wrongPlace(page: h.page, "page \(expected) is due") }
    if last?.isTerminal == true { throw .wrongPlace(page: h.page, "it follows a terminal page") }
    guard h.previous == last?.hash else { throw .wrongPlace(page: h.page, "it does not continue the page before it") }
    guard h.firstSeq == last?.nextSeq ?? 0 else {
      throw .wrongPlace(page: h.page, "it begins at entry \(h.firstSeq), entry \(last?.nextSeq ?? 0) is due")
    }
    guard h.cut >= last?.cut ?? 0 else { throw .wrongPlace(page: h.page, "its cut falls to \(h.cut)") }
    try page.verify(key: key)
    last = Link(page)
  }
}

/// Replays the entries of verified pages: the chain of entries through one page after another.
package struct PageReplay: Sendable {
  private var replay: JournalReplay

  /// Starts at entry 0, or where `first` begins (its signature vouches for the hash of the entry before it).
  package init(volume: ULID, from first: JournalPage? = nil) {
    var start: JournalHead?
    if let h = first?.header, h.firstSeq > 0, let hash = h.previousEntry { start = JournalHead(seq: h.firstSeq - 1, hash: hash) }
    replay = JournalReplay(log: "volume/\(volume)", after: start)
  }

  package var position: JournalHead? { replay.position }

  /// The events of the next page's entries, up to and including `through`.
  package mutating func events(
    _ page: JournalPage, through: UInt64 = .max
  ) throws(ReplayError) -> [Committed<VolumeEvent>] {
    let raws: [[UInt8]]
    do { raws = try page.entries() } catch { throw .store(.damaged("page \(page.page): \(error)")) }
    var out: [Committed<VolumeEvent>] = []
    out.reserveCapacity(raws.count)
    for raw in raws where replay.nextSeq <= through {
      if let committed = try replay.next(raw) { out.append(committed) }
    }
    return out
  }
}
