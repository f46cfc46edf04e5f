import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

// What operators ask for, and what they are told.
extension HostsWorld {
  func command(_ i: Int) {
    guard let command = draw(hosts[i]) else { return }
    commands += 1
    let request = "r\(commands)"
    requests[request] = Request(command: command, host: i)
    run(request)
  }

  /// A client whose answer never came, or was that nothing is known, asks again.
  func askAgain(_ i: Int) {
    guard let request = open.last(where: { requests[$0]?.host == i }) else { return }
    note("asked again")
    run(request)
  }

  /// Sends a request to its host, and keeps what it is told.
  func run(_ request: String) {
    guard let r = requests[request] else { return }
    let host = hosts[r.host]
    let before = r.command
    let answer = Result { () throws(ElideError) in
      try host.lifecycle.perform(before, CommandContext(request: request, operator: "uid:1"))
    }
    told(request, answer, host)
  }

  func told(_ request: String, _ answer: Result<LifecycleReport, ElideError>, _ host: WorldHost) {
    guard var r = requests[request] else { return }
    let kind = Self.word(r.command)
    defer {
      open.removeAll { $0 == request }
      if r.told == .open {
        r.wasOpen = true
        open.append(request)
      }
      requests[request] = r
    }
    if host.faults.isCrashed { return }
    switch answer {
    case .success(let report):
      switch report.outcome {
      case .committed:
        r.told = .committed(seq: report.seq, id: report.entryID)
        note("\(kind): committed")
      case .done, .planned:
        r.told = .done
        note("\(kind): done")
      case .unknown: note("\(kind): unknown")
      }
    case .failure(let error):
      note("\(kind): \(error.kind)")
      if kind == "stop", error.message.contains("clients are connected") { note("stop refused: clients") }
      // It says itself that it took effect, or that nobody knows.
      if error.kind == .unknown || Self.hasTakenEffect(error) { return }
      r.told = .never("\(error.kind): \(error.message)")
    }
  }

  /// The words with which a command says that it is in the log, and that what follows failed.
  static func hasTakenEffect(_ error: ElideError) -> Bool {
    error.message.contains("of this command is in the log") || error.message.contains("is live here, and is not served yet")
  }

  static func word(_ command: LifecycleCommand) -> String {
    switch command {
    case .create(_, _, let from): from == nil ? "create" : "fork"
    case .importImage: "import"
    case .start: "start"
    case .stop: "stop"
    case .release: "release"
    case .claim: "claim"
    case .forceRelease(_, let expect, let isSelf, let acceptsLoss):
      "force" + (expect == nil ? "" : " --expect") + (isSelf ? " --self" : "") + (acceptsLoss ? " --accept-loss" : "")
    case .rename: "rename"
    case .resize: "resize"
    case .snapshot: "snapshot"
    case .pin: "pin"
    case .unpin: "unpin"
    case .discardDisplaced: "discard"
    case .remove: "remove"
    case .purge: "purge"
    case .cancel: "cancel"
    case .note: "note"
    }
  }

  /// The entries by which a command is in the log.
  static func kinds(_ command: LifecycleCommand) -> [String] {
    switch command {
    case .create(_, _, let from): [from == nil ? "created" : "forked"]
    case .importImage: ["import_finished"]
    case .start: ["started"]
    case .stop(_, _, let release): [release ? "released" : "stopped"]
    case .release: ["released"]
    case .claim: ["claimed", "reclaimed"]
    case .forceRelease: ["fenced"]
    case .rename: ["renamed_to"]
    case .resize: ["resized"]
    case .pin: ["pinned"]
    case .unpin: ["unpinned"]
    case .discardDisplaced: ["displaced_released"]
    case .purge: ["purged"]
    case .cancel: ["import_aborted"]
    case .note: ["note"]
    case .snapshot, .remove: []
    }
  }

  // MARK: Which

  var names: [String] { (0..<limits.names).map { "n\($0)" } }

  /// Something that is likely to be allowed where the name stands, or is not.
  private func draw(_ host: WorldHost) -> LifecycleCommand? {
    var known = names
    // What came of rescues and renames is worked with too.
    known += truth.keys.filter { !known.contains($0) && !(truth[$0]?.state.isFree ?? true) }.sorted().prefix(4)
    let name = random.pick(known)
    if frozen.contains(name) { return random.chance(1, in: 4) ? .note(name: name, text: "x") : nil }
    look()
    let s = truth[name]?.state ?? NameState(name: name)
    let isMine = s.owner == host.id
    let point = String(s.cut?.seq ?? 0)
    switch random.below(44) {
    case 0: return .note(name: name, text: "note \(commands)")
    case 1: return .cancel(name: name)
    case 2: return .remove(name: name)
    case 3, 4: return .pin(name: name, point: point, until: nil)
    case 5, 6: if let pin = s.holdings.pins.first { return .unpin(name: name, pin: pin.id.description) }
    case 7:
      if let d = s.holdings.displaced.first, random.chance(1, in: 3) {
        return .discardDisplaced(name: name, volume: "\(d.volume)")
      }
    case 8: return anything(name, host)
    case 9: return .create(name: target(), size: nil, from: name)
    default: break
    }
    switch s.phase {
    case .absent, .purged: return make(name)
    case .importing: return random.chance(1, in: 3) ? .cancel(name: name) : .note(name: name, text: "importing")
    case .readonly:
      return random.chance(1, in: 5) ? .purge(name: name) : .create(name: target(), size: nil, from: name)
    case .released: return .claim(name: name, serve: random.chance(2, in: 3))
    case .recovering: return isMine ? .forceRelease(name: name, expect: nil, isSelf: false, acceptsLoss: false) : force(s, host)
    case .purging: return .purge(name: name)
    case .reserved, .renamed: return .note(name: name, text: "renamed")
    case .live, .stopped: return isMine ? owned(s, host) : random.chance(1, in: 5) ? force(s, host) : anything(name, host)
    }
  }

  /// A name to go to: taken, perhaps by somebody just now, or new.
  private func target() -> String {
    let free = names.filter { truth[$0]?.state.isFree ?? true }
    if random.chance(1, in: 3) || free.isEmpty && nextName >= 6 { return random.pick(names) }
    if let name = free.first { return name }
    nextName += 1
    return "x\(nextName)"
  }

  private func make(_ name: String) -> LifecycleCommand {
    switch random.below(5) {
    case 0: return .importImage(name: name, source: "raw:/image")
    case 1, 2:
      let full = names.filter { truth[$0].map { NameState.pinnable.contains($0.state.phase) } ?? false }
      if let from = full.isEmpty ? nil : random.pick(full) { return .create(name: name, size: nil, from: from) }
      return .create(name: name, size: UInt64(limits.blocks) * 4096, from: nil)
    default: return .create(name: name, size: UInt64(limits.blocks) * 4096, from: nil)
    }
  }

  private func force(_ s: NameState, _ host: WorldHost) -> LifecycleCommand {
    var expect: String?
    if random.chance(1, in: 2), let owner = s.owner { expect = "\(owner)@\(s.epoch)" }
    if random.chance(1, in: 8) { expect = "\(random.pick(hosts).id)" }
    return .forceRelease(name: s.name, expect: expect, isSelf: false, acceptsLoss: random.chance(1, in: 12))
  }

  private func owned(_ s: NameState, _ host: WorldHost) -> LifecycleCommand {
    let name = s.name
    switch random.below(s.phase == .live ? 14 : 20) {
    case 0: return .resize(name: name, size: s.size + UInt64(random.below(6)) * 4096)
    case 1, 2: return .snapshot(name: name, label: "s\(commands)")
    case 3:
      return .rename(name: name, to: target())
    case 4: return .forceRelease(name: name, expect: nil, isSelf: random.chance(1, in: 6), acceptsLoss: false)
    case 5, 6: return s.phase == .live ? stop(s, host) : .release(name: name)
    case 7, 8: return s.phase == .live ? stop(s, host) : .start(name: name, claim: false)
    case 9: return random.chance(1, in: 3) ? .purge(name: name) : .note(name: name, text: "mine")
    case 10...13:
      return s.phase == .live ? .pin(name: name, point: "\(s.cut?.seq ?? 0)", until: nil) : .start(name: name, claim: true)
    case 14...16: return .start(name: name, claim: false)
    default: return .release(name: name)
    }
  }

  /// With clients connected, forced or not; some want it released at once.
  private func stop(_ s: NameState, _ host: WorldHost) -> LifecycleCommand {
    if let volume = s.volume, let one = host.served[volume] { one.clients = random.below(3) }
    return .stop(name: s.name, force: random.chance(2, in: 3), release: random.chance(1, in: 3))
  }

  private func anything(_ name: String, _ host: WorldHost) -> LifecycleCommand {
    switch random.below(9) {
    case 0: .start(name: name, claim: true)
    case 1: .stop(name: name, force: true, release: false)
    case 2: .release(name: name)
    case 3: .claim(name: name, serve: false)
    case 4: .resize(name: name, size: 1 << 20)
    case 5: .purge(name: name)
    case 6: .snapshot(name: name, label: "x")
    case 7: .rename(name: name, to: random.pick(names))
    default: .create(name: name, size: 8192, from: nil)
    }
  }
}
