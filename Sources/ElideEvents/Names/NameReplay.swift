import ElideIO

/// What the bytes in one slot of a name's log amount to.
package enum NameStep: Sendable {
  case event(Committed<NameEvent>)
  /// Of a kind that this program does not know. Unless it is ignorable the program may read on, but must not append.
  case unknown(Envelope)
  /// Occupies its slot and changes nothing: what is wrong with it.
  case violation(String)
}

/// Reads the raw entries of a name's log in order. Hostile bytes do not stop it: whatever stands in a slot is an event, an
/// entry from the future, or a violation, the same for every reader. Whether the event is possible in the state before it
/// is the projection's business.
///
/// A value without I/O: the bytes come from a store, from this host's rows or from copied files alike.
package struct NameReplay: Sendable {
  package let name: String
  /// The last slot read; nil before slot 0.
  package private(set) var position: JournalHead?
  private let upcaster: NameUpcaster

  /// Starts after `position`, already verified; nil starts at slot 0.
  package init(name: String, after position: JournalHead? = nil, upcaster: NameUpcaster = .current) {
    self.name = name
    self.position = position
    self.upcaster = upcaster
  }

  package var nextSeq: UInt64 { position.map { $0.seq + 1 } ?? 0 }

  /// Takes the bytes of the next slot. `areVerified`: this host has checked their signature before.
  package mutating func next(_ raw: [UInt8], areVerified: Bool = false) -> NameStep {
    let seq = nextSeq
    let before = position?.hash
    let entry: NameEntry
    do throws(EntryError) {
      entry = try NameEntryCodec.decode(raw, of: name, at: seq, upcaster: upcaster)
    } catch {
      position = JournalHead(seq: seq, hash: Digest.sha256(raw))
      return .violation(error.detail)
    }
    position = JournalHead(seq: seq, hash: entry.hash)
    let e = entry.envelope
    guard e.log == NameEntryCodec.log(name) else { return .violation("an entry of \(e.log)") }
    guard e.seq == seq else { return .violation("entry \(e.seq) in the slot of entry \(seq)") }
    guard e.prev == before else { return .violation("does not continue the entry before it") }
    guard areVerified || entry.isSigned else { return .violation("not signed by the host \(e.actor)") }
    guard let event = entry.event else { return .unknown(e) }
    return .event(.commit(seq: seq, event: event, envelope: e, hash: entry.hash))
  }
}
