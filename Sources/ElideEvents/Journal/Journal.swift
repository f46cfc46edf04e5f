import ElideIO

/// Who appends: written into every envelope.
package struct JournalIdentity: Equatable, Sendable {
  /// Host id (hex of the SHA-256 of its public key).
  package var actor: String
  /// Minted each time this process opened the journal to write.
  package var incarnation: ULID
  /// The ownership epoch this process believes it holds.
  package var epoch: UInt64

  package init(actor: String, incarnation: ULID, epoch: UInt64 = 0) {
    self.actor = actor
    self.incarnation = incarnation
    self.epoch = epoch
  }
}

/// Why an append was asked for; optional parts of the envelope.
package struct AppendContext: Equatable, Sendable {
  package var request: String?
  package var `operator`: String?
  package var reason: String?

  package init(request: String? = nil, operator: String? = nil, reason: String? = nil) {
    self.request = request
    self.operator = `operator`
    self.reason = reason
  }
}

/// The writing end of a volume's journal: makes envelopes, chains them by hash, and commits them with their blobs and
/// rows in one transaction.
///
/// Owned by one thread (the volume's keeper). An append has three outcomes: it returns (durable); it throws `.refused`,
/// `.missingBlob` or `.noSpace` (nothing was appended, and the journal goes on); it throws anything else (unknown: every
/// later append throws `.halted` until the journal is opened anew and its head is read).
package final class Journal {
  package let log: String
  private let store: any JournalStore
  private let identity: JournalIdentity
  private let clock: any Clock
  private let random: any Randomness
  private var haltReason: String?

  /// `log` is "volume/<ulid>". Several entries fit one append; `maxBatch` bounds it.
  package init(
    store: any JournalStore, log: String, identity: JournalIdentity, clock: any Clock, random: any Randomness
  ) {
    self.store = store
    self.log = log
    self.identity = identity
    self.clock = clock
    self.random = random
  }

  /// Entries in one append.
  package static let maxBatch = 4096

  /// The newest durable entry; nil when the journal is empty. After an unknown outcome: the newest one known to be.
  package var head: JournalHead? { store.head }
  package var isHalted: Bool { haltReason != nil }

  /// Raw bytes of an entry; nil past the head.
  package func entry(_ seq: UInt64) throws(JournalError) -> [UInt8]? { try store.entry(seq) }
  /// A blob by its SHA-256, checked.
  package func blob(_ digest: Digest) throws(JournalError) -> [UInt8] { try store.blob(digest) }
  package func row(_ key: String) throws(JournalError) -> [UInt8]? { try store.row(key) }

  /// Appends `events` in order, makes `blobs` readable and sets `rows` (nil removes), all or nothing. With no events it
  /// sets rows alone. Every blob that an event names must be given or already be in the store.
  package func append(
    _ events: [VolumeEvent], blobs: [[UInt8]] = [], rows: [(key: String, value: [UInt8]?)] = [],
    context: AppendContext = AppendContext()
  ) throws(JournalError) -> [Committed<VolumeEvent>] {
    if let haltReason { throw .halted(haltReason) }
    guard events.count <= Self.maxBatch else { throw .refused("\(events.count) entries in one append") }
    let entries = try build(events, context)
    try requireBlobs(events, given: blobs)
    do {
      try store.commit(entries: entries, blobs: blobs, rows: rows)
    } catch {
      if !error.leavesJournalUsable { haltReason = "\(log): \(error)" }
      throw error
    }
    return zip(entries, events).map { entry, event in
      .commit(seq: entry.envelope.seq, event: event, envelope: entry.envelope, hash: entry.hash)
    }
  }

  private func build(_ events: [VolumeEvent], _ context: AppendContext) throws(JournalError) -> [Entry] {
    let at = Timestamp.text(milliseconds: clock.wallMilliseconds())
    var previous = store.head
    var entries: [Entry] = []
    entries.reserveCapacity(events.count)
    for event in events {
      var envelope = Envelope(
        log: log, seq: previous.map { $0.seq + 1 } ?? 0, prev: previous?.hash, id: ULID(clock: clock, random: random),
        kind: event.kind, at: at, actor: identity.actor, incarnation: identity.incarnation)
      envelope.epoch = identity.epoch
      envelope.request = context.request
      envelope.operator = context.operator
      envelope.reason = context.reason
      let raw: [UInt8]
      do { raw = try EntryCodec.encode(envelope, event) } catch { throw .refused(error.description) }
      let entry = Entry(raw: raw, hash: Digest.sha256(raw), envelope: envelope, event: event)
      entries.append(entry)
      previous = JournalHead(seq: envelope.seq, hash: entry.hash)
    }
    return entries
  }

  /// An entry never names a blob that cannot be read.
  private func requireBlobs(_ events: [VolumeEvent], given: [[UInt8]]) throws(JournalError) {
    let digests = Set(given.map { Digest.sha256($0) })
    for event in events {
      for digest in event.blobs where !digests.contains(digest) { _ = try store.blob(digest) }
    }
  }
}
