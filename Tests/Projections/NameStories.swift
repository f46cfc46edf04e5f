import ElideEvents
import ElideIO
import ElideProjections

/// Hosts, and logs written by them: real entries, signed, decided and folded by the real code.
struct NameHost: Sendable {
  let key: SigningKey
  let id: String
  var incarnation: ULID

  init(_ n: UInt8) {
    key = SigningKey(secret: [UInt8](repeating: n, count: 32)) ?? SigningKey(random: NoRandomness())
    id = Digest.sha256(key.publicKey).hex
    incarnation = ULID(high: 1, low: UInt64(n))
  }
  /// The same host after a restart.
  var restarted: NameHost {
    var next = self
    next.incarnation = ULID(high: incarnation.high + 1, low: incarnation.low)
    return next
  }
  func author(_ state: NameState) -> Author {
    let mine = state.owner == id && state.incarnation == incarnation
    return Author(host: id, incarnation: incarnation, epoch: mine ? state.epoch : 0)
  }
}

private final class NoRandomness: Randomness {
  func fill(_ buffer: UnsafeMutableRawBufferPointer) { for i in buffer.indices { buffer[i] = 5 } }
}

struct NameLogBook {
  var fold: NameFold
  private(set) var raws: [[UInt8]] = []
  var state: NameState { fold.state }

  init(_ name: String = "db") { fold = NameFold(name: name) }

  /// The bytes that `host` would put in the next slot.
  func entry(_ event: NameEvent, by host: NameHost, epoch: UInt64? = nil) throws -> NameEntry {
    var e = Envelope(
      log: NameEntryCodec.log(state.name), seq: fold.nextSeq, prev: fold.head?.hash, id: ULID(high: 9, low: fold.nextSeq + 100),
      kind: event.kind, at: "2026-01-31T12:00:00.000Z", actor: host.id, incarnation: host.incarnation)
    e.epoch = epoch ?? host.author(state).epoch
    return try NameEntryCodec.encode(e, event, key: host.key)
  }

  @discardableResult
  mutating func append(_ raw: [UInt8]) -> Violation? {
    raws.append(raw)
    return fold.next(raw)
  }

  /// Decides and appends; the entry must then be legal.
  @discardableResult
  mutating func run(_ command: NameCommand, by host: NameHost) throws -> NameDecision {
    let decision = try state.decide(command, by: host.author(state))
    if case .append(let event) = decision, let violation = append(try entry(event, by: host).raw) { throw violation }
    return decision
  }

  mutating func force(_ event: NameEvent, by host: NameHost, epoch: UInt64? = nil) throws -> Violation? {
    append(try entry(event, by: host, epoch: epoch).raw)
  }
}

enum NameFacts {
  static let a = NameHost(1)
  static let b = NameHost(2)
  static let c = NameHost(3)
  static func volume(_ n: UInt64) -> ULID { ULID(high: 7, low: n) }
  static func key(_ n: UInt8) -> [UInt8] { [UInt8](repeating: n, count: 32) }
  static func cut(_ v: UInt64, _ seq: UInt64) -> Cut {
    Cut(volume: volume(v), seq: seq, page: seq, pageHash: Digest.sha256([UInt8(v), UInt8(truncatingIfNeeded: seq)]))
  }
  static let list = Digest.sha256([1])
  static func facts(_ v: UInt64) -> NewVolumeFacts { NewVolumeFacts(volume: volume(v), key: key(UInt8(v)), size: 1 << 20) }

  /// A log that has come to `phase`, where host a owned it last (volume 1, cut 5), if anybody did.
  static func book(_ phase: NameState.Phase, name: String = "db") throws -> NameLogBook {
    var book = NameLogBook(name)
    func live() throws {
      try book.run(.create(facts(1)), by: a)
      try book.run(.start, by: a)
    }
    func stopped() throws {
      try live()
      try book.run(.stop(cut: cut(1, 5), clients: 0, force: false), by: a)
    }
    func readonly() throws {
      try book.run(.importStart(volume: volume(1), key: key(1), source: "raw:x"), by: a)
      try book.run(.importFinish(cut: cut(1, 5), size: 4096), by: a)
    }
    switch phase {
    case .absent: break
    case .reserved: try book.run(.renameReserve(old: "old", slot: 3), by: a)
    case .importing: try book.run(.importStart(volume: volume(1), key: key(1), source: "raw:x"), by: a)
    case .live: try live()
    case .stopped: try stopped()
    case .released:
      try stopped()
      try book.run(.release(cut: cut(1, 5)), by: a)
    case .readonly: try readonly()
    case .recovering:
      try live()
      try book.run(.force(Force(expectOwner: nil, expectEpoch: nil, volume: volume(2), key: key(2))), by: b)
      // Host a forces in its turn, so that it is a who owns it here as well.
      try book.run(.force(Force(expectOwner: nil, expectEpoch: nil, volume: volume(3), key: key(3))), by: a)
    case .renamed:
      try stopped()
      try book.run(.renameCommit(new: "new", reserved: 0, slot: 3), by: a)
    case .purging:
      try stopped()
      try book.run(.purge, by: a)
    case .purged:
      try stopped()
      try book.run(.purge, by: a)
      try book.run(.finishPurge, by: a)
    }
    return book
  }
}
