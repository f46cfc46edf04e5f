import ElideEvents
import ElideIO
import ElideProjections

/// What a verification of a name found: its log, and the page logs of every volume it has had.
package struct NameReport: Equatable, Sendable {
  /// How far somebody vouches that the log has not been cut short.
  package struct Witness: Equatable, Sendable {
    /// The last slot of which somebody signed, or kept, what stands there.
    package var seq: UInt64
    /// Which object, file or host.
    package var by: String
  }
  package var name: String
  /// Slots read, from 0 on without a hole.
  package var entries: UInt64 = 0
  /// Seals that are true.
  package var seals: UInt64 = 0
  /// Signed checkpoints compared with the fold at their slot.
  package var checkpoints: UInt64 = 0
  /// Statements of others about slots of this log that were compared.
  package var witnessed: UInt64 = 0
  /// What other names' logs were asked, and answered as they should.
  package var crossings: UInt64 = 0
  package var head: JournalHead?
  package var state: NameState
  package var witness: Witness?
  /// Entries that stand where they were put and change nothing, the same for every reader.
  package var violations: [VerifyReport.Fault] = []
  /// The first bad object first.
  package var faults: [VerifyReport.Fault] = []
  package var volumes: [VerifyReport] = []
  /// What could not be checked, or is not finished.
  package var notes: [String] = []

  package var isSound: Bool { faults.isEmpty && volumes.allSatisfy(\.isSound) }
  /// The first object that is not what it should be.
  package var firstFault: VerifyReport.Fault? {
    if let fault = faults.first { return fault }
    for volume in volumes { if let fault = volume.faults.first { return fault } }
    return nil
  }

  package init(name: String) {
    self.name = name
    state = NameState(name: name)
  }

  mutating func add(_ what: String, at place: String, _ detail: String) {
    if faults.count < VerifyReport.faultLimit { faults.append(.init(what, at: place, detail)) }
  }
}

/// A volume that a name has had: from the entry that granted it.
package struct NameEpisode: Equatable, Sendable {
  package var episode: Episode
  /// The entry that granted it in the log that was read, and its writer.
  package var seq: UInt64
  package var actor: String
  /// The name was purged afterwards: nothing of the volume need be there.
  package var isPurged = false
  /// Something of it was allowed to be deleted.
  package var isReaped = false
  /// A force has continued it: its page log must have been ended.
  package var mustBeEnded = false
}

extension NameHistory {
  /// In the order in which they were granted.
  package var episodes: [NameEpisode] {
    var out: [NameEpisode] = []
    for slot in slots {
      guard let event = slot.event, let envelope = slot.entry?.envelope else { continue }
      for e in slot.granted where !out.contains(where: { $0.episode.volume == e.volume }) {
        out.append(NameEpisode(episode: e, seq: slot.seq, actor: envelope.actor))
      }
      for i in out.indices {
        switch event {
        case .purging: out[i].isPurged = true
        case .reap(let reap) where reap.volume == out[i].episode.volume: out[i].isReaped = true
        case .recovered(let basis, _) where basis.volume == out[i].episode.volume: out[i].mustBeEnded = true
        default: break
        }
      }
    }
    return out
  }
}

extension NameEvent {
  /// The published cuts that it names.
  package var cuts: [Cut] {
    switch self {
    case .forked(_, let from, _): [from.cut]
    case .importFinished(let cut, _), .stopped(let cut), .released(let cut), .claimed(_, _, let cut, _), .reclaimed(let cut, _),
      .pinned(let cut, _, _):
      [cut]
    case .recovered(.cut(let cut), _): [cut]
    case .reap(let reap): [reap.cut]
    case .renamedFrom(let r): (r.cut.map { [$0] } ?? []) + r.holdings.episodes.compactMap(\.basis) + r.holdings.pins.map(\.cut)
    default: []
    }
  }
}
