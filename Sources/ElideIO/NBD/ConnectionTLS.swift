import Glibc

// A connection whose bytes go through TLS. Those of a plain one never come here.
extension Connection {
  /// What is agreed on in plain text ends here: nothing of it counts, and nothing more is read as plain text.
  /// nil when TLS can begin, else why not.
  mutating func startTLS(_ context: TLSContext?) -> String? {
    // A client waits for the answer to STARTTLS. Whatever is here already was written by who knows whom.
    guard inboxFirst == inboxLast else { return "\(inboxLast - inboxFirst) bytes behind STARTTLS" }
    guard let context, let channel = TLSChannel(context) else { return "no TLS session" }
    tls = channel
    phase = .securing
    return nil
  }

  /// Goes on with the TLS handshake. True when it is done, false when it waits for the peer.
  mutating func shakeTLS(_ channel: TLSChannel) -> Result<Bool, TLSError> {
    switch channel.shakeHands() {
    case .needsInput: return .success(false)
    case .ended: return .failure(TLSError(detail: "the peer left"))
    case .failed(let reason):
      // With luck the peer learns why.
      _ = channel.flush(descriptor)
      return .failure(TLSError(detail: reason))
    case .done:
      handshake.secured()
      phase = .handshake
      return .success(true)
    }
  }

  mutating func receive(by channel: TLSChannel) -> Received {
    if phase == .securing { return judge(channel.pull(descriptor)) }
    if writing >= 0, inboxLast == 0, let buffer = slab.slots[writing].buffer.base {
      let target = UnsafeMutableRawBufferPointer(start: buffer + written, count: Int(transmission.payloadLeft))
      let received = channel.receive(descriptor, target)
      if case .some(let count) = received {
        transmission.took(count)
        written += count
      }
      return judge(received)
    }
    let room = UnsafeMutableRawBufferPointer(start: inbox + inboxLast, count: Self.inboxCapacity - inboxLast)
    let received = channel.receive(descriptor, room)
    if case .some(let count) = received { inboxLast += count }
    return judge(received)
  }

  /// The session may hold more than it gave, so that only "nothing" means that there is nothing.
  private func judge(_ received: TLSChannel.Received) -> Received {
    switch received {
    case .some: .some(isFull: true)
    case .nothing: .nothing
    case .ended, .truncated: .ended
    case .failed: .failed
    }
  }

  /// Sends what the handshake has to say. False when the peer is gone.
  mutating func sendHandshake(by channel: TLSChannel) -> Bool {
    while true {
      let progress = channel.flush(descriptor)
      if case .broken = progress { return false }
      if progress == .blocked || handshakeOutput.isEmpty { return true }
      let sent = handshakeOutput.withUnsafeMutableBytes { bytes in
        var piece = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
        return channel.send(&piece, count: 1)
      }
      guard let sent, sent > 0 else { return false }
      handshakeOutput.removeFirst(sent)
    }
  }
}

extension Outbox {
  /// Encrypts and sends what the socket takes. `.empty` only when the session has sent everything too.
  mutating func send(by channel: TLSChannel, to descriptor: Int32) -> Progress {
    while true {
      let progress = channel.flush(descriptor)
      if progress != .empty { return progress }
      guard let n = encrypt(channel) else { return .broken(Errno(EPIPE)) }
      if n == 0 { return .empty }
    }
  }
}
