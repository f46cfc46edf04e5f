import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

// What must hold: I1 … I6 of the design, after every step as far as the new entries go, the bucket itself now and then.
extension HostsWorld {
  struct Published {
    var volume: ULID
    var contents: [[UInt8]]
    var point: UInt64
  }

  /// A name's log, from slot 0, and what of it the world has looked at.
  package func look() {
    for name in truth.keys.sorted() { readOn(name) }
    if steps % 8 == 0 { discover() }
  }

  /// Finds the logs that there are.
  func discover() {
    for key in bucket.objects.keys where key.hasPrefix("events/") && key.hasSuffix("/0000000000000000.toml") {
      let name = String(key.dropFirst(7).prefix { $0 != "/" })
      if truth[name] == nil {
        truth[name] = NameFold(name: name)
        readOn(name)
      }
    }
  }

  private func readOn(_ name: String) {
    guard var fold = truth[name] else { return }
    var hasNew = false
    while let raw = bucket.objects[StoreLayout.nameEntry(name, fold.nextSeq)] {
      let before = fold.state
      let seq = fold.nextSeq
      let (step, violation) = fold.step(raw)
      hasNew = true
      if case .event(let committed) = step {
        if violation == nil { check(committed, before, fold.state) }
        entries[name, default: []].append(committed.envelope)
      }
      if let violation, !poisoned.contains("\(name) \(seq)") { complain("\(name) \(seq) is no legal entry: \(violation.detail)") }
    }
    if hasNew { truth[name] = fold }
  }

  /// I1: ownership changes by an entry that sets the epoch to its own place, and epochs rise.
  private func check(_ entry: Committed<NameEvent>, _ before: NameState, _ after: NameState) {
    note("entry: \(entry.envelope.kind)")
    let changes = before.owner != after.owner || before.incarnation != after.incarnation
    if changes, after.owner != nil, after.epoch != entry.seq {
      complain("\(after.name) \(entry.seq): \(entry.event.kind) changes the owner, and the epoch is \(after.epoch)")
    }
    if after.epoch < before.epoch { complain("\(after.name) \(entry.seq): the epoch falls to \(after.epoch)") }
    if after.incarnation == nil, NameState.owned.contains(after.phase) {
      complain("\(after.name) \(entry.seq): \(after.phase), and nobody owns it")
    }
    if case .recovered(_, let lost) = entry.event, !lost.isEmpty, let new = after.volume { lossy.insert(new) }
  }

  /// The bucket alone: bases hold what was reported (I6), states, pins and forks can be opened (I2, I3).
  func lookDeeply() {
    discover()
    look()
    for (name, fold) in truth.sorted(by: { $0.key < $1.key }) where NameState.pinnable.contains(fold.state.phase) {
      checkBases(name, fold.state)
      checkPublished(name, fold.state)
      checkPins(name, fold.state)
    }
    for host in hosts {
      for one in host.histories.values.sorted(by: { $0.volume < $1.volume }) {
        guard let fault = one.guest.fault else { continue }
        let status = host.served[one.volume]?.opened.port?.status
        complain(
          "the guest of volume \(one.volume) on \(host.letter): \(fault); \(status?.reason ?? "") \(status?.lastError ?? "") "
            + (host.served[one.volume].map { EngineWorld.failures($0.opened.fetcher) } ?? ""))
      }
    }
  }

  /// I6: who goes on with a name goes on from a cut that has everything that was ever reported.
  private func checkBases(_ name: String, _ state: NameState) {
    let episodes = state.holdings.episodes
    for (old, new) in zip(episodes, episodes.dropFirst()) where !lossy.contains(new.volume) && !ruined.contains(old.volume) {
      guard let reported = histories(of: old.volume).compactMap({ $0.reports.last?.seq }).max() else { continue }
      let basis = new.basis.flatMap { $0.volume == old.volume ? $0.seq : nil } ?? 0
      if basis < reported {
        complain("\(name): volume \(new.volume) goes on from entry \(basis) of \(old.volume), \(reported) was reported")
      }
    }
  }

  /// The newest cut of a name, as one sees it who has nothing but the bucket.
  private func checkPublished(_ name: String, _ state: NameState) {
    guard let volume = state.volume, !ruined.contains(volume) else { return }
    let reported = histories(of: volume).compactMap { $0.reports.last?.seq }.max()
    // Ended before it had one, or never published: what goes on from it begins elsewhere.
    let first = bucket.objects[StoreLayout.page(volume, 0)].flatMap { try? JournalPage.parse($0) }
    if first?.header.isTerminal ?? true, reported == nil { return }
    guard let found = published(.name(name), name) else { return }
    if found.volume == volume, let reported, found.point < reported {
      complain("\(name): the newest cut is at entry \(found.point), \(reported) was reported")
    }
    if let fault = explain(found.volume, found.point, found.contents) {
      complain("\(name), volume \(found.volume) at entry \(found.point), elsewhere: \(fault)")
    }
    note("names read from the bucket alone")
  }

  private func checkPins(_ name: String, _ state: NameState) {
    for pin in state.holdings.pins.prefix(3) where !ruined.contains(pin.cut.volume) {
      guard let found = published(.volume(pin.cut.volume), at: pin.cut.seq, "\(name), pin \(pin.id)") else { continue }
      if let fault = explain(pin.cut.volume, pin.cut.seq, found.contents) { complain("\(name), pin \(pin.id): \(fault)") }
      note("pins opened")
    }
  }

  /// A host that has only the bucket.
  func reader() throws(ElideError) -> SimHost {
    let machine = SimHost(seed: seed &+ 77, bucket: bucket.copy())
    return machine
  }

  func published(_ base: VolumeSource.Base, at seq: UInt64? = nil, _ what: String) -> Published? {
    do throws(ElideError) {
      let machine = try reader()
      let engine = try machine.process()
      let found = try engine.find(base, fresh: true)
      // A ULID says nothing of whose it is; the names do.
      let key = found.key ?? truth.values.lazy.flatMap { $0.state.holdings.episodes }.first { $0.volume == found.volume }?.key
      let opened = try engine.openPublished(found.volume, at: seq, key: key)
      do throws(SimGuest.Unreadable) {
        let contents = try SimGuest.readAll(
          opened.device,
          pump: {
            machine.executor.drain()
            _ = opened.stepKeeper()
            opened.device.poll()
            machine.clock.advance(milliseconds: 1)
          })
        return Published(volume: found.volume, contents: contents, point: opened.point ?? 0)
      } catch {
        complain("\(what), from the bucket alone: \(error): \(EngineWorld.failures(opened.fetcher))")
        return nil
      }
    } catch {
      complain("\(what), from the bucket alone: \(error)")
      return nil
    }
  }

  /// What a published volume says that it is made of.
  func origin(of volume: ULID, at seq: UInt64) -> (lineage: Lineage?, isImage: Bool)? {
    guard let engine = try? reader().process() else { return nil }
    let key = truth.values.lazy.flatMap { $0.state.holdings.episodes }.first { $0.volume == volume }?.key
    guard let read = try? engine.publishedReader.open(volume, at: seq, key: key) else { return nil }
    return (read.tables.state.lineage, read.tables.state.source != nil)
  }
}
