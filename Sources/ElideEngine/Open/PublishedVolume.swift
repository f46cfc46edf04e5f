import ElideEvents
import ElideIO
import ElideProjections

/// A volume at a published cut, as anyone can read it who has the store: map, segments, and where their bodies are.
package struct PublishedVolume {
  package let volume: ULID
  /// The key that signs the volume's pages.
  package let key: [UInt8]
  /// The caller knew the key; otherwise it came from the volume's own document, and the result is "unanchored".
  package let isAnchored: Bool
  package let document: VolumeDocument
  /// State and map at `point`.
  package let tables: VolumeTables
  package let point: UInt64
  /// The page that published the point, and its hash.
  package let page: UInt64
  package let pageHash: Digest
  /// The checkpoint it was read from.
  package let checkpoint: CheckpointLocator?
  /// Nothing changed the map between that checkpoint and the point.
  package let isAtCheckpoint: Bool
}

/// Reads volumes from a store: a constant number of requests, every byte verified before it is believed.
///
/// elide.toml, the hint, the newest page, the slot after it, volume.toml, the checkpoint: six, and one for each page after
/// the checkpoint (none after an import, a stop or a snapshot).
package struct PublishedReader {
  private let store: any Store
  /// A copy of a checkpoint on this host, by its digest; nil when there is none. It saves a request, not a check.
  private let local: (CheckpointLocator) -> [UInt8]?

  package init(store: any Store, local: @escaping (CheckpointLocator) -> [UInt8]? = { _ in nil }) {
    self.store = store
    self.local = local
  }

  /// Opens `volume` at its newest cut, or at `seq`, which must be published. `key`: the volume's public key, if known.
  package func open(_ volume: ULID, at seq: UInt64? = nil, key trusted: [UInt8]? = nil) throws(ElideError) -> PublishedVolume {
    _ = try StoreFormat.read(store)
    let pages = PublishedPages(store: store, volume: volume)
    guard var newest = try pages.newest() else {
      throw ElideError(.notFound, "volume \(volume) is not in the store \(store.url)")
    }
    let document = try document(volume)
    if let trusted, trusted != document.key {
      throw ElideError(.fault, "volume \(volume) is signed with another key than the one given")
    }
    // A terminal page has no state: what it ended is the page before. Whether it is the true end does not matter here, since that
    // page is published in any case.
    while newest.page.header.isTerminal {
      guard newest.page.page > 0, let before = try pages.fetch(newest.page.page - 1) else {
        throw ElideError(.notFound, "volume \(volume) was ended before it had a page")
      }
      newest = before
    }
    try verify(newest.page, document.key)
    let newestCut = newest.page.header.cut
    let point = seq ?? newestCut
    guard point <= newestCut else {
      throw ElideError(.notFound, "volume \(volume) is published up to entry \(newestCut); entry \(point) is not in the store")
    }
    var base = newest
    var last = newest
    if point < newestCut {
      let found = try pages.publishing(point, upTo: newest)
      last = found.page
      base = found.page
      if let c = base.page.header.checkpoints.first, c.volume == volume, c.seq > point, let before = found.before {
        base = before
      }
    }
    return try fold(pages, base: base, last: last, point: point, document, isAnchored: trusted != nil)
  }

  /// Opens a volume at a cut by the page that names it, whatever comes after that page. The page must be the one of that hash.
  package func open(_ cut: Cut, key trusted: [UInt8]?) throws(ElideError) -> PublishedVolume {
    let pages = PublishedPages(store: store, volume: cut.volume)
    guard let page = try pages.fetch(cut.page) else {
      throw ElideError(.notFound, "\(StoreLayout.page(cut.volume, cut.page)) is not in the store")
    }
    guard page.page.hash == cut.pageHash, !page.page.header.isTerminal, page.page.header.cut >= cut.seq else {
      throw ElideError(.fault, "\(StoreLayout.page(cut.volume, cut.page)) is not the page that names cut \(cut)")
    }
    let document = try document(cut.volume)
    if let trusted, trusted != document.key {
      throw ElideError(.fault, "volume \(cut.volume) is signed with another key than the one that was granted")
    }
    guard cut.seq == page.page.header.cut else { return try open(cut.volume, at: cut.seq, key: trusted) }
    // The hash that the log names anchors the page, and with it the key.
    return try fold(pages, base: page, last: page, point: cut.seq, document, isAnchored: true)
  }

  package func pages(of volume: ULID) -> PublishedPages { PublishedPages(store: store, volume: volume) }

  package func document(_ volume: ULID) throws(ElideError) -> VolumeDocument {
    let key = StoreLayout.document(volume)
    let bytes: [UInt8]
    do throws(StoreError) { bytes = try store.get(key, range: 0..<UInt64(Entry.maxBytes)) } catch { throw ElideError(error) }
    do {
      let document = try VolumeDocument.decode(bytes)
      guard document.volume == volume else { throw ElideError(.fault, "\(key) is of volume \(document.volume)") }
      return document
    } catch let error as ElideError {
      throw error
    } catch {
      throw ElideError(.fault, "\(key): \(error)")
    }
  }

  private func verify(_ page: JournalPage, _ key: [UInt8]) throws(ElideError) {
    do { try page.verify(key: key) } catch {
      throw ElideError(.fault, "\(StoreLayout.page(page.header.volume, page.page)): \(error)")
    }
  }

  // MARK: Folding

  /// `base` names the checkpoint and the pages after it; `last` is that page or the next one.
  private func fold(
    _ pages: PublishedPages, base: FetchedPage, last: FetchedPage, point: UInt64, _ document: VolumeDocument, isAnchored: Bool
  ) throws(ElideError) -> PublishedVolume {
    try verify(base.page, document.key)
    try verify(last.page, document.key)
    var row: [FetchedPage] = []
    for tail in base.page.header.tail {
      let key = StoreLayout.page(pages.volume, tail.page)
      guard let page = try pages.fetch(tail.page, length: tail.length) else { throw ElideError(.fault, "\(key) is missing") }
      guard page.page.hash == tail.hash else { throw ElideError(.fault, "\(key) is not the page that a later page names") }
      row.append(page)
    }
    row.append(base)
    if last.page.page != base.page.page {
      guard last.page.header.previous == base.page.hash else {
        throw ElideError(.fault, "\(StoreLayout.page(pages.volume, last.page.page)) does not continue the page before it")
      }
      row.append(last)
    }
    let locator = base.page.header.checkpoints.first
    let start = try load(locator, pages.volume)
    let tables = VolumeTables(start)
    let before = (sealed: tables.state.segments.count, size: tables.state.size, bodies: tables.rows.map(\.body))
    try replay(row, onto: tables, through: point)
    let isAtCheckpoint =
      // A fork that names this checkpoint has no entries after it to learn from: it must tell of every body.
      locator.map {
        tables.state.segments.count == before.sealed && tables.rows.map(\.body) == before.bodies
          && (tables.state.size == before.size || $0.volume != pages.volume)
      }
      ?? false
    return PublishedVolume(
      volume: pages.volume, key: document.key, isAnchored: isAnchored, document: document, tables: tables, point: point,
      page: last.page.page, pageHash: last.page.hash, checkpoint: locator, isAtCheckpoint: isAtCheckpoint)
  }

  private func load(_ locator: CheckpointLocator?, _ volume: ULID) throws(ElideError) -> VolumeFold {
    guard let locator else { return VolumeFold(volume: volume) }
    let checkpoint = try CheckpointFile.read(locator, bytes: try bytes(locator))
    let base = BaseState(
      map: checkpoint.map, account: SpaceAccount(volume: locator.volume, rows: checkpoint.rows), seq: locator.seq)
    if locator.volume != volume { return VolumeFold(volume: volume, inherited: base) }
    return VolumeFold(state: try CheckpointFile.state(checkpoint, locator), base: base)
  }

  private func bytes(_ locator: CheckpointLocator) throws(ElideError) -> [UInt8] {
    if let bytes = local(locator) { return bytes }
    do throws(StoreError) { return try store.get(locator.key, range: nil) } catch { throw ElideError(error) }
  }

  private func replay(_ row: [FetchedPage], onto tables: VolumeTables, through point: UInt64) throws(ElideError) {
    guard let first = row.first else { return }
    var replay = PageReplay(volume: tables.volume, from: first.page)
    var encoded: [UInt64: (event: EncodedSegment, place: PublishedEncoding)] = [:]
    var uploaded: [UInt64: Digest] = [:]
    for fetched in row {
      let key = StoreLayout.page(tables.volume, fetched.page.page)
      let events: [Committed<VolumeEvent>]
      do throws(ReplayError) { events = try replay.events(fetched.page) } catch { throw ElideError(.fault, "\(key): \(error)") }
      for place in PublishedEncoding.all(in: fetched.page, events: events.map(\.event)) {
        for case .segmentEncoded(let e) in events.map(\.event) where e.segment == place.segment && e.encoding == place.digest {
          encoded[e.segment] = (e, place)
        }
      }
      for committed in events {
        if case .segmentUploaded(let n, let hash) = committed.event { uploaded[n] = hash }
        // Later entries are history: only encodings and uploads are taken from them.
        guard committed.seq <= point, tables.state.seq.map({ committed.seq > $0 }) ?? true else { continue }
        do throws(FoldError<PageError>) {
          try tables.apply(committed) { (digest) throws(PageError) in try fetched.page.blob(digest, in: fetched.bytes) }
        } catch { throw ElideError(.fault, "\(key), entry \(committed.seq): \(error)") }
      }
    }
    for (segment, e) in encoded.sorted(by: { $0.key < $1.key }) {
      guard tables.state.segments[segment] != nil, uploaded[segment] == e.event.hash else { continue }
      tables.publishLater(e.event, uploaded: true, at: e.place)
    }
    // A page before the checkpoint carries the encoding; only that the body arrived is told after the point.
    for (segment, hash) in uploaded.sorted(by: { $0.key < $1.key }) where encoded[segment] == nil {
      guard let named = tables.state.segments[segment]?.encoded, named.hash == hash else { continue }
      tables.directory.update(segment) { if $0.hash == hash { $0.uploaded = true } }
    }
  }
}

/// Checkpoint objects, wherever their bytes were.
package enum CheckpointFile {
  /// Decodes and compares with what a signed page (or a row) says of it.
  package static func read(_ locator: CheckpointLocator, bytes: [UInt8]) throws(ElideError) -> MapCheckpoint {
    guard UInt64(bytes.count) == locator.length, Digest.sha256(bytes) == locator.digest else {
      throw ElideError(.fault, "the checkpoint \(locator.key) is not the one that was written")
    }
    do throws(FormatError) {
      let checkpoint = try MapCheckpoint.decode(bytes, ZstdCodec())
      guard checkpoint.root == locator.root, checkpoint.seq == locator.seq, checkpoint.volume == locator.volume else {
        throw FormatError("map checkpoint", offset: 0, "it is of volume \(checkpoint.volume), entry \(checkpoint.seq)")
      }
      return checkpoint
    } catch { throw ElideError(.fault, "the checkpoint \(locator.key): \(error)") }
  }

  package static func state(_ checkpoint: MapCheckpoint, _ locator: CheckpointLocator) throws(ElideError) -> VolumeState {
    do throws(FormatError) { return try VolumeState.decode(checkpoint.state) } catch {
      throw ElideError(.fault, "the checkpoint \(locator.key): \(error)")
    }
  }
}
