import ElideEngine
import ElideIO
import ElideProjections

// What happens to volumes now and then.
extension FleetWorld {
  func seldom(_ m: Member, _ opened: OpenedVolume) {
    switch random.below(21) {
    case 0...2: askForCut(m)
    case 3...4: askForSnapshot(m)
    case 5...6: askForGrowth(m)
    case 7...8: fork(m)
    case 9: importImage()
    case 10: openBesides(m)
    case 11: stopAndOpenAgain(m)
    case 12...13: evict(m)
    case 14...15: fillDisk()
    case 16: if isShort { giveSpaceBack() } else { isAway ? storeComesBack() : storeGoesAway() }
    case 17: checkSnapshots(m)
    case 18: storeIsSlow()
    default: checkStore(m)
    }
  }

  func askForCut(_ m: Member) {
    guard let port = m.opened?.port, m.cuts.count < 2 else { return }
    m.cuts.append((port.cut(), m.guest.model.submitFlush()))
  }

  private func askForSnapshot(_ m: Member) {
    guard let port = m.opened?.port, m.snapshots.isEmpty, m.kept.count < 6 else { return }
    nextName += 1
    let label = "s\(nextName)"
    m.snapshots.append((label, port.snapshot(label: label, publish: true), m.guest.model.submitFlush()))
  }

  private func askForGrowth(_ m: Member) {
    guard let port = m.opened?.port, m.resizes.isEmpty, m.guest.model.size < 400 * 4096 else { return }
    let size = max(m.guest.model.size, m.promisedSize) + (1 + random.below(40)) * 512 * random.pick([1, 8])
    m.resizes.append((port.resize(UInt64(size)), size))
  }

  private func evict(_ m: Member) {
    guard let tables = m.opened?.tables, let engine, !isAway else { return }
    let safe = tables.state.ordered.filter { $0.uploadedSeq != nil && tables.directory[$0.number]?.locator != .local }
    guard !safe.isEmpty else { return }
    if engine.cache.evict(volume: m.volume, segment: random.pick(safe).number) > 0 { count("evictions") }
  }

  // MARK: forks and imports

  /// A fork of what the volume holds now, or of a snapshot: equal to its parent's cut, and right from then on.
  private func fork(_ parent: Member) {
    guard let engine, !isAway, !isShort else { return }
    nextName += 1
    let name = "f\(nextName)"
    let snapshot = parent.kept.isEmpty || random.chance(1, in: 2) ? nil : random.pick(parent.kept)
    let source = VolumeSource(
      base: .volume(parent.volume),
      point: snapshot.map { random.chance(1, in: 2) ? .snapshot(label: $0.label) : .seq($0.point) } ?? .newest)
    let mark = snapshot?.mark ?? parent.guest.model.submitFlush()
    do throws(ElideError) {
      let made = try engine.createFork(name: name, from: source) { (_) throws(ElideError) in try self.cutNow(parent) }
      guard let seq = made.parent?.seq else { return complain("\(name): a fork without a parent") }
      if let point = snapshot?.point, seq != point { complain("\(name): forked at \(seq), the snapshot is at \(point)") }
      let child = try engine.openLocal(made.volume)
      guard let found = readAll(child, "\(name), a new fork") else { return child.abandon() }
      checkMoment(parent, found, since: mark, "\(name), a fork at entry \(seq)")
      if let cut = contents(parent.volume, at: seq, "\(parent.name) at entry \(seq)"), cut != found {
        complain("\(name) is not its parent's cut at entry \(seq)")
      }
      count(snapshot == nil ? "forks" : "forks of snapshots")
      join(name, made.volume, child, found)
    } catch {
      if !isDisturbed { complain("\(name): no fork: \(error)") }
    }
  }

  /// As the control socket does it for a fork of a volume in service.
  private func cutNow(_ m: Member) throws(ElideError) {
    guard let port = m.opened?.port else { throw ElideError(.failed, "not open") }
    let reply = port.cut()
    for _ in 0..<2000 where !faults.isCrashed {
      if let answer = reply.poll() {
        _ = try answer.get()
        count("cuts for a fork")
        return
      }
      for lane in Lane.allCases { host.executor.run(lane, &random) }
      for _ in 0..<4 { _ = m.opened?.stepKeeper() }
      m.opened?.device.poll()
      look(m)
      host.clock.advance(milliseconds: 10)
    }
    throw ElideError(.tryLater, "no cut")
  }

  private func importImage() {
    guard let engine, !isAway, !isShort else { return }
    nextName += 1
    let name = "i\(nextName)"
    var image: [UInt8] = []
    for _ in 0..<(4 + random.below(40)) {
      var block = [UInt8](repeating: 0, count: 4096)
      let content: GuestContent = random.pick([.zeros, .repeated(32), .unique(random.next()), .sparse(random.next())])
      block.withUnsafeMutableBytes { content.fill($0) }
      image += block
    }
    image += [UInt8](repeating: 9, count: random.below(8) * 512)
    do { try host.files.replaceFile("/image", with: image) } catch { return }
    do throws(ElideError) {
      let made = try engine.importImage(name: name, path: "/image") { _ in true }
      guard let found = contents(made.volume, at: nil, "\(name), an import") else { return }
      let padded = image + [UInt8](repeating: 0, count: found.count * 4096 - image.count)
      if Array(found.joined()) != padded { complain("\(name) is not the image") }
      // An image is only read; who wants to write makes a fork.
      let fork = try engine.createFork(name: "\(name)w", from: VolumeSource(base: .name(name)))
      let opened = try engine.openLocal(fork.volume)
      guard let copy = readAll(opened, "\(name)w, a new fork of an import") else { return opened.abandon() }
      if copy != found { complain("\(name)w is not the image it is a fork of") }
      count("imports")
      join("\(name)w", fork.volume, opened, found)
    } catch {
      if !isDisturbed { complain("\(name): no import: \(error)") }
    }
  }

  private func join(_ name: String, _ volume: ULID, _ opened: OpenedVolume, _ contents: [[UInt8]]) {
    guard members.count < Self.mostMembers else { return opened.abandon() }
    let guest = SimGuest(contents: contents, size: Int(opened.device.size), seed: seed ^ UInt64(nextName) << 20)
    let member = add(name, volume, guest)
    member.opened = opened
    opened.device.sink = guest
  }

  // MARK: other processes

  /// A second process on the data directory: it may not serve what is served, it may read what is published.
  private func openBesides(_ m: Member) {
    guard let other = try? host.process() else { return }
    do throws(ElideError) {
      let second = try other.openLocal(m.volume)
      second.abandon()
      complain("\(m.name) is served twice")
    } catch {
      if error.kind == .owned { count("the serve gate held") } else if !isDisturbed { complain("\(m.name), besides: \(error)") }
    }
    guard !isAway, m.reported > 0 else { return }
    do throws(ElideError) {
      let copy = try other.openPublished(m.volume)
      guard let found = readAll(copy, "\(m.name), read besides") else { return }
      checkMoment(m, found, since: m.reported, "\(m.name), read by a process besides")
      count("read besides")
    } catch {
      if !isDisturbed && !isShort { complain("\(m.name), published, besides: \(error)") }
    }
  }

  /// `elide stop`: everything is in the store, and another process opens it.
  private func stopAndOpenAgain(_ m: Member) {
    guard let engine, !isAway, !isShort, let opened = m.opened, settle() else { return }
    let mark = m.guest.model.submitFlush()
    do throws(ElideError) { try opened.close(ship: true, milliseconds: 60_000) } catch {
      m.opened = nil
      if !isDisturbed { complain("\(m.name) does not stop: \(error)") }
      return
    }
    m.opened = nil
    m.reported = max(m.reported, mark)
    if !faults.isCrashed { checkStore(m) }
    do throws(ElideError) {
      let again = try engine.openLocal(m.volume)
      m.opened = again
      again.device.sink = m.guest
      count("stopped and opened")
      guard let found = readAll(again, "\(m.name), after a stop") else { return }
      checkMoment(m, found, since: mark, "\(m.name), after a stop")
    } catch {
      if !isDisturbed { complain("\(m.name) does not open after a stop: \(error)") }
    }
  }

  // MARK: disk and store

  package func fillDisk() {
    guard !isShort, !isAway else { return }
    isShort = true
    host.files.spaceLimit = host.files.spaceUsed + random.pick([0, 4096, 20 * 4096, 80 * 4096])
    count("disk filled")
  }

  /// After space returns everything continues.
  package func giveSpaceBack() {
    guard isShort else { return }
    isShort = false
    isComingBack = true
    defer { isComingBack = false }
    host.files.spaceLimit = .max
    goesOn("space came back")
    // Within two seconds at the latest a file is tried again.
    for m in members {
      for _ in 0..<300 where m.opened?.port?.status.writing == .full && !faults.isCrashed { pump(m, milliseconds: 20) }
      if m.opened?.port?.status.writing == .full && !isDisturbed && !faults.isCrashed { complain("\(m.name): full for ever") }
    }
  }

  private func storeGoesAway() {
    isAway = true
    host.store.weather = .away
    count("outages")
    let before = members.map(\.guest.refused)
    for m in members { work(m, rounds: 150 + random.below(150), shipping: 1) }
    if !isShort && zip(members, before).contains(where: { $0.guest.refused > $1 }) { count("writes were refused in an outage") }
  }

  /// Every upload is done, and takes its time: writes wait for it, and none is refused.
  private func storeIsSlow() {
    guard !isShort, !isAway else { return }
    for m in members { work(m, rounds: 100 + random.below(200), shipping: 25) }
  }

  /// A guest that writes as fast as it can; the lane that ships gets its turn in one of so many rounds.
  private func work(_ m: Member, rounds: Int, shipping: Int) {
    guard let opened = m.opened, let port = opened.port else { return }
    let limit = host.configuration.unsentBytes
    for _ in 0..<rounds where !faults.isCrashed {
      for _ in 0..<2 where m.guest.inFlight < 24 { submit(m, opened.device) }
      opened.device.commit()
      host.executor.run(.sync, &random)
      host.executor.run(.fetch, &random)
      if random.chance(1, in: UInt64(shipping)) { host.executor.run(.ship, &random) }
      for _ in 0..<4 { _ = opened.stepKeeper() }
      opened.device.poll()
      host.clock.advance(milliseconds: 20)
      look(m)
      let status = port.status
      let waits = m.guest.writesInFlight > 8
      if status.writing == .slowed { count("writes were slowed") }
      if status.writing == .held && waits { count(isAway ? "writes waited in an outage" : "writes waited for a slow store") }
      // Between a look at the pressure and the next a file may be filled; and what is admitted is written.
      if status.unsentBytes + status.unsealedBytes > limit + 3 * 32 * 4096 {
        complain(
          "\(m.name): \(status.unsentBytes) + \(status.unsealedBytes) bytes are not sent, the limit is \(limit); "
            + "\(status.writing), \(opened.device.held)")
      }
    }
  }

  package func storeComesBack() {
    guard isAway else { return }
    isAway = false
    isComingBack = true
    defer { isComingBack = false }
    host.store.weather = .clear
    for m in members { askForCut(m) }
    goesOn("store came back")
    guard !faults.isCrashed && !isShort && !isDisturbed else { return }
    for m in members {
      checkStore(m)
      // All is shipped: a write is as free as before.
      if let status = m.opened?.port?.status, status.writing != .free || status.unreachableMilliseconds > 0 {
        complain("\(m.name): after an outage writes are \(status.writing), \(status.unsentBytes) bytes unsent")
      }
    }
  }

  private func goesOn(_ what: String) {
    guard !faults.isCrashed, !isShort, !isAway else { return }
    if settle() { count(what) }
  }
}

extension StoreWeather {
  /// Nothing is done, every request says so.
  package static let away: StoreWeather = {
    var w = StoreWeather()
    w.serverError = 65536
    return w
  }()
}
