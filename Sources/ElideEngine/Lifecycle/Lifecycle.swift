import ElideEvents
import ElideIO
import ElideProjections

/// The one way to change a name: reads its log, decides, appends, and does on this host what follows. In process of the command
/// line where no coordinator runs, else of the coordinator.
///
///     perform ─▶ settle (what earlier processes left) ─▶ log: read, decide, append ─▶ local steps
///
/// An entry is the commit; local steps are found again after a crash by the rows (`Making`) and by the log. Safe on any thread:
/// it has no state of its own. One idea per extension file: `+Make` (create, fork, import), `+Settle` (what a crash left),
/// `+Serve` (the gate, start, stop), `+HandOver`, `+Keep` (pins, snapshots, sizes, renames), `+End` (remove, purge, cancel),
/// `+Migrate` (names of before there were logs).
package struct Lifecycle: Sendable {
  package let engine: Engine
  package let servant: any Servant

  package init(_ engine: Engine, servant: any Servant = NoServant()) {
    self.engine = engine
    self.servant = servant
  }

  var names: HostNames { engine.names }
  var me: String { engine.host.id }

  /// Carries a command out. Throws when nothing of it took effect, or when what followed the commit failed, which the message
  /// then says; an outcome that is not known yet is a report, or `.unknown`. `progress` is asked during long work; false ends it.
  @discardableResult
  package func perform(
    _ command: LifecycleCommand, _ context: CommandContext = CommandContext(), progress: ProgressHandler = { _ in true }
  ) throws(ElideError) -> LifecycleReport {
    do throws(ElideError) { return try carryOut(command, context, progress) } catch { throw told(error, command, context) }
  }

  /// A failure as its client must hear it: an entry of the command may be in the log, or on its way there, and what failed came
  /// after it, or was another try of it. As this host's rows say, whatever the store answers just now.
  private func told(_ error: ElideError, _ command: LifecycleCommand, _ context: CommandContext) -> ElideError {
    guard let request = context.request, !context.isDryRun, error.kind != .unknown, let log = try? names.log(command.name) else {
      return error
    }
    do throws(ElideError) {
      if case .committed(let seq, _)? = try log.answer(request) {
        return ElideError(
          error.kind,
          "'\(log.name)': entry \(seq) of this command is in the log, and what follows it is not done: \(error.message)")
      }
      if try !log.open().contains(where: { $0.request == request }) { return error }
      return ElideError(
        .unknown, "'\(log.name)': whether this command took effect is not known yet; ask again: \(error.message)")
    } catch { return ElideError(.unknown, "'\(log.name)': what became of this command cannot be read: \(error.message)") }
  }

  private func carryOut(
    _ command: LifecycleCommand, _ context: CommandContext, _ progress: ProgressHandler
  ) throws(ElideError) -> LifecycleReport {
    if let fault = VolumeName.fault(command.name) { throw ElideError(.usage, "the name '\(command.name)' \(fault)") }
    if !context.isDryRun { try settle(command.name) }
    // A rename finishes what its first answer left undone in the other log.
    var isRename = false
    if case .rename = command { isRename = true }
    if let request = context.request, !context.isDryRun, !isRename {
      let log = try names.log(command.name)
      if let known = try log.answered(request) {
        try log.refresh()
        // The answer of a force is its fence, that of a start its entry; what follows may have been refused, or cut short.
        let isOpen: Bool
        switch command {
        case .forceRelease: isOpen = log.state.phase == .recovering && log.state.owner == me
        case .start: isOpen = log.state.phase == .live && log.state.owner == me
        default: isOpen = false
        }
        if !isOpen { return try report(known, log, "this request was answered before") }
      }
    }
    switch command {
    case .create(let name, let size?, nil): return try create(name, size, context)
    case .create(let name, nil, let source?): return try fork(name, VolumeSource(source), context)
    case .create: throw ElideError(.usage, "a volume is made with a size or from a source, one of the two")
    case .importImage(let name, let source): return try importImage(name, source, context, progress)
    case .start(let name, let claim): return try start(name, claim: claim, context)
    case .stop(let name, let force, let release): return try stop(name, force: force, release: release, context)
    case .release(let name): return try release(name, context)
    case .claim(let name, let serve): return try claim(name, serve: serve, context)
    case .forceRelease(let name, let expect, let isSelf, let acceptsLoss):
      return try forceRelease(name, expect, isSelf: isSelf, acceptsLoss: acceptsLoss, context)
    case .rename(let name, let to): return try rename(name, to, context)
    case .resize(let name, let size): return try resize(name, size, context)
    case .snapshot(let name, let label): return try snapshot(name, label, context)
    case .pin(let name, let point, let until): return try pin(name, point, until, context)
    case .unpin(let name, let pin): return try unpin(name, pin, context)
    case .discardDisplaced(let name, let volume): return try discardDisplaced(name, volume, context)
    case .remove(let name): return try remove(name, context)
    case .purge(let name): return try purge(name, context, progress)
    case .cancel(let name): return try cancel(name, context)
    case .note(let name, let text): return try append(.note(text: text), to: name, context, "noted")
    }
  }

  // MARK: One entry

  /// Appends one entry, or says which it would be.
  func append(
    _ command: NameCommand, to name: String, _ context: CommandContext, _ message: String
  ) throws(ElideError) -> LifecycleReport {
    let log = try names.log(name)
    if context.isDryRun { return try plan(command, log, context) }
    return try report(try log.perform(command, request: context.request, context: AppendContext(context)), log, message)
  }

  /// What `command` would commit.
  func plan(_ command: NameCommand, _ log: NameLog, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    switch try log.plan(command, context: AppendContext(context)) {
    case .done: return report(.done, log.state, "nothing would be changed: it is so already")
    case .refused(let refusal): throw ElideError(refusal)
    case .append(let event, let text):
      let isAdopted = log.state.owner == me && log.state.incarnation != names.author.incarnation
      var planned = report(
        .planned, log.state,
        "entry \(log.state.nextSeq), \(event.kind), would be committed\(isAdopted ? ", behind 'adopted'" : "")")
      planned.entry = text
      return planned
    }
  }

  /// The report of an outcome; a refusal is thrown.
  func report(_ outcome: NameOutcome, _ log: NameLog, _ message: String) throws(ElideError) -> LifecycleReport {
    switch outcome {
    case .committed(let seq, let id):
      var done = report(.committed, log.state, message)
      (done.seq, done.entryID) = (seq, id.description)
      return done
    case .done: return report(.done, log.state, message)
    case .refused(let refusal): throw ElideError(refusal)
    case .cancelled(let id): throw ElideError(.failed, "'\(log.name)': attempt \(id) was cancelled: it never takes effect")
    case .unknown(let id, let detail):
      var open = report(
        .unknown, log.state,
        "'\(log.name)': whether it happened is not known yet (\(detail)); ask again, or see 'elide volume cancel \(log.name)'")
      open.entryID = id.description
      return open
    }
  }

  func report(_ outcome: LifecycleReport.Outcome, _ state: NameState, _ message: String) -> LifecycleReport {
    var r = LifecycleReport(
      outcome, name: state.name, phase: state.phase.rawValue, epoch: state.epoch, size: state.size, message: message)
    r.volume = state.volume?.description
    r.owner = state.owner
    r.incarnation = state.incarnation?.description
    r.cut = state.cut.map { CutReport($0) }
    return r
  }

  // MARK: Owning

  /// The log of a name that this host owns, held by this very process: adopted when an earlier process held it. Throws the
  /// refusal of any other.
  func owned(_ name: String, _ context: CommandContext) throws(ElideError) -> NameLog {
    let log = try names.log(name)
    try log.refresh()
    if log.state.owner == me, log.state.incarnation != names.author.incarnation, !context.isDryRun {
      try require(try log.perform(.adopt, context: AppendContext(context)))
    }
    return log
  }

  /// Takes a name over from an earlier process of this host, if one held it: owner and volume stay, the incarnation becomes this
  /// one's.
  package func adopt(_ name: String, _ context: CommandContext = CommandContext()) throws(ElideError) {
    _ = try owned(name, context)
  }

  /// Refused and unknown are errors: of steps on the way to something else.
  func require(_ outcome: NameOutcome) throws(ElideError) {
    switch outcome {
    case .committed, .done: return
    case .refused(let refusal): throw ElideError(refusal)
    case .cancelled(let id): throw ElideError(.failed, "attempt \(id) was cancelled")
    case .unknown(_, let detail):
      throw ElideError(.unknown, "whether a step of it happened is not known yet (\(detail)); ask again")
    }
  }
}

extension AppendContext {
  init(_ context: CommandContext) {
    self.init(request: context.request, operator: context.operator, reason: context.reason)
  }
}

extension ElideError {
  /// A command that the log refused: nothing was appended, and nothing of it will ever take effect.
  package init(_ refusal: Refusal) {
    let kind: Kind
    switch refusal.kind {
    case .notFound: kind = .notFound
    case .owned: kind = .owned
    case .fenced: kind = .fenced
    case .usage: kind = .usage
    case .tryLater: kind = .tryLater
    case .unsafe: kind = .failed
    case .store: kind = .storeRefused
    }
    self.init(kind, refusal.description)
  }
}
