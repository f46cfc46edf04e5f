import ElideEvents
import ElideIO
import ElideProjections

/// A page as it was fetched: its head, and as many of its bytes as came with it.
package struct FetchedPage {
  package let page: JournalPage
  package let bytes: [UInt8]
}

/// Finds and fetches a volume's pages in a store. Blocks; no state but the store.
package struct PublishedPages {
  package let store: any Store
  package let volume: ULID
  /// Enough for the head of most pages; a hint or a tail says the exact length.
  static let guess: UInt64 = 256 << 10

  package init(store: any Store, volume: ULID) {
    self.store = store
    self.volume = volume
  }

  /// Fetches the part of a page that folding needs; nil when the slot is free (or seems to be).
  package func fetch(_ n: UInt64, length: UInt64? = nil) throws(ElideError) -> FetchedPage? {
    let key = StoreLayout.page(volume, n)
    var bytes: [UInt8]
    do throws(StoreError) {
      // One byte more than nothing: a length of 0 would ask for an empty range.
      bytes = try store.get(
        key, range: 0..<max(UInt64(JournalPage.prologueBytes), min(length ?? Self.guess, UInt64(PageLimits.bytes))))
    } catch {
      if case .notFound = error { return nil }
      throw ElideError(error)
    }
    // A head that is longer than it was guessed to be, then the frames behind it: three requests at most.
    for _ in 0..<3 {
      let need: Int
      switch parse(bytes, n) {
      case .success(let page):
        if bytes.count >= page.foldLength { return FetchedPage(page: page, bytes: bytes) }
        need = page.foldLength
      case .failure(.short(let n)): need = n
      case .failure(let error): throw ElideError(.fault, "\(key): \(error)")
      }
      bytes = try more(key, bytes, need)
    }
    throw ElideError(.fault, "\(key): it is shorter than it says")
  }

  private func parse(_ bytes: [UInt8], _ n: UInt64) -> Result<JournalPage, PageError> {
    do throws(PageError) {
      let page = try JournalPage.parse(bytes)
      guard page.header.volume == volume, page.page == n else {
        throw .wrongPlace(page: page.page, "it is of volume \(page.header.volume)")
      }
      return .success(page)
    } catch { return .failure(error) }
  }

  private func more(_ key: String, _ bytes: [UInt8], _ need: Int) throws(ElideError) -> [UInt8] {
    guard need > bytes.count, need <= PageLimits.bytes else {
      throw ElideError(.fault, "\(key): it says that it has \(need) bytes")
    }
    do throws(StoreError) { return bytes + (try store.get(key, range: UInt64(bytes.count)..<UInt64(need))) } catch {
      throw ElideError(error)
    }
  }

  /// The newest page, from where the hint says: one request more than the page itself when the hint is right. nil when
  /// page 0 is not there.
  package func newest() throws(ElideError) -> FetchedPage? {
    var bytes: [UInt8] = []
    do throws(StoreError) { bytes = try store.get(StoreLayout.head(volume), range: 0..<UInt64(Entry.maxBytes)) } catch {
      guard case .notFound = error else { throw ElideError(error) }
    }
    // What does not decode is no hint.
    if let h = try? HeadHint.decode(bytes), h.volume == volume, let page = try fetch(h.page, length: h.length) {
      return try gallop(from: page)
    }
    guard let first = try fetch(0) else { return nil }
    return try gallop(from: first)
  }

  /// The last page of an unbroken row that begins with `known`: steps that double, then bisection.
  private func gallop(from known: FetchedPage) throws(ElideError) -> FetchedPage {
    var last = known
    var step: UInt64 = 1
    var free: UInt64?
    while free == nil {
      if let next = try fetch(last.page.page + step) {
        last = next
        step *= 2
      } else {
        free = last.page.page + step
      }
    }
    while let end = free, end - last.page.page > 1 {
      let middle = last.page.page + (end - last.page.page) / 2
      if let found = try fetch(middle) { last = found } else { free = middle }
    }
    return last
  }

  /// The first page whose cut reaches `seq`, and the page before it. Cuts never fall, so bisection finds it.
  package func publishing(
    _ seq: UInt64, upTo newest: FetchedPage
  ) throws(ElideError) -> (page: FetchedPage, before: FetchedPage?) {
    var low: FetchedPage?
    var high = newest
    while high.page.page > (low?.page.page ?? 0), high.page.page > 0, low.map({ high.page.page - $0.page.page > 1 }) ?? true {
      let from = low?.page.page ?? 0
      let middle = low == nil && high.page.page == 1 ? 0 : from + (high.page.page - from) / 2
      guard let page = try fetch(middle) else {
        throw ElideError(.fault, "page \(middle) of volume \(volume) is missing, page \(high.page.page) is there")
      }
      if page.page.header.cut >= seq { high = page } else { low = page }
      if middle == 0 && high.page.page == 0 { break }
    }
    return (high, low)
  }
}
