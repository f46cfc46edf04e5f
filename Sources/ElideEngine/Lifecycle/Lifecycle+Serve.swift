import ElideEvents
import ElideIO
import ElideProjections

/// How a name may be opened here.
package enum Service: Sendable {
  /// For writing: the log says that this host serves it.
  case write(ServiceGrant)
  /// For reading: an image, or the newest published cut of somebody's volume.
  case read(volume: ULID, key: [UInt8]?)
}

extension Lifecycle {
  /// The serve gate: returns when the log permits this host to serve `name`, and not before. Adopts what an earlier process held,
  /// starts what is stopped, with `claim` claims what nobody owns. A name of others is refused, with what would be right.
  ///
  /// The caller opens the volume at once, and says `leave` when it has closed it.
  package func enter(_ name: String, claim: Bool = false, _ context: CommandContext = CommandContext()) throws(ElideError)
    -> Service
  {
    try settle(name)
    let log = try names.log(name)
    try log.refresh()
    if log.state.phase == .readonly { return try reading(log.state) }
    if log.state.phase == .released, claim {
      try require(claimed(log, serve: true, context))
      return .write(try grant(log))
    }
    try requireServable(log.state)
    return .write(try takeUp(log, context))
  }

  /// The newest published cut of a name, whosever it is.
  package func read(_ name: String) throws(ElideError) -> Service {
    let found = try engine.find(.name(name), fresh: true)
    return .read(volume: found.volume, key: found.key)
  }

  private func reading(_ state: NameState) throws(ElideError) -> Service {
    guard let volume = state.volume else { throw ElideError(.tryLater, "\(state.sentence): it has no volume yet") }
    return .read(volume: volume, key: try engine.key(of: volume, state))
  }

  /// This host owns the name, it has a volume that is here, and no process of this data directory serves it.
  private func requireServable(_ state: NameState) throws(ElideError) {
    guard state.owner == me, [.live, .stopped].contains(state.phase), let volume = state.volume else {
      do throws(Refusal) { _ = try state.decide(.start, by: Author(host: me, incarnation: names.author.incarnation)) } catch {
        throw ElideError(error)
      }
      throw ElideError(.failed, state.sentence)
    }
    guard engine.world.files.exists(engine.directory.volume(volume).key) else {
      throw ElideError(
        .failed,
        "\(state.sentence): its volume \(volume) is not in \(engine.directory.root); "
          + Refusal.Instead.forceSelf.advice(state.name, state))
    }
    if try engine.isInUse(volume) { throw ElideError(.owned, "volume \(volume) is in use by another process of this host") }
  }

  /// `adopted` when another process of this host held it, `started` when it is stopped.
  private func takeUp(_ log: NameLog, _ context: CommandContext) throws(ElideError) -> ServiceGrant {
    let appending = AppendContext(context)
    if log.state.incarnation != names.author.incarnation { try require(try log.perform(.adopt, context: appending)) }
    try catchUpSize(log)
    if log.state.phase != .live { try require(try log.perform(.start, request: context.request, context: appending)) }
    return try grant(log)
  }

  func grant(_ log: NameLog) throws(ElideError) -> ServiceGrant {
    guard let volume = log.state.volume, log.state.mayServe(log.me) else {
      throw ElideError(.owned, "\(log.state.sentence): it changed hands meanwhile")
    }
    return ServiceGrant(name: log.name, volume: volume, seq: log.state.seq ?? 0, epoch: log.state.epoch)
  }

  /// A resize that ended between the volume's journal and the name's log.
  private func catchUpSize(_ log: NameLog) throws(ElideError) {
    guard let volume = log.state.volume, let local = try engine.localState(volume), local.deviceSize > log.state.size,
      log.state.size > 0
    else { return }
    try require(try log.perform(.resize(size: local.deviceSize)))
  }

  /// What a serving process finds when it is started for a name that is live already (by its supervisor): nothing is appended.
  package func grantOfLive(_ name: String) throws(ElideError) -> ServiceGrant {
    let log = try names.log(name)
    try log.refresh()
    guard let volume = log.state.volume else { throw ElideError(.notFound, log.state.sentence) }
    let seq = log.state.seq ?? 0
    switch log.serves(volume, from: seq + 1) {
    case .held: return ServiceGrant(name: name, volume: volume, seq: seq, epoch: log.state.epoch)
    case .lost(_, let why): throw ElideError(.fenced, "'\(name)' is not served here: \(why)")
    case .unread(let detail): throw ElideError(.tryLater, detail)
    }
  }

  /// The end of service in good order: everything is in the store, and the log says at which cut it stopped. Call when the volume
  /// is closed.
  @discardableResult
  package func leave(_ grant: ServiceGrant, _ context: CommandContext = CommandContext()) throws(ElideError) -> LifecycleReport {
    guard let cut = try engine.publishedCut(grant.volume) else {
      throw ElideError(.failed, "volume \(grant.volume) has no page in the store")
    }
    if try engine.isInUse(grant.volume) {
      // Another process of this host was quicker than the word of the end: it goes on serving.
      let log = try names.log(grant.name)
      try log.refresh()
      return report(.done, log.state, "'\(grant.name)' is served by another process already")
    }
    let log = try owned(grant.name, context)
    guard log.state.volume == grant.volume else {
      throw ElideError(.fenced, "\(log.state.sentence): it went on with another volume")
    }
    let outcome = try log.perform(
      .stop(cut: cut, clients: 0, force: true), request: context.request, context: AppendContext(context))
    return try report(outcome, log, "stopped at cut \(cut)")
  }

  // MARK: Commands

  func start(_ name: String, claim: Bool, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    let log = try names.log(name)
    try log.refresh()
    if context.isDryRun {
      if log.state.phase == .released, claim { return try claimPlan(log, serve: true, context) }
      return try plan(.start, log, context)
    }
    if log.state.phase == .live, log.state.owner == me, let volume = log.state.volume, try servant.isServing(volume) {
      return report(.done, log.state, "'\(name)' is served already")
    }
    guard case .write(let grant) = try enter(name, claim: claim, context) else {
      throw ElideError(
        .usage, "\(log.state.sentence): an image is not started; \(Refusal.Instead.fork.advice(name, log.state))")
    }
    do throws(ElideError) { try servant.launch(name, grant.volume) } catch {
      throw ElideError(
        error.kind, "'\(name)' is live here, and is not served yet; a coordinator tries again by itself: \(error.message)")
    }
    // What is committed stays so, whether or not the log can be read again at once.
    try? log.refresh()
    var done = report(.committed, try names.known(name) ?? log.state, "volume \(grant.volume)")
    done.seq = grant.seq
    return done
  }

  func stop(_ name: String, force: Bool, release: Bool, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    let log = try owned(name, context)
    guard let volume = log.state.volume, log.state.owner == me, [.live, .stopped].contains(log.state.phase) else {
      throw refusedStop(log.state)
    }
    let isServing = try servant.isServing(volume)
    let clients = isServing ? try servant.clients(volume) : 0
    if context.isDryRun {
      let cut = try engine.publishedCut(volume) ?? log.state.cut
      guard let cut else { throw ElideError(.tryLater, "'\(name)': nothing of volume \(volume) is published yet") }
      return try plan(.stop(cut: cut, clients: clients, force: force), log, context)
    }
    if log.state.phase == .live {
      if clients > 0, !force {
        throw ElideError(
          .tryLater,
          "\(log.state.sentence): \(clients) clients are connected; "
            + Refusal.Instead.disconnect.advice(name, log.state))
      }
      if isServing {
        try servant.drain(volume)
      } else {
        // Its process is gone, and is not to come back: what it left is recovered and shipped.
        try servant.forget(volume)
        try engine.publishClosed(volume, milliseconds: 300_000)
      }
    }
    guard let cut = try engine.publishedCut(volume) else {
      throw ElideError(.tryLater, "'\(name)': nothing of volume \(volume) is published yet")
    }
    let outcome = try log.perform(
      .stop(cut: cut, clients: 0, force: true), request: release ? nil : context.request, context: AppendContext(context))
    let stopped = try report(outcome, log, "stopped at cut \(cut)")
    if stopped.outcome == .unknown || !release { return stopped }
    return try self.release(name, context)
  }

  private func refusedStop(_ state: NameState) -> ElideError {
    do throws(Refusal) {
      let nowhere = Cut(
        volume: state.volume ?? ULID(high: 0, low: 0), seq: 0, page: 0, pageHash: Digest.sha256([UInt8]()))
      _ = try state.decide(
        .stop(cut: nowhere, clients: 0, force: true), by: Author(host: me, incarnation: names.author.incarnation))
    } catch { return ElideError(error) }
    return ElideError(.usage, state.sentence)
  }
}
