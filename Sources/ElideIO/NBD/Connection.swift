import Glibc

/// A client's connection: its socket, what came in, what goes out, and its requests in flight. Owned by the server's
/// thread; `ServerLoop` calls it, and it calls nothing of the loop but what it is given (`Context`).
///
/// Memory is one mapping of fixed size, plus buffers from the pool within the limits of the configuration.
struct Connection: ~Copyable {
  enum Phase {
    case handshake
    /// STARTTLS is answered, or about to be, and TLS begins.
    case securing
    case transmission
    /// No more requests: what is in flight is finished and sent, then the socket is closed.
    case leaving
    /// The socket is of no use: only the device is waited for.
    case broken
    /// All is sent; the peer has a moment to read it and hang up.
    case lingering
  }

  static let inboxCapacity = 256 << 10
  /// A request whose payload is at least this long is received straight into its buffer, and little beside it.
  static let largePayload = 32 << 10
  static let shortReceive = 4096

  let descriptor: Int32
  /// Its place in the loop's table, part of its tokens, and the key it is polled under.
  let index: Int
  let key: UInt64
  private let memory: UnsafeMutableRawPointer
  private let memoryLength: Int

  var phase = Phase.handshake
  /// When it is up, on the loop's clock, where the phase has a limit; else .max.
  var deadline = UInt64.max
  var interest: Poller.Interest = .readable
  var isPolled = true
  /// Something came from the peer since somebody looked whether it is idle.
  var isActive = false
  /// On the loop's list of connections to look after.
  var isListed = false

  /// From STARTTLS on, what all bytes go through; nil on a plain connection.
  var tls: TLSChannel?
  /// On the loop's list of those whose session holds more than it gave.
  var isEager = false

  var handshake: Handshake
  var handshakeOutput: [UInt8] = []
  /// The next message of the handshake is about an export that is being opened.
  var isWaiting = false

  let inbox: UnsafeMutableRawPointer
  var inboxFirst = 0
  var inboxLast = 0
  var receiveLimit = inboxCapacity

  var transmission: Transmission
  var entry: DeviceEntry?
  var slab: RequestSlab
  var outbox: Outbox
  /// Finished, their replies not yet in the outbox.
  var completed = SlotQueue()
  /// In the outbox, with a buffer to give back when they are out.
  var sending = SlotQueue()
  /// The write whose payload arrives, and how much of it is there.
  var writing = -1
  var written = 0
  /// A request that waits for memory.
  var parked: NBDRequest?
  /// With the device.
  var submitted = 0
  /// Bytes of reads that were done at once since replies were last sent in the midst of a batch.
  var unsent = 0
  static let sendEarly = 256 << 10
  /// Of its buffers.
  var bytes = 0

  /// nil when there is no memory for it.
  init?(descriptor: Int32, index: Int, key: UInt64, configuration: NBDServerConfiguration) {
    let slots = configuration.requestsInFlight
    memoryLength = Self.inboxCapacity + Outbox.memory + RequestSlab.memory(slots)
    guard let memory = mapMemory(memoryLength) else { return nil }
    self.memory = memory
    self.descriptor = descriptor
    self.index = index
    self.key = key
    inbox = memory
    outbox = Outbox(memory: memory + Self.inboxCapacity)
    slab = RequestSlab(capacity: slots, memory: memory + Self.inboxCapacity + Outbox.memory)
    handshake = Handshake(maximumPayload: configuration.maximumPayload, tls: configuration.tlsPolicy)
    transmission = Transmission(size: 0, isReadOnly: true, structuredReplies: false, contexts: [])
    handshakeOutput = Handshake.greeting
  }

  deinit {
    close(descriptor)
    munmap(memory, memoryLength)
  }

  var input: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: inbox + inboxFirst, count: inboxLast &- inboxFirst)
  }

  /// There is room to take in what the socket holds.
  var canReceive: Bool {
    if let tls, !tls.canReceive { return false }
    return switch phase {
    case .handshake, .securing: handshakeOutput.isEmpty && !isWaiting
    case .transmission: parked == nil && (writing >= 0 || slab.hasFree)
    case .leaving, .broken: false
    case .lingering: true
    }
  }

  enum Received { case some(isFull: Bool), nothing, ended, failed }

  /// Takes what the socket holds, at most once the room there is: the payload of a write goes straight to its buffer.
  mutating func receive() -> Received {
    if inboxFirst == inboxLast {
      inboxFirst = 0
      inboxLast = 0
    } else if inboxLast > Self.inboxCapacity / 2 {
      memmove(inbox, inbox + inboxFirst, inboxLast - inboxFirst)
      inboxLast -= inboxFirst
      inboxFirst = 0
    }
    if let tls { return receive(by: tls) }
    let room = min(receiveLimit, Self.inboxCapacity - inboxLast)
    guard writing >= 0, inboxLast == 0, let buffer = slab.slots[writing].buffer.base else {
      let n = recv(descriptor, inbox + inboxLast, room, 0)
      return took(n, of: room, intoPayload: 0)
    }
    let left = Int(transmission.payloadLeft)
    return withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { pieces in
      pieces[0] = iovec(iov_base: buffer + written, iov_len: left)
      pieces[1] = iovec(iov_base: inbox, iov_len: room)
      return took(readv(descriptor, pieces.baseAddress, 2), of: left + room, intoPayload: left)
    }
  }

  private mutating func took(_ count: Int, of room: Int, intoPayload: Int) -> Received {
    guard count > 0 else {
      if count == 0 { return .ended }
      return errno == EAGAIN || errno == EINTR ? .nothing : .failed
    }
    let payload = min(count, intoPayload)
    if payload > 0 {
      transmission.took(payload)
      written += payload
    }
    inboxLast += count - payload
    return .some(isFull: count == room)
  }

  /// Handles one message of the handshake; one that is about an export that is being opened is left for later.
  mutating func stepHandshake(_ catalogue: ProviderCatalogue) -> Handshake.Outcome {
    let before = (handshake, handshakeOutput.count)
    let (consumed, outcome) = handshake.step(input, catalogue: catalogue, output: &handshakeOutput)
    isWaiting = catalogue.isOpening
    if isWaiting {
      // As if it had not come yet.
      handshake = before.0
      handshakeOutput.removeLast(handshakeOutput.count - before.1)
      return .needsInput
    }
    inboxFirst += consumed
    return outcome
  }

  /// Sends what the handshake has to say. False when the peer is gone.
  mutating func sendHandshake() -> Bool {
    if let tls, phase != .securing || handshakeOutput.isEmpty { return sendHandshake(by: tls) }
    while !handshakeOutput.isEmpty {
      let n = handshakeOutput.withUnsafeBytes {
        send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      }
      if n < 0 {
        if errno == EINTR { continue }
        return errno == EAGAIN
      }
      handshakeOutput.removeFirst(n)
    }
    return true
  }

  /// Something waits to be sent.
  var hasOutput: Bool {
    if !outbox.isEmpty || !handshakeOutput.isEmpty { return true }
    if let tls { return tls.hasOutput }
    return false
  }

  /// Nothing of it is left to be done.
  var isFinished: Bool {
    switch phase {
    case .handshake, .securing, .transmission, .lingering: false
    case .leaving: submitted == 0 && completed.isEmpty && !hasOutput
    case .broken: submitted == 0
    }
  }

  /// No request is anywhere, and none has begun.
  var isIdle: Bool {
    slab.used == 0 && !hasOutput && parked == nil && transmission.isAtRequest && inboxFirst == inboxLast
  }

  /// Gives back the buffers of all requests. None may be with the device.
  mutating func releaseBuffers(_ pool: inout BufferPool) {
    precondition(submitted == 0)
    for index in 0..<slab.capacity where slab.slots[index].state != .free {
      pool.give(slab.slots[index].buffer)
      slab.slots[index].buffer = .none
    }
    bytes = 0
  }
}
