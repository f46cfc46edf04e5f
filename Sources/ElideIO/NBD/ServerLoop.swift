import CElide
import Glibc

/// The thread of an NBD server: one epoll over listeners, connections and devices. Each round takes what the sockets hold,
/// hands all requests to the devices, commits each device once, and sends what is finished with one call per
/// connection. In a steady state it allocates nothing.
///
/// A crash of it loses only what no client has been told.
final class ServerLoop {
  /// The runs that one context's part of a BLOCK_STATUS reply may have.
  static let statusRuns = 4000
  /// Of the flags of `base:allocation`.
  static let readsAsZeroes: UInt32 = 2
  /// How much one connection may take in before others get their turn.
  private static let receiveBudget = 1 << 20

  enum Kind: UInt64 { case connection, listener, wake, device }
  static func key(_ kind: Kind, _ number: Int) -> UInt64 { kind.rawValue << 56 | UInt64(number) }

  let configuration: NBDServerConfiguration
  let counters: ServerCounters
  var pool: BufferPool
  /// What the last status query found.
  private(set) var runs: [BlockExtent] = []
  /// Of the read that is being sent in place.
  let extents = UnsafeMutablePointer<FileExtent>.allocate(capacity: Connection.mostExtents)
  let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: Connection.mostExtents)

  let provider: any ExportProvider
  let control: ServerControl
  var listeners: [Listener]
  let poller: Poller
  let completions: CompletionQueue

  let connections: UnsafeMutablePointer<UnsafeMutablePointer<Connection>?>
  var freeIndices: [Int]
  var generation = 0
  /// Connections to look after in this round.
  private var listed: [Int] = []
  private var current: [Int] = []
  /// Connections whose TLS session holds more than it gave: no socket will call for them.
  var eager: [Int] = []
  /// The connection that was looked after last, which may be gone.
  var last = 0
  /// Requests that came to their end since the last wait, and those that are with devices.
  var answered = 0
  var inFlight = 0
  var spin: SpinPolicy
  var devices: [DeviceEntry] = []
  private var touched: [DeviceEntry] = []

  /// Connections with a deadline; while there are any, the loop looks at the clock.
  var timed = 0
  var isDraining = false
  var drainDeadline = UInt64.max
  /// When to accept again after the system had no descriptors left.
  var acceptAgain = UInt64.max

  init(
    listeners: [Listener], provider: any ExportProvider, configuration: NBDServerConfiguration, control: ServerControl,
    counters: ServerCounters
  ) throws(Errno) {
    self.configuration = configuration
    self.counters = counters
    self.control = control
    self.listeners = listeners
    self.provider = provider
    spin = SpinPolicy(configuration.spin)
    pool = BufferPool(cacheLimit: min(64 << 20, configuration.totalBytesInFlight))
    poller = try Poller()
    let count = configuration.maximumConnections
    completions = CompletionQueue(capacity: count * configuration.requestsInFlight)
    connections = .allocate(capacity: count)
    connections.initialize(repeating: nil, count: count)
    freeIndices = Array((0..<count).reversed())
    runs.reserveCapacity(Self.statusRuns)
    listed.reserveCapacity(count)
    current.reserveCapacity(count)
    touched.reserveCapacity(64)
  }

  deinit {
    connections.deallocate()
    extents.deallocate()
    vectors.deallocate()
  }

  func log(_ line: String) { configuration.log(line) }

  // MARK: What connections ask for

  /// To be committed in this round.
  @inline(__always) func touch(_ entry: DeviceEntry) {
    if entry.isTouched { return }
    entry.isTouched = true
    touched.append(entry)
  }

  /// Puts into `runs` what the device says of a range: no gaps, nothing outside, neighbours merged, one at least.
  func status(_ context: StatusContext, _ device: any BlockDevice, _ offset: UInt64, _ length: UInt64, limit: Int) -> Int {
    runs.removeAll(keepingCapacity: true)
    device.status(context, offset: offset, length: length, limit: limit, into: &runs)
    var count = 0
    var covered: UInt64 = 0
    for index in 0..<runs.count {
      let run = runs[index]
      let taken = min(run.length, length - covered)
      if taken == 0 { continue }
      covered += taken
      if count > 0 && runs[count - 1].flags == run.flags {
        runs[count - 1].length += taken
      } else if count < limit {
        runs[count] = BlockExtent(length: taken, flags: run.flags)
        count += 1
      }
    }
    if count == 0 {
      runs.append(BlockExtent(length: length, flags: 0))
      runs.swapAt(0, runs.count - 1)
      count = 1
    }
    return count
  }

  func zeroes(_ device: any BlockDevice, _ offset: UInt64, _ length: UInt64) -> RequestSlot.Zeroes {
    let count = status(.allocation, device, offset, length, limit: Connection.readChunks - 1)
    var covered: UInt64 = 0
    var some = false
    for run in 0..<count {
      covered += runs[run].length
      some = some || runs[run].flags & Self.readsAsZeroes != 0
    }
    if count == 1 && some && covered == length { return .all }
    return some ? .some : .none
  }

  // MARK: The rounds

  /// Serves until `control` says stop and everything in flight is finished or the time for it is over. False in the latter
  /// case: then devices may still hold buffers, which are left to them.
  func run() -> Bool {
    signal(SIGPIPE, SIG_IGN)
    begin()
    while !(isDraining && freeIndices.count == configuration.maximumConnections) {
      if isDraining && monotonicMilliseconds() >= drainDeadline { break }
      let count = wait()
      for index in 0..<count {
        let (key, what) = poller.event(index)
        dispatch(key, what)
      }
      if !eager.isEmpty { takeEager() }
      settle()
      if timed > 0 || acceptAgain != .max { checkDeadlines() }
    }
    return end()
  }

  private func begin() {
    do {
      try poller.add(control.wake.descriptor, .readable, key: Self.key(.wake, 0))
      for (index, listener) in listeners.enumerated() {
        try poller.add(listener.descriptor, .readable, key: Self.key(.listener, index))
      }
    } catch {
      log("cannot poll: \(error)")
      startDrain()
    }
    provider.begin { [control] in control.setReady() }
    for device in provider.residents() { _ = enter(device, isResident: true) }
  }

  func timeout() -> Int32 {
    if !eager.isEmpty { return 0 }
    var next = min(drainDeadline, acceptAgain)
    if timed > 0 { forEachConnection { next = min(next, $0.pointee.deadline) } }
    if next == .max { return -1 }
    let now = monotonicMilliseconds()
    return next <= now ? 0 : Int32(clamping: next - now)
  }

  private func dispatch(_ key: UInt64, _ what: Poller.Interest) {
    let number = Int(key & 0xFF_FFFF_FFFF_FFFF)
    switch Kind(rawValue: key >> 56) {
    case .connection:
      // Another connection may have come to this place since.
      if let connection = connections[number & 0xFFFF], connection.pointee.key == key { ready(connection, what) }
    case .listener: if number < listeners.count { acceptAll(listeners[number]) }
    case .device:
      guard let entry = devices.first(where: { $0.key == key }) else { return }
      entry.device.poll()
      touch(entry)
    case .wake, nil: takeOrders()
    }
  }

  private func takeOrders() {
    control.wake.clear()
    while let job = control.jobs.receive() { job() }
    if control.takeReady() { lookAgain() }
    if control.isStopping && !isDraining { startDrain() }
  }

  func ready(_ connection: UnsafeMutablePointer<Connection>, _ what: Poller.Interest) {
    list(connection)
    if what.contains(.failed) { return connection.pointee.phase = .broken }
    guard what.contains(.readable) else {
      // Both directions are closed, and there is nothing to read.
      if what.contains(.hungUp) { connection.pointee.phase = .broken }
      return
    }
    connection.pointee.isActive = true
    var budget = Self.receiveBudget
    while budget > 0 && connection.pointee.canReceive {
      let before = connection.pointee.receiveLimit
      switch connection.pointee.receive() {
      case .some(let isFull):
        work(connection)
        // A short read has emptied the socket.
        if !isFull { return }
        budget -= max(before, Self.receiveBudget / 8)
      case .nothing: return
      case .ended: return peerEnded(connection)
      case .failed: return fail(connection)
      }
    }
  }

  func peerEnded(_ connection: UnsafeMutablePointer<Connection>) {
    switch connection.pointee.phase {
    case .handshake, .securing, .lingering: connection.pointee.phase = .broken
    default: connection.pointee.phase = .leaving
    }
  }

  /// Works off the input of a connection in whatever phase it is.
  func work(_ connection: UnsafeMutablePointer<Connection>) {
    switch connection.pointee.phase {
    case .handshake:
      shakeHands(connection)
      if connection.pointee.phase == .transmission { _ = connection.pointee.process(self) }
    case .transmission:
      if let entry = connection.pointee.entry { connection.pointee.transmission.size = entry.device.size }
      _ = connection.pointee.process(self)
    case .securing: secure(connection)
    case .lingering:
      connection.pointee.inboxFirst = connection.pointee.inboxLast
    case .leaving, .broken: break
    }
  }

  /// Commits, gathers completions and sends, until nobody has anything left to do.
  private func settle() {
    while true {
      commit()
      swap(&listed, &current)
      if current.isEmpty { return }
      for index in current {
        guard let connection = connections[index] else { continue }
        connection.pointee.isListed = false
        last = index
        lookAfter(connection)
      }
      current.removeAll(keepingCapacity: true)
    }
  }

  /// There is one client, and it waits for the one request it has sent: nobody is held up by waiting with it.
  private var isOnlyOneWaiting: Bool {
    guard touched.count == 1, listed.count == 1, freeIndices.count &+ 1 == configuration.maximumConnections, !isDraining,
      let connection = connections[listed[0]]
    else { return false }
    return connection.pointee.submitted == 1 && connection.pointee.slab.used == 1
  }

  private func commit() {
    let mayWait = isOnlyOneWaiting
    // A commit may not touch another device, but indices are safe whatever it does.
    var index = 0
    while index < touched.count {
      touched[index].isTouched = false
      touched[index].device.commit(mayWait: mayWait)
      index += 1
    }
    touched.removeAll(keepingCapacity: true)
    completions.drain { completion in
      let index = Int(completion.token >> 16)
      guard let connection = connections[index] else { preconditionFailure("a completion for a connection that is gone") }
      connection.pointee.complete(Int(completion.token & 0xFFFF), completion.error, self)
      list(connection)
    }
  }

  private func lookAfter(_ connection: UnsafeMutablePointer<Connection>) {
    let freed = connection.pointee.flush(self)
    if connection.pointee.phase == .handshake && connection.pointee.handshakeOutput.isEmpty && !connection.pointee.input.isEmpty {
      // The handshake was waiting for its output to leave.
      let before = connection.pointee.inboxFirst
      work(connection)
      if connection.pointee.inboxFirst != before { list(connection) }
    }
    if freed && connection.pointee.phase == .transmission && connection.pointee.process(self) { list(connection) }
    if isDraining { drain(connection) }
    if connection.pointee.tls != nil { noteEager(connection) }
    if connection.pointee.isFinished && !connection.pointee.isListed { return remove(connection) }
    updateInterest(connection)
  }

  @inline(__always) func list(_ connection: UnsafeMutablePointer<Connection>) {
    if connection.pointee.isListed { return }
    connection.pointee.isListed = true
    listed.append(connection.pointee.index)
  }

  private func updateInterest(_ connection: UnsafeMutablePointer<Connection>) {
    var interest: Poller.Interest = []
    if connection.pointee.canReceive { interest.insert(.readable) }
    if connection.pointee.hasOutput { interest.insert(.writable) }
    if connection.pointee.phase == .broken {
      // A dead socket would report itself for ever.
      if connection.pointee.isPolled { poller.remove(connection.pointee.descriptor) }
      connection.pointee.isPolled = false
    } else if interest != connection.pointee.interest {
      connection.pointee.interest = interest
      poller.change(connection.pointee.descriptor, interest, key: connection.pointee.key)
    }
  }

  func forEachConnection(_ body: (UnsafeMutablePointer<Connection>) -> Void) {
    for index in 0..<configuration.maximumConnections {
      if let connection = connections[index] { body(connection) }
    }
  }
}
