import CElide
import Glibc

// How connections and devices come and go.
extension ServerLoop {
  /// What a handshake may have to say before the client must read.
  private static let handshakeOutputLimit = 64 << 10
  /// How long a peer may take to hang up after the last reply at a stop.
  private static let lingerTime: UInt64 = 500
  private static let acceptPause: UInt64 = 100

  func acceptAll(_ listener: Listener) {
    for _ in 0..<16 {
      let descriptor = elide_accept(listener.descriptor)
      if descriptor < 0 {
        if errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS { pauseAccepting(Errno.current) }
        return
      }
      admit(descriptor, isTCP: listener.isTCP)
    }
  }

  private func admit(_ descriptor: Int32, isTCP: Bool) {
    guard !isDraining, let index = freeIndices.last else { return refuse(descriptor, "too many connections") }
    if isTCP {
      setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
      setOption(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
    } else {
      setOption(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, Int32(clamping: configuration.sendBuffer))
    }
    generation = (generation + 1) & 0xFF_FFFF_FFFF
    let key = Self.key(.connection, generation << 16 | index)
    guard let made = Connection(descriptor: descriptor, index: index, key: key, configuration: configuration) else {
      return refuse(descriptor, "no memory")
    }
    do { try poller.add(descriptor, .readable, key: key) } catch { return log("connection refused: \(error)") }
    freeIndices.removeLast()
    let connection = UnsafeMutablePointer<Connection>.allocate(capacity: 1)
    connection.initialize(to: made)
    connections[index] = connection
    setDeadline(connection, monotonicMilliseconds() + UInt64(configuration.handshakeTimeout))
    counters.add(.connections)
    counters.add(.connectionsOpen)
    list(connection)
  }

  private func refuse(_ descriptor: Int32, _ reason: String) {
    close(descriptor)
    counters.add(.connectionsRefused)
    log("connection refused: \(reason)")
  }

  private func pauseAccepting(_ error: Errno) {
    log("cannot accept: \(error)")
    for listener in listeners { poller.remove(listener.descriptor) }
    acceptAgain = monotonicMilliseconds() + Self.acceptPause
  }

  func setDeadline(_ connection: UnsafeMutablePointer<Connection>, _ deadline: UInt64) {
    if connection.pointee.deadline != .max { timed -= 1 }
    if deadline != .max { timed += 1 }
    connection.pointee.deadline = deadline
  }

  func shakeHands(_ connection: UnsafeMutablePointer<Connection>) {
    while connection.pointee.handshakeOutput.count < Self.handshakeOutputLimit {
      switch connection.pointee.stepHandshake(catalogue()) {
      case .progress: continue
      case .needsInput: return
      case .startTLS:
        if let reason = connection.pointee.startTLS(configuration.tls) { drop(connection, reason) }
        return
      case .transmit(let agreement): return startTransmission(connection, agreement)
      case .aborted: return connection.pointee.phase = .leaving
      case .close(let reason): return drop(connection, reason)
      }
    }
  }

  private func catalogue() -> ProviderCatalogue {
    ProviderCatalogue(provider: provider) { [devices, limit = configuration.maximumConnectionsPerExport] device in
      (devices.first { $0.device === device }?.connections ?? 0) >= limit
    }
  }

  private func startTransmission(_ connection: UnsafeMutablePointer<Connection>, _ agreement: Handshake.Agreement) {
    guard case .found(let export) = provider.look(agreement.export.name), let entry = enter(export.device, isResident: false)
    else {
      log("connection \(connection.pointee.index): the export \(agreement.export.name) is gone")
      connection.pointee.phase = .broken
      return
    }
    entry.connections += 1
    connection.pointee.entry = entry
    connection.pointee.transmission = Transmission(
      size: export.size, isReadOnly: export.isReadOnly, structuredReplies: agreement.structuredReplies,
      extendedHeaders: agreement.extendedHeaders,
      contexts: agreement.contexts, maximumPayload: configuration.maximumPayload)
    connection.pointee.transmission.isShuttingDown = isDraining
    connection.pointee.phase = .transmission
    setDeadline(connection, idleDeadline)
    log("connection \(connection.pointee.index) on \(agreement.export.name)")
  }

  /// The entry of a device, new ones polled from now on. nil when it cannot be polled.
  func enter(_ device: any BlockDevice, isResident: Bool) -> DeviceEntry? {
    if let known = devices.first(where: { $0.device === device }) { return known }
    generation = (generation + 1) & 0xFF_FFFF_FFFF
    let entry = DeviceEntry(device: device, key: Self.key(.device, generation), isResident: isResident)
    if device.wakeDescriptor >= 0 {
      do { try poller.add(device.wakeDescriptor, .readable, key: entry.key) } catch {
        log("cannot poll a device: \(error)")
        return nil
      }
    }
    device.sink = completions
    devices.append(entry)
    return entry
  }

  private func leave(_ entry: DeviceEntry) {
    entry.connections -= 1
    if entry.connections > 0 || entry.isResident { return }
    forget(entry)
    devices.removeAll { $0 === entry }
  }

  private func forget(_ entry: DeviceEntry) {
    if entry.device.wakeDescriptor >= 0 { poller.remove(entry.device.wakeDescriptor) }
    entry.device.sink = nil
  }

  /// Nothing of it may be with the device.
  func remove(_ connection: UnsafeMutablePointer<Connection>) {
    let index = connection.pointee.index
    setDeadline(connection, .max)
    connection.pointee.releaseBuffers(&pool)
    if connection.pointee.isPolled { poller.remove(connection.pointee.descriptor) }
    if connection.pointee.phase != .broken { connection.pointee.tls?.finish(connection.pointee.descriptor) }
    if let entry = connection.pointee.entry { leave(entry) }
    connection.deinitialize(count: 1)
    connection.deallocate()
    connections[index] = nil
    freeIndices.append(index)
    counters.subtract(.connectionsOpen)
    log("connection \(index) closed")
    tidyExports()
  }

  /// Lets exports go that nobody uses; not while somebody waits for one, who is not in it yet.
  private func tidyExports() {
    var someoneWaits = false
    forEachConnection { if $0.pointee.isWaiting { someoneWaits = true } }
    if !someoneWaits { provider.tidy { device in devices.contains { $0.device === device } } }
  }

  /// Exports that were being opened are open, or are not to be had: whoever waits looks again.
  func lookAgain() {
    forEachConnection { if $0.pointee.isWaiting { list($0) } }
    // Who wanted it may have gone.
    tidyExports()
  }

  func checkDeadlines() {
    let now = monotonicMilliseconds()
    if acceptAgain <= now {
      acceptAgain = .max
      for (index, listener) in listeners.enumerated() {
        // If this fails too, the next pause begins.
        do { try poller.add(listener.descriptor, .readable, key: Self.key(.listener, index)) } catch { pauseAccepting(error) }
      }
    }
    forEachConnection { connection in
      guard connection.pointee.deadline <= now else { return }
      if connection.pointee.phase == .transmission || connection.pointee.phase == .leaving {
        return checkIdle(connection)
      }
      if connection.pointee.phase != .lingering {
        counters.add(.connectionsDropped)
        log("connection \(connection.pointee.index) dropped: no export entered in time")
      }
      remove(connection)
    }
  }

  private var idleDeadline: UInt64 {
    configuration.idleTimeout > 0 ? monotonicMilliseconds() + UInt64(configuration.idleTimeout) : .max
  }

  /// Nothing has come for as long as a client may be silent, or nothing is known of that yet.
  private func checkIdle(_ connection: UnsafeMutablePointer<Connection>) {
    let wasActive = connection.pointee.isActive || !connection.pointee.isIdle
    connection.pointee.isActive = false
    if wasActive { return setDeadline(connection, idleDeadline) }
    counters.add(.connectionsDropped)
    log("connection \(connection.pointee.index) dropped: it was idle")
    remove(connection)
  }

  // MARK: The end

  func startDrain() {
    isDraining = true
    drainDeadline = monotonicMilliseconds() + UInt64(configuration.drainTimeout)
    acceptAgain = .max
    for listener in listeners { listener.end() }
    listeners = []
    forEachConnection { connection in
      connection.pointee.transmission.isShuttingDown = true
      // What has been sent before the stop gets an answer.
      if connection.pointee.phase == .transmission { ready(connection, .readable) } else { list(connection) }
    }
  }

  /// One connection on its way out at a stop.
  func drain(_ connection: UnsafeMutablePointer<Connection>) {
    switch connection.pointee.phase {
    case .handshake, .securing: connection.pointee.phase = .broken
    case .transmission where connection.pointee.isIdle:
      connection.pointee.tls?.finish(connection.pointee.descriptor)
      shutdown(connection.pointee.descriptor, Int32(SHUT_WR))
      connection.pointee.phase = .lingering
      setDeadline(connection, monotonicMilliseconds() + Self.lingerTime)
    default: break
    }
  }

  func end() -> Bool {
    var isClean = true
    forEachConnection { connection in
      if connection.pointee.submitted == 0 { return remove(connection) }
      // The device may still write into these buffers, so they stay where they are, for good.
      isClean = false
      shutdown(connection.pointee.descriptor, Int32(SHUT_RDWR))
    }
    for entry in devices { forget(entry) }
    devices = []
    return isClean
  }
}

func monotonicNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

func monotonicMilliseconds() -> UInt64 { monotonicNanoseconds() / 1_000_000 }
