import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// What was written to a name by one owner after the other: a row of block writes, and how many of them are in a cut that was
/// reported. Whoever owns the name must show the state after some write, none before the last reported one.
package struct TakeoverModel {
  package private(set) var writes: [(block: Int, value: UInt64)] = []
  package private(set) var reported = 0
  package let blocks: Int
  private var next: UInt64 = 1

  package init(blocks: Int) { self.blocks = blocks }

  package mutating func write(_ block: Int) -> UInt64 {
    defer { next += 1 }
    writes.append((block, next))
    return next
  }
  package mutating func report(_ count: Int) { reported = max(reported, count) }

  package func state(_ count: Int) -> [UInt64] {
    var out = [UInt64](repeating: 0, count: blocks)
    for w in writes.prefix(count) { out[w.block] = w.value }
    return out
  }

  /// How many writes the contents show; nil when they are no state that may be seen.
  package func moment(_ found: [UInt64]) -> Int? {
    var n = writes.count
    while n >= reported {
      if state(n) == found { return n }
      n -= 1
    }
    return nil
  }

  /// Somebody went on from there: what came after is not of this name any more.
  package mutating func goOn(from moment: Int) {
    writes.removeSubrange(moment...)
    reported = min(max(reported, moment), writes.count)
  }
}

/// A machine in a world of several: its engine is what a process that runs now has.
package final class TakeoverHost {
  package let name: String
  package let machine: SimHost
  package let store: HookedStore
  package private(set) var engine: Engine
  package var opened: OpenedVolume?
  package var grant: ServiceGrant?

  convenience init(_ name: String, seed: UInt64, bucket: SimBucket, clock: SimClock) throws(ElideError) {
    try self.init(name, SimHost(seed: seed, bucket: bucket, clock: clock))
  }

  package init(_ name: String, _ machine: SimHost) throws(ElideError) {
    self.name = name
    self.machine = machine
    store = HookedStore(machine.store)
    machine.front = store
    engine = try machine.process()
  }

  package var lifecycle: Lifecycle { Lifecycle(engine) }
  package var id: String { engine.host.id }
  package var isGone: Bool { machine.faults.isCrashed }

  /// The process is killed where it stands, and another one starts.
  package func restart(_ mode: CrashMode = .processKill) throws(ElideError) {
    opened?.abandon()
    (opened, grant) = (nil, nil)
    store.before = nil
    machine.crash(mode)
    machine.faults.restart()
    engine = try machine.process()
  }

  /// The process that served is gone; the host goes on.
  package func drop() {
    opened?.abandon()
    (opened, grant) = (nil, nil)
  }

  /// The serve gate, and the device behind it.
  package func serve(_ name: String, claim: Bool = false) throws(ElideError) {
    guard case .write(let grant) = try lifecycle.enter(name, claim: claim) else {
      throw ElideError(.failed, "\(name) is only read")
    }
    self.grant = grant
    opened = try engine.openLocal(grant.volume, grant: grant)
  }

  /// Ends service in good order; the answer is the cut.
  package func stop() throws(ElideError) {
    guard let opened, let grant else { throw ElideError(.failed, "nothing is served") }
    self.opened = nil
    try opened.close(ship: true, milliseconds: 60_000)
    try lifecycle.leave(grant)
  }

  /// Publishes what was written until now.
  package func cut() throws(ElideError) -> UInt64 {
    guard let opened, let port = opened.port else { throw ElideError(.failed, "nothing is served") }
    let reply = port.cut()
    try opened.pump(milliseconds: 20_000) { reply.poll() != nil }
    guard let answer = reply.poll() else { throw ElideError(.tryLater, "no answer") }
    return try answer.get()
  }
}

/// Requests to a device that is opened, one by one; blocks hold one number, again and again.
package final class BlockGuest: CompletionSink {
  private let opened: OpenedVolume
  private var token: UInt64 = 0
  private var ended: Int32?

  package init(_ opened: OpenedVolume) {
    self.opened = opened
    opened.device.sink = self
  }
  package func complete(token: UInt64, error: Int32) { if token == self.token { ended = error } }

  package func run(
    _ operation: BlockRequest.Operation, _ block: Int, _ buffer: UnsafeMutableRawPointer? = nil
  ) throws(ElideError) {
    token += 1
    ended = nil
    let isFlush = operation == .flush
    let request = BlockRequest(
      operation: operation, offset: isFlush ? 0 : UInt64(block) * 4096, length: isFlush ? 0 : 4096, buffer: buffer, token: token)
    var error: Int32
    switch opened.device.submit(request) {
    case .done(let e): error = e
    case .queued:
      opened.device.commit()
      try opened.pump(milliseconds: 20_000) { ended != nil }
      error = ended ?? 0
    }
    if error != 0 { throw ElideError(.failed, "\(operation) of block \(block): \(error)") }
  }

  package func write(_ block: Int, _ value: UInt64) throws(ElideError) {
    var words = [UInt64](repeating: value, count: 512)
    words.withUnsafeMutableBytes { _ in }
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
    defer { buffer.deallocate() }
    buffer.copyMemory(from: &words, byteCount: 4096)
    try run(.write, block, buffer)
  }

  package func read(_ block: Int) throws(ElideError) -> UInt64 {
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
    defer { buffer.deallocate() }
    try run(.read, block, buffer)
    let words = buffer.bindMemory(to: UInt64.self, capacity: 512)
    for i in 1..<512 where words[i] != words[0] {
      throw ElideError(.fault, "block \(block) is a mixture of \(words[0]) and \(words[i])")
    }
    return words[0]
  }

  package func readAll(_ blocks: Int) throws(ElideError) -> [UInt64] {
    var out: [UInt64] = []
    for block in 0..<blocks { out.append(try read(block)) }
    return out
  }
}

/// Several hosts on one bucket, and a name that goes from one to the other.
package final class TakeoverWorld {
  package static let blocks = 48
  package let bucket = SimBucket()
  package let clock = SimClock()
  package let hosts: [TakeoverHost]
  package var model = TakeoverModel(blocks: TakeoverWorld.blocks)
  package let name = "db"

  package init(seed: UInt64 = 1, hosts count: Int = 4) throws(ElideError) {
    var hosts: [TakeoverHost] = []
    for i in 0..<count {
      let letter = String(UnicodeScalar(UInt8(ascii: "a") + UInt8(i)))
      hosts.append(try TakeoverHost(letter, seed: seed &* 16 &+ UInt64(i), bucket: bucket, clock: clock))
    }
    self.hosts = hosts
  }

  package var a: TakeoverHost { hosts[0] }
  package var b: TakeoverHost { hosts[1] }
  package var c: TakeoverHost { hosts[2] }
  package var d: TakeoverHost { hosts[3] }

  /// a makes the name and serves it; `cut` writes are in a reported cut, `unsent` are not.
  package func begin(cut: Int = 20, unsent: Int = 12) throws(ElideError) {
    try a.lifecycle.perform(.create(name: name, size: UInt64(Self.blocks) * 4096, from: nil))
    try a.serve(name)
    try write(a, cut)
    if cut > 0 {
      _ = try a.cut()
      model.report(model.writes.count)
    }
    try write(a, unsent)
  }

  package func write(_ host: TakeoverHost, _ count: Int) throws(ElideError) {
    guard let opened = host.opened else { throw ElideError(.failed, "\(host.name) serves nothing") }
    let guest = BlockGuest(opened)
    for i in 0..<count {
      let block = (model.writes.count * 7 + i * 3) % Self.blocks
      try guest.write(block, model.write(block))
    }
    try guest.run(.flush, 0)
  }

  /// Whatever is still to be put goes to the store: the hint after a page.
  package func idle(_ host: TakeoverHost) { try? host.opened?.pump(milliseconds: 500) { false } }

  /// What a host that owns the name shows, opened as any command opens it; it is a state that may be seen, and what comes after
  /// goes on from there.
  package func check(_ host: TakeoverHost, _ what: String) throws(ElideError) {
    let found = try contents(host)
    guard let moment = model.moment(found) else {
      let n = model.reported
      let expected = model.state(n)
      let differs = (0..<Self.blocks).filter { found[$0] != expected[$0] }
      throw ElideError(
        .fault, "\(what): \(host.name) does not show what was reported (write \(n) of \(model.writes.count)); blocks \(differs)")
    }
    model.goOn(from: moment)
  }

  package func contents(_ host: TakeoverHost) throws(ElideError) -> [UInt64] {
    if let opened = host.opened { return try BlockGuest(opened).readAll(Self.blocks) }
    let opened = try host.engine.open(VolumeSource(base: .name(name)))
    defer { opened.abandon() }
    return try BlockGuest(opened).readAll(Self.blocks)
  }

  /// What an outsider reads who has only the store: the newest cut of the volume that the name stands for.
  package func published(_ base: VolumeSource.Base? = nil) throws(ElideError) -> [UInt64] {
    let reader = try TakeoverHost("reader", seed: 99, bucket: bucket, clock: clock)
    let found = try reader.engine.find(base ?? .name(name), fresh: true)
    let opened = try reader.engine.openPublished(found.volume, key: found.key)
    return try BlockGuest(opened).readAll(Self.blocks)
  }

  package func state(_ name: String? = nil) throws(ElideError) -> NameState {
    var reader = try NameReader(name ?? self.name, store: SimStore(bucket, seed: 5))
    while let slot = try reader.next() {
      if let why = slot.violation ?? slot.fault { throw ElideError(.fault, "entry \(slot.seq) does not count: \(why)") }
    }
    return reader.fold.state
  }

  /// The entries of the name's log, as kind and host.
  package var story: String {
    var out: [String] = []
    guard var reader = try? NameReader(name, store: SimStore(bucket, seed: 5)) else { return "" }
    while let slot = (try? reader.next()) ?? nil {
      let host = hosts.first { $0.id == slot.entry?.envelope.actor }?.name ?? "?"
      out.append("\(slot.entry?.envelope.kind ?? "?")(\(host))")
    }
    return out.joined(separator: " ")
  }

  /// Whether a terminal page stands in the page log of a volume.
  package func hasEnd(_ volume: ULID) -> Bool {
    bucket.objects.contains { key, bytes in
      key.hasPrefix("volumes/\(volume)/journal/") && (try? JournalPage.parse(bytes))?.header.isTerminal == true
    }
  }

  /// The audit of the name and of all its volumes finds nothing.
  package func audit() throws(ElideError) {
    let report = try NameAuditor(store: SimStore(bucket, seed: 5)).verify(name, deep: true)
    if let fault = report.faults.first { throw ElideError(.fault, "audit: \(fault)") }
    for volume in report.volumes { if let fault = volume.faults.first { throw ElideError(.fault, "audit: \(fault)") } }
  }

  @discardableResult
  package func force(
    _ host: TakeoverHost, acceptsLoss: Bool = false, isSelf: Bool = false, expect: String? = nil, dryRun: Bool = false
  ) throws(ElideError) -> LifecycleReport {
    // Whatever this host served of it before: its process is gone.
    host.drop()
    return try host.lifecycle.perform(
      .forceRelease(name: name, expect: expect, isSelf: isSelf, acceptsLoss: acceptsLoss), CommandContext(isDryRun: dryRun))
  }
}
