import ElideEvents
import ElideIO
import ElideProjections

/// Pages of this volume in the store that lie ahead of the local journal: a disk that lost the journal's last transactions, or a
/// copy that is older than the store. Their entries are read in before anything is recovered or served, so that such a disk
/// does not stop a volume for ever.
///
/// Read in is only what this host wrote itself: signed with the volume's key, by an incarnation that the local journal knows,
/// continuing the local page log, and equal to the local journal as far as that goes. Anything else is another process's, and
/// the volume is not opened. That nothing is there, or the store does not answer, decides nothing: a page that is put later
/// meets whatever its slot holds.
struct PagesAhead {
  private let context: KeeperContext
  private let journal: any JournalStore

  init(_ context: KeeperContext, _ journal: any JournalStore) {
    self.context = context
    self.journal = journal
  }

  /// Reads in what is there; returns how many pages. `.owned` when a page contradicts the local journal.
  @discardableResult
  func readIn() throws(ElideError) -> Int {
    var count = 0
    guard journal.head != nil else { return 0 }
    while try readInNext() { count += 1 }
    return count
  }

  private func readInNext() throws(ElideError) -> Bool {
    let rows = KeptRows(journal, context.volume)
    let kept = try rows.read()
    let n = kept.pageLog.nextPage
    guard let bytes = stored(n) else { return false }
    // Frozen here: the keeper puts it again, and finds it. Unless there is more.
    if let intent = kept.intent, intent.page == n, intent.bytes == bytes, stored(n + 1) == nil { return false }
    // What is no page of this volume, or ends its log, the keeper says better.
    guard let page = try? JournalPage.parse(bytes), page.header.volume == context.volume, page.page == n,
      (try? page.verify(key: context.key.publicKey)) != nil, page.header.end == nil
    else { return false }
    try take(page, bytes, kept, try rows.marks())
    return true
  }

  private func stored(_ n: UInt64) -> [UInt8]? {
    let key = StoreLayout.page(context.volume, n)
    do throws(StoreError) { return try context.store.get(key, range: nil) } catch { return nil }
  }

  private func take(
    _ page: JournalPage, _ bytes: [UInt8], _ kept: RecoveredKeeper, _ marks: [OpenedMark]
  ) throws(ElideError) {
    guard page.header.previous == kept.pageLog.last?.hash, page.header.firstSeq == kept.pageLog.nextSeq else {
      throw contradiction(page, "it does not continue the pages known here")
    }
    let new = try entriesAhead(page)
    if !new.isEmpty, try !knows(page.header.incarnation) {
      throw contradiction(page, "this host's journal does not know incarnation \(page.header.incarnation)")
    }
    var blobs: [[UInt8]] = []
    for digest in new.flatMap({ $0.event?.blobs ?? [] }) {
      do throws(PageError) { blobs.append(try page.blob(digest, in: bytes)) } catch {
        throw ElideError(.fault, "page \(page.page) of volume \(context.volume): \(error)")
      }
    }
    let settled: (PublishedPage, PageLog)
    do throws(KeeperHalt) {
      settled = try VolumeKeeper.published(
        PageIntent(page: page.page, bytes: bytes), after: kept.pageLog, at: context.world.clock.wallMilliseconds())
    } catch { throw ElideError(error.kind, error.detail) }
    var rows: [(key: String, value: [UInt8]?)] = [
      (RowKey.intent, nil), (RowKey.pages, settled.1.encodeRow()), (RowKey.page(page.page), settled.0.encodeRow()),
    ]
    rows += try LogRows(context, chain: kept.chain, marks: marks).after(new)
    do throws(JournalError) { try journal.commit(entries: new, blobs: blobs, rows: rows) } catch {
      throw ElideError(error, context.volume)
    }
  }

  private func contradiction(_ page: JournalPage, _ why: String) -> ElideError {
    ElideError(
      .owned,
      "page \(page.page) of volume \(context.volume) was written by another process (incarnation \(page.header.incarnation)): "
        + "\(why); recover by force")
  }

  /// The page's entries after the local head. Those up to it must be the local ones, byte for byte.
  private func entriesAhead(_ page: JournalPage) throws(ElideError) -> [Entry] {
    guard let head = journal.head else { return [] }
    var new: [Entry] = []
    var last = head
    do {
      for (i, raw) in try page.entries().enumerated() {
        let seq = page.header.firstSeq + UInt64(i)
        if seq <= head.seq {
          guard try journal.entry(seq) == raw else { throw contradiction(page, "its entry \(seq) is not the one here") }
          continue
        }
        let entry = try EntryCodec.decode(raw, of: context.log, at: seq)
        guard entry.envelope.log == context.log, entry.envelope.seq == last.seq + 1, entry.envelope.prev == last.hash else {
          throw contradiction(page, "its entry \(seq) does not follow entry \(last.seq) here")
        }
        new.append(entry)
        last = JournalHead(seq: seq, hash: entry.hash)
      }
    } catch let error as ElideError { throw error } catch {
      throw ElideError(.fault, "page \(page.page) of volume \(context.volume): \(error)")
    }
    return new
  }

  /// Whether a process of this host's journal ran under this incarnation. From the newest entry back: it is among the last.
  private func knows(_ incarnation: ULID) throws(ElideError) -> Bool {
    guard var seq = journal.head?.seq else { return false }
    while true {
      let raw: [UInt8]?
      do throws(JournalError) { raw = try journal.entry(seq) } catch { throw ElideError(error, context.volume) }
      if let raw, let entry = try? EntryCodec.decode(raw), entry.envelope.incarnation == incarnation { return true }
      if seq == 0 { return false }
      seq -= 1
    }
  }
}

/// What the keeper's rows of the write-ahead log were after entries that were read in: found again in the files.
private struct LogRows {
  private let context: KeeperContext
  private var chain: WALChain
  private var marks: [OpenedMark]

  init(_ context: KeeperContext, chain: WALChain, marks: [OpenedMark]) {
    self.context = context
    self.chain = chain
    self.marks = marks
  }

  func after(_ entries: [Entry]) throws(ElideError) -> [(key: String, value: [UInt8]?)] {
    var now = self
    var rows: [(key: String, value: [UInt8]?)] = []
    for entry in entries {
      switch entry.event {
      case .opened(let wal, let frame, let crc, _):
        now.marks.append(OpenedMark(wal: wal, end: WALChain(frame: frame, crc: crc)))
      case .segmentSealed(let s) where s.origin == .wal:
        now.chain = try now.end(of: s.segment)
        if s.blocks > 0 { rows.append((RowKey.sealedEnd(s.segment), now.chain.encodeRow())) }
      default: break
      }
    }
    rows.append((RowKey.chain, now.chain.encodeRow()))
    rows.append((RowKey.marks, MarksRow.encode(now.marks)))
    return rows
  }

  /// Where the frames of a file that was sealed end: at its last, or where a recovery said. The file is in `wal/`, or in the
  /// cache if it was uploaded.
  private func end(of number: UInt64) throws(ElideError) -> WALChain {
    let files = context.world.files
    let directory = context.directory.wal
    let path = WALFormat.path(directory: directory, number: number)
    let cached = CacheFormat.path(context.cache.directory(context.volume), number)
    let file: FileID
    do throws(Errno) { file = try files.open(files.exists(path) ? path : cached, .read) } catch {
      throw ElideError(error, doing: "find the end of write-ahead file \(number) of volume \(context.volume)")
    }
    defer { files.close(file) }
    do throws(WALError) {
      let blocks = try WALFile.checkHeader(files, file, volume: context.volume, number: number)
      let scan = try WALReader.scan(files, file, volume: context.volume, wal: number, blocks: blocks)
      let mark = marks.last { $0.wal >= number }
      let end = min(scan.end ?? chain, mark?.end ?? scan.end ?? chain) { $0.frame < $1.frame }
      guard end.frame > chain.frame else { return chain }
      return try WALReader.read(files, file, volume: context.volume, wal: number, start: chain, end: end).end ?? chain
    } catch { throw ElideError(error) }
  }

  private func min(_ a: WALChain, _ b: WALChain, by isLess: (WALChain, WALChain) -> Bool) -> WALChain { isLess(b, a) ? b : a }
}
