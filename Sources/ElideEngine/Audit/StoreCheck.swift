import ElideEvents
import ElideIO
import ElideProjections

/// What a check of a whole store against its logs found.
package struct StoreCheckReport: Equatable, Sendable {
  /// An object that no log names.
  package struct Orphan: Equatable, Sendable {
    package var key: String
    package var bytes: UInt64
    /// When its volume was made, milliseconds since 1970: the object is no older. nil when its key does not say.
    package var notBefore: UInt64?
    /// Why nothing names it.
    package var why: String
  }
  /// A name that somebody left in the middle of something.
  package struct Unfinished: Equatable, Sendable {
    package var name: String
    package var phase: NameState.Phase
    /// When it came there, by its writer's clock.
    package var since: String
    package var owner: String?
    /// The command that leads on.
    package var command: String
  }
  package var names: UInt64 = 0
  package var volumes: UInt64 = 0
  package var objects: UInt64 = 0
  package var bytes: UInt64 = 0
  /// What should be there, and is not, or is another.
  package var faults: [VerifyReport.Fault] = []
  package var faultsLeftOff: UInt64 = 0
  package var orphans: [Orphan] = []
  package var unfinished: [Unfinished] = []
  package var isSound: Bool { faults.isEmpty }
  package init() {}

  mutating func add(_ fault: VerifyReport.Fault) {
    if faults.count < VerifyReport.faultLimit { faults.append(fault) } else { faultsLeftOff += 1 }
  }
}

/// The whole store against its logs: every name verified, every object either named by a log or an orphan. Lists everything once,
/// deletes nothing.
///
/// Nothing here proves that an orphan may go: a writer that is at work puts objects before the page that names them, and what a
/// lost host never published may still be rescued. It says what a log does not know.
package struct StoreCheck {
  private let store: any Store
  private let deep: Bool
  private let kept: [NameWitnessed]
  private var report = StoreCheckReport()
  private var sizes: [String: UInt64] = [:]
  private var keys: [String] = []
  private var named: Set<String> = []
  private var known: Set<ULID> = []

  /// - Parameter deep: reads every body and map checkpoint too.
  package init(_ store: any Store, deep: Bool = false, kept: [NameWitnessed] = []) {
    self.store = store
    self.deep = deep
    self.kept = kept
  }

  package mutating func run(progress: ProgressHandler = { _ in true }) throws(ElideError) -> StoreCheckReport {
    for object in try store.all(under: "") {
      keys.append(object.key)
      sizes[object.key] = object.size
      report.objects += 1
      report.bytes += object.size
    }
    let names = Set(keys.compactMap { Self.part($0, under: "events") }).sorted()
    for (n, name) in names.enumerated() {
      guard progress(WorkProgress(step: .verify, done: UInt64(n), total: UInt64(names.count))) else {
        throw ElideError(.interrupted, "interrupted after \(n) of \(names.count) names")
      }
      if VolumeName.fault(name) == nil { try check(name) }
    }
    try lineages()
    orphans()
    return report
  }

  private static func part(_ key: String, under first: String) -> String? {
    let parts = key.split(separator: "/", maxSplits: 2)
    return parts.count == 3 && parts[0] == first ? String(parts[1]) : nil
  }

  // MARK: Names

  private mutating func check(_ name: String) throws(ElideError) {
    report.names += 1
    let history = try NameHistory(name, store: store)
    let found = try NameAuditor(store: store, kept: kept).verify(name, deep: deep)
    for fault in found.faults { report.add(fault) }
    for volume in found.volumes {
      report.volumes += 1
      for fault in volume.faults { report.add(fault) }
    }
    for slot in history.slots { named.insert(slot.key) }
    named.insert(StoreLayout.nameHint(name))
    for episode in history.episodes {
      known.insert(episode.episode.volume)
      if episode.isPurged, found.state.phase != .purging { continue }
      try gather(episode.episode.volume, episode.episode.key)
    }
    for volume in pending(history.fold.state) { known.insert(volume) }
    pins(history.fold.state, found)
    if let unfinished = Self.unfinished(history.fold.state) { report.unfinished.append(unfinished) }
  }

  /// Volumes that are promised and not granted: what is there of them is somebody's work.
  private func pending(_ state: NameState) -> [ULID] { state.pending.map { [$0.volume] } ?? [] }

  /// Every object that the volume's signed pages speak of.
  private mutating func gather(_ volume: ULID, _ key: [UInt8]) throws(ElideError) {
    named.formUnion([StoreLayout.document(volume), StoreLayout.head(volume)])
    let pages = PageHistory(volume: volume, key: key, store: store)
    var replay = JournalReplay(log: "volume/\(volume)")
    do throws(ReplayError) {
      while let (raw, page) = try pages.next() {
        if let page { named.insert(StoreLayout.page(volume, page)) }
        switch try replay.next(raw)?.event {
        case .segmentEncoded(let e): named.insert(StoreLayout.body(volume: volume, segment: e.segment, hash: e.hash))
        case .objectPlanned(let key): named.insert(key)
        default: break
        }
      }
      // Terminal pages have no entries.
      for n in 0..<pages.pagesRead { named.insert(StoreLayout.page(volume, n)) }
    } catch {
      // What is wrong with the pages has been said; nothing of the volume is called an orphan by pages that cannot be read.
      for key in keys where key.hasPrefix("volumes/\(volume)/") { named.insert(key) }
    }
  }

  /// Pins hold cuts that somebody means to open: their pages must be there.
  private mutating func pins(_ state: NameState, _ found: NameReport) {
    for pin in state.holdings.pins {
      let place = StoreLayout.page(pin.cut.volume, pin.cut.page)
      if sizes[place] == nil {
        report.add(.init("pin", at: place, "'\(state.name)' pins \(pin.cut) for '\(pin.by)': its page is not there"))
      } else if let floor = state.floor(of: pin.cut.volume), !floor.keeps(pin.cut.seq) {
        report.add(.init("pin", at: place, "'\(state.name)' pins \(pin.cut), which a reap has given up"))
      }
    }
  }

  /// States in which a name does not stay: each has a command that anybody, or its owner, can give.
  private static func unfinished(_ state: NameState) -> StoreCheckReport.Unfinished? {
    let command: String
    switch state.phase {
    case .reserved: command = "elide volume rename \(state.reservation?.old ?? "OLD") \(state.name)"
    case .importing: command = "elide volume cancel \(state.name)"
    case .recovering: command = "elide volume release \(state.name) --force"
    case .purging: command = "elide volume purge \(state.name)"
    default: return nil
    }
    return .init(name: state.name, phase: state.phase, since: state.sinceAt, owner: state.owner, command: command)
  }

  // MARK: The rest

  /// What a volume was forked from must be fetchable, or it cannot be opened elsewhere.
  private mutating func lineages() throws(ElideError) {
    for volume in known.sorted(by: { $0.description < $1.description }) {
      let place = StoreLayout.document(volume)
      guard sizes[place] != nil, let bytes = try store.found(place), let document = try? VolumeDocument.decode(bytes),
        let lineage = document.lineage
      else { continue }
      for key in [StoreLayout.document(lineage.parent), StoreLayout.page(lineage.parent, lineage.page)]
      where sizes[key] == nil {
        report.add(.init("lineage", at: key, "volume \(volume) continues \(lineage.parent):\(lineage.seq): it is not there"))
      }
    }
  }

  private mutating func orphans() {
    for key in keys where !named.contains(key) {
      guard let volume = Self.part(key, under: "volumes") else { continue }
      guard let id = ULID(volume) else {
        report.orphans.append(.init(key: key, bytes: sizes[key] ?? 0, notBefore: nil, why: "no volume's"))
        continue
      }
      let why = known.contains(id) ? "no page of its volume names it" : "no name has had its volume"
      report.orphans.append(.init(key: key, bytes: sizes[key] ?? 0, notBefore: id.milliseconds, why: why))
    }
  }
}
