import ElideEvents
import ElideIO
import ElideProjections

/// What a name or a ULID stands for.
package struct FoundVolume: Sendable {
  package var volume: ULID
  /// The name's state as it was read; nil for a ULID of which this host knows no name.
  package var name: NameState?
  /// The volume's public key, by the entry that granted it or by the key of this host's copy; nil: not known.
  package var key: [UInt8]?
}

extension Engine {
  /// What people name. `fresh`: the log's end is read, so that the answer is today's; otherwise what this host has read before
  /// will do, and the store is asked only about names that it never heard of.
  package func find(_ base: VolumeSource.Base, fresh: Bool) throws(ElideError) -> FoundVolume {
    switch base {
    case .volume(let volume):
      let name = try names.name(of: volume)
      return FoundVolume(volume: volume, name: name, key: try key(of: volume, name))
    case .name(let name):
      if !fresh, let row = try names.old?.get(name), row.flags.isDisjoint(with: [.creating, .clashes]) {
        return FoundVolume(volume: row.volume, name: nil, key: try key(of: row.volume, nil))
      }
      let state = try state(of: name, fresh: fresh)
      guard let volume = state.volume else { throw noVolume(state) }
      return FoundVolume(volume: volume, name: state, key: try key(of: volume, state))
    }
  }

  /// The volume that a name or ULID stands for, as far as this host knows.
  package func volume(_ base: VolumeSource.Base) throws(ElideError) -> ULID { try find(base, fresh: false).volume }

  private func state(of name: String, fresh: Bool) throws(ElideError) -> NameState {
    if let fault = VolumeName.fault(name) { throw ElideError(.usage, "the name '\(name)' \(fault)") }
    if !fresh, let known = try names.known(name), known.volume != nil { return known }
    try Lifecycle(self).settle(name)
    let log = try names.log(name)
    try log.refresh()
    return log.state
  }

  private func noVolume(_ state: NameState) -> ElideError {
    let name = state.name
    switch state.phase {
    case .absent, .purged: return ElideError(.notFound, "there is no volume named '\(name)' in the store \(store.url)")
    case .renamed: return ElideError(.notFound, "'\(name)' is now '\(state.renamedTo ?? "")'")
    default: return ElideError(.tryLater, "\(state.sentence): it has no volume yet")
    }
  }

  /// The key by which a volume's pages are held true.
  func key(of volume: ULID, _ name: NameState?) throws(ElideError) -> [UInt8]? {
    if let granted = name?.holdings.episodes.last(where: { $0.volume == volume }) { return granted.key }
    return try KeyFile.read(world.files, directory.volume(volume).key)?.publicKey
  }

  /// Throws unless this host may change what `base` names, as the log of the name says today.
  package func requireWritable(_ base: VolumeSource.Base) throws(ElideError) {
    let found = try find(base, fresh: true)
    if mayWrite(found) { return }
    guard let name = found.name else {
      throw ElideError(.notFound, "volume \(found.volume) is not in \(directory.root)")
    }
    do throws(Refusal) {
      _ = try name.decide(
        .resize(size: 1 << 50), by: Author(host: host.id, incarnation: incarnation, epoch: name.epoch))
    } catch { throw ElideError(error) }
    throw ElideError(.usage, name.sentence)
  }

  /// The newest published cut of a volume of this data directory, by its rows; nil before its first page.
  package func publishedCut(_ volume: ULID) throws(ElideError) -> Cut? {
    let journal: any JournalStore
    do throws(JournalError) { journal = try journals.open(directory.volume(volume), write: false) } catch {
      throw ElideError(error, volume)
    }
    defer { journal.close() }
    guard let last = try KeptRows(journal, volume).read().pageLog.last else { return nil }
    return Cut(volume: volume, seq: last.cut, page: last.page, pageHash: last.hash)
  }

  /// Whether a process of this data directory has the volume open for writing.
  package func isInUse(_ volume: ULID) throws(ElideError) -> Bool {
    let place = directory.volume(volume)
    guard world.files.exists(place.root) else { return false }
    do throws(Errno) {
      guard let lock = try world.files.lock(place.lock) else { return true }
      world.files.close(lock)
      return false
    } catch { throw ElideError(error, doing: "lock volume \(volume)") }
  }
}
