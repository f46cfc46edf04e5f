import ElideEvents
import ElideIO

/// What people and programs want of a name: the arguments of the commands of the command line, and the body of
/// `POST /v1/commands`. Sizes are bytes. Sources are as `VolumeSource` reads them, or as `import` does.
package enum LifecycleCommand: Codable, Equatable, Sendable {
  /// An empty volume of `size` bytes, or a fork of `from`: one of the two.
  case create(name: String, size: UInt64?, from: String?)
  /// `source` is `raw:FILE` or `ext4:FILE`, an absolute path on the host that carries the command out.
  case importImage(name: String, source: String)
  /// Serves the name; with `claim` it is claimed first when nobody owns it.
  case start(name: String, claim: Bool)
  /// `force`: also while clients are connected.
  case stop(name: String, force: Bool, release: Bool)
  case release(name: String)
  /// Goes on in place when this host released it and nothing has changed since; else with a new volume that continues the cut.
  case claim(name: String, serve: Bool)
  /// `expect` is `HOST[@EPOCH]`: whom it is meant for. `isSelf`: this host owns the name and its local volume is lost.
  case forceRelease(name: String, expect: String?, isSelf: Bool, acceptsLoss: Bool)
  case rename(name: String, to: String)
  case resize(name: String, size: UInt64)
  case snapshot(name: String, label: String)
  /// `point` is a snapshot's label or the number of a published entry; `until` a time as entries write it, or none.
  case pin(name: String, point: String, until: String?)
  case unpin(name: String, pin: String)
  case discardDisplaced(name: String, volume: String)
  /// This host's copy only.
  case remove(name: String)
  /// Everything, everywhere.
  case purge(name: String)
  /// Gives up what is under way for the name: an attempt that is not decided, an import.
  case cancel(name: String)
  case note(name: String, text: String)

  /// The name it is about.
  package var name: String {
    switch self {
    case .create(let name, _, _), .importImage(let name, _), .start(let name, _), .stop(let name, _, _), .release(let name),
      .claim(let name, _), .forceRelease(let name, _, _, _), .rename(let name, _), .resize(let name, _),
      .snapshot(let name, _), .pin(let name, _, _), .unpin(let name, _), .discardDisplaced(let name, _), .remove(let name),
      .purge(let name), .cancel(let name), .note(let name, _):
      name
    }
  }
}

/// Who asks, why, and how.
package struct CommandContext: Codable, Equatable, Sendable {
  /// The client's id of this request, 1 to 255 bytes: the same id has the same answer, however often it is sent.
  package var request: String?
  /// Kept in the entry: who asked ("uid:1000"), and why.
  package var `operator`: String?
  package var reason: String?
  /// Decide, and say which entry would be committed; change nothing.
  package var isDryRun: Bool

  package init(request: String? = nil, operator: String? = nil, reason: String? = nil, isDryRun: Bool = false) {
    self.request = request
    self.operator = `operator`
    self.reason = reason
    self.isDryRun = isDryRun
  }
}

/// A published cut, as reports write it.
package struct CutReport: Codable, Equatable, Sendable {
  package var volume: String
  package var seq: UInt64
  package var page: UInt64
  package var pageHash: String

  package init(_ cut: Cut) {
    volume = cut.volume.description
    seq = cut.seq
    page = cut.page
    pageHash = cut.pageHash.hex
  }
}

/// What became of a command, and how the name stands after it.
package struct LifecycleReport: Codable, Equatable, Sendable {
  package enum Outcome: String, Codable, Sendable {
    /// An entry of this command is in the log.
    case committed
    /// It was so already, or the command changes no name.
    case done
    /// A dry run: `entry` is what would be committed.
    case planned
    /// Not known yet: exit code 3. What is under way is found out by asking again.
    case unknown
  }
  package var outcome: Outcome
  package var name: String
  /// `NameState.Phase`.
  package var phase: String
  package var volume: String?
  /// Host id and incarnation of the owner.
  package var owner: String?
  package var incarnation: String?
  package var epoch: UInt64
  /// The entry of this command, and the id of its attempt.
  package var seq: UInt64?
  package var entryID: String?
  /// The newest cut that the log names.
  package var cut: CutReport?
  package var size: UInt64
  /// What a recovery leaves out that was reported.
  package var lost: String?
  /// TOML of the entry that a dry run would commit; its times, ids and hashes are those of now.
  package var entry: String?
  /// For people, one sentence.
  package var message: String

  package init(_ outcome: Outcome, name: String, phase: String = "absent", epoch: UInt64 = 0, size: UInt64 = 0, message: String) {
    self.outcome = outcome
    self.name = name
    self.phase = phase
    self.epoch = epoch
    self.size = size
    self.message = message
  }
}
