import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// Several machines on one store: each with a disk and a clock of its own, the real engine, lifecycle and keepers, guests that
/// write and read what it serves, and operators who give commands. Requests and answers get lost and come again late, reads and
/// lists are stale; hosts crash at any call, stand still for hours in the middle of one, come back. Who moves next is drawn from
/// a seed.
///
/// One idea per extension file: `+Commands` (what operators ask for, and what was answered), `+Care` (what a coordinator does
/// by itself), `+Trouble` (what befalls the bucket and the clocks), `+Oracles` (what must hold), `+End` (the storm is over).
package final class HostsWorld {
  package struct Limits: Sendable {
    /// Names that operators work with; what is rescued and renamed comes on top.
    package var names = 4
    package var blocks = 48
    package init() {}
  }

  /// A command, and what its client was told last.
  struct Request {
    enum Told: Equatable {
      case committed(seq: UInt64?, id: String?)
      case done
      case never(String)
      case open
    }
    var command: LifecycleCommand
    var host: Int
    var told = Told.open
    /// It was not known at least once, or nobody was there to be told.
    var wasOpen = false
  }

  package let seed: UInt64
  package let bucket = SimBucket()
  package internal(set) var hosts: [WorldHost] = []
  package internal(set) var met: [String: Int] = [:]
  package internal(set) var commands = 0
  package internal(set) var faults: [String] = []
  package private(set) var trace = TraceHash()
  let limits: Limits
  var random: SeededRandom
  var requests: [String: Request] = [:]
  var open: [String] = []
  var steps = 0
  private var depth = 0
  /// Nothing goes wrong any more.
  var isCalm = false
  /// The logs as the bucket has them, folded as far as looked at.
  var truth: [String: NameFold] = [:]
  /// Entries of the logs, by name: kind, request, id, actor.
  var entries: [String: [Envelope]] = [:]
  /// Names on which nothing more is asked of: an entry from the future stands in their way.
  var frozen: Set<String> = []
  /// Slots in which somebody put what is no entry, as "name seq".
  var poisoned: Set<String> = []
  /// Volumes that continue less than was reported, and say so.
  var lossy: Set<ULID> = []
  /// Volumes of which something was lost for good: what stood there was gone, and somebody put something else in its place.
  var ruined: Set<ULID> = []
  var nextName = 0
  let image: [UInt8]

  package init(seed: UInt64, hosts count: Int = 3, limits: Limits = Limits()) throws {
    self.seed = seed
    self.limits = limits
    random = SeededRandom(seed: seed ^ 0x4057)
    var bytes: [UInt8] = []
    for i in 0..<24 as Range<UInt8> { bytes += [UInt8](repeating: i % 5 == 0 ? 0 : i, count: 4096) }
    image = bytes
    for i in 0..<count {
      let letter = String(UnicodeScalar(UInt8(ascii: "a") + UInt8(i)))
      let machine = SimHost(seed: seed &* 64 &+ UInt64(i), bucket: bucket)
      try machine.files.replaceFile("/image", with: image)
      join(try WorldHost(letter, machine))
    }
  }

  /// Another machine takes part from now on.
  func join(_ host: WorldHost) {
    hosts.append(host)
    host.servant.world = self
    truth.merge(Dictionary(uniqueKeysWithValues: names.map { ($0, NameFold(name: $0)) })) { old, _ in old }
    host.store.inner.weather = isCalm ? .clear : Self.weather
    host.store.pause = { [unowned self] in self.interleave() }
    host.store.isStale = { [unowned self] key in
      // Names are read from what is strongly consistent in theory; folds must stand it all the same.
      !self.isCalm && key.hasPrefix("events/") && self.random.chance(1, in: 300) && self.note("stale read")
    }
  }

  static let weather: StoreWeather = {
    var w = StoreWeather()
    w.lostRequest = 500
    w.lostResponse = 1000
    w.serverError = 400
    w.duplicate = 2500
    w.staleList = 1500
    return w
  }()

  @discardableResult
  func note(_ what: String) -> Bool {
    met[what, default: 0] += 1
    return true
  }
  func complain(_ text: String) { if faults.count < 20 { faults.append("step \(steps): \(text)") } }
  func host(_ id: String?) -> WorldHost? { hosts.first { $0.id == id } }

  // MARK: Steps

  /// In the pauses of one host's requests others act: a moment, or hours.
  private func interleave() {
    if isCalm { return }
    if random.chance(1, in: 12) {
      let before = bucket.objects.count
      if bucket.deliverDuplicate(&random) {
        note(bucket.objects.count == before ? "late duplicate of what is there" : "late put")
      }
    }
    guard depth < 2 else { return }
    if random.chance(1, in: 14) {
      depth += 1
      defer { depth -= 1 }
      note("interleaved")
      move()
    } else if depth == 0, random.chance(1, in: 700) {
      depth += 2
      defer { depth -= 2 }
      note("stood still for hours in the middle of a request")
      for _ in 0..<24 { move() }
    }
  }

  /// One step of the world, then a look at whether everything holds.
  package func step() {
    steps += 1
    move()
    look()
    if steps % 60 == 0 { lookDeeply() }
    trace.note(bucket.version)
  }

  private func move() {
    let idle = hosts.indices.filter { !hosts[$0].isBusy && hosts[$0].pausedUntil <= steps }
    guard !idle.isEmpty else { return }
    let i = random.pick(idle)
    let host = hosts[i]
    trace.note(UInt64(i))
    host.isBusy = true
    switch random.below(100) {
    case 0..<42: serve(host)
    case 42..<54: care(host)
    case 54..<58: befall(host)
    case 58..<62: trouble(host)
    case 62..<66 where !open.isEmpty: askAgain(i)
    default: command(i)
    }
    if host.faults.isCrashed { comeBack(host, random.chance(1, in: 2) ? .powerLoss : .processKill) }
    host.isBusy = false
  }

  /// Crashes to come, long pauses, clocks that go wrong.
  private func befall(_ host: WorldHost) {
    switch random.below(8) {
    case 0...3: host.faults.armCrash(after: UInt64(1 + random.below(90)), random.pick(CrashPhase.allCases))
    case 4:
      note("killed between calls")
      comeBack(host, random.chance(1, in: 2) ? .powerLoss : .processKill)
    case 5:
      host.pausedUntil = steps + 20 + random.below(40)
      note("paused")
    case 6:
      host.clock.skew = random.pick([-86_400_000, 86_400_000, 0, -3_600_000])
      note("clock wrong")
    default:
      host.clock.advance(milliseconds: 3_600_000 * UInt64(1 + random.below(5)))
      note("hours pass")
    }
  }

  /// The process ended; the machine starts another one.
  func comeBack(_ host: WorldHost, _ mode: CrashMode) {
    note(mode == .powerLoss ? "power loss" : "kill")
    host.die(mode)
    for _ in 0..<3 {
      do throws(ElideError) {
        try host.begin()
        host.servant.world = self
        host.pausedUntil = 0
        return
      } catch {
        if !host.faults.isCrashed { return complain("\(host.letter) does not start: \(error)") }
        host.die(.processKill)
      }
    }
  }

  // MARK: Guests

  /// Guests of a host submit, its threads and keepers move.
  func serve(_ host: WorldHost) {
    host.clock.advance(milliseconds: random.pick([1, 20, 400, 6000]))
    for volume in host.served.keys.sorted() {
      guard let one = host.served[volume] else { continue }
      // What serves as a fenced process does no more.
      let guest = one.history.guest
      for _ in 0..<(1 + random.below(4)) where guest.inFlight < 16 { guest.submit(one.opened.device) }
      one.opened.device.commit()
      for _ in 0..<(2 + random.below(6)) where !host.faults.isCrashed && host.served[volume] != nil {
        // A job that asks the store lets others move, who draw too.
        var draws = random.fork()
        for lane in Lane.allCases { host.machine.executor.run(lane, &draws) }
        for _ in 0..<4 { _ = one.opened.stepKeeper() }
        one.opened.device.poll()
        host.clock.advance(milliseconds: 5)
      }
      if host.faults.isCrashed { return }
      if guest.inFlight == 0 { note("guest requests", guest.completed) }
      if random.chance(1, in: 6) { cut(volume, host) }
    }
  }

  private func note(_ what: String, _ n: UInt64) { met[what] = max(met[what] ?? 0, Int(clamping: n)) }

  private func cut(_ volume: ULID, _ host: WorldHost) {
    do throws(ElideError) {
      _ = try host.servant.cut(volume)
      note("cut reported")
    } catch { note("cut refused: \(error.kind)") }
  }
}
