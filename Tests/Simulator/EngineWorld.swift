import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// One host with the whole engine, its store, a guest, and readers elsewhere: everything real but the world. Who moves next
/// is drawn from the seed.
package final class EngineWorld {
  package let seed: UInt64
  package let bucket: SimBucket
  package let host: SimHost
  package let guest: SimGuest
  package private(set) var volume = ULID(high: 0, low: 0)
  package private(set) var trace = TraceHash()
  package private(set) var counts: [String: Int] = [:]
  package private(set) var opened: OpenedVolume?
  package var faults: SimFaults { host.faults }

  private var engine: Engine?
  private var random: SeededRandom
  private var firedAtOpen: UInt64 = 0
  private var promisesAcknowledged = true
  /// The store fails now and then, so requests may be answered late, or never.
  private var wrong: String?
  /// Why the last opening after a lie was refused.
  package private(set) var lastRefusal = ""
  /// What the newest cut that was reported must hold, as a moment of the model.
  private var reported: UInt64 = 0
  private var cuts: [(reply: Reply<UInt64>, mark: UInt64)] = []
  private var checkedVersion: UInt64 = 0
  private var lastPoint: UInt64 = 0
  private var snapshots = 0

  package init(seed: UInt64, size: Int = 160 * 4096 + 1024, bucket: SimBucket = SimBucket()) throws {
    self.seed = seed
    self.bucket = bucket
    random = SeededRandom(seed: seed ^ 0xE4619E)
    host = SimHost(seed: seed, bucket: bucket)
    guest = SimGuest(size: size, seed: seed)
    guest.workload.longest = 20
    // Without the store, blocks that were evicted cannot be read.
    // Storms are waited out.
    guest.mayFail = { [unowned self] in self.isDisturbed }
    volume = try host.process().createVolume(name: "vm", size: UInt64(size)).volume
  }

  private func count(_ what: String) { counts[what, default: 0] += 1 }
  private var isDisturbed: Bool { faults.isCrashed || faults.fired > firedAtOpen }
  private func complain(_ text: String) { wrong = wrong ?? "seed \(seed): \(text)" }
  package var fault: String? { wrong ?? guest.fault.map { "seed \(seed): \($0)" } }

  // MARK: a process

  /// Starts a process that serves the volume. False when a crash or a fault came between.
  package func open() throws -> Bool {
    firedAtOpen = faults.fired
    let opened: OpenedVolume
    do {
      let engine = try host.process()
      self.engine = engine
      opened = try engine.openLocal(volume)
    } catch {
      if isDisturbed { return false }
      throw Wrong("seed \(seed): the volume does not open: \(error)")
    }
    self.opened = opened
    opened.device.sink = guest
    if seed % 3 == 1, case .begun = opened.startPrefetch(.all, smallBytes: 0, cacheBytes: 1 << 30) { count("prefetches") }
    return try checkAfterCrash(opened)
  }

  private func checkAfterCrash(_ opened: OpenedVolume) throws -> Bool {
    try checkReplay(opened)
    let found: [[UInt8]]
    let weather = host.store.weather
    host.store.weather = .clear
    defer { host.store.weather = weather }
    do throws(SimGuest.Unreadable) { found = try SimGuest.readAll(opened.device, pump: { self.pump() }) } catch {
      if isDisturbed { return false }
      throw Wrong("seed \(seed): after a crash: \(error): \(whyUnreadable(opened))")
    }
    var model = guest.model
    if promisesAcknowledged && !isDisturbed { model.keepAcknowledged() }
    if let wrong = model.faultAfterCrash(found.map { DeviceModel.hash($0) }) {
      throw Wrong("seed \(seed): after a crash: \(wrong)")
    }
    guest.model.survive(found)
    promisesAcknowledged = true
    opened.device.sink = guest
    count("opened")
    return true
  }

  /// What a fetch of each mapped block says; for messages.
  private func whyUnreadable(_ opened: OpenedVolume) -> String {
    var texts = [opened.port?.status.reason, opened.port?.status.lastError].compactMap { $0 }
    guard let tables = opened.tables else { return texts.joined(separator: ", ") }
    for lba in 0..<UInt64(guest.model.blockCount) {
      let handle = tables.map.lookup(lba)
      guard handle.isBlock else { continue }
      do throws(SegmentError) { try opened.fetcher.fetch(segment: handle.segment, r: handle.r, count: 1) } catch {
        texts.append(
          "block \(lba) at \(handle.segment)/\(handle.r), segment \(tables.state.segments[handle.segment]?.uploadedSeq.map { "uploaded at \($0)" } ?? "not uploaded"): \(error)"
        )
      }
    }
    return texts.joined(separator: ", ")
  }

  private func countReadAhead() {
    if let counters = opened?.fetcher.counters, counters.readAhead > 0 { count("read ahead") }
  }

  private func pump() {
    host.executor.run(.sync, &random)
    host.executor.run(.fetch, &random)
    for lane in [Lane.ahead, .seal, .overdue] { host.executor.run(lane, &random) }
    _ = opened?.stepKeeper()
    opened?.device.poll()
    host.clock.advance(milliseconds: 1)
  }

  /// The process ends, wherever it was.
  package func crash(_ mode: CrashMode) {
    count(mode == .powerLoss ? "power losses" : "kills")
    count("crash at \(faults.isCrashed ? faults.lastSite : "between calls")")
    promisesAcknowledged = mode == .processKill && faults.fired == firedAtOpen && promisesAcknowledged
    countReadAhead()
    if let n = opened?.port?.status.counters.walsReused, n > 0 { count("files made of old ones") }
    faults.crashNow()
    opened = nil
    engine = nil
    cuts = []
    host.executor.dropAll()
    guest.crash()
    host.crash(mode)
    trace.note(faults.calls)
  }

  // MARK: steps

  /// One step of somebody.
  package func step() {
    guard let opened else { return }
    let choice = random.below(16)
    trace.note(UInt64(choice))
    switch choice {
    case 0...4:
      for _ in 0..<(1 + random.below(3)) where guest.inFlight < 24 { guest.submit(opened.device) }
      if random.chance(2, in: 3) { opened.device.commit() }
    case 5: opened.device.poll()
    case 6: host.executor.run(.sync, &random)
    case 7:
      host.executor.run(.fetch, &random)
      host.executor.run(.ahead, &random)
    case 8...9: for lane in [Lane.seal, .overdue, .ship] { host.executor.run(lane, &random) }
    case 10...13: for _ in 0..<(1 + random.below(4)) { _ = opened.stepKeeper() }
    case 14: host.clock.advance(milliseconds: random.pick([10, 200, 1500]))
    default: seldom(opened)
    }
    takeCuts()
    trace.note(guest.trace.value)
    trace.note(bucket.version)
  }

  // MARK: scripts

  /// For workloads that are written down instead of drawn.
  package func submit(_ request: GuestRequest) {
    guard let opened else { return }
    guest.submit(opened.device, request)
    opened.device.commit()
  }

  package func askForCut() {
    guard let port = opened?.port else { return }
    cuts.append((port.cut(), guest.model.submitFlush()))
  }

  package func askForSnapshot() {
    snapshots += 1
    _ = opened?.port?.snapshot(label: "s\(snapshots)", publish: true)
  }

  /// Everything that the store has leaves the cache.
  package func evictAll() {
    guard let tables = opened?.tables, let engine else { return }
    for s in tables.state.ordered where s.uploadedSeq != nil && tables.directory[s.number]?.locator != .local {
      engine.cache.evict(volume: volume, segment: s.number)
    }
  }

  /// The disk lied about the last transactions of the journal. Between a crash and `open`; false when there were not as many.
  package func loseLastTransactions(_ count: Int = 1) -> Bool {
    for _ in 0..<count where disk?.loseLastTransaction() != true { return false }
    return true
  }

  package var disk: SimJournalDisk? { host.journals.disk(DataDirectory(root: "/data").volume(volume)) }
  /// Entries of the journal that are durable.
  package var entries: Int { disk?.entries.count ?? 0 }

  /// Opens after the disk lied: refusing is an answer, serving one moment of history is one, a mixture is none.
  ///
  /// - Parameter published: what was reported as published must be there.
  package func openAfterLie(published: Bool = false) throws -> Bool {
    let engine = try host.process()
    let entries = entries
    let opened: OpenedVolume
    do throws(ElideError) { opened = try engine.openLocal(volume) } catch {
      count("refused after a lie")
      trace.note(UInt64(error.message.utf8.count))
      lastRefusal = error.message
      return false
    }
    // One entry is that it was opened.
    if self.entries > entries + 1 { count("rolled forward after a lie") }
    let found: [[UInt8]]
    do throws(SimGuest.Unreadable) {
      found = try SimGuest.readAll(
        opened.device,
        pump: {
          for lane in Lane.allCases { self.host.executor.run(lane, &self.random) }
          _ = opened.stepKeeper()
          opened.device.poll()
          self.host.clock.advance(milliseconds: 1)
        })
    } catch {
      count("unreadable after a lie")
      return false
    }
    if let text = guest.model.faultOfCopy(found.map { DeviceModel.hash($0) }, since: published ? reported : 0) {
      throw Wrong("seed \(seed): after a lie of the disk: \(text)")
    }
    count("served after a lie")
    self.engine = engine
    self.opened = opened
    opened.device.sink = guest
    guest.model.survive(found)
    return true
  }

  private func seldom(_ opened: OpenedVolume) {
    switch random.below(8) {
    case 0, 1:
      guard let port = opened.port, cuts.count < 2 else { return }
      cuts.append((port.cut(), guest.model.submitFlush()))
      count("cuts asked for")
    case 2:
      snapshots += 1
      _ = opened.port?.snapshot(label: "s\(snapshots)", publish: random.chance(1, in: 2))
    case 3: bucket.deliverDuplicate(&random)
    case 4: evict(opened)
    default: opened.device.poll()
    }
  }

  /// The cache gives a segment up that the store has.
  private func evict(_ opened: OpenedVolume) {
    guard let tables = opened.tables, let engine else { return }
    let safe = tables.state.ordered.filter { $0.uploadedSeq != nil && tables.directory[$0.number]?.locator != .local }
    guard !safe.isEmpty else { return }
    let n = safe[random.below(safe.count)].number
    if engine.cache.evict(volume: volume, segment: n) > 0 { count("evictions") }
  }

  private func takeCuts() {
    cuts.removeAll { cut in
      guard let answer = cut.reply.poll() else { return false }
      switch answer {
      case .success:
        reported = max(reported, cut.mark)
        count("cuts reported")
      case .failure(let error):
        // Without a fault of disk or journal a keeper has no reason to give up, whatever the store does.
        if !isDisturbed { complain("a cut was refused: \(error)") }
      }
      return true
    }
  }

  /// Lets everything finish that is under way; false when it does not.
  @discardableResult
  package func settle(rounds: Int = 400) -> Bool {
    guard let opened else { return false }
    opened.device.commit()
    for _ in 0..<rounds where !faults.isCrashed {
      if guest.inFlight == 0 && cuts.isEmpty { return true }
      for lane in Lane.allCases { host.executor.run(lane, &random) }
      for _ in 0..<8 { _ = opened.stepKeeper() }
      opened.device.poll()
      host.clock.advance(milliseconds: 20)
      takeCuts()
    }
    if guest.inFlight > 0 && !isDisturbed {
      complain("\(guest.inFlight) requests never complete: \(opened.port?.status.lastError ?? "")")
    }
    if !cuts.isEmpty && !isDisturbed { complain("a cut is never answered: \(opened.port?.status.lastError ?? "")") }
    return false
  }

  // MARK: oracles

  /// The store oracle: whoever has only the bucket opens the newest cut, and sees one moment of the volume's history that
  /// holds everything that was reported as published.
  package func checkStore() {
    guard bucket.version != checkedVersion else { return }
    checkedVersion = bucket.version
    let other = SimHost(
      seed: seed &+ bucket.version, bucket: bucket.copy(), clock: SimClock(milliseconds: host.clock.milliseconds))
    do {
      let engine = try other.process()
      let copy: OpenedVolume
      do throws(ElideError) { copy = try engine.openPublished(volume) } catch {
        if error.kind == .notFound, reported == 0 { return }
        throw error
      }
      guard let point = copy.point else { return complain("a copy without a point") }
      if point < lastPoint { complain("the newest cut fell from entry \(lastPoint) to \(point)") }
      lastPoint = point
      let sampled = random.chance(1, in: 2)
      let found: [[UInt8]]
      do throws(SimGuest.Unreadable) {
        found = try SimGuest.readAll(
          copy.device,
          pump: {
            other.executor.drain()
            _ = copy.stepKeeper()
            copy.device.poll()
            other.clock.advance(milliseconds: 1)
          })
      } catch {
        return complain("another host at entry \(point): \(error): \(Self.failures(copy.fetcher))")
      }
      if let text = guest.model.faultOfCopy(found.map { DeviceModel.hash($0) }, since: reported) {
        complain("another host at entry \(point): \(text)")
      }
      count("copies checked")
      if sampled { try checkAudit(engine, .store) }
    } catch {
      complain("another host: \(error)")
    }
  }

  /// What fetching the first block of each segment says, where that fails; for messages.
  static func failures(_ fetcher: Fetcher) -> String {
    var texts: [String] = []
    for segment in 0..<200 as Range<UInt64> {
      do throws(SegmentError) { try fetcher.fetch(segment: segment, r: 0, count: 1) } catch {
        if case .unknownSegment = error { continue }
        texts.append("\(segment): \(error)")
      }
    }
    return texts.joined(separator: ", ")
  }

  private func checkAudit(_ engine: Engine, _ source: HistorySource) throws {
    let report = try engine.auditor().replay(volume, from: source)
    if !report.agrees { complain("replay from \(source): \(String(describing: report.divergence))") }
    count("replays")
  }

  /// The replay oracle: folding from entry 0 gives the live projections, byte for byte.
  package func checkReplay(_ opened: OpenedVolume) throws {
    guard let live = opened.tables, let engine else { return }
    let fresh: VolumeFold
    do {
      fresh = try engine.auditor().fold(volume, from: .local)
    } catch {
      if isDisturbed { return }
      throw Wrong("seed \(seed): fold from the beginning: \(error)")
    }
    if fresh.state.encode() != live.state.encode() { complain("the live state is not the fold of the journal") }
    if fresh.base.map.root() != live.map.root() { complain("the live map is not the fold of the journal") }
    if fresh.base.account.encode() != live.fold.base.account.encode() {
      complain("the live account is not the fold of the journal")
    }
    if let text = live.state.checkInvariants() { complain("state: \(text)") }
    if let text = live.map.checkInvariants().first { complain("map: \(text)") }
    if let n = live.fold.base.account.checkInvariants(live.map) { complain("account: segment \(n) is miscounted") }
    count("folds compared")
  }
  package func checkReplay() { if let opened { do { try checkReplay(opened) } catch { complain("\(error)") } } }
}
