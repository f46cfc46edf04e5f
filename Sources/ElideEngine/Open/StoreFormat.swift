import ElideEvents
import ElideIO

/// The store's own document, `elide.toml`: that it is a store of Elide's, of which format, and which one.
package enum StoreFormat {
  /// Reads it. `.notFound` when the store was never used.
  package static func read(_ store: any Store) throws(ElideError) -> StoreDocument {
    let bytes: [UInt8]
    do { bytes = try store.get(StoreLayout.format, range: 0..<UInt64(Entry.maxBytes)) } catch {
      if case .notFound = error { throw ElideError(.notFound, "\(store.url) is not a store of Elide's: it has no elide.toml") }
      throw ElideError(error)
    }
    do { return try StoreDocument.decode(bytes) } catch { throw ElideError(.fault, "\(store.url): \(error)") }
  }

  /// Reads it, or occupies its place: of any number of first users one decides the store's id.
  package static func readOrMake(_ store: any Store, _ world: World) throws(ElideError) -> StoreDocument {
    do { return try read(store) } catch {
      guard error.kind == .notFound else { throw error }
    }
    let document = StoreDocument(
      store: ULID(clock: world.clock, random: world.random),
      created: Timestamp.text(milliseconds: world.clock.wallMilliseconds()))
    // Whoever came first decides.
    do { try store.occupy(StoreLayout.format, document.encode()) } catch { throw ElideError(error) }
    return try read(store)
  }

  /// Publishes a host's public half, once.
  package static func publish(_ host: HostIdentity, to store: any Store) throws(ElideError) {
    do { try store.occupy(StoreLayout.host(host.id), host.document) } catch { throw ElideError(error) }
  }
}

extension Store {
  /// `putIfAbsent` of a document whose place is its own, until something is known to be there: these bytes, or others that
  /// came first. A lost answer is resolved by reading, and by putting the same bytes again; a few times.
  package func occupy(_ key: String, _ bytes: [UInt8]) throws(StoreError) {
    var tries = 0
    while true {
      tries += 1
      do throws(StoreError) {
        _ = try putIfAbsent(key, bytes)
        return
      } catch {
        guard case .unknown = error, tries < 5 else { throw error }
      }
      do throws(StoreError) {
        _ = try get(key, range: 0..<1)
        return
      } catch {
        if case .refused = error { throw error }
        // Not there, as far as one can see: the same bytes again.
      }
    }
  }

  /// `putIfAbsent` of an array.
  package func putIfAbsent(_ key: String, _ bytes: [UInt8]) throws(StoreError) -> PutOutcome {
    try bytes.withUnsafeBufferPointer { (b) throws(StoreError) in try putIfAbsent(key, UnsafeRawBufferPointer(b)) }
  }
}
