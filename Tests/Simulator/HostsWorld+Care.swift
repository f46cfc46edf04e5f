import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

// What a coordinator does by itself: settles what crashes left, adopts, serves what is live, ends what was taken, rescues.
extension HostsWorld {
  func care(_ host: WorldHost) {
    host.clock.advance(milliseconds: 6_000)
    var names = Set((try? host.engine.names.all().map(\.name)) ?? [])
    if let makings = try? host.engine.names.makings() { names.formUnion(makings.map(\.name)) }
    if let attempts = try? host.engine.names.openAttempts() { names.formUnion(attempts.map(\.name)) }
    for name in names.sorted() where !host.faults.isCrashed {
      do throws(ElideError) { try look(after: name, host) } catch { note("care: \(error.kind)") }
    }
  }

  private func look(after name: String, _ host: WorldHost) throws(ElideError) {
    try host.lifecycle.settle(name)
    let log = try host.engine.names.log(name)
    try log.refresh()
    if log.state.owner == host.id, log.state.incarnation != host.engine.incarnation, NameState.owned.contains(log.state.phase) {
      try host.lifecycle.adopt(name)
      note("adopted")
      try log.refresh()
    }
    let state = log.state
    let isLive = state.owner == host.id && state.phase == .live
    for episode in state.holdings.episodes where !isLive || episode.volume != state.volume { end(episode.volume, host) }
    // Guests first: a rescue may take long, or fail.
    if isLive, let volume = state.volume, host.served[volume] == nil,
      host.engine.world.files.exists(host.engine.directory.volume(volume).key),
      try !host.engine.names.makings(name).contains(where: { $0.volume == volume })
    {
      try host.servant.launch(name, volume)
      note("brought back")
    }
    guard state.holdings.displaced.contains(where: { $0.host == host.id }) else { return }
    for report in try host.lifecycle.rescue(name) { rescued(report, name, host) }
  }

  /// A volume process that was fenced ends; what was not answered never is.
  func end(_ volume: ULID, _ host: WorldHost) {
    guard let one = host.served.removeValue(forKey: volume) else { return }
    one.history.keepsAcknowledged = true
    one.history.guest.crash()
    one.opened.abandon()
    note("a fenced process ended")
  }

  /// All that the displaced volume held is in the store under its new name, as this host and as any other sees it.
  private func rescued(_ report: RescueReport, _ name: String, _ host: WorldHost) {
    note("rescue: \(report.outcome.rawValue)")
    guard report.outcome == .rescued, let new = report.rescued, let volume = ULID(report.volume),
      let history = host.histories[volume]
    else { return }
    guard let found = published(.name(new), "\(new), rescued from \(name)") else { return }
    if histories(of: found.volume).isEmpty {
      var model = history.guest.model
      if history.keepsAcknowledged { model.keepAcknowledged() }
      let hashes = pad(found.contents, model.blockCount)
      if let fault = model.faultAfterCrash(hashes) { complain("\(new) is not what volume \(volume) held: \(fault)") }
      note("rescue checked")
    }
  }

  func pad(_ contents: [[UInt8]], _ count: Int) -> [UInt64] {
    let zero = DeviceModel.hash([UInt8](repeating: 0, count: DeviceModel.blockBytes))
    var hashes = contents.prefix(count).map { DeviceModel.hash($0) }
    hashes += [UInt64](repeating: zero, count: max(0, count - hashes.count))
    return hashes
  }

  // MARK: Into service

  /// A volume that was opened under a grant gets its guest, once what it shows is what it may show.
  func take(_ opened: OpenedVolume, of name: String, on host: WorldHost) throws(ElideError) {
    let volume = opened.volume
    let found: [[UInt8]]
    do throws(SimGuest.Unreadable) { found = try readAll(opened, host) } catch {
      opened.abandon()
      throw ElideError(.tryLater, "volume \(volume) cannot be read just now: \(error)")
    }
    let history: VolumeHistory
    if let known = host.histories[volume] {
      history = known
      comesBack(known, found, Int(opened.device.size), "\(name) on \(host.letter)")
    } else {
      if let lineage = opened.tables?.state.lineage {
        begins(volume, lineage, found, "\(name) on \(host.letter)")
      } else if let i = found.firstIndex(where: { $0.contains { $0 != 0 } }), histories(of: volume).isEmpty {
        complain("\(name) on \(host.letter), volume \(volume), begins with block \(i) written")
      }
      history = VolumeHistory(
        volume, SimGuest(contents: found, size: Int(opened.device.size), seed: random.next()),
        first: (try host.engine.publishedCut(volume))?.seq ?? 0)
      history.guest.workload.longest = 10
      history.guest.workload.wholeBlocks = true
      history.guest.mayFail = { [unowned self, unowned host] in self.mayFail(volume, host) }
      host.histories[volume] = history
    }
    history.keepsAcknowledged = false
    opened.device.sink = history.guest
    host.served[volume] = WorldHost.Served(name, opened, history)
  }

  private func comesBack(_ history: VolumeHistory, _ found: [[UInt8]], _ size: Int, _ what: String) {
    if size < history.guest.model.size { return complain("\(what) has \(size) bytes and had \(history.guest.model.size)") }
    history.guest.grow(to: size)
    var model = history.guest.model
    if history.keepsAcknowledged { model.keepAcknowledged() }
    if let fault = model.faultAfterCrash(found.map { DeviceModel.hash($0) }) { complain("\(what), opened again: \(fault)") }
    history.guest.model.survive(found)
    note("opened again")
  }

  /// What a volume shows that nobody has written to yet: what it continues, or is a fork of, at that cut.
  private func begins(_ volume: ULID, _ lineage: Lineage, _ found: [[UInt8]], _ what: String) {
    switch explain(lineage.parent, lineage.seq, found) {
    case nil: note("began right")
    case .some(let text): complain("\(what) does not begin as volume \(lineage.parent) was at entry \(lineage.seq): \(text)")
    }
  }

  /// nil when `found` may be what `volume` was at entry `seq`, by the histories of all machines that served it, or by what it
  /// continued itself when nobody did.
  func explain(_ volume: ULID, _ seq: UInt64, _ found: [[UInt8]]) -> String? {
    let known = histories(of: volume).filter { $0.first <= seq }
    if known.isEmpty {
      if rescues.contains(volume) { return nil }
      guard let (lineage, isImage) = origin(of: volume, at: seq) else { return nil }
      if isImage { return Array(found.joined()).prefix(image.count).elementsEqual(image) ? nil : "it is not the image" }
      guard let lineage else {
        return found.allSatisfy { $0.allSatisfy { $0 == 0 } } ? nil : "it is not empty, and nobody wrote to it"
      }
      return explain(lineage.parent, lineage.seq, found)
    }
    var why = ""
    for history in known {
      guard let fault = history.fault(found, at: seq) else { return nil }
      why = fault
    }
    return why
  }

  /// Volumes that rescues made: what is in them is checked when it is reported.
  private var rescues: Set<ULID> {
    var out: Set<ULID> = []
    for (name, fold) in truth where name.contains("-") { out.formUnion(fold.state.holdings.episodes.map(\.volume)) }
    return out
  }

  func histories(of volume: ULID) -> [VolumeHistory] { hosts.compactMap { $0.histories[volume] } }

  /// Reads everything that an opened volume shows here.
  func readAll(_ opened: OpenedVolume, _ host: WorldHost) throws(SimGuest.Unreadable) -> [[UInt8]] {
    try SimGuest.readAll(
      opened.device,
      pump: {
        host.machine.executor.drain()
        _ = opened.stepKeeper()
        opened.device.poll()
        host.clock.advance(milliseconds: 1)
      })
  }

  /// A guest may see errors when its machine is going down, or when the name is another's by now, or soon will have been told so.
  private func mayFail(_ volume: ULID, _ host: WorldHost) -> Bool {
    if host.faults.isCrashed { return true }
    look()
    return !truth.values.contains { $0.state.volume == volume && $0.state.owner == host.id && $0.state.phase == .live }
      || hosts.contains { $0 !== host && $0.id == host.id }
  }
}
