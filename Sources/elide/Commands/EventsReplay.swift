import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

struct ReplayJSON: Encodable {
  struct Divergence: Encodable {
    let kind: String
    let volume: String
    let entry: UInt64
    let point: UInt64
    let expected: String
    let found: String
  }
  let volume: String
  let source: String
  let entries: UInt64
  let seq: UInt64
  let root: String?
  let rootsCompared: Int
  let checkpointsCompared: Int
  let comparedWithLive: Bool
  let ancestors: [String]
  let agrees: Bool
  let divergence: Divergence?

  init(_ r: ReplayReport, _ source: HistorySource) {
    volume = r.volume.description
    self.source = source == .local ? "journal" : "store"
    entries = r.entries
    seq = r.seq
    root = r.root?.hex
    rootsCompared = r.rootsCompared
    checkpointsCompared = r.checkpointsCompared
    comparedWithLive = r.comparedWithLive
    ancestors = r.ancestors.map(\.description)
    agrees = r.agrees
    divergence = r.divergence.map {
      Divergence(
        kind: $0.kind.rawValue, volume: $0.volume.description, entry: $0.entry, point: $0.point, expected: $0.expected,
        found: $0.found)
    }
  }
}

struct EventsReplay: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay", abstract: "Fold a history from its first entry.",
    discussion: """
      Example:
        elide events replay vm1 --verify

      Of a volume: folds its ancestors first, and compares every root and checkpoint recorded of it and of them. Of a name: folds
      its log, compares the checkpoints that hosts have signed, and does the same with every volume it has had. With --verify exit
      code 4 when something differs, naming the entry.
      """)
  @OptionGroup var audit: AuditOptions
  @OptionGroup var json: JSONOption
  @Flag(name: .long, help: "Fail when a recorded digest differs.") var verify = false

  private struct NameDocument: Encodable {
    let name: String
    let entries: UInt64
    let seq: UInt64?
    let phase: String
    let stateHash: String
    let treeRoot: String
    let checkpointsCompared: UInt64
    let agrees: Bool
    let volumes: [ReplayJSON]
  }

  func run() throws {
    var place = try audit.place()
    switch place.target {
    case .volume(let volume):
      let (report, source) = try replay([volume], place)[0]
      if json.json { try Output.json(ReplayJSON(report, source)) } else { text(report, source) }
      if verify && !report.agrees { throw ExitCode(4) }
    case .name(let name): try replay(name, &place)
    }
  }

  /// With this host's engine, where a volume has its journal here: the state that it holds is compared too.
  private func replay(_ volumes: [ULID], _ place: AuditPlace) throws -> [(ReplayReport, HistorySource)] {
    let isHere = volumes.contains { place.source($0) == .local }
    let engine = isHere ? try audit.options.engine(createStore: false) : nil
    return try volumes.map { volume in
      let source = place.source(volume)
      let live = source == .local ? try engine?.localState(volume) : nil
      return (try place.auditor.replay(volume, from: source, live: live), source)
    }
  }

  private func replay(_ name: String, _ place: inout AuditPlace) throws {
    let history = try place.history(name)
    let log = try NameAuditor(store: place.store).verify(name, volumes: false)
    let reports = try replay(history.episodes.filter { !$0.isPurged }.map(\.episode.volume), place)
    let isSame = log.faults.isEmpty && reports.allSatisfy(\.0.agrees)
    let hash = Digest.sha256(history.fold.state.encode()).hex
    if json.json {
      try Output.json(
        NameDocument(
          name: name, entries: log.entries, seq: log.head?.seq, phase: log.state.phase.rawValue, stateHash: hash,
          treeRoot: history.fold.tree.root.hex, checkpointsCompared: log.checkpoints, agrees: isSame,
          volumes: reports.map { ReplayJSON($0.0, $0.1) }))
    } else {
      print("\(name): folded \(log.entries) entries, \(log.checkpoints) checkpoints compared; it is \(log.state.phase.rawValue)")
      print("state \(hash)")
      for f in log.faults { print("FAULT \(f.what) at \(f.place): \(f.detail)") }
      for (report, source) in reports { text(report, source) }
    }
    if verify && !isSame { throw ExitCode(4) }
  }

  private func text(_ r: ReplayReport, _ source: HistorySource) {
    let place = source == .local ? "this host's journal" : "the store's pages"
    print("\(r.volume): folded \(r.entries) entries from \(place)")
    if !r.ancestors.isEmpty { print("after its ancestors: \(r.ancestors.map(\.description).joined(separator: ", "))") }
    print("map root at entry \(r.seq): \(r.root?.hex ?? "-")")
    print(
      "compared \(r.rootsCompared) recorded roots, \(r.checkpointsCompared) checkpoints"
        + (r.comparedWithLive ? ", and the state on this host" : ""))
    if let d = r.divergence {
      let place = "entry \(d.entry) of volume \(d.volume)"
      print("DIVERGES at \(place) (\(d.kind.rawValue) at \(d.point)): expected \(d.expected), found \(d.found)")
    } else {
      print("agrees")
    }
  }
}
