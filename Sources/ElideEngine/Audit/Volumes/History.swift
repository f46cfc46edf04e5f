import ElideEvents
import ElideIO
import Glibc

/// A volume's history to be read from its beginning: raw entries in order, and the blobs they name. Two sources say the
/// same: the journal on this host, and the pages in a store (or in a copied directory, which is one).
///
/// Owned by one thread.
package protocol History: AnyObject {
  var volume: ULID { get }
  /// The next raw entry, with the page that carries it (nil for a local journal); nil at the end.
  func next() throws(ReplayError) -> (raw: [UInt8], page: UInt64?)?
  /// A blob that an entry named, checked.
  func blob(_ digest: Digest) throws(ReplayError) -> [UInt8]
  /// Gives the journal back: it is opened once at a time in a process. Nothing may be asked afterwards.
  func close()
  /// Map checkpoints named by the pages read so far. None for a local journal.
  var checkpoints: [CheckpointLocator] { get }
}

/// History from this host's journal, up to the head as it was at the beginning.
package final class LocalHistory: History {
  package let volume: ULID
  private let store: any JournalStore
  private let last: UInt64?
  private var seq: UInt64

  package init(volume: ULID, store: any JournalStore, from seq: UInt64 = 0) {
    self.volume = volume
    self.store = store
    self.seq = seq
    last = store.head?.seq
  }

  package var checkpoints: [CheckpointLocator] { [] }

  package func close() { store.close() }

  package func next() throws(ReplayError) -> (raw: [UInt8], page: UInt64?)? {
    guard let last, seq <= last else { return nil }
    do throws(JournalError) {
      guard let raw = try store.entry(seq) else { throw ReplayError.missing(seq: seq).asJournal }
      seq += 1
      return (raw, nil)
    } catch {
      throw .store(error)
    }
  }

  package func blob(_ digest: Digest) throws(ReplayError) -> [UInt8] {
    do throws(JournalError) { return try store.blob(digest) } catch { throw .store(error) }
  }
}

extension ReplayError {
  fileprivate var asJournal: JournalError { .damaged(description) }
}

/// History from a store's pages. Each page is checked against the one before it and the volume's key as it is read.
package final class PageHistory: History {
  package let volume: ULID
  private let store: any Store
  private var chain: PageChain
  private var page: JournalPage?
  private var bytes: [UInt8] = []
  private var entries: [[UInt8]] = []
  private var position = 0
  private var nextPage: UInt64 = 0
  /// Where each blob seen so far lies.
  private var places: [Digest: (page: UInt64, frame: PageFrame)] = [:]
  package private(set) var checkpoints: [CheckpointLocator] = []
  package private(set) var pagesRead: UInt64 = 0
  /// The last page read: its cut, its end, its set sums.
  package private(set) var lastHeader: PageHeader?

  /// `key` is the volume's public key, 32 bytes.
  package init(volume: ULID, key: [UInt8], store: any Store) {
    self.volume = volume
    self.store = store
    chain = PageChain(volume: volume, key: key)
  }

  package func close() {}

  package func next() throws(ReplayError) -> (raw: [UInt8], page: UInt64?)? {
    while position == entries.count {
      guard try readPage() else { return nil }
    }
    defer { position += 1 }
    return (entries[position], page?.page)
  }

  /// False when there is no further page.
  private func readPage() throws(ReplayError) -> Bool {
    let key = StoreLayout.page(volume, nextPage)
    let found: [UInt8]
    do throws(StoreError) { found = try store.get(key, range: nil) } catch {
      if case .notFound = error { return false }
      throw .store(.damaged("\(key): \(error)"))
    }
    do throws(PageError) {
      let parsed = try JournalPage.parse(found)
      try chain.accept(parsed)
      entries = try parsed.entries()
      for frame in parsed.frames { places[frame.digest] = (parsed.page, frame) }
      // Together: blobs of this page are taken from these bytes. A page that is refused leaves the one before it.
      (page, bytes) = (parsed, found)
      lastHeader = parsed.header
      for c in parsed.header.checkpoints where !checkpoints.contains(c) { checkpoints.append(c) }
    } catch {
      throw .store(.damaged("\(key): \(error)"))
    }
    position = 0
    nextPage += 1
    pagesRead += 1
    return true
  }

  package func blob(_ digest: Digest) throws(ReplayError) -> [UInt8] {
    guard let place = places[digest] else { throw .store(.missingBlob(digest)) }
    do throws(PageError) {
      if place.page == page?.page {
        let range = place.frame.range
        guard range.upperBound <= UInt64(bytes.count) else { throw .damagedFrame(digest) }
        return try JournalPage.blob(place.frame, stored: Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
      }
      let stored: [UInt8]
      do throws(StoreError) { stored = try store.get(StoreLayout.page(volume, place.page), range: place.frame.range) } catch {
        throw .damagedFrame(digest)
      }
      return try JournalPage.blob(place.frame, stored: stored)
    } catch {
      throw .store(.damaged("\(StoreLayout.page(volume, place.page)): \(error)"))
    }
  }
}
