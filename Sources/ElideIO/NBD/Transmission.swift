/// A request of a client, as it stood on the wire.
package struct NBDRequest: Equatable, Sendable {
  package var cookie: UInt64
  package var offset: UInt64
  /// Of its effect, in bytes; 32 bits without extended headers.
  package var length: UInt64
  package var command: UInt16
  package var flags: UInt16
  /// BLOCK_STATUS: the contexts it is about; none means all that were negotiated.
  package var filter: MetaContexts = []

  @inlinable package init(cookie: UInt64, offset: UInt64, length: UInt64, command: UInt16, flags: UInt16) {
    self.cookie = cookie
    self.offset = offset
    self.length = length
    self.command = command
    self.flags = flags
  }

  var forceUnitAccess: Bool { flags & NBD.CommandFlag.forceUnitAccess != 0 }
}

/// The server's side of the transmission phase of one connection: finds the requests in a stream of bytes and judges
/// them. No I/O, no allocation; what it hands out is either a sound request or a refusal with its error number.
///
/// The payload of a write follows its `.write`: the caller moves `payloadLeft` bytes to where they belong and says so by
/// `took`. The payload of a refused write is thrown away here before the refusal comes out.
package struct Transmission {
  package enum Action: Equatable {
    /// Nothing more can be done with these bytes.
    case needsInput
    /// Sound, and not a write with a payload.
    case request(NBDRequest)
    /// A sound write; its payload is next in the stream.
    case write(NBDRequest)
    /// To be answered with this error.
    case refuse(NBDRequest, UInt32)
    /// The client takes its leave: finish what is in flight, then close.
    case disconnect
    /// Close at once. The reason is for the log.
    case close(Reason)
  }

  package enum Reason: Equatable, Sendable {
    case wrongMagic(UInt32)
    case hugePayload(UInt64)
  }

  /// Of the export now; the caller keeps it up to date.
  package var size: UInt64
  /// From here on requests are refused: the server is going.
  package var isShuttingDown = false
  package let isReadOnly: Bool
  package let structuredReplies: Bool
  package let extendedHeaders: Bool
  package let contexts: MetaContexts
  package let maximumPayload: UInt32

  /// Bytes of a payload still to come: the caller's, or of a refused write.
  package private(set) var payloadLeft: UInt32 = 0
  private var refused: NBDRequest?
  private var refusal: UInt32 = 0

  package init(
    size: UInt64, isReadOnly: Bool, structuredReplies: Bool, extendedHeaders: Bool = false, contexts: MetaContexts,
    maximumPayload: UInt32 = NBD.maximumPayload
  ) {
    precondition(maximumPayload <= NBD.maximumPayload)
    self.size = size
    self.isReadOnly = isReadOnly
    self.structuredReplies = structuredReplies
    self.extendedHeaders = extendedHeaders
    self.contexts = contexts
    self.maximumPayload = maximumPayload
  }

  /// A write's payload is awaited, and the caller takes it.
  package var isTakingPayload: Bool { payloadLeft > 0 && refused == nil }
  /// Between two requests.
  package var isAtRequest: Bool { payloadLeft == 0 && refused == nil }

  /// The caller has taken this much of the payload.
  package mutating func took(_ count: Int) {
    precondition(isTakingPayload && count <= Int(payloadLeft))
    payloadLeft &-= UInt32(truncatingIfNeeded: count)
  }

  /// The caller cannot take the payload of the write it was just given: it is thrown away, and the refusal comes out of
  /// a later step.
  package mutating func refusePayload(of request: NBDRequest, _ error: UInt32) {
    precondition(isTakingPayload)
    refused = request
    refusal = error
  }

  /// Handles at most one request from the front of `input` and returns how many bytes of it are done with. Not to be
  /// called while the caller owes a payload.
  package mutating func step(_ input: UnsafeRawBufferPointer) -> (consumed: Int, action: Action) {
    if let request = refused { return drain(request, input) }
    precondition(payloadLeft == 0)
    let header = extendedHeaders ? NBD.extendedRequestSize : NBD.requestSize
    guard input.count >= header else { return (0, .needsInput) }
    let magic = input.big(UInt32.self, at: 0)
    guard magic == (extendedHeaders ? NBD.extendedRequestMagic : NBD.requestMagic) else {
      return (0, .close(.wrongMagic(magic)))
    }
    let request = NBDRequest(
      cookie: input.big(UInt64.self, at: 8), offset: input.big(UInt64.self, at: 16),
      length: extendedHeaders ? input.big(UInt64.self, at: 24) : UInt64(input.big(UInt32.self, at: 24)),
      command: input.big(UInt16.self, at: 6), flags: input.big(UInt16.self, at: 4))
    if request.command == NBD.Command.disconnect { return (header, .disconnect) }
    guard carriesPayload(request), request.length > 0 else {
      let error = judge(request)
      return (header, error == 0 ? .request(request) : .refuse(request, error))
    }
    guard request.length <= NBD.maximumPayload else { return (0, .close(.hugePayload(request.length))) }
    let rest = UnsafeRawBufferPointer(rebasing: input[header...])
    var error = NBD.Failure.invalid
    if request.command == NBD.Command.write {
      error = judge(request)
    } else if request.command == NBD.Command.blockStatus && Self.mayBeFilter(request.length) {
      guard rest.count >= Int(request.length) else { return (0, .needsInput) }
      return (header + Int(request.length), filtered(request, rest))
    }
    payloadLeft = UInt32(request.length)
    if error == 0 { return (header, .write(request)) }
    refused = request
    refusal = isShuttingDown ? NBD.Failure.shutdown : error
    let (consumed, action) = drain(request, rest)
    return (header + consumed, action)
  }

  /// A write always does. (With extended headers its flag should say so, but QEMU 10 sends writes without it.)
  private func carriesPayload(_ request: NBDRequest) -> Bool {
    request.command == NBD.Command.write || extendedHeaders && request.flags & NBD.CommandFlag.payloadLength != 0
  }

  /// A filter names one context or more, none twice: any other length is refused without a look at it.
  private static func mayBeFilter(_ length: UInt64) -> Bool {
    length % 4 == 0 && length >= 12 && length <= 8 + 4 * UInt64(MetaContexts.known.count)
  }

  /// BLOCK_STATUS with a payload: the length of its effect, and the contexts it is about.
  private func filtered(_ request: NBDRequest, _ payload: UnsafeRawBufferPointer) -> Action {
    var meant = request
    meant.length = payload.big(UInt64.self, at: 0)
    for at in stride(from: 8, to: Int(request.length), by: 4) {
      let context = MetaContexts(rawValue: payload.big(UInt32.self, at: at))
      let isOne = MetaContexts.known.contains { $0.context == context }
      guard isOne, contexts.contains(context), meant.filter.insert(context).inserted else {
        return .refuse(request, isShuttingDown ? NBD.Failure.shutdown : NBD.Failure.invalid)
      }
    }
    let error = judge(meant)
    return error == 0 ? .request(meant) : .refuse(meant, error)
  }

  private mutating func drain(_ request: NBDRequest, _ input: UnsafeRawBufferPointer) -> (consumed: Int, action: Action) {
    let n = min(Int(payloadLeft), input.count)
    payloadLeft -= UInt32(n)
    if payloadLeft > 0 { return (n, .needsInput) }
    refused = nil
    return (n, .refuse(request, refusal))
  }

  /// 0, or why the request is refused.
  private func judge(_ request: NBDRequest) -> UInt32 {
    if isShuttingDown { return NBD.Failure.shutdown }
    guard let allowed = allowedFlags(request.command), request.flags & ~allowed == 0 else { return NBD.Failure.invalid }
    switch request.command {
    case NBD.Command.flush:
      return request.offset == 0 && request.length == 0 ? 0 : NBD.Failure.invalid
    case NBD.Command.write, NBD.Command.trim, NBD.Command.writeZeroes:
      if isReadOnly { return NBD.Failure.notPermitted }
      if request.command == NBD.Command.write && request.length > maximumPayload { return NBD.Failure.invalid }
      if isInside(request) { return 0 }
      return request.command == NBD.Command.trim ? NBD.Failure.invalid : NBD.Failure.noSpace
    case NBD.Command.read:
      return request.length <= maximumPayload && isInside(request) ? 0 : NBD.Failure.invalid
    case NBD.Command.blockStatus:
      let isSound = request.filter.isEmpty != carriesPayload(request) && !contexts.isEmpty
      return isSound && request.length > 0 && isInside(request) ? 0 : NBD.Failure.invalid
    default:
      return isInside(request) ? 0 : NBD.Failure.invalid
    }
  }

  private func isInside(_ request: NBDRequest) -> Bool {
    request.offset <= size && request.length <= size - request.offset
  }

  /// nil for an unknown command. FUA is allowed everywhere, as the protocol demands of a server that offers it.
  private func allowedFlags(_ command: UInt16) -> UInt16? {
    let fua = NBD.CommandFlag.forceUnitAccess
    let payload = extendedHeaders ? NBD.CommandFlag.payloadLength : 0
    switch command {
    case NBD.Command.read: return structuredReplies ? fua | NBD.CommandFlag.dontFragment : fua
    case NBD.Command.writeZeroes: return fua | NBD.CommandFlag.noHole | NBD.CommandFlag.fastZero
    case NBD.Command.blockStatus: return fua | NBD.CommandFlag.requestOne | payload
    case NBD.Command.write: return fua | payload
    case NBD.Command.flush, NBD.Command.trim, NBD.Command.cache: return fua
    default: return nil
    }
  }
}
