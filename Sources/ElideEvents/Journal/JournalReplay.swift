import ElideIO

/// Where and how a journal stops being one: what an auditor is shown.
package enum ReplayError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Not an entry at all.
  case undecodable(EntryError)
  /// An entry of another log in this one.
  case wrongLog(seq: UInt64, found: String)
  /// A gap, a duplicate or a reordering: `expected` is the next seq.
  case wrongSeq(expected: UInt64, found: UInt64)
  /// The entry does not continue the one before it: one of the two was changed.
  case brokenChain(seq: UInt64, expected: Digest?, found: Digest?)
  /// An entry whose meaning this program does not know and may not skip: reading ends here, and nothing may be appended.
  case unknownKind(seq: UInt64, kind: String, schema: UInt64)
  /// The entry says it is there, the store does not have it.
  case missing(seq: UInt64)
  case store(JournalError)

  /// The seq that is wrong, where one is known.
  package var seq: UInt64? {
    switch self {
    case .undecodable(let e): e.seq
    case .wrongLog(let seq, _), .brokenChain(let seq, _, _), .unknownKind(let seq, _, _), .missing(let seq): seq
    case .wrongSeq(let expected, _): expected
    case .store: nil
    }
  }

  package var description: String {
    switch self {
    case .undecodable(let e): e.description
    case .wrongLog(let seq, let found): "entry \(seq) belongs to \(found)"
    case .wrongSeq(let expected, let found): "entry \(found) where entry \(expected) should be"
    case .brokenChain(let seq, let expected, let found):
      "entry \(seq) continues \(found?.hex ?? "none"), but the entry before it is \(expected?.hex ?? "none")"
    case .unknownKind(let seq, let kind, let schema): "entry \(seq) has the unknown kind \(kind) (schema \(schema))"
    case .missing(let seq): "entry \(seq) is missing"
    case .store(let e): "\(e)"
    }
  }
}

/// Reads a journal's raw entries in order and yields what they say, or the first violation of the chain.
///
/// A value without I/O: the entries come from a `JournalStore`, from pages or from copied files alike. Legality (is this
/// event possible in that state?) is the reducers' business.
package struct JournalReplay: Sendable {
  package let log: String
  /// The last entry accepted; nil before entry 0.
  package private(set) var position: JournalHead?

  /// Starts after `position`, an entry already verified (a checkpoint's, a page's); nil starts at entry 0.
  package init(log: String, after position: JournalHead? = nil) {
    self.log = log
    self.position = position
  }

  package var nextSeq: UInt64 { position.map { $0.seq + 1 } ?? 0 }

  /// Verifies the next raw entry and gives its event; nil for an entry of an unknown kind that may be skipped. After an
  /// error the position has not moved.
  package mutating func next(_ raw: [UInt8]) throws(ReplayError) -> Committed<VolumeEvent>? {
    let entry = try verify(raw)
    position = JournalHead(seq: entry.envelope.seq, hash: entry.hash)
    guard let event = entry.event else { return nil }
    return .commit(seq: entry.envelope.seq, event: event, envelope: entry.envelope, hash: entry.hash)
  }

  private func verify(_ raw: [UInt8]) throws(ReplayError) -> Entry {
    let entry: Entry
    do { entry = try EntryCodec.decode(raw, of: log, at: nextSeq) } catch { throw .undecodable(error) }
    let e = entry.envelope
    guard e.log == log else { throw .wrongLog(seq: nextSeq, found: e.log) }
    guard e.seq == nextSeq else { throw .wrongSeq(expected: nextSeq, found: e.seq) }
    guard e.prev == position?.hash else { throw .brokenChain(seq: e.seq, expected: position?.hash, found: e.prev) }
    if entry.event == nil && !e.ignorable { throw .unknownKind(seq: e.seq, kind: e.kind, schema: e.schema) }
    return entry
  }
}

/// A replay that draws its entries from a `JournalStore`, up to and including `through` (the head when nil).
package struct StoreReplay {
  private let store: any JournalStore
  private let through: UInt64?
  private var replay: JournalReplay

  package init(_ store: any JournalStore, log: String, after position: JournalHead? = nil, through: UInt64? = nil) {
    self.store = store
    self.through = through
    replay = JournalReplay(log: log, after: position)
  }

  /// The last entry accepted.
  package var position: JournalHead? { replay.position }

  /// The next event; nil at the end. Entries that may be skipped are skipped.
  package mutating func next() throws(ReplayError) -> Committed<VolumeEvent>? {
    while let last = through ?? store.head?.seq, replay.nextSeq <= last {
      let raw: [UInt8]?
      do { raw = try store.entry(replay.nextSeq) } catch { throw .store(error) }
      guard let raw else { throw .missing(seq: replay.nextSeq) }
      if let committed = try replay.next(raw) { return committed }
    }
    return nil
  }
}
