import Glibc

// From bytes to the device.
extension Connection {
  static let longestHint: UInt64 = 1 << 32
  /// How far a status query looks at most. A device may have to look at every block of it, in the case of residency.
  static let longestStatus: (allocation: UInt64, residency: UInt64) = (1 << 36, 1 << 32)

  /// Works off what has been received, as far as there are slots and memory. True if a request came to its end or went
  /// to the device.
  mutating func process(_ loop: ServerLoop) -> Bool {
    var progress = false
    while phase == .transmission {
      // Large reads go out as they are done: their bytes are still in the processor's cache, and the client takes them while
      // the next are read.
      if unsent >= Self.sendEarly {
        unsent = 0
        _ = flush(loop)
      }
      if let request = parked {
        guard begin(request, loop) else { break }
        parked = nil
        progress = true
      } else if transmission.isTakingPayload {
        guard takePayload() else { break }
      } else if writing >= 0 {
        submitWrite(loop)
        progress = true
      } else {
        guard slab.hasFree else { break }
        let (consumed, action) = transmission.step(input)
        inboxFirst &+= consumed
        guard handle(action, loop) else { break }
        progress = true
      }
    }
    return progress
  }

  /// False when the input is used up, or nothing more may be taken from it for now.
  private mutating func handle(_ action: Transmission.Action, _ loop: ServerLoop) -> Bool {
    switch action {
    case .needsInput: return false
    case .request(let request), .write(let request):
      receiveLimit = isLargeWrite(request) ? Self.shortReceive : Self.inboxCapacity
      if begin(request, loop) { return true }
      parked = request
      return false
    case .refuse(let request, let error):
      loop.counters.count(request)
      finish(slab.take(request), wire: error, loop)
    case .disconnect: phase = .leaving
    case .close(let reason):
      loop.counters.add(.connectionsDropped)
      loop.log("connection \(index) dropped: \(reason)")
      phase = .leaving
    }
    return true
  }

  private func isLargeWrite(_ request: NBDRequest) -> Bool {
    request.command == NBD.Command.write && request.length >= Self.largePayload
  }

  private mutating func takePayload() -> Bool {
    let n = min(inboxLast &- inboxFirst, Int(transmission.payloadLeft))
    guard n > 0, let buffer = slab.slots[writing].buffer.base else { return false }
    memcpy(buffer + written, inbox + inboxFirst, n)
    inboxFirst &+= n
    written &+= n
    transmission.took(n)
    return true
  }

  /// Starts a sound request. False when it has to wait for memory.
  private mutating func begin(_ request: NBDRequest, _ loop: ServerLoop) -> Bool {
    switch request.command {
    case NBD.Command.read where request.length > 0: return beginRead(request, loop)
    case NBD.Command.write where request.length > 0:
      guard let buffer = buffer(Int(request.length), loop) else { return false }
      loop.counters.count(request)
      guard buffer.base != nil else {
        transmission.refusePayload(of: request, NBD.Failure.noMemory)
        return true
      }
      writing = slab.take(request)
      written = 0
      slab.slots[writing].buffer = buffer
    case NBD.Command.blockStatus: return answerBlockStatus(request, loop)
    default:
      loop.counters.count(request)
      let slot = slab.take(request)
      guard request.length > 0 || request.command == NBD.Command.flush else {
        finish(slot, wire: 0, loop)
        return true
      }
      submit(slot, operation(request.command), loop)
    }
    return true
  }

  private func operation(_ command: UInt16) -> BlockRequest.Operation {
    switch command {
    case NBD.Command.flush: .flush
    case NBD.Command.trim: .trim
    case NBD.Command.writeZeroes: .writeZeroes
    default: .prefetch
    }
  }

  private mutating func beginRead(_ request: NBDRequest, _ loop: ServerLoop) -> Bool {
    // A hole costs neither memory nor a read: only its place is told. For one block the question costs more than it saves.
    var zeroes = RequestSlot.Zeroes.unknown
    if transmission.structuredReplies && request.length > 4096, let device = entry?.device {
      zeroes = loop.zeroes(device, request.offset, request.length)
    }
    if zeroes == .all {
      loop.counters.count(request)
      let slot = slab.take(request)
      slab.slots[slot].zeroes = .all
      finish(slot, wire: 0, loop)
      return true
    }
    guard let buffer = buffer(Int(request.length), loop) else { return false }
    loop.counters.count(request)
    let slot = slab.take(request)
    slab.slots[slot].zeroes = zeroes
    slab.slots[slot].buffer = buffer
    if buffer.base == nil {
      finish(slot, wire: NBD.Failure.noMemory, loop)
    } else if !sendInPlace(slot, loop) {
      submit(slot, .read, loop)
    }
    return true
  }

  private mutating func submitWrite(_ loop: ServerLoop) {
    let slot = writing
    writing = -1
    submit(slot, .write, loop)
  }

  private mutating func submit(_ slot: Int, _ operation: BlockRequest.Operation, _ loop: ServerLoop) {
    guard let entry else { return finish(slot, wire: NBD.Failure.io, loop) }
    let s = slab.slots + slot
    // A hint, so that a part of it will do: the device looks at what it is asked for before it returns.
    let length = operation == .prefetch ? min(s.pointee.length, Self.longestHint) : s.pointee.length
    let request = BlockRequest(
      operation: operation, forceUnitAccess: s.pointee.flags & NBD.CommandFlag.forceUnitAccess != 0,
      noHole: s.pointee.flags & NBD.CommandFlag.noHole != 0, offset: s.pointee.offset, length: length,
      buffer: s.pointee.buffer.base, token: UInt64(index) << 16 | UInt64(slot))
    s.pointee.state = .submitted
    submitted &+= 1
    loop.inFlight &+= 1
    loop.touch(entry)
    if case .done(let error) = entry.device.submit(request) {
      complete(slot, error, loop)
      if operation == .read { unsent &+= Int(request.length) }
    }
  }

  /// The device is done with a request.
  mutating func complete(_ slot: Int, _ error: Int32, _ loop: ServerLoop) {
    precondition(slot < slab.capacity && slab.slots[slot].state == .submitted, "a device completed a request twice")
    slab.slots[slot].state = .held
    submitted &-= 1
    loop.inFlight &-= 1
    finish(slot, wire: wireError(error), loop)
  }

  /// Lines its reply up. The payload of a write has served its purpose by then.
  mutating func finish(_ slot: Int, wire error: UInt32, _ loop: ServerLoop) {
    slab.slots[slot].error = error
    loop.answered &+= 1
    if error != 0 { loop.counters.add(.errors) }
    if slab.slots[slot].command == NBD.Command.write || error != 0 { giveBack(slot, loop) }
    slab.push(slot, to: &completed)
  }

  mutating func giveBack(_ slot: Int, _ loop: ServerLoop) {
    let buffer = slab.slots[slot].buffer
    if buffer.base == nil { return }
    slab.slots[slot].buffer = .none
    bytes &-= buffer.size
    loop.pool.give(buffer)
  }

  /// Memory for a request; nil when it has to wait, one without an address when there is none to be had.
  mutating func buffer(_ length: Int, _ loop: ServerLoop) -> PooledBuffer? {
    let size = BufferPool.rounded(length)
    let fits =
      bytes &+ size <= loop.configuration.bytesInFlight && loop.pool.used &+ size <= loop.configuration.totalBytesInFlight
    // One that waits has buffers of its own, and goes on when they come back.
    guard fits || bytes == 0 else { return nil }
    guard let buffer = loop.pool.take(length) else { return PooledBuffer.none }
    bytes &+= buffer.size
    return buffer
  }

  /// Writes the runs of each context into a buffer, in the form they have on the wire.
  private mutating func answerBlockStatus(_ request: NBDRequest, _ loop: ServerLoop) -> Bool {
    let limit = request.flags & NBD.CommandFlag.requestOne != 0 ? 1 : ServerLoop.statusRuns
    let (head, size) = transmission.extendedHeaders ? (8, 16) : (4, 8)
    guard let buffer = buffer(MetaContexts.known.count * (head + size * limit), loop) else { return false }
    loop.counters.count(request)
    let slot = slab.take(request)
    slab.slots[slot].buffer = buffer
    guard let base = buffer.base, let device = entry?.device else {
      finish(slot, wire: NBD.Failure.noMemory, loop)
      return true
    }
    var parts: (UInt32, UInt32) = (0, 0)
    var target = base
    let asked = request.filter.isEmpty ? transmission.contexts : request.filter
    for (context, _) in MetaContexts.known where asked.contains(context) {
      let isAllocation = context == .allocation
      let length = min(request.length, isAllocation ? Self.longestStatus.allocation : Self.longestStatus.residency)
      let count = loop.status(isAllocation ? .allocation : .residency, device, request.offset, length, limit: limit)
      target.storeBig(context.rawValue, at: 0)
      if transmission.extendedHeaders { target.storeBig(UInt32(count), at: 4) }
      for run in 0..<count { storeRun(loop.runs[run], target + head + size * run) }
      let bytes = head + size * count
      if parts.0 == 0 { parts.0 = UInt32(bytes) } else { parts.1 = UInt32(bytes) }
      target += bytes
    }
    slab.slots[slot].parts = parts
    finish(slot, wire: 0, loop)
    return true
  }

  private func storeRun(_ run: BlockExtent, _ target: UnsafeMutableRawPointer) {
    if transmission.extendedHeaders {
      target.storeBig(run.length, at: 0)
      target.storeBig(UInt64(run.flags), at: 8)
    } else {
      target.storeBig(UInt32(truncatingIfNeeded: run.length), at: 0)
      target.storeBig(run.flags, at: 4)
    }
  }
}

extension UnsafeMutableRawPointer {
  @inline(__always) func storeBig(_ value: some FixedWidthInteger, at offset: Int) {
    storeBytes(of: value.bigEndian, toByteOffset: offset, as: type(of: value))
  }
}
