import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation

struct EventsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "events", abstract: "Read, check and replay a volume's history.",
    discussion: "Example:\n  elide events log vm1 --last 20",
    subcommands: [
      EventsLog.self, EventsTail.self, EventsShow.self, EventsVerify.self, EventsReplay.self, EventsAt.self, EventsDiff.self,
      EventsExport.self,
    ])
}

/// Which volume, and whose telling of its history: this host's journal where there is one, else the store's pages.
struct HistoryOptions: ParsableArguments {
  @OptionGroup var options: GlobalOptions
  @Argument(help: "Name or ULID.") var volume: String
  @Flag(name: .long, help: "Read the store's pages, also where this host has the journal.") var fromStore = false
  @Option(name: .long, help: ArgumentHelp("The volume's public key, 64 hex digits: makes signatures anchored.", valueName: "hex"))
  var key: String?

  struct Place {
    let engine: Engine
    let volume: ULID
    let source: HistorySource
    let auditor: Auditor
  }

  func place() throws -> Place {
    let engine = try options.engine(createStore: false)
    let id = try engine.volume(VolumeSource(volume).base)
    let hasJournal = engine.world.files.exists(engine.directory.volume(id).journal)
    var trusted: [ULID: [UInt8]] = [:]
    if let key {
      guard let bytes = decodeHexadecimal(key), bytes.count == 32 else { throw ElideError(.usage, "--key takes 64 hex digits") }
      trusted[id] = bytes
    }
    return Place(
      engine: engine, volume: id, source: hasJournal && !fromStore ? .local : .store, auditor: engine.auditor(trusting: trusted))
  }
}

/// An entry for people and for programs.
enum EntryPrinter {
  static func line(_ entry: Entry) -> String {
    let e = entry.envelope
    return "\(pad("\(e.seq)", 7)) \(e.at)  \(pad(e.kind, 18)) \(e.actor.prefix(8))  \(detail(entry))"
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  static func detail(_ entry: Entry) -> String {
    switch entry.event {
    case .created(let g): "\(ByteSize.text(g.size))"
    case .forked(let g, let l), .continued(let g, let l): "\(ByteSize.text(g.size)) from \(l.parent):\(l.seq)"
    case .imported(let g, let source, _): "\(ByteSize.text(g.size)) from \(source)"
    case .opened(let wal, let frame, _, let discarded): "wal \(wal), last frame \(frame), \(discarded) discarded"
    case .walOpened(let wal): "wal \(wal)"
    case .segmentSealed(let s): "segment \(s.segment), \(s.blocks) blocks of its own"
    case .segmentEncoded(let e): "segment \(e.segment), \(e.units) units, \(ByteSize.text(e.length))"
    case .segmentUploaded(let n, let hash): "segment \(n), \(hash.hex.prefix(16))"
    case .snapshotTaken(let id, let label, let after): "\(label) (\(id)), after wal \(after)"
    case .snapshotDeleted(let id): "\(id)"
    case .resized(let size, let after): "\(ByteSize.text(size)), after wal \(after)"
    case .mapRooted(let seq, let root): "entry \(seq): \(root.hex.prefix(16))"
    case .objectPlanned(let key): key
    case .bound(let name, let seq, _): "\(name) by entry \(seq)"
    case nil: "(unknown kind)"
    default: ""
    }
  }

  private struct Line: Encodable {
    let seq: UInt64
    let kind: String
    let at: String
    let actor: String
    let incarnation: String
    let epoch: UInt64
    let hash: String
    let page: UInt64?
    let request: String?
    let reason: String?
    let toml: String
  }

  /// One JSON object on one line.
  static func json(_ entry: Entry, page: UInt64?) throws {
    let e = entry.envelope
    try Output.json(
      Line(
        seq: e.seq, kind: e.kind, at: e.at, actor: e.actor, incarnation: e.incarnation.description, epoch: e.epoch,
        hash: entry.hash.hex, page: page, request: e.request, reason: e.reason, toml: String(decoding: entry.raw, as: UTF8.self)),
      pretty: false)
  }

  /// Walks a history's entries with their pages until `body` returns false.
  static func walk(_ place: HistoryOptions.Place, _ body: (Entry, UInt64?) throws -> Bool) throws {
    let history = try place.auditor.history(of: place.volume, from: place.source)
    defer { history.close() }
    let log = "volume/\(place.volume)"
    var seq: UInt64 = 0
    while true {
      let next: (raw: [UInt8], page: UInt64?)?
      do throws(ReplayError) { next = try history.next() } catch { throw ElideError(error, place.volume) }
      guard let (raw, page) = next else { return }
      let entry: Entry
      do throws(EntryError) { entry = try EntryCodec.decode(raw, of: log, at: seq) } catch {
        throw ElideError(.fault, "\(log), entry \(seq): \(error)")
      }
      if try !body(entry, page) { return }
      seq += 1
    }
  }
}

struct EventsLog: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "log", abstract: "Print a volume's entries.", discussion: "Example:\n  elide events log vm1 --last 20")
  @OptionGroup var history: HistoryOptions
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "Only so many, the newest.") var last: Int?

  func run() throws {
    var kept: [(Entry, UInt64?)] = []
    try EntryPrinter.walk(history.place()) { entry, page in
      kept.append((entry, page))
      if let last, kept.count > max(1, 2 * last) { kept.removeFirst(kept.count - last) }
      return true
    }
    for (entry, page) in kept.suffix(last ?? kept.count) {
      if json.json { try EntryPrinter.json(entry, page: page) } else { print(EntryPrinter.line(entry)) }
    }
  }
}

struct EventsTail: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tail", abstract: "Print the newest entries, and new ones as they commit.",
    discussion: "Example:\n  elide events tail vm1\n\nEnds at Ctrl-C; with --no-follow at once.")
  @OptionGroup var history: HistoryOptions
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "Entries to begin with.") var last = 10
  @Flag(name: .long, inversion: .prefixedNo, help: "Wait for new entries.") var follow = true

  func run() throws {
    Interrupt.install()
    var seen: UInt64?
    while true {
      var fresh: [(Entry, UInt64?)] = []
      try EntryPrinter.walk(history.place()) { entry, page in
        if seen.map({ entry.envelope.seq > $0 }) ?? true { fresh.append((entry, page)) }
        return true
      }
      for (entry, page) in seen == nil ? Array(fresh.suffix(last)) : fresh {
        if json.json { try EntryPrinter.json(entry, page: page) } else { print(EntryPrinter.line(entry)) }
      }
      fflush(nil)
      seen = fresh.last?.0.envelope.seq ?? seen
      if !follow || Interrupt.isSet { return }
      for _ in 0..<5 where !Interrupt.isSet { usleep(100_000) }
    }
  }
}

struct EventsShow: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Print one entry as it stands in the log.", discussion: "Example:\n  elide events show vm1 42")
  @OptionGroup var history: HistoryOptions
  @Argument(help: "Its number.") var seq: UInt64

  func run() throws {
    var found = false
    try EntryPrinter.walk(history.place()) { entry, page in
      guard entry.envelope.seq == seq else { return true }
      found = true
      print("# sha256:\(entry.hash)" + (page.map { ", page \($0)" } ?? ", in no page yet"))
      print(String(decoding: entry.raw, as: UTF8.self), terminator: "")
      return false
    }
    if !found { throw ElideError(.notFound, "\(history.volume) has no entry \(seq)") }
  }
}

struct EventsExport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "All entries as JSON, one object a line, for auditors.",
    discussion: "Example:\n  elide events export vm1 --from-store > vm1.jsonl")
  @OptionGroup var history: HistoryOptions

  func run() throws {
    try EntryPrinter.walk(history.place()) { entry, page in
      try EntryPrinter.json(entry, page: page)
      return true
    }
  }
}

struct EventsVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Check a volume's log: chain, signatures, legality, sums.",
    discussion: """
      Works offline on this host's journal, and on a store or a copy of one:
        elide events verify 01J… --from-store --store file:///mnt/audit --deep

      Exit code 4 when something is wrong.
      """)
  @OptionGroup var history: HistoryOptions
  @OptionGroup var json: JSONOption
  @Flag(name: .long, help: "Read and check every segment's body too.") var deep = false

  func run() throws {
    let place = try history.place()
    try ReportPrinter.finish(place.auditor.verify(place.volume, from: place.source, deep: deep), json: json.json)
  }
}
