import ElideEvents
import ElideIO
import ElideProjections

/// One slot of a name's log as it stands in a store, and what readers make of it.
package struct NameSlot: Equatable, Sendable {
  package let name: String
  package let seq: UInt64
  package let raw: [UInt8]
  package let hash: Digest
  /// What the bytes say; nil when they are no entry at all.
  package let entry: NameEntry?
  /// Why the bytes by themselves are not entry `seq` of this name, sealed by the host that they name; nil when they are.
  package let fault: String?
  /// Why it changes nothing, as everybody who folds the log finds; nil when it counts.
  package let violation: String?
  /// What the name is after it; nil behind a hole, where nothing is folded.
  package let phase: NameState.Phase?
  /// The epoch after it.
  package let epoch: UInt64?
  /// Volumes that it gave to the name.
  package let granted: [Episode]

  package var key: String { StoreLayout.nameEntry(name, seq) }
  /// Legal where it stands, and of a kind that this program knows.
  package var event: NameEvent? { violation == nil && fault == nil ? entry?.event : nil }
}

/// Reads a name's log from a store, slot by slot, and folds it. It needs the store alone: no rows, no identity, no right to
/// write. A value; its calls block for one request each.
package struct NameReader {
  package let name: String
  private let store: any Store
  package private(set) var fold: NameFold

  package init(_ name: String, store: any Store) throws(ElideError) {
    if let fault = VolumeName.fault(name) { throw ElideError(.usage, "the name '\(name)' \(fault)") }
    self.name = name
    self.store = store
    fold = NameFold(name: name)
  }

  /// The next slot; nil while the store has nothing there, which proves nothing.
  package mutating func next() throws(ElideError) -> NameSlot? {
    guard let raw = try bytes(fold.nextSeq) else { return nil }
    let seq = fold.nextSeq
    let (entry, fault) = Self.judge(raw, name, seq)
    let before = fold.state.holdings.episodes
    let violation = fold.next(raw, areVerified: fault == nil)
    var granted: [Episode] = []
    // The same array, most of the time: compared in no time.
    if fold.state.holdings.episodes != before {
      granted = fold.state.holdings.episodes.filter { e in !before.contains { $0.volume == e.volume } }
    }
    return NameSlot(
      name: name, seq: seq, raw: raw, hash: Digest.sha256(raw), entry: entry, fault: fault, violation: violation?.detail,
      phase: fold.state.phase, epoch: fold.state.epoch, granted: granted)
  }

  /// A slot by itself, also one behind a hole.
  package func slot(_ seq: UInt64) throws(ElideError) -> NameSlot? {
    guard let raw = try bytes(seq) else { return nil }
    let (entry, fault) = Self.judge(raw, name, seq)
    return NameSlot(
      name: name, seq: seq, raw: raw, hash: Digest.sha256(raw), entry: entry, fault: fault, violation: nil,
      phase: nil, epoch: nil, granted: [])
  }

  private func bytes(_ seq: UInt64) throws(ElideError) -> [UInt8]? {
    let key = StoreLayout.nameEntry(name, seq)
    do throws(StoreError) { return try store.get(key, range: 0..<UInt64(Entry.maxBytes + 1)) } catch {
      if case .notFound = error { return nil }
      throw ElideError(error)
    }
  }

  /// What bytes are by themselves: readable, of this name and number, sealed by the key that they name.
  static func judge(_ raw: [UInt8], _ name: String, _ seq: UInt64) -> (NameEntry?, String?) {
    let entry: NameEntry
    do throws(EntryError) { entry = try NameEntryCodec.decode(raw, of: name, at: seq) } catch { return (nil, error.detail) }
    let e = entry.envelope
    if e.log != NameEntryCodec.log(name) { return (entry, "it is an entry of \(e.log)") }
    if e.seq != seq { return (entry, "it is entry \(e.seq), in the slot of entry \(seq)") }
    if (e.prev == nil) != (seq == 0) { return (entry, "only entry 0 has none before it") }
    return (entry, entry.isSigned ? nil : "its seal is not that of host \(e.actor)")
  }
}

/// Everything that a store has of a name's log. Keeps what stands in the slots, and no states but the last: a state is made again
/// from the slots when one is asked for.
package struct NameHistory {
  package let name: String
  /// The slots from 0 on, without a hole.
  package let slots: [NameSlot]
  /// What stands behind a hole. Slots are filled one after another, so what lacks there was taken away.
  package let beyond: [NameSlot]
  /// The fold of `slots`.
  package let fold: NameFold

  /// - Parameter visit: called for each slot of the row as it is read, with the state before it and the fold after it.
  package init(
    _ name: String, store: any Store,
    visit: (NameSlot, _ before: NameState, _ after: NameFold) throws(ElideError) -> Void = { _, _, _ in }
  ) throws(ElideError) {
    var reader = try NameReader(name, store: store)
    var slots: [NameSlot] = []
    while true {
      let before = reader.fold.state
      guard let slot = try reader.next() else { break }
      try visit(slot, before, reader.fold)
      slots.append(slot)
    }
    let seen = UInt64(slots.count)
    var beyond: [NameSlot] = []
    for object in try store.all(under: "events/\(name)/") {
      guard let seq = Self.seq(object.key), seq >= seen, let slot = try reader.slot(seq) else { continue }
      beyond.append(slot)
    }
    (self.name, self.slots, self.beyond, fold) = (name, slots, beyond, reader.fold)
  }

  package var isEmpty: Bool { slots.isEmpty && beyond.isEmpty }

  /// The number in an entry's key.
  static func seq(_ key: String) -> UInt64? {
    let parts = key.split(separator: "/")
    guard parts.count == 3, parts[2].count == 21, parts[2].hasSuffix(".toml") else { return nil }
    return UInt64(parts[2].dropLast(5))
  }

  /// The newest slot whose writer's clock says no later than `time`. Clocks are advisory: two hosts' may differ.
  package func last(at time: UInt64) -> NameSlot? {
    slots.last { slot in
      guard slot.fault == nil, let at = slot.entry?.envelope.at, let ms = Timestamp.milliseconds(at) else { return false }
      return ms <= time
    }
  }
}

extension Store {
  /// Every object under a prefix, in byte order of the keys. Lists: for auditors, not for what runs all day.
  package func all(under prefix: String) throws(ElideError) -> [StoredObject] {
    var objects: [StoredObject] = []
    var after: String?
    while true {
      let page: [StoredObject]
      do throws(StoreError) { page = try list(prefix, after: after, limit: 1000) } catch { throw ElideError(error) }
      guard let last = page.last else { return objects }
      objects += page
      after = last.key
    }
  }
}
