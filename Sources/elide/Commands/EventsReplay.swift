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
}

struct EventsReplay: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay", abstract: "Fold a volume's history from its first entry.",
    discussion: """
      Example:
        elide events replay vm1 --verify

      Folds its ancestors first, and compares every root and checkpoint recorded of it and of them; with --verify exit code 4
      when one differs, naming the entry.
      """)
  @OptionGroup var history: HistoryOptions
  @OptionGroup var json: JSONOption
  @Flag(name: .long, help: "Fail when a recorded digest differs.") var verify = false

  func run() throws {
    let place = try history.place()
    let live = place.source == .local ? try place.engine.localState(place.volume) : nil
    let r = try place.auditor.replay(place.volume, from: place.source, live: live)
    if json.json {
      try Output.json(
        ReplayJSON(
          volume: r.volume.description, source: place.source == .local ? "journal" : "store", entries: r.entries, seq: r.seq,
          root: r.root?.hex, rootsCompared: r.rootsCompared, checkpointsCompared: r.checkpointsCompared,
          comparedWithLive: r.comparedWithLive, ancestors: r.ancestors.map(\.description), agrees: r.agrees,
          divergence: r.divergence.map {
            .init(
              kind: $0.kind.rawValue, volume: $0.volume.description, entry: $0.entry, point: $0.point, expected: $0.expected,
              found: $0.found)
          }))
    } else {
      print(
        "\(r.volume): folded \(r.entries) entries from \(place.source == .local ? "this host's journal" : "the store's pages")")
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
    if verify && !r.agrees { throw ExitCode(4) }
  }
}

struct EventsAt: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "at", abstract: "A volume's state as of an entry.", discussion: "Example:\n  elide events at vm1 --seq 42")
  @OptionGroup var history: HistoryOptions
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "The last entry to fold; the newest when left out.") var seq: UInt64?

  private struct Document: Encodable {
    let volume: String
    let seq: UInt64
    let size: UInt64
    let root: String
    let openFiles: [UInt64]
    let segments: Int
    let uploaded: Int
    let snapshots: [String]
  }

  func run() throws {
    let place = try history.place()
    let fold = try place.auditor.fold(place.volume, from: place.source, through: seq)
    let s = fold.state
    let document = Document(
      volume: s.volume.description, seq: s.seq ?? 0, size: s.size, root: fold.base.map.root().hex, openFiles: s.openWALs,
      segments: s.segments.count, uploaded: s.segments.values.filter { $0.uploadedSeq != nil }.count,
      snapshots: s.snapshots.map(\.label))
    if json.json { return try Output.json(document) }
    Output.fields([
      ("volume", document.volume), ("entry", "\(document.seq)"), ("size", ByteSize.text(s.size)), ("map root", document.root),
      ("write-ahead files", document.openFiles.map(String.init).joined(separator: ", ")),
      ("segments", "\(document.segments), \(document.uploaded) uploaded"),
      ("snapshots", document.snapshots.joined(separator: ", ")),
    ])
  }
}

struct EventsDiff: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff", abstract: "Blocks that two entries' states do not share.",
    discussion: "Example:\n  elide events diff vm1 --from-seq 10 --to-seq 42")
  @OptionGroup var history: HistoryOptions
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "The earlier entry.") var fromSeq: UInt64
  @Option(name: .long, help: "The later entry; the newest when left out.") var toSeq: UInt64?

  private struct Run: Encodable {
    let lba: UInt64
    let count: UInt64
    let kind: String
  }
  private struct Document: Encodable { let runs: [Run] }

  func run() throws {
    let place = try history.place()
    let a = try place.auditor.fold(place.volume, from: place.source, through: fromSeq)
    let b = try place.auditor.fold(place.volume, from: place.source, through: toSeq)
    let runs = place.auditor.diff(a, b)
    if json.json {
      return try Output.json(Document(runs: runs.map { Run(lba: $0.lba, count: $0.count, kind: $0.kind.rawValue) }))
    }
    Output.table(
      ["FIRST BLOCK", "BLOCKS", "NOW"], runs.map { ["\($0.lba)", "\($0.count)", $0.kind.rawValue] })
    print("\(ByteSize.text(runs.map { $0.count * 4096 }.reduce(0, +))) differ")
  }
}
