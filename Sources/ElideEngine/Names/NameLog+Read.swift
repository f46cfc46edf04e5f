import ElideEvents
import ElideIO
import ElideProjections

// Reading a log's end. Hints and checkpoints only say where to begin; what is believed are bytes read from slots, and `prev`
// of the next entry is the hash of such bytes.

extension NameLog {
  /// Reads on to the log's end: GET until a slot is free, having seen that the last known one still is what it was.
  ///
  /// Throws `.fault` when the log is shorter than, or other than, what this host has seen (a bucket rolled back, an entry
  /// removed or replaced), and `.fenced` when another machine appends as this very process.
  package func refresh() throws(ElideError) {
    try load()
    // Opening has just read the slot that it begins behind.
    let isNew = head == nil
    if isNew { try openElsewhere() }
    try readOn(provingHead: !isNew)
  }

  /// Whether this process still owns the name: one request when nothing was appended. Others' notes and pins are no
  /// contradiction; another epoch is.
  package func check() throws(ElideError) -> Bool {
    try load()
    if head == nil { try openElsewhere() }
    try readOn(provingHead: false)
    try requireNoTwin()
    return state.isOwned(by: me)
  }

  func load() throws(ElideError) {
    if isLoaded { return }
    record = NameRecord(fold: NameFold(name: name), isOwn: true, checkpoint: nil, checkpointSeq: nil, checkpointed: 0)
    if let bytes = try rows.get(.folds, NameRowKey.name(name)) {
      // A record of another version is dropped: the log has everything.
      if let kept = try? NameRecord.decode(bytes, name: name) { record = kept }
    }
    let unproven = try rows.get(.unproven, NameRowKey.name(name))
    isEndProven = head != nil && unproven == nil
    isLoaded = true
  }

  /// The bytes in a slot; nil when the store finds none, which proves nothing.
  package func slot(_ seq: UInt64) throws(ElideError) -> [UInt8]? {
    do throws(StoreError) { return try store.get(StoreLayout.nameEntry(name, seq), range: 0..<UInt64(Entry.maxBytes + 1)) } catch
    {
      if case .notFound = error { return nil }
      // An answer that is damaged is none: the slot has said nothing.
      if case .corrupt = error { throw ElideError(.tryLater, error.description) }
      throw ElideError(error)
    }
  }

  private func readOn(provingHead: Bool) throws(ElideError) {
    let start = head
    var changes: [NameRowChange] = []
    var isProved = start == nil || !provingHead
    while let raw = try slot(record.fold.nextSeq) {
      let seq = record.fold.nextSeq
      let (step, violation) = advance(raw, &changes)
      if case .event(let committed) = step { try requireOwn(committed) }
      // The first new entry that continues the head proves it.
      if seq == (start?.seq ?? 0) + 1, violation == nil { isProved = true }
      if changes.count >= 512 {
        try keep(changes)
        changes = []
      }
    }
    if !isProved, let start { try prove(start) }
    if !changes.isEmpty {
      try keep(changes)
      maintain()
    }
  }

  /// The fold; and, for a log that another host's word or the first look began, that its end is open.
  private func foldRows() -> [NameRowChange] {
    isEndProven ? [foldRow()] : [foldRow(), NameRowChange(.unproven, NameRowKey.name(name), [])]
  }

  private func keep(_ changes: [NameRowChange]) throws(ElideError) {
    do throws(ElideError) { try rows.commit(changes + foldRows()) } catch {
      isLoaded = false
      throw error
    }
  }

  /// The slot still has the bytes it had.
  private func prove(_ known: JournalHead) throws(ElideError) {
    guard let raw = try slot(known.seq) else {
      isLoaded = false
      throw alarmed(
        .fault,
        "the log of '\(name)' has no entry \(known.seq) any more, which this host has seen: the store was rolled back, or "
          + "an entry was removed; nothing is appended")
    }
    guard Digest.sha256(raw) == known.hash else {
      isLoaded = false
      throw alarmed(
        .fault, "entry \(known.seq) of '\(name)' is not what this host has seen there: it was replaced; nothing is appended")
    }
  }

  // MARK: A log that this host has not seen

  private func openElsewhere() throws(ElideError) {
    if try openFromHint() { return }
    try openFromCheckpoint()
  }

  private func openFromHint() throws(ElideError) -> Bool {
    guard let bytes = try? store.get(StoreLayout.nameHint(name), range: 0..<UInt64(NameHint.maxBytes)),
      let hint = try? NameHint.decode(bytes), hint.name == name, let fold = hint.fold(), let head = fold.head
    else { return false }
    // The slot itself says whether the hint is true of this log.
    guard let raw = try slot(head.seq), Digest.sha256(raw) == head.hash else { return false }
    hinted = head.seq
    let base = head.seq + 1 - UInt64(hint.entries.count)
    record = NameRecord(
      fold: fold, isOwn: hint.checkpoint == nil, checkpoint: hint.checkpoint,
      checkpointSeq: hint.checkpoint == nil ? nil : base - 1,
      checkpointed: hint.checkpoint == nil ? 0 : base)
    var changes = foldRows()
    for (i, raw) in hint.entries.enumerated() {
      changes.append(NameRowChange(.entries, NameRowKey.entry(name, base + UInt64(i)), raw))
    }
    try rows.commit(changes)
    return true
  }

  /// Gallops for the newest checkpoint. A hole on the way only means a longer way.
  private func openFromCheckpoint() throws(ElideError) {
    func find(_ n: UInt64) throws(ElideError) -> (checkpoint: NameCheckpoint, bytes: [UInt8])? {
      let seq = n * NameCheckpoint.interval - 1
      do throws(StoreError) {
        let bytes = try store.get(StoreLayout.nameCheckpoint(name, seq), range: nil)
        guard let found = try? NameCheckpoint.decode(bytes, of: name), found.fold.head?.seq == seq else { return nil }
        return (found, bytes)
      } catch {
        if case .notFound = error { return nil }
        throw ElideError(error)
      }
    }
    var best: (checkpoint: NameCheckpoint, bytes: [UInt8])?
    var (low, high): (UInt64, UInt64) = (0, 1)
    while let found = try find(high) {
      best = found
      (low, high) = (high, high * 2)
    }
    while high - low > 1 {
      let middle = (low + high) / 2
      if let found = try find(middle) {
        best = found
        low = middle
      } else {
        high = middle
      }
    }
    guard let best, let head = best.checkpoint.fold.head else { return }
    guard let raw = try slot(head.seq), Digest.sha256(raw) == head.hash else {
      throw alarmed(.fault, "the checkpoint of '\(name)' at entry \(head.seq) is not of this log; nothing is appended")
    }
    record = NameRecord(
      fold: best.checkpoint.fold, isOwn: false, checkpoint: best.bytes, checkpointSeq: head.seq, checkpointed: head.seq + 1)
  }

  /// Folds from slot 0 when the state stands on another host's checkpoint.
  func requireOwnFold() throws(ElideError) {
    if record.isOwn { return }
    guard let end = head else { return }
    var fold = NameFold(name: name)
    while fold.nextSeq <= end.seq {
      let seq = fold.nextSeq
      guard let raw = try slot(seq) else {
        throw alarmed(.fault, "the log of '\(name)' lacks entry \(seq), and has entry \(end.seq); nothing is appended")
      }
      fold.next(raw)
    }
    guard fold == record.fold else {
      throw alarmed(
        .fault, "a checkpoint of '\(name)' does not say what its entries say (found at entry \(end.seq)); nothing is appended")
    }
    record.isOwn = true
    try rows.commit([foldRow()])
  }

  /// Whether nothing lies behind the slot that is next. An entry that the store lost looks like the log's end to a host that
  /// never read beyond it, and what stands behind it (another's claim, a pin, a fork) would be deleted under. False when another
  /// host has appended since: read on. A list that lags says nothing wrong, and may say too little.
  func isAtEnd() throws(ElideError) -> Bool {
    let next = StoreLayout.nameEntry(name, state.nextSeq)
    let behind: [StoredObject]
    do throws(StoreError) { behind = try store.list(StoreLayout.nameEntries(name), after: next, limit: 1) } catch {
      throw ElideError(error)
    }
    guard let key = behind.first?.key, StoreLayout.isNameEntry(key, of: name) else { return true }
    for attempt in 0..<max(1, patience) {
      if attempt > 0 { pause(attempt - 1) }
      if try slot(state.nextSeq) != nil { return false }
    }
    throw alarmed(
      .fault,
      "the log of '\(name)' lacks entry \(state.nextSeq), and has a later one (\(key)): an entry was removed; nothing is appended"
    )
  }

  /// The fold of the slots before `end`, which were all taken. From this host's rows as far as they have the entries.
  package func fold(before end: UInt64) throws(ElideError) -> NameFold {
    var fold = NameFold(name: name)
    while fold.nextSeq < end {
      let seq = fold.nextSeq
      if let raw = try rows.get(.entries, NameRowKey.entry(name, seq)) {
        fold.next(raw)
      } else if let raw = try slot(seq) {
        fold.next(raw)
      } else {
        throw ElideError(.fault, "the log of '\(name)' lacks entry \(seq), and has later ones")
      }
    }
    return fold
  }

  // MARK: Twins

  /// An entry of this very incarnation that this process did not write: the machine was copied while it ran.
  private func requireOwn(_ entry: Committed<NameEvent>) throws(ElideError) {
    let e = entry.envelope
    guard e.actor == author.id, e.incarnation == author.incarnation else { return }
    if try rows.get(.own, NameRowKey.attempt(name, e.id)) == nil {
      isLoaded = false
      throw alarmed(
        .fenced,
        "entry \(entry.seq) of '\(name)' is of this process, and it did not write it: another machine has its identity; "
          + "restart the coordinator, which begins a new incarnation")
    }
  }

  /// The same, of the entry that granted what this process believes to hold; `adopting`: what an earlier process of this data
  /// directory held. Otherwise a host and its copy would adopt from each other for ever.
  func requireNoTwin(adopting: Bool = false) throws(ElideError) {
    guard state.owner == author.id, adopting || state.incarnation == author.incarnation, let grant = state.grant else { return }
    // A rename is finished by anyone.
    if state.origin != nil { return }
    if try rows.get(.own, NameRowKey.attempt(name, grant)) == nil {
      throw alarmed(
        .fenced,
        "'\(name)' was granted to this host by an entry that no process of this data directory wrote: another machine has its "
          + "identity. Give one of them a new one, or take the name with 'elide volume release \(name) --force --self'")
    }
  }
}

/// Whether a volume may go on serving a name.
package enum ServiceAnswer: Equatable, Sendable {
  /// It may, as of this entry.
  case held(seq: UInt64)
  /// It may not, by what the log says at this entry.
  case lost(seq: UInt64, why: String)
  /// The log could not be read: that decides nothing.
  case unread(String)
}

extension NameLog {
  /// What a serving process asks: reads the log's end (one request when nothing was appended) and looks whether this host, by
  /// entries of its own, is the one whom the log lets serve `volume`. The incarnation need not be this process's: another
  /// process of the data directory may have adopted the name.
  ///
  /// `from`: entries of this host from there on are held against its own rows. A machine that was copied or restored has its key
  /// and not its rows.
  package func serves(_ volume: ULID, from: UInt64) -> ServiceAnswer {
    do throws(ElideError) {
      try load()
      if head == nil { try openElsewhere() }
      try readOn(provingHead: false)
      if let seq = try foreignEntry(from: from) {
        return .lost(seq: seq, why: "entry \(seq) has this host's key, and no process of this data directory wrote it")
      }
    } catch {
      // A log that contradicts what was seen is a twin's or a fault: nothing is served on it. A silent store is neither.
      if error.kind == .fenced || error.kind == .fault { return .lost(seq: head?.seq ?? 0, why: error.message) }
      return .unread(error.message)
    }
    let seq = head?.seq ?? 0
    if state.phase == .live, state.owner == author.id, state.volume == volume { return .held(seq: seq) }
    return .lost(seq: seq, why: state.sentence)
  }

  /// The first entry at or after `from` that this host's key signed and that is not in its rows. What grants ownership is
  /// looked at wherever it stands.
  private func foreignEntry(from: UInt64) throws(ElideError) -> UInt64? {
    guard let head else { return nil }
    var seq = min(from, state.epoch)
    while seq <= head.seq {
      defer { seq = seq == state.epoch && seq < from ? from : seq + 1 }
      var raw = try rows.get(.entries, NameRowKey.entry(name, seq))
      if raw == nil { raw = try slot(seq) }
      guard let raw, let entry = try? NameEntryCodec.decode(raw, of: name, at: seq), entry.envelope.actor == author.id
      else { continue }
      if try rows.get(.own, NameRowKey.attempt(name, entry.envelope.id)) == nil { return seq }
    }
    return nil
  }
}
