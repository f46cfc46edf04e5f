import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

struct EventsVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Check a history: seals, chain, legality, witnesses, pages, sums.",
    discussion: """
      Works on a store or a copy of one, with nothing else; of a volume also on this host's journal:
        elide events verify vm1 --store file:///mnt/copy --deep
        elide events verify vm1 --witness heads-of-last-month.toml

      The first object that is not what it should be comes first. A log that was cut short looks whole to itself: hosts' signed
      heads in the store tell, and what you kept yourself (--witness: a heads document, a signed checkpoint, or lines
      "NAME SEQ HASH").
      Exit code 4 when something is wrong.
      """)
  @OptionGroup var audit: AuditOptions
  @OptionGroup var json: JSONOption
  @Flag(name: .long, help: "Read and check every segment's body and map too.") var deep = false
  @Flag(name: .long, inversion: .prefixedNo, help: "The copy has bodies; of one that was exported without them say --no-bodies.")
  var bodies = true
  @Option(name: .long, help: ArgumentHelp("What you have seen of names yourself.", valueName: "file")) var witness: [String] = []

  func run() throws {
    let place = try audit.place()
    switch place.target {
    case .volume(let volume):
      try ReportPrinter.finish(place.auditor.verify(volume, from: place.source(volume), deep: deep), json: json.json)
    case .name(let name): try verify(name, place)
    }
  }

  private func verify(_ name: String, _ place: AuditPlace) throws {
    var kept = place.seen
    for file in witness { kept += try WitnessFile.read(place.world.files, absolute(file)) }
    let report = try NameAuditor(store: place.store, kept: kept).verify(name, deep: deep, bodies: bodies)
    // What this host has not published yet is checked in its journals.
    var journals: [VerifyReport] = []
    for volume in report.volumes where place.source(volume.volume) == .local {
      journals.append(try place.auditor.verify(volume.volume, from: .local))
    }
    try NameReportPrinter.finish(report, journals, json: json.json)
  }
}

/// A name's verification, printed.
enum NameReportPrinter {
  private struct Document: Encodable {
    struct Witness: Encodable {
      let seq: UInt64
      let by: String
    }
    let name: String
    let entries: UInt64
    let seals: UInt64
    let checkpoints: UInt64
    let witnessed: UInt64
    let otherLogs: UInt64
    let head: UInt64?
    let headHash: String?
    let phase: String
    let completeTo: Witness?
    let violations: [VerifyJSON.Fault]
    let notes: [String]
    let volumes: [VerifyJSON]
    let journals: [VerifyJSON]
    let sound: Bool
    let firstFault: VerifyJSON.Fault?
    let faults: [VerifyJSON.Fault]
  }

  static func finish(_ r: NameReport, _ journals: [VerifyReport], json: Bool) throws {
    let isSound = r.isSound && journals.allSatisfy(\.isSound)
    if json {
      try Output.json(
        Document(
          name: r.name, entries: r.entries, seals: r.seals, checkpoints: r.checkpoints, witnessed: r.witnessed,
          otherLogs: r.crossings, head: r.head?.seq, headHash: r.head?.hash.hex, phase: r.state.phase.rawValue,
          completeTo: r.witness.map { .init(seq: $0.seq, by: $0.by) }, violations: r.violations.map(VerifyJSON.Fault.init),
          notes: r.notes, volumes: r.volumes.map(VerifyJSON.init), journals: journals.map(VerifyJSON.init), sound: isSound,
          firstFault: r.firstFault.map(VerifyJSON.Fault.init), faults: r.faults.map(VerifyJSON.Fault.init)))
    } else {
      text(r, journals, isSound)
    }
    if !isSound { throw ExitCode(4) }
  }

  private static func text(_ r: NameReport, _ journals: [VerifyReport], _ isSound: Bool) {
    print("\(r.name): checked \(r.entries) entries, \(r.seals) seals, \(r.checkpoints) checkpoints")
    for f in r.faults { print("FAULT \(f.what) at \(f.place): \(f.detail)") }
    for v in r.violations { print("violation at \(v.place): \(v.detail); it changes nothing") }
    for note in r.notes { print("note: \(note)") }
    print(completeness(r))
    for volume in r.volumes {
      ReportPrinter.text(volume)
      let end = volume.isEnded ? "ended" : "open"
      print("  published to entry \(volume.cut ?? 0), \(end); the name's entries vouch for pages up to \(volume.pageWords)")
    }
    for journal in journals {
      print("this host's journal of \(journal.volume): \(journal.entries) entries")
      for f in journal.faults { print("FAULT \(f.what) at \(f.place): \(f.detail)") }
    }
    print(isSound ? "sound" : "NOT SOUND: the first bad object is \(r.firstFault?.place ?? "in this host's journal")")
  }

  private static func completeness(_ r: NameReport) -> String {
    guard let head = r.head else { return "nothing of the log is there" }
    guard let witness = r.witness else {
      return
        "complete as far as it goes, to entry \(head.seq): nothing here tells whether entries after it were cut off (--witness)"
    }
    let rest = witness.seq < head.seq ? "; of entries after that nobody has said anything" : ""
    return "complete to entry \(witness.seq), as \(witness.by) says\(rest)"
  }
}

extension VerifyReport {
  fileprivate var pageWords: String { witnessedPage.map(String.init) ?? "none" }
}
