import ElideEvents
import ElideIO

/// What a name's log says: who owns the name, which volume it is, what must be kept. A pure fold of the log's slots: the
/// same bytes give the same state, and `encode()` the same bytes, on every machine.
///
/// Ownership is (owner, incarnation, epoch). The epoch is the position of the entry that granted it: unique, rising, a
/// fencing token that nobody has to keep.
package struct NameState: Equatable, Sendable {
  package enum Phase: String, CaseIterable, Sendable {
    case absent, reserved, importing, live, stopped, released, readonly, recovering, renamed, purging, purged
  }

  /// A volume that is promised and not granted yet: an import's, a recovery's.
  package struct Pending: Equatable, Sendable {
    package var volume: ULID
    package var key: [UInt8]
  }

  /// A rename to this name that is decided in slot `slot` of the log of `old`.
  package struct Reservation: Equatable, Sendable {
    package var old: String
    package var slot: UInt64
    /// The entry of this log that made it.
    package var seq: UInt64
    /// What the name is again when the rename is aborted.
    package var before: Phase
  }

  package struct Origin: Equatable, Sendable {
    package var old: String
    package var slot: UInt64
  }

  /// An entry of a kind that this program does not know: it may read on, and must not append.
  package struct Stranger: Equatable, Sendable {
    package var seq: UInt64
    package var kind: String
    package var schema: UInt64
  }

  package let name: String
  /// The last slot folded.
  package var seq: UInt64?
  package var phase = Phase.absent
  /// The entry that led to `phase`, and the time it says.
  package var since: UInt64 = 0
  package var sinceAt = ""

  package var owner: String?
  package var incarnation: ULID?
  package var epoch: UInt64 = 0
  /// The id of the entry that set the epoch: a host that does not know it as its own has a twin.
  package var grant: ULID?
  /// Who released the name; only this host may go on in place.
  package var releasedBy: String?

  /// Bytes, as far as the log says.
  package var size: UInt64 = 0
  /// The newest published cut that the log names: what continues from here.
  package var cut: Cut?
  package var pending: Pending?
  package var source: String?
  package var reservation: Reservation?
  package var renamedTo: String?
  package var origin: Origin?
  package var holdings = Holdings()

  package var stranger: Stranger?
  /// Slots that changed nothing, all of them counted, the first few kept: the log has them for ever.
  package var violationCount: UInt64 = 0
  package var violations: [Violation] = []
  package static let keptViolations = 16

  package init(name: String) { self.name = name }

  /// The slot that the next entry occupies.
  package var nextSeq: UInt64 { seq.map { $0 + 1 } ?? 0 }
  /// The volume that was granted last.
  package var volume: ULID? { holdings.episodes.last?.volume }
  package var isFree: Bool { phase == .absent || phase == .purged }
  /// Somebody owns the name in this phase.
  package static let owned: Set<Phase> = [.importing, .live, .stopped, .recovering, .purging]
  package static let pinnable: Set<Phase> = [.live, .stopped, .released, .readonly, .recovering]

  /// Whether `author` is the one whom the log names. Reaching a block needs no more than this.
  package func isOwned(by author: Author) -> Bool {
    owner == author.host && incarnation == author.incarnation && epoch == author.epoch
  }
  /// Whether a process may serve the name: it owns it, and the log says that it is live.
  package func mayServe(_ author: Author) -> Bool { phase == .live && isOwned(by: author) }

  package func floor(of volume: ULID) -> Floor? { holdings.floors.first { $0.volume == volume } }
}

/// Whose entry it is, and which.
package struct Author: Equatable, Sendable {
  /// Host id.
  package var host: String
  package var incarnation: ULID
  /// The epoch that the author believes to hold; 0 for one who holds none.
  package var epoch: UInt64

  package init(host: String, incarnation: ULID, epoch: UInt64 = 0) {
    self.host = host
    self.incarnation = incarnation
    self.epoch = epoch
  }
  package init(_ envelope: Envelope) {
    self.init(host: envelope.actor, incarnation: envelope.incarnation, epoch: envelope.epoch)
  }
}

extension NameState {
  /// Folds the next slot. What is not possible where it stands is kept as a violation and returned.
  @discardableResult
  package mutating func apply(_ step: NameStep) -> Violation? {
    let at = nextSeq
    defer { seq = at }
    switch step {
    case .violation(let detail): return violate(at, detail)
    case .unknown(let envelope):
      if !envelope.ignorable, stranger == nil {
        stranger = Stranger(seq: at, kind: envelope.kind, schema: envelope.schema)
      }
      return nil
    case .event(let committed):
      let author = Author(committed.envelope)
      if let detail = fault(committed.event, by: author, at: at) { return violate(at, detail) }
      fold(committed.event, committed.envelope, at)
      return nil
    }
  }

  private mutating func violate(_ at: UInt64, _ detail: String) -> Violation {
    let violation = Violation(seq: at, detail: detail)
    violationCount += 1
    if violations.count < Self.keptViolations { violations.append(violation) }
    return violation
  }
}
