import Glibc

// From finished requests to bytes.
extension Connection {
  /// The pieces of a read's reply at most: each a header and data, or a header alone.
  static let readChunks = 32

  /// Puts the replies of finished requests into the outbox and sends, until there is nothing left or the peer does
  /// not take more. True if it freed a slot or memory.
  mutating func flush(_ loop: ServerLoop) -> Bool {
    if phase == .handshake || phase == .securing || !handshakeOutput.isEmpty {
      if !sendHandshake() { phase = .broken }
      if !handshakeOutput.isEmpty { return false }
    }
    var freed = false
    while phase == .transmission || phase == .leaving {
      while !completed.isEmpty && hasRoom() {
        let slot = slab.pop(&completed)
        encode(slot, loop)
        freed = true
      }
      if !hasOutput { break }
      let progress = send()
      while !sending.isEmpty && slab.slots[Int(sending.first)].end <= outbox.sent {
        let slot = slab.pop(&sending)
        giveBack(slot, loop)
        slab.release(slot)
        freed = true
      }
      if case .broken = progress { phase = .broken }
      if progress == .blocked { break }
    }
    return freed
  }

  @inline(__always) private mutating func send() -> Outbox.Progress {
    if let tls { return outbox.send(by: tls, to: descriptor) }
    return outbox.send(to: descriptor)
  }

  /// Whether the outbox takes the next reply, whichever it is.
  private func hasRoom() -> Bool {
    outbox.hasRoom(text: Self.readChunks * (NBD.extendedChunkHeaderSize + 12), pieces: 2 * Self.readChunks + 1)
  }

  private mutating func encode(_ slot: Int, _ loop: ServerLoop) {
    let s = slab.slots[slot]
    let isStructured = transmission.structuredReplies
    if s.error == 0 && s.command == NBD.Command.read && s.length > 0 {
      if isStructured { encodeChunks(slot, loop) } else { encodeRead(slot) }
    } else if s.error == 0 && s.command == NBD.Command.blockStatus {
      encodeBlockStatus(slot)
    } else if transmission.extendedHeaders
      || isStructured && (s.command == NBD.Command.read || s.command == NBD.Command.blockStatus)
    {
      // These two have no simple replies once structured ones are agreed on; with extended headers nothing has.
      let chunk = s.error == 0 ? NBD.Chunk.none : NBD.Chunk.error
      let body = chunkHeader(chunk, isLast: true, slot, length: s.error == 0 ? 0 : 6, extra: s.error == 0 ? 0 : 6)
      if s.error != 0 {
        body.storeBig(s.error, at: 0)
        body.storeBig(UInt16(0), at: 4)
      }
    } else {
      simpleHeader(s.cookie, s.error)
    }
    if slab.slots[slot].buffer.base != nil {
      slab.push(slot, to: &sending)
    } else {
      slab.release(slot)
    }
  }

  @inline(__always) mutating func simpleHeader(_ cookie: UInt64, _ error: UInt32) {
    let target = outbox.write(NBD.simpleReplySize)
    target.storeBig(NBD.simpleReplyMagic, at: 0)
    target.storeBig(error, at: 4)
    target.storeBig(cookie, at: 8)
  }

  /// A chunk of `length` bytes, of which the first `extra` are to be written where the result points.
  @inline(__always) private mutating func chunkHeader(
    _ type: UInt16, isLast: Bool, _ slot: Int, length: UInt32, extra: Int
  ) -> UnsafeMutableRawPointer {
    let isExtended = transmission.extendedHeaders
    let size = isExtended ? NBD.extendedChunkHeaderSize : NBD.chunkHeaderSize
    let target = outbox.write(size + extra)
    target.storeBig(isExtended ? NBD.extendedReplyMagic : NBD.structuredReplyMagic, at: 0)
    target.storeBig(isLast ? NBD.Chunk.done : 0, at: 4)
    target.storeBig(type, at: 6)
    target.storeBig(slab.slots[slot].cookie, at: 8)
    if isExtended {
      target.storeBig(slab.slots[slot].offset, at: 16)
      target.storeBig(UInt64(length), at: 24)
    } else {
      target.storeBig(length, at: 16)
    }
    return target + size
  }

  private mutating func encodeRead(_ slot: Int) {
    let s = slab.slots[slot]
    simpleHeader(s.cookie, 0)
    if let base = s.buffer.base { slab.slots[slot].end = outbox.append(base, Int(s.length)) }
  }

  /// A read as chunks: data, and holes where the device says so now. (It may have said otherwise when the read began: what
  /// happens during a read may or may not be seen by it.)
  private mutating func encodeChunks(_ slot: Int, _ loop: ServerLoop) {
    let s = slab.slots[slot]
    let total = UInt32(truncatingIfNeeded: s.length)
    if s.zeroes == .all { return holeChunk(slot, 0, total, isLast: true) }
    var count = 0
    if s.zeroes == .some && s.flags & NBD.CommandFlag.dontFragment == 0, let device = entry?.device {
      count = loop.status(.allocation, device, s.offset, s.length, limit: Self.readChunks - 1)
    }
    var position: UInt32 = 0
    for run in 0..<count {
      let length = UInt32(truncatingIfNeeded: loop.runs[run].length)
      let isLast = position + length == total
      if loop.runs[run].flags & ServerLoop.readsAsZeroes != 0 {
        holeChunk(slot, position, length, isLast: isLast)
      } else {
        dataChunk(slot, position, length, isLast: isLast)
      }
      position += length
    }
    if position < total { dataChunk(slot, position, total - position, isLast: true) }
    // A buffer of which nothing is sent can go at once.
    if slab.slots[slot].end == 0 { giveBack(slot, loop) }
  }

  private mutating func holeChunk(_ slot: Int, _ position: UInt32, _ length: UInt32, isLast: Bool) {
    let body = chunkHeader(NBD.Chunk.offsetHole, isLast: isLast, slot, length: 12, extra: 12)
    body.storeBig(slab.slots[slot].offset + UInt64(position), at: 0)
    body.storeBig(length, at: 8)
  }

  private mutating func dataChunk(_ slot: Int, _ position: UInt32, _ length: UInt32, isLast: Bool) {
    guard let base = slab.slots[slot].buffer.base else { return }
    dataHeader(slot, position, length, isLast: isLast)
    slab.slots[slot].end = outbox.append(base + Int(position), Int(length))
  }

  mutating func dataHeader(_ slot: Int, _ position: UInt32, _ length: UInt32, isLast: Bool = true) {
    let body = chunkHeader(NBD.Chunk.offsetData, isLast: isLast, slot, length: length + 8, extra: 8)
    body.storeBig(slab.slots[slot].offset + UInt64(position), at: 0)
  }

  private mutating func encodeBlockStatus(_ slot: Int) {
    let s = slab.slots[slot]
    guard let base = s.buffer.base else { return }
    let chunk = transmission.extendedHeaders ? NBD.Chunk.extendedBlockStatus : NBD.Chunk.blockStatus
    _ = chunkHeader(chunk, isLast: s.parts.1 == 0, slot, length: s.parts.0, extra: 0)
    slab.slots[slot].end = outbox.append(base, Int(s.parts.0))
    if s.parts.1 > 0 {
      _ = chunkHeader(chunk, isLast: true, slot, length: s.parts.1, extra: 0)
      slab.slots[slot].end = outbox.append(base + Int(s.parts.0), Int(s.parts.1))
    }
  }
}
