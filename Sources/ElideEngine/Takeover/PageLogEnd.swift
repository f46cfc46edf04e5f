import ElideEvents
import ElideIO
import ElideProjections

/// A page log that nobody can add to any more.
package struct EndedPageLog: Equatable, Sendable {
  /// What the log's end leaves as its newest page.
  package enum Newest: Equatable, Sendable {
    /// It never had a page.
    case none
    case page(JournalPage)
    /// What stands in the last slot, or the page that a hint promises, cannot be read as a page of the volume. `readable`: the
    /// newest page below it that can.
    case unreadable(slot: UInt64, why: String, readable: JournalPage?)
  }
  /// The slot of the terminal page.
  package var slot: UInt64
  package var end: PageEnd
  package var newest: Newest
}

/// Ends a volume's page log by a terminal page in its next free slot: the only object that another host writes under a volume,
/// and what makes its last cut final. A page of the old owner that is still on its way finds its slot taken.
///
/// An end is put once: whoever comes later, and whoever comes again after a crash, finds it. Blocks for store requests; keeps
/// nothing on this host.
package struct PageLogEnd {
  package let store: any Store
  package let volume: ULID
  /// The volume's public key, from the entry that granted it.
  package let key: [UInt8]
  package let judge: EndJudge
  /// Slots that are looked at below the free one for a page, or an end, among what is neither.
  static let deepest: UInt64 = 1024
  /// How often a put is tried again whose outcome is unknown, and after how many lost slots this gives up.
  static let patience = 4
  static let mostRaces = 1024

  package init(store: any Store, volume: ULID, key: [UInt8], judge: EndJudge) {
    self.store = store
    self.volume = volume
    self.key = key
    self.judge = judge
  }

  /// What stands in a slot.
  enum Slot: Equatable {
    case free
    case page(JournalPage)
    case end(JournalPage)
    /// Neither a page of the volume nor its end: its hash, and why.
    case other(Digest, String)
  }

  /// Ends the log, as entry `seq` of `name` allows, which this host appended; or finds how it was ended.
  package func end(name: String, seq: UInt64, by author: NameAuthor, clock: any Clock) throws(ElideError) -> EndedPageLog {
    let hint = hint()
    var free = try firstFree(from: hint)
    for _ in 0..<Self.mostRaces {
      while try slot(free) != .free { free += 1 }
      let found = try below(free)
      if let ended = found.ended(hint) { return ended }
      let end = PageEnd(name: name, seq: seq, by: author.key.publicKey)
      let bytes = try terminal(free, end, after: found, author, clock)
      if try put(free, bytes) { return found.ended(at: free, end, hint) }
      free += 1
    }
    throw ElideError(.tryLater, "volume \(volume): its owner publishes pages faster than its log can be ended; try again")
  }

  /// How the log stands, without ending it: for a dry run.
  package func look() throws(ElideError) -> (newest: EndedPageLog.Newest, isEnded: Bool) {
    let hint = hint()
    var free = try firstFree(from: hint)
    while try slot(free) != .free { free += 1 }
    let found = try below(free)
    if let ended = found.ended(hint) { return (ended.newest, true) }
    return (found.newest(below: free, hint), false)
  }

  // MARK: Slots

  /// The hint's page, if there is a hint of this volume. It may be old and it may lie.
  private func hint() -> UInt64? {
    guard let bytes = try? store.get(StoreLayout.head(volume), range: 0..<UInt64(Entry.maxBytes)),
      let hint = try? HeadHint.decode(bytes), hint.volume == volume
    else { return nil }
    return hint.page
  }

  /// A slot that seems free, with slots before it that are not: steps that double, then bisection.
  private func firstFree(from hint: UInt64?) throws(ElideError) -> UInt64 {
    var taken: UInt64
    if let hint, try slot(hint) != .free {
      taken = hint
    } else if try slot(0) != .free {
      taken = 0
    } else {
      return 0
    }
    var step: UInt64 = 1
    while try slot(taken + step) != .free {
      taken += step
      step *= 2
    }
    var free = taken + step
    while free - taken > 1 {
      let middle = taken + (free - taken) / 2
      if try slot(middle) != .free { taken = middle } else { free = middle }
    }
    return free
  }

  func slot(_ n: UInt64) throws(ElideError) -> Slot {
    let key = StoreLayout.page(volume, n)
    var length = UInt64(256 << 10)
    while true {
      let bytes: [UInt8]
      do throws(StoreError) { bytes = try store.get(key, range: 0..<length) } catch {
        switch error {
        case .notFound: return .free
        case .corrupt(_, let detail): return .other(Digest.sha256(Array(detail.utf8)), detail)
        default: throw ElideError(error)
        }
      }
      let page: JournalPage
      do throws(PageError) { page = try JournalPage.parse(bytes) } catch {
        // A head that is longer than it was guessed to be: once more, and then it is what it is.
        if case .short(let need) = error, UInt64(bytes.count) == length, UInt64(need) > length {
          length = UInt64(need)
          continue
        }
        return .other(Digest.sha256(bytes), error.description)
      }
      return try classify(page, n)
    }
  }

  private func classify(_ page: JournalPage, _ n: UInt64) throws(ElideError) -> Slot {
    guard page.header.volume == volume, page.page == n else {
      return .other(page.hash, "it is page \(page.page) of volume \(page.header.volume)")
    }
    if page.header.isTerminal {
      switch try judge.judge(page, of: volume) {
      case .genuine: return .end(page)
      case .forged(let why): return .other(page.hash, "a terminal page that ends nothing: \(why)")
      }
    }
    do throws(PageError) { try page.verify(key: key) } catch { return .other(page.hash, error.description) }
    return .page(page)
  }

  /// What lies below a free slot: an end, or a page, and what is neither above that.
  struct Below {
    var end: JournalPage?
    var page: JournalPage?
    /// The highest slot that is neither, above the page (and below the end).
    var bad: (slot: UInt64, hash: Digest, why: String)?
    /// The hash of the slot directly below the free one.
    var top: Digest?

    /// The log's end, when it was found.
    func ended(_ hint: UInt64?) -> EndedPageLog? {
      guard let end, let says = end.header.end else { return nil }
      return EndedPageLog(slot: end.page, end: says, newest: newest(below: end.page, hint))
    }
    func ended(at slot: UInt64, _ end: PageEnd, _ hint: UInt64?) -> EndedPageLog {
      EndedPageLog(slot: slot, end: end, newest: newest(below: slot, hint))
    }

    func newest(below slot: UInt64, _ hint: UInt64?) -> EndedPageLog.Newest {
      if let bad { return .unreadable(slot: bad.slot, why: bad.why, readable: page) }
      // A hint is put after its page.
      if let hint, hint >= slot {
        return .unreadable(slot: hint, why: "head.toml names it, and it is not there", readable: page)
      }
      if let page { return .page(page) }
      return .none
    }
  }

  private func below(_ free: UInt64) throws(ElideError) -> Below {
    var found = Below()
    var n = free
    while n > 0 {
      n -= 1
      guard free - n <= Self.deepest else {
        throw ElideError(.fault, "volume \(volume): \(Self.deepest) slots of its page log hold no page of it")
      }
      switch try slot(n) {
      case .page(let page):
        found.page = page
        found.top = found.top ?? page.hash
        return found
      case .end(let page):
        // What stands above an end says nothing.
        if found.end == nil { found = Below(end: page) }
        found.top = page.hash
      case .other(let hash, let why):
        found.bad = found.bad ?? (n, hash, why)
        found.top = found.top ?? hash
      case .free:
        // A hole: pages are never deleted.
        found.bad = found.bad ?? (n, Digest.sha256([UInt8]()), "it is not there")
        found.top = found.top ?? Digest.sha256([UInt8]())
      }
    }
    return found
  }

  // MARK: The terminal page

  private func terminal(
    _ slot: UInt64, _ end: PageEnd, after found: Below, _ author: NameAuthor, _ clock: any Clock
  ) throws(ElideError) -> [UInt8] {
    var header = PageHeader(
      volume: volume, page: slot, previous: slot == 0 ? nil : found.top, firstSeq: 0, previousEntry: nil, cut: 0, epoch: end.seq,
      incarnation: author.incarnation, at: clock.wallMilliseconds(), end: end)
    if let page = found.page {
      header.firstSeq = page.nextSeq
      header.cut = page.header.cut
      header.sums = page.header.sums
    } else if slot > 0 {
      // No page can be read: where its entries would begin is anybody's guess.
      header.firstSeq = 1
    }
    do throws(PageError) {
      if let page = found.page, let last = try page.entries().last {
        header.previousEntry = Digest.sha256(last)
      } else if header.firstSeq > 0 {
        header.previousEntry = found.top
      }
      return try PageWriter.build(header, entries: [], fold: [], other: []) { author.key.sign($0) }.bytes
    } catch { throw ElideError(.fault, "page \(slot) of volume \(volume) cannot end its log: \(error)") }
  }

  /// True when these bytes stand in the slot; false when others do.
  private func put(_ n: UInt64, _ bytes: [UInt8]) throws(ElideError) -> Bool {
    let key = StoreLayout.page(volume, n)
    var detail = ""
    for _ in 0..<Self.patience {
      do throws(StoreError) {
        if try store.putIfAbsent(key, bytes) == .created { return true }
      } catch {
        if case .refused = error { throw ElideError(error) }
        detail = error.description
      }
      do throws(StoreError) { return try store.get(key, range: 0..<UInt64(bytes.count + 1)) == bytes } catch {
        // A slot that looks free proves nothing: the same bytes again.
        if case .notFound = error { continue }
        detail = error.description
      }
    }
    throw ElideError(.tryLater, "whether the log of volume \(volume) is ended is not known yet (\(detail)); try again")
  }
}
