import ElideIO
import Synchronization

/// Where fetchers get encodings: from memory while no page carries them yet, from a page after. Thread-safe.
package final class Encodings: EncodingSource {
  private let store: any Store
  /// Blobs of segments that no page carries yet: as many as are unsent.
  private let shelf = Mutex<[UInt64: [UInt8]]>([:])

  package init(store: any Store) { self.store = store }

  package func shelve(_ segment: UInt64, _ blob: [UInt8]) { shelf.withLock { $0[segment] = blob } }
  package func unshelve(_ segment: UInt64) { shelf.withLock { _ = $0.removeValue(forKey: segment) } }

  package func encodingBlob(of entry: SegmentEntry) throws(SegmentError) -> [UInt8] {
    if let blob = shelf.withLock({ $0[entry.number] }) { return blob }
    guard case .page(let volume, let page, let offset, let length) = entry.locator else {
      throw .unknownSegment(entry.number)
    }
    let key = StoreLayout.page(volume, page)
    do { return try store.get(key, range: offset..<offset + UInt64(length)) } catch { throw .store(error) }
  }
}
