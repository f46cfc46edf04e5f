import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

// The storm is over: what was left open is found out, each name is led on by some command, and all is held against the logs.
extension HostsWorld {
  /// Nothing goes wrong from now on.
  package func calm() {
    isCalm = true
    while bucket.deliverDuplicate(&random) {}
    for host in hosts { host.store.inner.weather = .clear }
  }

  package func settle() {
    calm()
    for host in hosts {
      host.isBusy = true
      comeBack(host, .processKill)
      host.faults.disarm()
    }
    for _ in 0..<3 { for host in hosts { care(host) } }
    for _ in 0..<3 { for request in open { run(request) } }
    discover()
    look()
    lookDeeply()
    for name in truth.keys.sorted() where !frozen.contains(name) { leadOn(name) }
    discover()
    look()
    lookDeeply()
    holdAgainstLogs()
  }

  // MARK: Progress

  /// From where the run ended some host's command leads on, though the owner may be dead.
  private func leadOn(_ name: String) {
    look()
    guard let s = truth[name]?.state else { return }
    let others = hosts.filter { $0.id != s.owner }
    let heir = random.pick(others.isEmpty ? hosts : others)
    do throws(ElideError) {
      switch s.phase {
      case .absent, .purged:
        let plan = try heir.lifecycle.perform(.create(name: name, size: 8192, from: nil), CommandContext(isDryRun: true))
        if plan.outcome != .planned { complain("\(name) is \(s.phase) and cannot be made: \(plan.message)") }
      case .renamed: break
      case .readonly: _ = try heir.lifecycle.read(name)
      case .reserved:
        // What the refusal of any other command advises.
        _ = try? heir.lifecycle.perform(.rename(name: s.reservation?.old ?? "", to: name))
        look()
        if truth[name]?.state.phase == .reserved { complain("\(name) stays reserved whatever is asked") }
      case .importing: _ = try heir.lifecycle.perform(.cancel(name: name))
      case .purging: _ = try heir.lifecycle.perform(.purge(name: name))
      case .released: try goOn(name, .claim(name: name, serve: false), heir)
      case .live, .stopped, .recovering:
        // Its owner goes on, or is dead.
        if s.phase != .recovering, random.chance(1, in: 3), let owner = host(s.owner), isHere(s.volume, owner) {
          try serveAgain(name, owner)
        } else {
          for host in hosts { if let volume = s.volume { end(volume, host) } }
          let isRuined = s.holdings.episodes.contains { ruined.contains($0.volume) }
          try goOn(name, .forceRelease(name: name, expect: nil, isSelf: false, acceptsLoss: isRuined), heir)
        }
      }
      note("led on from \(s.phase)")
    } catch { complain("\(name) is stuck: \(s.sentence): \(error)") }
  }

  private func isHere(_ volume: ULID?, _ host: WorldHost) -> Bool {
    guard let volume else { return false }
    return host.engine.world.files.exists(host.engine.directory.volume(volume).key)
  }

  private func goOn(_ name: String, _ command: LifecycleCommand, _ heir: WorldHost) throws(ElideError) {
    let report = try heir.lifecycle.perform(command)
    if report.phase != "stopped" { complain("\(name): after \(Self.word(command)) it is \(report.phase)") }
    try serveAgain(name, heir)
  }

  /// Served, written to, stopped: all of it is in the bucket.
  private func serveAgain(_ name: String, _ host: WorldHost) throws(ElideError) {
    if let volume = try host.engine.names.known(name)?.volume, host.served[volume] != nil {
      try host.lifecycle.perform(.stop(name: name, force: true, release: false))
    }
    try host.lifecycle.perform(.start(name: name, claim: false))
    serve(host)
    try host.lifecycle.perform(.stop(name: name, force: true, release: false))
    look()
    guard let state = truth[name]?.state, state.phase == .stopped else { return complain("\(name) is not stopped at the end") }
  }

  // MARK: Answers

  /// I4, I5: each reported success is in the log once, no reported failure is in it, and every host folds the same.
  private func holdAgainstLogs() {
    var seen: [String: [Envelope]] = [:]
    var ids = Set<ULID>()
    for list in entries.values {
      for e in list {
        if !ids.insert(e.id).inserted { complain("attempt \(e.id) is in the logs twice") }
        if let request = e.request { seen[request, default: []].append(e) }
      }
    }
    for (request, r) in requests {
      let kinds = Self.kinds(r.command)
      let found = (seen[request] ?? []).filter { kinds.contains($0.kind) }
      let what = "\(request) (\(Self.word(r.command)) \(r.command.name))"
      if found.count > 1 { complain("\(what) is \(found.count) times in the log") }
      switch r.told {
      case .committed(let seq, let id):
        guard let id, let seq else { continue }
        let all = seen[request] ?? []
        if !all.contains(where: { $0.id.description == id && $0.seq == seq }) {
          complain("\(what) was reported in slot \(seq), and is not there")
        }
      case .done: break
      case .never(let why):
        if !found.isEmpty { complain("\(what) was reported as failed, and is in slot \(found[0].seq): \(why)") }
      case .open: note("open at the end")
      }
    }
    for (name, fold) in truth {
      for host in hosts {
        guard let log = try? host.engine.names.log(name) else { continue }
        do throws(ElideError) { try log.refresh() } catch {
          complain("\(name), read by \(host.letter) at the end: \(error)")
          continue
        }
        if log.state != fold.state { complain("\(name): \(host.letter) folds another state than the log's") }
        if log.state.encode() != fold.state.encode() { complain("\(name): \(host.letter) folds other bytes than the log's") }
      }
    }
  }
}
