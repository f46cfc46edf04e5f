import ElideEvents
import ElideIO
import ElideProjections

/// One entry of a name's log or of a volume's journal, as it is shown.
package struct Step: Sendable {
  package enum Entry: Sendable {
    case name(NameSlot)
    /// `page`: the page that carries it; nil while it is local only.
    case volume(ElideEvents.Entry, page: UInt64?)
  }
  /// Whether it is what it should be where it stands.
  package enum Check: Equatable, Sendable {
    /// Sealed, or in a signed page; chained; possible where it stands.
    case sound
    /// In this host's journal, chained, and not signed yet.
    case local
    /// Of a kind that this program does not know.
    case unknown
    /// It stands there and changes nothing.
    case violation(String)
  }
  package let entry: Entry
  package let check: Check

  package init(entry: Entry, check: Check) {
    self.entry = entry
    self.check = check
  }

  /// nil when the bytes are no entry.
  package var envelope: Envelope? {
    switch entry {
    case .name(let slot): slot.entry?.envelope
    case .volume(let entry, _): entry.envelope
    }
  }
  package var log: String {
    switch entry {
    case .name(let slot): NameEntryCodec.log(slot.name)
    case .volume(let entry, _): entry.envelope.log
    }
  }
  package var seq: UInt64 {
    switch entry {
    case .name(let slot): slot.seq
    case .volume(let entry, _): entry.envelope.seq
    }
  }
  package var raw: [UInt8] {
    switch entry {
    case .name(let slot): slot.raw
    case .volume(let entry, _): entry.raw
    }
  }
  package var hash: Digest {
    switch entry {
    case .name(let slot): slot.hash
    case .volume(let entry, _): entry.hash
    }
  }
  /// Its writer's wall clock, milliseconds since 1970; advisory.
  package var milliseconds: UInt64? { envelope.flatMap { Timestamp.milliseconds($0.at) } }
}

/// Follows a name's log, and if wanted the journals of the volumes it has had, as one row of steps.
///
/// Each log's own order is kept. Between two logs there is no order but what they say of each other: a volume's entries from
/// `bound` on come after the name's entry that they name; beyond that the writers' clocks place them, for people to read.
/// Owned by one thread; `poll` blocks for store requests.
package final class Timeline {
  private let auditor: Auditor
  private var names: NameReader?
  private var volumes: [VolumeSteps] = []
  /// The last name entry that was given out.
  private var shown: UInt64?

  /// Of a name. `volumes`: with the journals of its volumes, from their published pages.
  package init(name: String, store: any Store, volumes: Bool = false) throws(ElideError) {
    auditor = Auditor(store: store)
    names = try NameReader(name, store: store)
    joins = volumes
  }

  /// Of one volume.
  package init(volume: ULID, auditor: Auditor, from source: HistorySource) throws(ElideError) {
    self.auditor = auditor
    joins = false
    let key = source == .store ? try auditor.key(of: volume).key : []
    self.volumes = [VolumeSteps(volume, key: key, source: source, after: nil)]
  }

  private let joins: Bool

  /// What has been added since the last call; empty when nothing was.
  package func poll() throws(ElideError) -> [Step] {
    var fresh: [NameSlot] = []
    while let slot = try names?.next() {
      fresh.append(slot)
      if joins { grow(slot) }
    }
    for volume in volumes { try volume.read(auditor) }
    return merge(fresh)
  }

  private func grow(_ slot: NameSlot) {
    for episode in slot.granted where !volumes.contains(where: { $0.volume == episode.volume }) {
      volumes.append(VolumeSteps(episode.volume, key: episode.key, source: .store, after: nil))
    }
  }

  private func merge(_ fresh: [NameSlot]) -> [Step] {
    var out: [Step] = []
    var slots = fresh[...]
    let last = fresh.last?.seq ?? shown ?? 0
    while true {
      var best: (time: UInt64, volume: VolumeSteps?)?
      if let slot = slots.first {
        best = (slot.entry.flatMap { Timestamp.milliseconds($0.envelope.at) } ?? 0, nil)
      }
      for volume in volumes {
        guard let step = volume.waiting.first else { continue }
        // What it names has not been shown yet, and will be.
        if names != nil, let after = volume.after, after <= last, shown.map({ after > $0 }) ?? true { continue }
        let time = step.milliseconds ?? 0
        if best.map({ time < $0.time }) ?? true { best = (time, volume) }
      }
      guard let best else { return out }
      if let volume = best.volume {
        out.append(volume.take())
      } else if let slot = slots.popFirst() {
        shown = slot.seq
        out.append(Step(entry: .name(slot), check: Self.check(slot)))
      }
    }
  }

  private static func check(_ slot: NameSlot) -> Step.Check {
    if let why = slot.violation { return .violation(why) }
    return slot.entry?.event == nil ? .unknown : .sound
  }
}

/// The steps of one volume that have been read and not been shown.
private final class VolumeSteps {
  let volume: ULID
  private let source: HistorySource
  private let key: [UInt8]
  private var pages: PageHistory?
  private var replay: JournalReplay
  private var state: VolumeState
  private(set) var waiting: ArraySlice<Step> = []
  /// The name's entry that the next ones come after.
  private(set) var after: UInt64?

  init(_ volume: ULID, key: [UInt8], source: HistorySource, after: UInt64?) {
    self.volume = volume
    self.key = key
    self.source = source
    self.after = after
    replay = JournalReplay(log: "volume/\(volume)")
    state = VolumeState(volume: volume)
  }

  func read(_ auditor: Auditor) throws(ElideError) {
    let history = try history(auditor)
    defer { history.close() }
    do throws(ReplayError) {
      while let (raw, page) = try history.next() { try take(raw, page) }
    } catch { throw ElideError(error, volume) }
  }

  /// Pages are read on where reading stopped; a journal is opened anew, since another process may write it.
  private func history(_ auditor: Auditor) throws(ElideError) -> any History {
    if source == .store {
      let history = pages ?? PageHistory(volume: volume, key: key, store: auditor.store)
      pages = history
      return history
    }
    guard let journal = try auditor.journal(volume) else {
      throw ElideError(.notFound, "volume \(volume) has no journal on this host; read it from the store")
    }
    return LocalHistory(volume: volume, store: journal, from: replay.nextSeq)
  }

  private func take(_ raw: [UInt8], _ page: UInt64?) throws(ReplayError) {
    let entry: Entry
    do throws(EntryError) { entry = try EntryCodec.decode(raw, of: replay.log, at: replay.nextSeq) } catch {
      throw .undecodable(error)
    }
    var check = page == nil ? Step.Check.local : .sound
    if let committed = try replay.next(raw) {
      if let violation = state.apply(committed) { check = .violation(violation.detail) }
    } else {
      check = .unknown
    }
    waiting.append(Step(entry: .volume(entry, page: page), check: check))
  }

  func take() -> Step {
    let step = waiting.removeFirst()
    if case .volume(let entry, _)? = waiting.first?.entry, case .bound(_, let seq, _)? = entry.event { after = seq }
    return step
  }
}
