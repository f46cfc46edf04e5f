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
  /// What the name is (`NameState.Phase`), and the host that owns it, as far as this host has read its log.
  package var phase: String?
  package var owner: String?

  package init(
    name: String?, volume: ULID, size: UInt64, isImage: Bool = false, isWritable: Bool = true,
    parent: (volume: ULID, seq: UInt64)? = nil, created: UInt64 = 0, phase: String? = nil, owner: String? = nil
  ) {
    self.name = name
    self.volume = volume
    self.size = size
    self.isImage = isImage
    self.isWritable = isWritable
    self.parent = parent
    self.created = created
    self.phase = phase
    self.owner = owner
  }

  package static func == (a: VolumeSummary, b: VolumeSummary) -> Bool {
    a.volume == b.volume && a.name == b.name && a.size == b.size && a.isImage == b.isImage && a.isWritable == b.isWritable
      && a.parent?.volume == b.parent?.volume && a.parent?.seq == b.parent?.seq && a.created == b.created
  }
}

/// How far long work is. Called from the thread that called the engine, a few times a second at most.
package struct WorkProgress: Equatable, Sendable {
  package enum Step: String, Sendable { case digest, seal, upload, publish, verify, copy, delete }
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
  /// A volume of this data directory, as the log of its name (as far as this host has read it) and its journal say.
  func summary(_ volume: ULID, _ state: VolumeState, _ name: NameState?) -> VolumeSummary {
    let isImage = state.source != nil
    return VolumeSummary(
      name: name?.name, volume: volume, size: state.deviceSize, isImage: isImage,
      isWritable: world.files.exists(directory.volume(volume).key) && name?.phase != .readonly,
      parent: state.lineage.map { ($0.parent, $0.seq) }, created: volume.milliseconds, phase: name?.phase.rawValue,
      owner: name?.owner)
  }

  /// Makes an empty volume of `size` bytes, published so that any host can open it.
  package func createVolume(name: String, size: UInt64) throws(ElideError) -> VolumeSummary {
    let report = try Lifecycle(self).perform(.create(name: name, size: size, from: nil))
    return try made(report)
  }

  /// What a command that makes a volume has made. Its outcome must be known.
  package func made(_ report: LifecycleReport) throws(ElideError) -> VolumeSummary {
    if report.outcome == .unknown { throw ElideError(.unknown, report.message) }
    guard let text = report.volume, let volume = ULID(text), let state = try localState(volume) else {
      throw ElideError(.failed, report.message)
    }
    return summary(volume, state, try names.known(report.name))
  }

  /// All volumes of this data directory that have a name, in byte order of the names. Reads beside processes that serve them,
  /// and asks no store.
  package func listVolumes() throws(ElideError) -> [VolumeSummary] {
    var out: [VolumeSummary] = []
    let unfinished = Set(try names.makings().map(\.volume))
    for state in try names.all() where state.phase != .renamed {
      guard let volume = state.volume, !unfinished.contains(volume) || state.owner == host.id else { continue }
      let isHere = world.files.exists(directory.volume(volume).key)
      guard isHere || state.owner == host.id else { continue }
      if isHere, let local = try? localState(volume) {
        out.append(summary(volume, local, state))
      } else {
        out.append(
          VolumeSummary(
            name: state.name, volume: volume, size: state.size, isWritable: false, phase: state.phase.rawValue,
            owner: state.owner))
      }
    }
    for row in try names.old?.list() ?? [] where !row.flags.contains(.creating) {
      guard let local = try localState(row.volume), !out.contains(where: { $0.volume == row.volume }) else { continue }
      var old = summary(row.volume, local, nil)
      if !row.flags.contains(.clashes) { old.name = row.name }
      out.append(old)
    }
    return out.sorted { ($0.name ?? "").utf8.lexicographicallyPrecedes(($1.name ?? "").utf8) }
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
