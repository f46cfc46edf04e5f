import ElideEvents
import ElideIO
import ElideProjections

/// Checks a volume's page log in a store from its first page on: places, page chain, signatures by one key, frames, entries
/// and whether they may follow each other, set sums, the end, and that what the newest state needs is there.
///
/// One use. Holds one page at a time.
struct PageVerifier {
  /// What somebody who signed it says of a page.
  struct Claim {
    var page: UInt64
    var hash: Digest
    /// An entry that is published by then.
    var seq: UInt64
    /// The object that says so.
    var by: String
  }

  let store: any Store
  let volume: ULID
  let key: [UInt8]
  var isAnchored = false
  /// Reads every body and checkpoint.
  var deep = false
  /// The copy was made without bodies and checkpoints: they are not looked for.
  var lacksBodies = false
  /// Bodies were allowed to be deleted, by the name's log.
  var mayLackBodies = false
  /// The name was taken over from this volume by force: nothing may follow unnoticed.
  var mustBeEnded = false
  /// What it continues, as the name's log says.
  var basis: Cut?
  var claims: [Claim] = []

  private var links: [ChainLink] = []
  private var faults: [(page: UInt64, fault: VerifyReport.Fault)] = []
  private var report: VerifyReport
  private var replay: JournalReplay
  private var state: VolumeState
  private var uploaded = LtHash16()
  private var encodings: [UInt64: SegmentEncoding] = [:]
  private var last: PageHeader?
  /// Of the newest page that has entries; a terminal one names none.
  private var checkpoints: [CheckpointLocator] = []
  private var lastHash: Digest?
  private var nextSeq: UInt64 = 0

  init(store: any Store, volume: ULID, key: [UInt8]) {
    self.store = store
    self.volume = volume
    self.key = key
    report = VerifyReport(volume: volume)
    replay = JournalReplay(log: "volume/\(volume)")
    state = VolumeState(volume: volume)
  }

  mutating func verify() throws(ElideError) -> VerifyReport {
    report.isAnchored = isAnchored
    try checkDocument()
    let documentFaults = report.faults
    report.faults = []
    var n: UInt64 = 0
    while let bytes = try store.found(StoreLayout.page(volume, n)) {
      take(n, bytes)
      n += 1
    }
    report.pages = n
    try lookBeyond(n)
    place(claims, n)
    // A fault of the chain says more than what follows from it on the same page.
    var found = ChainJudge.findings(links, keepsForeign: false).map { f in
      (page: UInt64(f.index), fault: VerifyReport.Fault(f.what == "entry" ? "page" : f.what, at: links[f.index].key, f.detail))
    }
    let first = found.first?.page ?? .max
    found = (faults.filter { $0.page < first } + found).sorted { $0.page < $1.page }
    report.faults = documentFaults
    for f in found { report.add(f.fault) }
    guard first == .max else { return report }
    checkEnd(n)
    if let error = state.checkInvariants() { report.add(.init("legality", at: "volumes/\(volume)/journal", error)) }
    if !lacksBodies { try checkObjects() }
    return report
  }

  // MARK: One page

  private mutating func fault(_ page: UInt64, _ what: String, _ detail: String) {
    faults.append((page, .init(what, at: StoreLayout.page(volume, page), detail)))
  }

  private mutating func take(_ n: UInt64, _ bytes: [UInt8]) {
    var link = ChainLink(key: StoreLayout.page(volume, n), hash: Digest.sha256(bytes))
    defer { links.append(link) }
    let page: JournalPage
    do throws(PageError) {
      page = try JournalPage.parse(bytes)
      link.hash = page.hash
      link.previous = page.header.previous
      try fit(page, n, bytes)
    } catch {
      link.fault = error.description
      return
    }
    report.signatures += 1
    // What a page names of earlier ones is signed with it.
    for tail in page.header.tail where tail.page < UInt64(links.count) {
      links[Int(tail.page)].claims.append(.init(hash: tail.hash, by: link.key))
    }
    guard page.header.previous == lastHash, links.allSatisfy({ $0.fault == nil }) else { return }
    if page.header.firstSeq != nextSeq { return fault(n, "page", "it begins at entry \(page.header.firstSeq), not \(nextSeq)") }
    if let last, page.header.cut < last.cut { fault(n, "cut", "the cut falls from \(last.cut) to \(page.header.cut)") }
    if last?.isTerminal == true { fault(n, "page", "it follows a terminal page") }
    (last, lastHash, nextSeq) = (page.header, page.hash, page.nextSeq)
    if !page.header.isTerminal { checkpoints = page.header.checkpoints }
    read(page, bytes)
  }

  /// By itself: place, length, signature, every frame.
  private func fit(_ page: JournalPage, _ n: UInt64, _ bytes: [UInt8]) throws(PageError) {
    guard page.header.volume == volume else { throw .wrongPlace(page: n, "it is of volume \(page.header.volume)") }
    guard page.page == n else { throw .wrongPlace(page: n, "it is page \(page.page)") }
    try page.verify(key: key)
    if let end = page.header.end, let why = unauthorized(end) { throw .wrongPlace(page: n, why) }
    guard page.totalLength == bytes.count else {
      throw .wrongPlace(page: n, "it has \(bytes.count) bytes, its head says \(page.totalLength)")
    }
    for frame in page.frames {
      _ = try JournalPage.blob(frame, stored: Array(bytes[Int(frame.range.lowerBound)..<Int(frame.range.upperBound)]))
    }
    _ = try page.entries()
  }

  /// Why nobody may end this volume's log by what a terminal page says; nil when the name's log allows it.
  private func unauthorized(_ end: PageEnd) -> String? {
    let key = StoreLayout.nameEntry(end.name, end.seq)
    guard VolumeName.fault(end.name) == nil, let raw = try? store.found(key),
      let entry = try? NameEntryCodec.decode(raw, of: end.name, at: end.seq),
      NameReader.judge(raw, end.name, end.seq).1 == nil
    else { return "it is ended by \(key), which is no entry" }
    guard entry.envelope.actor == Digest.sha256(end.by).hex else { return "it is ended by another host than wrote \(key)" }
    switch entry.event {
    case .fenced, .claimed: return nil
    default: return "it is ended by \(key), which is \(entry.envelope.kind)"
    }
  }

  /// Its entries, on the state before them.
  private mutating func read(_ page: JournalPage, _ bytes: [UInt8]) {
    let raws = (try? page.entries()) ?? []
    do throws(ReplayError) {
      for raw in raws {
        report.entries += 1
        guard let committed = try replay.next(raw) else { continue }
        if let violation = state.apply(committed) {
          fault(page.page, "legality", "entry \(violation.seq): \(violation.detail)")
        }
        note(committed, page, bytes)
      }
    } catch { fault(page.page, "chain", error.description) }
    if page.header.isTerminal { return }
    report.setSums += 1
    if uploaded != page.header.sums.uploaded {
      fault(page.page, "set sums", "the segments uploaded are not those that the page sums up")
    }
  }

  private mutating func note(_ committed: Committed<VolumeEvent>, _ page: JournalPage, _ bytes: [UInt8]) {
    switch committed.event {
    case .segmentSealed(let s): content(s, page, bytes)
    case .segmentEncoded(let e):
      do {
        encodings[e.segment] = try SegmentEncoding.decode(try page.blob(e.encoding, in: bytes))
      } catch { fault(page.page, "blob", "the encoding of segment \(e.segment): \(error)") }
    case .segmentUploaded(let n, let hash): uploaded.add(SetSums.element(volume: volume, segment: n, hash: hash))
    case .forked(_, let lineage), .continued(_, let lineage): checkLineage(lineage, page.page)
    default: break
    }
  }

  private mutating func content(_ s: SealedSegment, _ page: JournalPage, _ bytes: [UInt8]) {
    do { _ = try SegmentContent.decode(try page.blob(s.content, in: bytes)) } catch {
      fault(page.page, "blob", "the content of segment \(s.segment): \(error)")
    }
  }

  private mutating func checkLineage(_ lineage: Lineage, _ page: UInt64) {
    guard let basis else { return }
    let said = Cut(volume: lineage.parent, seq: lineage.seq, page: lineage.page, pageHash: lineage.pageHash)
    if said != basis { fault(page, "lineage", "it continues \(said), the name's log says \(basis)") }
  }

  // MARK: The whole row

  /// Pages behind a hole.
  private mutating func lookBeyond(_ n: UInt64) throws(ElideError) {
    for object in try store.all(under: "volumes/\(volume)/journal/") {
      guard let number = UInt64(object.key.suffix(8)), number >= n else { continue }
      guard let bytes = try store.found(object.key) else { continue }
      // A page that its volume's key signed proves the hole; anything else is a stray object.
      let isSigned = (try? JournalPage.parse(bytes)).map { page in
        page.header.volume == volume && page.page == number && (try? page.verify(key: key)) != nil
      }
      if isSigned == true {
        if UInt64(links.count) == n { links.append(ChainLink(key: StoreLayout.page(volume, n), hash: nil)) }
      } else {
        faults.append((n, .init("page", at: object.key, "it is no page of this volume, or of another place")))
      }
    }
  }

  private mutating func place(_ claims: [Claim], _ n: UInt64) {
    for claim in claims.sorted(by: { $0.page < $1.page }) {
      if claim.page >= n {
        if UInt64(links.count) == n { links.append(ChainLink(key: StoreLayout.page(volume, n), hash: nil)) }
        links[Int(n)].claims.append(.init(hash: claim.hash, by: claim.by))
      } else {
        links[Int(claim.page)].claims.append(.init(hash: claim.hash, by: claim.by))
        report.witnessedPage = max(report.witnessedPage ?? 0, claim.page)
      }
    }
    report.claims = UInt64(claims.count)
  }

  private mutating func checkEnd(_ n: UInt64) {
    report.cut = last?.cut
    report.isEnded = last?.isTerminal ?? false
    for claim in claims where claim.seq > last?.cut ?? 0 {
      report.add(.init("cut", at: claim.by, "it names entry \(claim.seq), the pages have published \(last?.cut ?? 0)"))
    }
    if mustBeEnded, !report.isEnded {
      report.add(
        .init("missing", at: StoreLayout.page(volume, n), "the page that ends a volume taken over by force is not there"))
    }
  }

  // MARK: Beside the pages

  private mutating func checkDocument() throws(ElideError) {
    let place = StoreLayout.document(volume)
    guard let bytes = try store.found(place) else {
      return report.add(.init("document", at: place, "it is not there"))
    }
    do throws(DocumentError) {
      let document = try VolumeDocument.decode(bytes)
      if document.volume != volume {
        report.add(.init("document", at: place, "it is of volume \(document.volume)"))
      } else if document.key != key {
        report.add(.init("document", at: place, "it names another key than the one that was granted"))
      }
    } catch { report.add(.init("document", at: place, error.detail)) }
  }

  private mutating func checkObjects() throws(ElideError) {
    var sizes: [String: UInt64] = [:]
    for object in try store.all(under: "volumes/\(volume)/segments/") { sizes[object.key] = object.size }
    for segment in state.ordered {
      guard let e = segment.encoded, segment.uploadedSeq != nil, segment.phase == .uploaded else { continue }
      let place = StoreLayout.body(volume: volume, segment: segment.number, hash: e.hash)
      report.segments += 1
      guard let size = sizes[place] else {
        if !mayLackBodies { report.add(.init("segment", at: place, "it is not there")) }
        continue
      }
      if size != e.length { report.add(.init("segment", at: place, "it has \(size) bytes, not \(e.length)")) }
      guard deep, let encoding = encodings[segment.number], let body = try store.found(place) else { continue }
      report.segmentBytes += UInt64(body.count)
      if let fault = BodyChecker.fault(body, encoding, place) { report.add(.init("segment", at: place, fault)) }
    }
    try checkMaps()
  }

  /// The checkpoint that the newest page names.
  private mutating func checkMaps() throws(ElideError) {
    for locator in checkpoints {
      do throws(StoreError) {
        let bytes = try store.get(locator.key, range: deep ? nil : 0..<1)
        guard deep else { continue }
        if UInt64(bytes.count) != locator.length || Digest.sha256(bytes) != locator.digest {
          report.add(.init("map", at: locator.key, "it is not the checkpoint that the newest page names"))
        }
      } catch {
        guard case .notFound = error else { throw ElideError(error) }
        report.add(.init("map", at: locator.key, "it is not there"))
      }
    }
  }
}
