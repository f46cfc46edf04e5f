import ElideIO
import ElideProjections
import Synchronization

/// Where fetchers get encodings: from memory while no page carries them yet, from a page after. Thread-safe.
package final class Encodings: EncodingSource {
  private let store: any Store
  /// Blobs of segments that no page carries yet: as many as are unsent.
  private let shelf = Mutex<[UInt64: [UInt8]]>([:])

  package init(store: any Store) { self.store = store }

  package func shelve(_ segment: UInt64, _ blob: [UInt8]) { shelf.withLock { $0[segment] = blob } }
  package func unshelve(_ segment: UInt64) { shelf.withLock { _ = $0.removeValue(forKey: segment) } }

  package func encoding(of entry: SegmentEntry) throws(SegmentError) -> SegmentEncoding {
    guard let digest = entry.encoding else { throw .unknownSegment(entry.number) }
    let (blob, place) = try blob(entry)
    guard Digest.sha256(blob) == digest else {
      throw .damaged(object: place, detail: "the encoding of segment \(entry.number) is not what the journal says it is")
    }
    let encoding: SegmentEncoding
    do { encoding = try SegmentEncoding.decode(blob) } catch { throw .damaged(object: place, detail: "\(error)") }
    guard encoding.blocks == UInt64(entry.blocks) else {
      throw .damaged(object: place, detail: "\(encoding.blocks) blocks encoded, segment \(entry.number) has \(entry.blocks)")
    }
    return encoding
  }

  private func blob(_ entry: SegmentEntry) throws(SegmentError) -> (bytes: [UInt8], place: String) {
    if let blob = shelf.withLock({ $0[entry.number] }) { return (blob, "segment \(entry.number)") }
    guard case .page(let volume, let page, let offset, let length) = entry.locator else {
      throw .unknownSegment(entry.number)
    }
    let key = StoreLayout.page(volume, page)
    do { return (try store.get(key, range: offset..<offset + UInt64(length)), key) } catch { throw .store(error) }
  }
}
