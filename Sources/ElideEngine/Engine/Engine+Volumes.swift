import ElideEvents
import ElideIO
import ElideProjections

/// A volume as `list` shows it.
package struct VolumeSummary: Equatable, Sendable {
  /// nil for a volume that has no local name.
  package var name: String?
  package var volume: ULID
  /// Bytes.
  package var size: UInt64
  /// Made by import.
  package var isImage: Bool
  /// Its key is here: it can be written. Otherwise it can be read at its newest published cut.
  package var isWritable: Bool
  /// The volume it was forked from, and where.
  package var parent: (volume: ULID, seq: UInt64)?
  /// Wall clock of its making, milliseconds since 1970.
  package var created: UInt64

  package init(
    name: String?, volume: ULID, size: UInt64, isImage: Bool = false, isWritable: Bool = true,
    parent: (volume: ULID, seq: UInt64)? = nil, created: UInt64 = 0
  ) {
    self.name = name
    self.volume = volume
    self.size = size
    self.isImage = isImage
    self.isWritable = isWritable
    self.parent = parent
    self.created = created
  }

  package static func == (a: VolumeSummary, b: VolumeSummary) -> Bool {
    a.volume == b.volume && a.name == b.name && a.size == b.size && a.isImage == b.isImage && a.isWritable == b.isWritable
      && a.parent?.volume == b.parent?.volume && a.parent?.seq == b.parent?.seq && a.created == b.created
  }
}

/// How far long work is. Called from the thread that called the engine, a few times a second at most.
package struct WorkProgress: Equatable, Sendable {
  package enum Step: String, Sendable { case digest, seal, upload, publish, verify, copy }
  package var step: Step
  /// Bytes, of `total` (0: not known).
  package var done: UInt64
  package var total: UInt64
  package init(step: Step, done: UInt64, total: UInt64) {
    self.step = step
    self.done = done
    self.total = total
  }
}

/// Reports progress; false asks to stop, and the work ends with `.interrupted`, leaving nothing half-made behind.
package typealias ProgressHandler = (WorkProgress) -> Bool

extension Engine {
  func summary(_ row: NameRow, _ state: VolumeState) -> VolumeSummary {
    VolumeSummary(
      name: row.name, volume: row.volume, size: state.deviceSize, isImage: row.flags.contains(.image),
      isWritable: world.files.exists(directory.volume(row.volume).key), parent: state.lineage.map { ($0.parent, $0.seq) },
      created: row.volume.milliseconds)
  }

  /// Makes an empty volume of `size` bytes, published so that any host can open it.
  package func createVolume(name: String, size: UInt64) throws(ElideError) -> VolumeSummary {
    guard size >= 512, size % 512 == 0, size <= 1 << 50 else {
      throw ElideError(.usage, "\(size) bytes is not a size: a multiple of 512, at most 2^50")
    }
    let made = try makeVolume(name: name) { key in .created(Genesis(size: size, key: key)) }
    do throws(ElideError) { return try made.publish() } catch {
      made.abandon()
      throw error
    }
  }

  /// The volume that a name or ULID stands for.
  package func volume(_ base: VolumeSource.Base) throws(ElideError) -> ULID {
    switch base {
    case .volume(let volume): return volume
    case .name(let name):
      guard let row = try names.get(name), !row.flags.contains(.creating) else {
        throw ElideError(.notFound, "there is no volume named '\(name)' in \(directory.root)")
      }
      return row.volume
    }
  }

  /// All named volumes of this data directory, in byte order of the names. Reads beside processes that serve them.
  package func listVolumes() throws(ElideError) -> [VolumeSummary] {
    var out: [VolumeSummary] = []
    for row in try names.list() where !row.flags.contains(.creating) {
      let state = try localState(row.volume)
      out.append(state.map { summary(row, $0) } ?? VolumeSummary(name: row.name, volume: row.volume, size: 0, isWritable: false))
    }
    return out
  }

  /// The state of a volume of this data directory at its journal's head; nil when it is not here. Takes no lock: what a
  /// serving process commits meanwhile may be missing.
  package func localState(_ volume: ULID) throws(ElideError) -> VolumeState? {
    let place = directory.volume(volume)
    guard world.files.exists(place.key) else { return nil }
    let journal: any JournalStore
    do throws(JournalError) { journal = try journals.open(place, write: false) } catch { throw ElideError(error, volume) }
    defer { journal.close() }
    return try LocalFold.stateOnly(self, volume, place, journal)
  }
}
