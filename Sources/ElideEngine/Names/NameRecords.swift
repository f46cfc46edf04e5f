import ElideEvents
import ElideIO
import ElideProjections

// The values of the rows: docs/formats/rows.md. Each begins with a version byte, 1.

/// How far this host has folded a name, and from where.
package struct NameRecord: Equatable, Sendable {
  package var fold: NameFold
  /// Folded by this host from slot 0: nobody's checkpoint is behind it.
  package var isOwn: Bool
  /// The newest checkpoint's bytes, and its slot, as far as this host knows one.
  package var checkpoint: [UInt8]?
  package var checkpointSeq: UInt64?
  /// Up to which slot this host has seen to it that checkpoints are in the store.
  package var checkpointed: UInt64

  package func encode() -> [UInt8] {
    var w = ByteWriter()
    w.u8(1)
    w.u8((isOwn ? 1 : 0) | (checkpoint != nil ? 2 : 0) | (fold.head != nil ? 4 : 0))
    w.varint(checkpointed)
    if let checkpoint {
      w.varint(checkpointSeq ?? 0)
      w.varint(UInt64(checkpoint.count))
      w.raw(checkpoint)
    }
    if let head = fold.head {
      w.varint(head.seq)
      w.digest(head.hash)
      w.varint(UInt64(fold.tree.peaks.count))
      for peak in fold.tree.peaks { w.digest(peak) }
      w.raw(fold.state.encode())
    }
    return w.bytes
  }

  /// The last slot folded in an encoded record; nil when there is none, or when the bytes are of another version.
  package static func headSeq(_ bytes: [UInt8]) -> UInt64? {
    var r = ByteReader(bytes, what: "a record")
    guard let version = try? r.u8(), version == 1, let flags = try? r.u8(), flags & 4 != 0, (try? r.varint()) != nil else {
      return nil
    }
    if flags & 2 != 0 {
      guard (try? r.varint()) != nil, let n = try? r.count("checkpoint", limit: 1 << 26), (try? r.raw(n)) != nil else {
        return nil
      }
    }
    return try? r.varint()
  }

  package static func decode(_ bytes: [UInt8], name: String) throws(FormatError) -> NameRecord {
    var r = ByteReader(bytes, what: "what this host keeps of '\(name)'")
    guard try r.u8() == 1 else { throw r.error("another version") }
    let flags = try r.u8()
    let checkpointed = try r.varint()
    var checkpoint: [UInt8]?
    var checkpointSeq: UInt64?
    if flags & 2 != 0 {
      checkpointSeq = try r.varint()
      checkpoint = try r.raw(try r.count("checkpoint", limit: 1 << 26))
    }
    var fold = NameFold(name: name)
    if flags & 4 != 0 {
      let head = JournalHead(seq: try r.varint(), hash: try r.digest())
      var peaks: [Digest] = []
      for _ in 0..<(try r.count("peaks", limit: 64)) { peaks.append(try r.digest()) }
      let text = try r.raw(r.remaining)
      let state: NameState
      do throws(TOMLError) { state = try NameState.decode(text) } catch { throw r.error(error.description) }
      guard state.name == name, let tree = MerkleFrontier(count: head.seq + 1, peaks: peaks),
        let kept = NameFold(state: state, tree: tree, head: head)
      else { throw r.error("its parts do not stand at one slot") }
      fold = kept
    }
    try r.end()
    return NameRecord(
      fold: fold, isOwn: flags & 1 != 0, checkpoint: checkpoint, checkpointSeq: checkpointSeq, checkpointed: checkpointed)
  }
}

/// An attempt whose outcome is not known: its bytes are frozen, and are put again as they are until the slot is known to be
/// occupied, by them or by others.
package struct NameIntent: Equatable, Sendable {
  package var name: String
  package var id: ULID
  package var seq: UInt64
  package var raw: [UInt8]
  package var kind: String
  package var request: String?
  /// Only the incarnation that made it may decide again after a lost race.
  package var incarnation: ULID
  /// The bytes of the `void` that is to take its place: it is being cancelled.
  package var void: [UInt8]?

  package init(
    name: String, id: ULID, seq: UInt64, raw: [UInt8], kind: String, request: String? = nil, incarnation: ULID,
    void: [UInt8]? = nil
  ) {
    self.name = name
    self.id = id
    self.seq = seq
    self.raw = raw
    self.kind = kind
    self.request = request
    self.incarnation = incarnation
    self.void = void
  }

  package func encode() -> [UInt8] {
    var w = ByteWriter()
    w.u8(1)
    w.u8((request != nil ? 1 : 0) | (void != nil ? 2 : 0))
    w.ulid(id)
    w.varint(seq)
    w.ulid(incarnation)
    w.string(kind)
    w.varint(UInt64(raw.count))
    w.raw(raw)
    if let request { w.string(request) }
    if let void {
      w.varint(UInt64(void.count))
      w.raw(void)
    }
    return w.bytes
  }

  package static func decode(_ bytes: [UInt8], name: String) throws(FormatError) -> NameIntent {
    var r = ByteReader(bytes, what: "an intent of '\(name)'")
    guard try r.u8() == 1 else { throw r.error("another version") }
    let flags = try r.u8()
    let (id, seq, incarnation) = (try r.ulid(), try r.varint(), try r.ulid())
    let kind = try r.string(limit: 64)
    let raw = try r.raw(try r.count("bytes", limit: Entry.maxBytes))
    var intent = NameIntent(name: name, id: id, seq: seq, raw: raw, kind: kind, incarnation: incarnation)
    if flags & 1 != 0 { intent.request = try r.string(limit: NameLog.maxRequest) }
    if flags & 2 != 0 { intent.void = try r.raw(try r.count("bytes", limit: Entry.maxBytes)) }
    try r.end()
    return intent
  }
}

/// What a request was answered: the same request gets the same answer.
package enum NameAnswer: Equatable, Sendable {
  case committed(seq: UInt64, id: ULID)
  /// It was so already.
  case done
  /// Cancelled: it never took effect.
  case cancelled(id: ULID)

  package func encode() -> [UInt8] {
    var w = ByteWriter()
    w.u8(1)
    switch self {
    case .committed(let seq, let id):
      w.u8(1)
      w.varint(seq)
      w.ulid(id)
    case .done: w.u8(2)
    case .cancelled(let id):
      w.u8(3)
      w.ulid(id)
    }
    return w.bytes
  }

  package static func decode(_ bytes: [UInt8]) throws(FormatError) -> NameAnswer {
    var r = ByteReader(bytes, what: "the answer to a request")
    guard try r.u8() == 1 else { throw r.error("another version") }
    let answer: NameAnswer
    switch try r.u8() {
    case 1: answer = .committed(seq: try r.varint(), id: try r.ulid())
    case 2: answer = .done
    case 3: answer = .cancelled(id: try r.ulid())
    default: throw r.error("an unknown answer")
    }
    try r.end()
    return answer
  }
}
