import ElideEvents
import ElideIO
import ElideProjections

extension Engine {
  /// Reads histories in this data directory and this store. `trusting` are public keys that the caller knows to be right.
  package func auditor(trusting: [ULID: [UInt8]] = [:]) -> Auditor {
    Auditor(store: store, trusted: trusting) { (volume) throws(ElideError) in
      let directory = self.directory.volume(volume)
      guard self.world.files.exists(directory.journal) else { return nil }
      do throws(JournalError) { return try self.journals.open(directory, write: false) } catch {
        throw ElideError(error, volume)
      }
    }
  }

  /// Copies every object of this store into another: what is already there, and of the same size, is left. Journals and
  /// documents go last, so that a copy that was cut short never names what it lacks.
  package func copyStore(to target: any Store, progress: ProgressHandler) throws(ElideError) {
    var objects = try Self.listing(store)
    var there: [String: UInt64] = [:]
    for object in try Self.listing(target) { there[object.key] = object.size }
    func rank(_ key: String) -> Int {
      key.contains("/segments/") ? 0 : key.contains("/maps/") ? 1 : key.contains("/journal/") ? 2 : 3
    }
    objects.sort { (rank($0.key), $0.key) < (rank($1.key), $1.key) }
    let total = objects.reduce(0) { $0 + $1.size }
    var done: UInt64 = 0
    for object in objects {
      guard progress(WorkProgress(step: .copy, done: done, total: total)) else {
        throw ElideError(.interrupted, "interrupted; run it again to go on")
      }
      // A hint is rewritten in place; everything else never changes.
      if there[object.key] != object.size || object.key.hasSuffix("head.toml") {
        do throws(StoreError) { try copy(object, to: target) } catch { throw ElideError(error) }
      }
      done += object.size
    }
  }

  /// Everything in a store.
  private static func listing(_ store: any Store) throws(ElideError) -> [StoredObject] {
    var objects: [StoredObject] = []
    var after: String?
    while true {
      let page: [StoredObject]
      do throws(StoreError) { page = try store.list("", after: after, limit: 1000) } catch { throw ElideError(error) }
      guard let last = page.last else { return objects }
      objects += page
      after = last.key
    }
  }

  private func copy(_ object: StoredObject, to target: any Store) throws(StoreError) {
    let bytes: [UInt8]
    do throws(StoreError) { bytes = try store.get(object.key, range: nil) } catch {
      // Deleted since it was listed.
      if case .notFound = error { return }
      throw error
    }
    try target.put(object.key, parts: [bytes])
  }
}
