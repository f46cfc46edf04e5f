import ElideEvents
import ElideIO
import ElideProjections

// due ─▶ frozen: the bytes are durable here, with their slot ─▶ put-if-absent (ship lane) ─▶ settled: rows, hint
//
// What stands in the slot is the page. If it is not what was put, another process wrote it: this one stops.

enum HintState {
  case current
  case due
  case putting(UInt64)
}

extension VolumeKeeper {
  static let pageEntries = 16_384
  static let pageBlobBytes = 32 << 20

  /// When a page is due by time though nobody asked; nil while nothing waits.
  var pageDue: UInt64? {
    guard intent == nil, let waitingSince, ending == nil else { return nil }
    return waitingSince &+ context.configuration.idlePageSeconds &* 1_000_000_000
  }

  func stepPage() throws(KeeperHalt) -> Bool {
    guard ending?.ship ?? true else { return false }
    if stepHint() { return true }
    if let intent {
      guard !isPuttingPage, pageBackoff.isReady(at: context.now) else { return false }
      putPage(intent)
      return true
    }
    guard isPageDue, let head = journal.head, head.seq >= pageLog.nextSeq else { return false }
    // A checkpoint on its way will be named by this page, unless the store is failing.
    if wantsCheckpoint || checkpoint?.storage == .planned, !checkpointBackoff.hasFailed { return false }
    return try freezePage(head.seq)
  }

  private var isPageDue: Bool {
    if let forced = forcedPoint, forced > pageLog.cut ?? 0 || pageLog.last == nil { return cutAtHead >= forced }
    if let all = ending?.publishThrough, pageLog.nextSeq <= all { return cutAtHead >= all }
    guard let pageDue, context.now >= pageDue else { return false }
    // Uploads lag: what is there already still goes out.
    return cutAtHead > pageLog.cut ?? 0 || pageLog.last == nil
  }

  // MARK: Freezing

  private func freezePage(_ head: UInt64) throws(KeeperHalt) -> Bool {
    let draft = try gather(head)
    let cut = max(pageLog.cut ?? 0, tables.state.cut(through: draft.lastSeq))
    let base = nameable(cut)
    let tail = pageLog.last == nil ? [] : base.tail
    // A fork's pages mean nothing without the base they stand on.
    if tables.state.lineage != nil, base.locator == nil { return false }
    // A reader folds 16 pages at most: wait until a newer checkpoint can be named.
    if tail.count > PageLimits.tail {
      wantsCheckpoint = !isCheckpointDue ? wantsCheckpoint : true
      return false
    }
    let header = PageHeader(
      volume: context.volume, page: pageLog.nextPage, previous: pageLog.last?.hash, firstSeq: pageLog.nextSeq,
      previousEntry: draft.previousEntry, cut: cut, epoch: context.identity.epoch, incarnation: context.identity.incarnation,
      at: context.world.clock.wallMilliseconds(), checkpoints: base.locator.map { [$0] } ?? [], tail: tail,
      sums: draft.sums)
    let key = context.key
    let built: PageWriter.Built
    do throws(PageError) {
      built = try PageWriter.build(header, entries: draft.entries, fold: draft.fold, other: draft.other) { key.sign($0) }
    } catch { throw KeeperHalt(.failed, "page \(header.page) of volume \(context.volume): \(error)") }
    let frozen = PageIntent(page: header.page, bytes: built.bytes)
    guard try append([], rows: [(RowKey.intent, frozen.encodeRow())]) else { return false }
    intent = frozen
    pageBackoff.succeeded()
    return true
  }

  private struct Draft {
    var entries: [[UInt8]] = []
    var fold: [[UInt8]] = []
    var other: [[UInt8]] = []
    var lastSeq: UInt64 = 0
    var previousEntry: Digest?
    var sums: SetSums
  }

  /// The entries after the last page and their blobs, within a page's bounds.
  private func gather(_ head: UInt64) throws(KeeperHalt) -> Draft {
    var draft = Draft(sums: pageLog.sums)
    var bytes = 0
    do throws(JournalError) {
      var seq = pageLog.nextSeq
      while seq <= head, draft.entries.count < Self.pageEntries, bytes < Self.pageBlobBytes {
        guard let raw = try journal.entry(seq) else { throw .damaged("entry \(seq) is missing") }
        guard let entry = try? EntryCodec.decode(raw), let event = entry.event else {
          throw .damaged("entry \(seq) does not decode")
        }
        if draft.entries.isEmpty { draft.previousEntry = entry.envelope.prev }
        for digest in event.blobs {
          let blob = try journal.blob(digest)
          bytes += blob.count
          if case .segmentEncoded = event { draft.other.append(blob) } else { draft.fold.append(blob) }
        }
        if case .segmentUploaded(let n, let hash) = event {
          draft.sums.uploaded.add(SetSums.element(volume: context.volume, segment: n, hash: hash))
        }
        draft.entries.append(raw)
        draft.lastSeq = seq
        bytes += raw.count
        seq += 1
      }
    } catch { throw KeeperHalt(ElideError(error, context.volume)) }
    return draft
  }

  /// The checkpoint that a page with this cut names, and the pages a reader folds on top of it.
  private func nameable(_ cut: UInt64) -> (locator: CheckpointLocator?, tail: [TailPage]) {
    if let checkpoint, checkpoint.storage == .stored, checkpoint.locator.seq <= cut,
      checkpoint.locator.key != pageLog.checkpoint?.key
    {
      return (checkpoint.locator, pageLog.tail.filter { $0.page >= checkpoint.horizon })
    }
    return (pageLog.checkpoint, pageLog.tail)
  }

  // MARK: Putting

  private func putPage(_ intent: PageIntent) {
    isPuttingPage = true
    let key = StoreLayout.page(context.volume, intent.page)
    let (store, results, ownership, volume, judge) = (
      context.store, results, context.ownership, context.volume, context.judge
    )
    context.executor.submit(.ship) {
      var owner = ownership?.ask()
      var outcome = PagePutOutcome.withheld
      if owner.map({ if case .held = $0 { true } else { false } }) ?? true {
        outcome = Self.told(Self.occupy(store, key, intent.bytes), volume, judge)
        // Whoever takes over between the two has ended this log before or after the page: its cut is reported in neither case.
        owner = ownership?.ask()
      }
      _ = results.send(.pagePut(page: intent.page, outcome, owner: owner))
    }
  }

  /// Puts the bytes if the slot is free; what stands there afterwards decides, whatever the put said.
  package static func occupy(_ store: any Store, _ key: String, _ bytes: [UInt8]) -> PagePutOutcome {
    do throws(StoreError) {
      if try store.putIfAbsent(key, bytes) == .created { return .ours }
    } catch {
      if case .refused = error { return .failed(error) }
      // Unknown: read the slot. If it is free the put is simply tried again.
    }
    do throws(StoreError) {
      let found = try store.get(key, range: nil)
      return found == bytes ? .ours : .foreign(found)
    } catch { return .failed(error) }
  }

  /// A terminal page in the slot counts when the name's log bears it out: anybody can sign one.
  private static func told(_ outcome: PagePutOutcome, _ volume: ULID, _ judge: EndJudge) -> PagePutOutcome {
    guard case .foreign(let bytes) = outcome, let page = try? JournalPage.parse(bytes), let end = page.header.end else {
      return outcome
    }
    do throws(ElideError) {
      return try judge.judge(page, of: volume) == .genuine ? .ended(end) : outcome
    } catch {
      // Not known yet: the page is put again, and finds the same.
      if error.kind != .tryLater { return outcome }
      return .failed(.unknown(key: StoreLayout.page(volume, page.page), detail: error.message))
    }
  }

  func pagePut(_ page: UInt64, _ outcome: PagePutOutcome, _ owner: ServiceAnswer?) throws(KeeperHalt) {
    guard let intent, intent.page == page, isPuttingPage else { return }
    isPuttingPage = false
    switch outcome {
    case .ended(let end):
      throw KeeperHalt(
        .fenced, "page \(page) of volume \(context.volume): entry \(end.seq) of name '\(end.name)' ended this volume's log",
        nameSeq: end.seq)
    case .foreign(let bytes): throw Self.conflict(context, page, bytes)
    default: break
    }
    if let owner {
      try ownerRead(owner)
      if case .unread(let detail) = owner { return pageFailed(page, detail) }
    }
    switch outcome {
    case .ours: try settle(intent)
    case .foreign, .ended, .withheld: break
    case .failed(let error): pageFailed(page, "\(error)")
    }
  }

  private func pageFailed(_ page: UInt64, _ detail: String) {
    pageBackoff.failed(at: context.now)
    counters.storeFailures += 1
    lastError = "page \(page) is not in the store yet: \(detail)"
  }

  /// Why a slot that holds other bytes stops this process.
  static func conflict(_ context: KeeperContext, _ page: UInt64, _ bytes: [UInt8]) -> KeeperHalt {
    let slot = "page \(page) of volume \(context.volume)"
    guard let found = try? JournalPage.parse(bytes), found.header.volume == context.volume,
      (try? found.verify(key: context.key.publicKey)) != nil
    else { return KeeperHalt(.fault, "\(slot): the slot holds bytes that are no page of this volume") }
    if let end = found.header.end {
      return KeeperHalt(.fault, "\(slot): a terminal page that entry \(end.seq) of name '\(end.name)' does not bear out")
    }
    return KeeperHalt(
      .owned,
      "\(slot) was written by another process (incarnation \(found.header.incarnation)); "
        + "open the volume again, or recover by force"
    )
  }

  private func settle(_ intent: PageIntent) throws(KeeperHalt) {
    let (page, log) = try Self.published(intent, after: pageLog, at: context.world.clock.wallMilliseconds())
    let rows: [(key: String, value: [UInt8]?)] = [
      (RowKey.intent, nil), (RowKey.pages, log.encodeRow()), (RowKey.page(page.page), page.encodeRow()),
    ]
    guard try append([], rows: rows) else {
      pageBackoff.failed(at: context.now)
      return
    }
    self.intent = nil
    pageLog = log
    pageBackoff.succeeded()
    for e in page.encodings {
      tables.publish(e)
      if case .page = tables.directory[e.segment]?.locator { encodings.unshelve(e.segment) }
    }
    hint = .due
    waitingBytes = 0
    waitingSince = (journal.head?.seq ?? 0) >= log.nextSeq ? context.now : nil
    exposure.publish(log.cut ?? 0)
    counters.pagesPublished += 1
    lastError = nil
    answerPublished()
    if isCheckpointDue { wantsCheckpoint = true }
  }

  /// What a page that is now in the store makes of the log: also what opening does with an intent it finds settled.
  static func published(
    _ intent: PageIntent, after log: PageLog, at milliseconds: UInt64
  ) throws(KeeperHalt) -> (PublishedPage, PageLog) {
    do {
      let page = try JournalPage.parse(intent.bytes)
      let events = try page.entries().compactMap { (try? EntryCodec.decode($0))?.event }
      let settled = PublishedPage(
        page: page.page, hash: page.hash, firstSeq: page.header.firstSeq, lastSeq: page.nextSeq - 1, cut: page.header.cut,
        foldLength: UInt64(page.foldLength), at: milliseconds, encodings: PublishedEncoding.all(in: page, events: events))
      var next = log
      next.last = settled
      next.checkpoint = page.header.checkpoints.first
      next.tail = page.header.tail + [settled.tail]
      next.sums = page.header.sums
      return (settled, next)
    } catch { throw KeeperHalt(.fault, "the frozen page \(intent.page): \(error)") }
  }

  // MARK: The hint

  private func stepHint() -> Bool {
    guard case .due = hint, let last = pageLog.last else { return false }
    hint = .putting(last.page)
    let head = HeadHint(
      volume: context.volume, page: last.page, length: last.foldLength, checkpoint: pageLog.checkpoint?.key,
      checkpointLength: pageLog.checkpoint?.length)
    let key = StoreLayout.head(context.volume)
    let (store, results) = (context.store, results)
    context.executor.submit(.ship) {
      var failure: StoreError?
      do throws(StoreError) { try store.put(key, parts: [head.encode()]) } catch { failure = error }
      _ = results.send(.hintPut(failure))
    }
    return true
  }

  /// A hint that is not written costs a reader a few requests; the next page writes it again.
  func hintPut(_ failure: StoreError?) {
    guard case .putting(let page) = hint else { return }
    if failure != nil { counters.storeFailures += 1 }
    hint = page == pageLog.last?.page ? .current : .due
  }
}
