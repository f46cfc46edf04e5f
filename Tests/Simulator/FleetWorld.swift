import ElideEngine
import ElideIO
import ElideProjections

/// One host with several volumes in one process, and what happens to volumes besides requests: forks, imports, resizes,
/// snapshots that are opened elsewhere, a second process on the same data directory, a full disk, a store that is away.
/// Everything real but the world; who moves next is drawn from the seed.
///
/// One idea per extension file: `+Life` (what is seldom), `+Oracles`.
package final class FleetWorld {
  /// A volume, its guest, and what was promised of it.
  final class Member {
    let name: String
    let volume: ULID
    let guest: SimGuest
    var opened: OpenedVolume?
    var cuts: [(reply: Reply<UInt64>, mark: UInt64)] = []
    var resizes: [(reply: Reply<UInt64>, size: Int)] = []
    var snapshots: [(label: String, reply: Reply<SnapshotInfo>, mark: UInt64)] = []
    /// Published snapshots: where, what they must hold at least, and what they were seen to hold.
    var kept: [(label: String, point: UInt64, mark: UInt64, seen: [UInt64]?)] = []
    var reported: UInt64 = 0
    /// The device must have so many bytes, from here on: the largest resize that was answered.
    var promisedSize = 0
    var lastPoint: UInt64 = 0
    var promisesAcknowledged = true

    init(name: String, volume: ULID, guest: SimGuest) {
      self.name = name
      self.volume = volume
      self.guest = guest
    }
  }

  package let seed: UInt64
  package let bucket = SimBucket()
  package let host: SimHost
  package private(set) var trace = TraceHash()
  package private(set) var counts: [String: Int] = [:]
  package var faults: SimFaults { host.faults }
  package var fault: String? {
    wrong ?? members.lazy.compactMap { m in m.guest.fault.map { "\(m.name): \($0); \(self.circumstances(m))" } }.first
  }

  private func circumstances(_ m: Member) -> String {
    let s = m.opened?.port?.status
    return "short: \(isShort), away: \(isAway), back: \(isComingBack), writing: \(s?.writing.rawValue ?? "-"), "
      + "unsent: \(s?.unsentBytes ?? 0) + \(s?.unsealedBytes ?? 0), \(s?.lastError ?? "")"
  }
  package var operations: Int { members.reduce(0) { $0 + Int($1.guest.completed + $1.guest.failed) } }

  var members: [Member] = []
  var engine: Engine?
  var random: SeededRandom
  /// Names that were begun: a crash leaves them reserved, and the next attempt takes them over.
  var nextName = 0
  var isShort = false
  var isAway = false
  /// From the store's return until all that waited has gone on.
  var isComingBack = false
  private var firedAtStart: UInt64 = 0
  private var wrong: String?

  static let mostMembers = 4

  package init(seed: UInt64) throws {
    self.seed = seed
    random = SeededRandom(seed: seed ^ 0xF1EE7)
    host = SimHost(seed: seed, bucket: bucket)
    // An outage is to meet the limit.
    host.configuration.unsentBytes = 96 * 4096
    let engine = try host.process()
    for n in 0..<(1 + random.below(2)) {
      let size = (64 + random.below(64)) * 4096 + random.below(8) * 512
      let made = try engine.createVolume(name: "v\(n)", size: UInt64(size))
      add("v\(n)", made.volume, SimGuest(size: size, seed: seed &+ UInt64(n)))
    }
  }

  @discardableResult
  func add(_ name: String, _ volume: ULID, _ guest: SimGuest) -> Member {
    let member = Member(name: name, volume: volume, guest: guest)
    guest.workload.longest = 20
    guest.mayFail = { [unowned self] in self.isDisturbed }
    guest.mayRefuse = { [unowned self, unowned member] in self.mayRefuse(member) }
    members.append(member)
    return member
  }

  func count(_ what: String) { counts[what, default: 0] += 1 }
  func note(_ n: UInt64) { trace.note(n) }
  var isDisturbed: Bool { faults.isCrashed || faults.fired > firedAtStart }
  func complain(_ text: String) { wrong = wrong ?? text }

  // MARK: a process

  /// Starts a process that serves all volumes. False when a crash or a fault came between.
  package func start() throws -> Bool {
    firedAtStart = faults.fired
    if isShort { count("started on a full disk") }
    let engine: Engine
    do throws(ElideError) { engine = try host.process() } catch {
      if isDisturbed || isShort { return false }
      throw Wrong("the engine does not start: \(error)")
    }
    self.engine = engine
    for m in members {
      do throws(ElideError) { m.opened = try engine.openLocal(m.volume) } catch {
        if isDisturbed || isShort { return false }
        throw Wrong("\(m.name) does not open: \(error)")
      }
      guard try checkAfterCrash(m) else { return false }
    }
    return true
  }

  private func checkAfterCrash(_ m: Member) throws -> Bool {
    guard let opened = m.opened else { return false }
    let size = Int(opened.device.size)
    let least = max(m.guest.model.size, m.promisedSize)
    if size < least { throw Wrong("\(m.name) has \(size) bytes and had \(least)") }
    m.guest.grow(to: size)
    let found: [[UInt8]]
    do throws(SimGuest.Unreadable) { found = try SimGuest.readAll(opened.device, pump: { self.pump(m) }) } catch {
      if isDisturbed || isAway { return false }
      throw Wrong(
        "\(m.name), after a crash: \(error): \(EngineWorld.failures(opened.fetcher)) \(opened.port?.status.reason ?? "")")
    }
    var model = m.guest.model
    if m.promisesAcknowledged && !isDisturbed { model.keepAcknowledged() }
    if let text = model.faultAfterCrash(found.map { DeviceModel.hash($0) }) { throw Wrong("\(m.name), after a crash: \(text)") }
    m.guest.model.survive(found)
    m.promisesAcknowledged = true
    opened.device.sink = m.guest
    count("opened")
    return true
  }

  /// The next request of the guest.
  func submit(_ m: Member, _ device: VolumeDevice) {
    let writing = m.opened?.port?.status.writing ?? .free
    m.guest.workload.wholeBlocks = isAway || isShort || writing != .free
    m.guest.submit(device)
  }

  /// ENOSPC: when the disk is full, or when as much as may be waits for a store that has failed.
  private func mayRefuse(_ m: Member) -> Bool {
    if isShort { return true }
    guard isAway || isComingBack else { return false }
    // What was refused by then may be told a little later.
    guard let status = m.opened?.port?.status else { return true }
    return isComingBack || status.unsentBytes + status.unsealedBytes >= host.configuration.unsentBytes - 2 * 32 * 4096
  }

  func pump(_ m: Member, milliseconds: UInt64 = 1) {
    host.executor.run(.sync, &random)
    host.executor.run(.fetch, &random)
    for lane in [Lane.ahead, .seal, .overdue] { host.executor.run(lane, &random) }
    _ = m.opened?.stepKeeper()
    m.opened?.device.poll()
    host.clock.advance(milliseconds: milliseconds)
  }

  /// The process ends, wherever it was.
  package func crash(_ mode: CrashMode) {
    count(mode == .powerLoss ? "power losses" : "kills")
    let isHealthy = faults.fired == firedAtStart
    faults.crashNow()
    for m in members {
      m.promisesAcknowledged = mode == .processKill && isHealthy && m.promisesAcknowledged
      m.opened = nil
      m.guest.crash()
      m.cuts = []
      m.resizes = []
      m.snapshots = []
    }
    engine = nil
    host.executor.dropAll()
    host.crash(mode)
    note(faults.calls)
  }

  // MARK: steps

  /// One step of somebody.
  package func step() {
    guard !members.isEmpty else { return }
    let m = random.pick(members)
    guard let opened = m.opened else { return }
    let choice = random.below(32)
    note(UInt64(choice))
    switch choice {
    case 0...9:
      for _ in 0..<(1 + random.below(3)) where m.guest.inFlight < 24 { submit(m, opened.device) }
      if random.chance(2, in: 3) { opened.device.commit() }
    case 10...11: opened.device.poll()
    case 12...13: host.executor.run(.sync, &random)
    case 14...15:
      host.executor.run(.fetch, &random)
      host.executor.run(.ahead, &random)
    case 16...19: for lane in [Lane.seal, .overdue, .ship] { host.executor.run(lane, &random) }
    case 20...27: for _ in 0..<(1 + random.below(4)) { _ = opened.stepKeeper() }
    case 28...29: host.clock.advance(milliseconds: random.pick([10, 200, 1500]))
    default: seldom(m, opened)
    }
    look(m)
    note(m.guest.trace.value)
    note(bucket.version)
  }

  /// Takes in what was answered, and a device that grew.
  func look(_ m: Member) {
    if let opened = m.opened, Int(opened.device.size) > m.guest.model.size {
      m.guest.grow(to: Int(opened.device.size))
      count("grew under its guest")
    }
    m.cuts.removeAll { cut in
      guard let answer = cut.reply.poll() else { return false }
      switch answer {
      case .success:
        m.reported = max(m.reported, cut.mark)
        count("cuts reported")
      case .failure(let error): if !isDisturbed { complain("\(m.name): a cut was refused: \(error)") }
      }
      return true
    }
    m.resizes.removeAll { resize in
      guard let answer = resize.reply.poll() else { return false }
      switch answer {
      case .success:
        m.promisedSize = max(m.promisedSize, resize.size)
        count("resized")
      case .failure(let error):
        if !isDisturbed && error.kind != .tryLater { complain("\(m.name): a resize was refused: \(error)") }
      }
      return true
    }
    m.snapshots.removeAll { snapshot in
      guard let answer = snapshot.reply.poll() else { return false }
      switch answer {
      case .success(let info):
        if let point = info.point {
          m.kept.append((snapshot.label, point, snapshot.mark, nil))
          count("snapshots published")
        } else {
          complain("\(m.name): a published snapshot has no point")
        }
      case .failure(let error):
        if !isDisturbed && error.kind != .tryLater { complain("\(m.name): a snapshot was refused: \(error)") }
      }
      return true
    }
  }

  /// Lets everything finish that is under way; false when it does not, which is a finding while disk and store are there.
  @discardableResult
  package func settle(rounds: Int = 600) -> Bool {
    for m in members { m.opened?.device.commit() }
    for _ in 0..<rounds where !faults.isCrashed {
      if members.allSatisfy({ $0.guest.inFlight == 0 && $0.cuts.isEmpty && $0.resizes.isEmpty && $0.snapshots.isEmpty }) {
        return true
      }
      for lane in Lane.allCases { host.executor.run(lane, &random) }
      for m in members {
        for _ in 0..<8 { _ = m.opened?.stepKeeper() }
        m.opened?.device.poll()
        look(m)
      }
      host.clock.advance(milliseconds: 20)
    }
    if !isDisturbed && !isAway && !isShort {
      for m in members where m.guest.inFlight > 0 || !m.cuts.isEmpty || !m.snapshots.isEmpty || !m.resizes.isEmpty {
        complain(
          "\(m.name): \(m.guest.inFlight) requests, \(m.cuts.count) cuts, \(m.snapshots.count) snapshots, \(m.resizes.count) resizes"
            + " never complete: \(m.opened?.port?.status.lastError ?? "") \(m.opened?.port?.status.reason ?? "")")
      }
    }
    return false
  }
}
