import ArgumentParser
import ElideEngine
import ElideIO
import Glibc

/// What every command has that changes a name.
struct LifecycleOptions: ParsableArguments {
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Flag(name: .long, help: "Say which entry would be committed, and change nothing.") var dryRun = false
  @Option(name: .long, help: "Why; kept in the name's log.") var reason: String?
  @Option(name: .long, help: "An id of this request: sent again, it has the same answer and happens once.") var request: String?

  var context: CommandContext {
    CommandContext(request: request, operator: "uid:\(getuid())", reason: reason, isDryRun: dryRun)
  }

  /// Carries the command out and prints what became of it; exit code 3 when that is not known.
  func run(_ command: LifecycleCommand) throws {
    let progress = ProgressReporter()
    let report = try perform(command, progress: progress.handle)
    progress.end()
    try print(report)
  }

  /// The same, of a command that makes a volume.
  func make(_ command: LifecycleCommand) throws {
    let progress = ProgressReporter()
    let report = try perform(command, progress: progress.handle)
    progress.end()
    if report.outcome == .unknown || report.outcome == .planned { return try print(report) }
    let made = try options.engine().made(report)
    if json.json { return try Output.json(VolumeJSON(made)) }
    Swift.print("\(report.name): volume \(made.volume), \(ByteSize.text(made.size))")
  }

  func perform(_ command: LifecycleCommand, progress: @escaping ProgressHandler = { _ in true }) throws -> LifecycleReport {
    try LifecycleRunner(options: options).perform(command, context, progress: progress)
  }

  func print(_ report: LifecycleReport) throws {
    if json.json {
      try Output.json(report)
    } else {
      let state = report.phase + (report.owner.map { " at host \($0.prefix(12))" } ?? "")
      Swift.print("\(report.name): \(report.message) (\(state), epoch \(report.epoch))")
      if let lost = report.lost, !lost.isEmpty { Swift.print("lost: \(lost)") }
      if let entry = report.entry { Swift.print(entry, terminator: "") }
    }
    if report.outcome == .unknown { throw ExitCode(ElideError.Kind.unknown.rawValue) }
  }

  /// Asks for the name to be typed, unless it was said beforehand that it is meant.
  func confirm(_ name: String, _ isMeant: Bool, _ what: String) throws {
    if isMeant || dryRun { return }
    guard isatty(0) == 1 else { throw ElideError(.usage, "\(what): say --yes, since nobody is there to be asked") }
    Output.note("\(what)\nType the name '\(name)' to go on:")
    guard readLine() == name else { throw ElideError(.failed, "nothing was done") }
  }
}
