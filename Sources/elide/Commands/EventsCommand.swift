import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation

struct EventsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "events", abstract: "Read, check and replay the history of names and volumes.",
    discussion: """
      Example:
        elide events log vm1 --last 20
        elide events verify vm1 --store file:///mnt/copy-of-the-bucket

      A name's history is its log: who owned it, when it changed hands, which volumes it has had. A volume's is its journal: what
      happened to its data. A store, or a copy of one, is all that is needed.
      """,
    subcommands: [
      EventsLog.self, EventsTail.self, EventsShow.self, EventsVerify.self, EventsReplay.self, EventsAt.self, EventsDiff.self,
      EventsBlame.self, EventsExport.self, EventsCheckpoint.self, EventsProve.self, EventsCheckProof.self,
    ])
}

struct JoinOption: ParsableArguments {
  @Flag(name: .long, help: "Of a name: with the journals of its volumes, as far as they are published.") var volume = false
}

struct EventsLog: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "log", abstract: "Print entries.", discussion: "Example:\n  elide events log vm1 --last 20")
  @OptionGroup var audit: AuditOptions
  @OptionGroup var join: JoinOption
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "Only so many, the newest.") var last: Int?

  func run() throws {
    let steps = try audit.place().timeline(joining: join.volume).poll()
    let printer = StepPrinter(json: json.json, isJoined: join.volume)
    for step in steps.suffix(max(0, last ?? steps.count)) { try printer.print(step) }
  }
}

struct EventsTail: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tail", abstract: "Print the newest entries, and new ones as they commit.",
    discussion: """
      Example:
        elide events tail vm1 --volume

      Of a hand-over it shows both hosts' steps in order, with epoch, host, time since the step before (by the writers' clocks),
      and whether the entry is what it should be. Ends at Ctrl-C; with --no-follow at once.
      """)
  @OptionGroup var audit: AuditOptions
  @OptionGroup var join: JoinOption
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "Entries to begin with.") var last = 10
  @Flag(name: [.customShort("f"), .long], inversion: .prefixedNo, help: "Wait for new entries.") var follow = true
  @Option(name: .long, help: ArgumentHelp("How often the store is asked, in milliseconds.", valueName: "ms")) var interval = 500

  func run() throws {
    Interrupt.install()
    let timeline = try audit.place().timeline(joining: join.volume)
    let printer = StepPrinter(json: json.json, isJoined: join.volume)
    var steps = try timeline.poll().suffix(max(0, last))
    while true {
      for step in steps { try printer.print(step) }
      fflush(nil)
      if !follow || Interrupt.isSet { return }
      for _ in 0..<max(1, interval / 50) where !Interrupt.isSet { usleep(50_000) }
      steps = try timeline.poll()[...]
    }
  }
}

struct EventsShow: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Print one entry as it stands in the log.", discussion: "Example:\n  elide events show vm1 42")
  @OptionGroup var audit: AuditOptions
  @Argument(help: "Its number.") var seq: UInt64

  func run() throws {
    guard let step = try audit.place().timeline(joining: false).poll().first(where: { $0.seq == seq }) else {
      throw ElideError(.notFound, "\(audit.target) has no entry \(seq)")
    }
    var about = "# sha256:\(step.hash)"
    switch step.entry {
    case .name(let slot): about += ", \(slot.key)"
    case .volume(_, let page): about += page.map { ", page \($0)" } ?? ", in no page yet"
    }
    print(about + ", \(StepPrinter.word(step.check))")
    print(String(decoding: step.raw, as: UTF8.self), terminator: "")
  }
}

struct EventsExport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Entries as JSON, one object a line; or a copy of the store that stands alone.",
    discussion: """
      Example:
        elide events export vm1 --volume > vm1.jsonl
        elide events export vm1 --to ./vm1-audit && elide events verify vm1 --no-bodies --store file://$PWD/vm1-audit

      The copy has the name's log, the keys of hosts and what they have seen, the logs it speaks of, and its volumes' pages with
      those of their ancestors: enough to verify and to replay. With --bodies the data too.
      """)
  @OptionGroup var audit: AuditOptions
  @OptionGroup var join: JoinOption
  @Option(name: .long, help: ArgumentHelp("A directory for the copy.", valueName: "dir")) var to: String?
  @Flag(name: .long, help: "With --to: segments and map checkpoints too.") var bodies = false

  func run() throws {
    let place = try audit.place()
    if let to {
      let target = try Engine.openStore("file://\(absolute(to))", place.world, create: true)
      let export = AuditExport(from: place.store, to: target, bodies: bodies)
      let copied =
        switch place.target {
        case .name(let name): try export.name(name)
        case .volume(let volume): try export.volume(volume)
        }
      return Output.note("\(copied.objects) objects, \(ByteSize.text(copied.bytes)), in \(absolute(to))")
    }
    let printer = StepPrinter(json: true, isJoined: true)
    for step in try place.timeline(joining: join.volume).poll() { try printer.print(step) }
  }
}
