/// What a handshake tells a client about an export.
package struct ExportDescription: Equatable, Sendable {
  /// The name to show; an export reached as the default ("") has one too.
  package var name: String
  /// Bytes.
  package var size: UInt64
  /// Without DF, which the handshake adds where structured replies were agreed on.
  package var transmissionFlags: UInt16
  /// For people; empty for none.
  package var text: String
  /// It has as many clients as it may have: it can be looked at, not entered.
  package var isFull: Bool

  package init(name: String, size: UInt64, transmissionFlags: UInt16, text: String = "", isFull: Bool = false) {
    self.name = name
    self.size = size
    self.transmissionFlags = transmissionFlags
    self.text = text
    self.isFull = isFull
  }
}

/// Which exports a handshake may offer.
package protocol ExportCatalogue {
  /// The first one is also the default export, "".
  func names() -> [String]
  /// nil when there is no such export. The name "" never comes: it is resolved before.
  func describe(_ name: String) -> ExportDescription?
}

/// The block status contexts a client selected; the raw value of each is its identifier on the wire.
package struct MetaContexts: OptionSet, Equatable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let allocation = MetaContexts(rawValue: 1)
  package static let residency = MetaContexts(rawValue: 2)

  /// In the order in which they are offered and answered.
  package static let known: [(context: MetaContexts, name: String)] = [
    (.allocation, "base:allocation"), (.residency, "elide:residency"),
  ]
}

/// What a server says to STARTTLS, and to everything else before it.
package enum TLSPolicy: Sendable {
  case off, allowed
  /// FORCEDTLS: before TLS a client may only ask for it, or leave.
  case required
}

/// The server's side of the fixed newstyle handshake of one connection: bytes in, bytes and a verdict out.
///
/// The caller keeps what was received and not yet consumed (at most `Handshake.bufferSize` bytes are ever needed to go
/// on), calls `step` until it wants more, and sends what was appended. One step handles one option, so the caller
/// bounds the output by sending between steps. Nothing is allocated from a length that a client gave.
package struct Handshake {
  /// What was agreed on, at its end.
  package struct Agreement: Equatable, Sendable {
    /// As the client wrote it; "" for the default.
    package var requestedName: String
    package var export: ExportDescription
    package var structuredReplies: Bool
    /// They bring structured replies with them.
    package var extendedHeaders: Bool
    package var contexts: MetaContexts
    package init(
      requestedName: String, export: ExportDescription, structuredReplies: Bool, extendedHeaders: Bool = false,
      contexts: MetaContexts
    ) {
      self.requestedName = requestedName
      self.export = export
      self.structuredReplies = structuredReplies
      self.extendedHeaders = extendedHeaders
      self.contexts = contexts
    }
  }

  package enum Outcome: Equatable, Sendable {
    /// Nothing more can be done with these bytes.
    case needsInput
    /// A message was handled; there may be more in the input.
    case progress
    /// Send what is in the output, then begin with TLS, and go on with `secured` when it stands. What the client sent behind
    /// its STARTTLS must never be taken for an option.
    case startTLS
    /// The handshake is over; all bytes from here on are requests.
    case transmit(Agreement)
    /// The client has taken its leave: send what is in the output, then close.
    case aborted
    /// Send what is in the output, then close. The reason is for the log.
    case close(String)
  }

  private enum State: Equatable {
    case clientFlags
    case option
    /// The payload of a refused option is being thrown away.
    case skipping(option: UInt32, left: UInt32)
    /// STARTTLS was agreed to.
    case awaitingTLS
    case over
  }

  /// Input bytes that a step may need to see at once.
  package static let bufferSize = NBD.optionHeaderSize + NBD.maximumOption
  /// The greeting, which the server sends first.
  package static let greeting: [UInt8] = {
    var bytes: [UInt8] = []
    bytes.appendBig(NBD.magic)
    bytes.appendBig(NBD.optionMagic)
    bytes.appendBig(NBD.HandshakeFlag.fixedNewstyle | NBD.HandshakeFlag.noZeroes)
    return bytes
  }()

  private var state = State.clientFlags
  private let tls: TLSPolicy
  private(set) var isSecured = false
  private var isFixed = false
  private var omitsZeroes = false
  /// Set with extended headers too.
  var structuredReplies = false
  var extendedHeaders = false
  /// The contexts last set, and the export name they were set for.
  var contexts: MetaContexts = []
  var contextsName = ""
  let maximumPayload: UInt32

  /// - Parameter maximumPayload: the most bytes of one read or write, as advertised.
  package init(maximumPayload: UInt32 = NBD.maximumPayload, tls: TLSPolicy = .off) {
    self.maximumPayload = maximumPayload
    self.tls = tls
  }

  /// TLS stands. What was negotiated before it may have been negotiated by somebody else, and is forgotten.
  package mutating func secured() {
    precondition(state == .awaitingTLS)
    state = .option
    isSecured = true
    structuredReplies = false
    extendedHeaders = false
    contexts = []
    contextsName = ""
  }

  /// Handles at most one message from the front of `input` and returns how many bytes of it are done with.
  package mutating func step(
    _ input: UnsafeRawBufferPointer, catalogue: some ExportCatalogue, output: inout [UInt8]
  ) -> (consumed: Int, outcome: Outcome) {
    switch state {
    case .clientFlags: return takeClientFlags(input)
    case .option: return takeOption(input, catalogue, &output)
    case .skipping(let option, let left):
      let n = UInt32(min(Int(left), input.count))
      guard n == left else {
        state = .skipping(option: option, left: left - n)
        return (Int(n), .needsInput)
      }
      state = .option
      output.appendOptionReply(option, isBarred ? NBD.OptionReply.tlsRequired : NBD.OptionReply.tooBig)
      return (Int(n), .progress)
    case .awaitingTLS: return end(0, .close("plain text after STARTTLS"))
    case .over: return (0, .close("the handshake is over"))
    }
  }

  private mutating func takeClientFlags(_ input: UnsafeRawBufferPointer) -> (consumed: Int, outcome: Outcome) {
    guard input.count >= 4 else { return (0, .needsInput) }
    let flags = input.big(UInt32.self, at: 0)
    guard flags & ~3 == 0 else { return end(4, .close("unknown client flags \(flags)")) }
    isFixed = flags & UInt32(NBD.HandshakeFlag.fixedNewstyle) != 0
    omitsZeroes = flags & UInt32(NBD.HandshakeFlag.noZeroes) != 0
    state = .option
    return (4, .progress)
  }

  private mutating func takeOption(
    _ input: UnsafeRawBufferPointer, _ catalogue: some ExportCatalogue, _ output: inout [UInt8]
  ) -> (consumed: Int, outcome: Outcome) {
    guard input.count >= NBD.optionHeaderSize else { return (0, .needsInput) }
    guard input.big(UInt64.self, at: 0) == NBD.optionMagic else { return end(0, .close("not an option")) }
    let option = input.big(UInt32.self, at: 8)
    let length = input.big(UInt32.self, at: 12)
    if option == NBD.Option.exportName {
      guard length <= NBD.maximumString else { return end(0, .close("export name of \(length) bytes")) }
    } else if !isFixed {
      return end(0, .close("option \(option) before fixed newstyle was agreed on"))
    } else if length > NBD.maximumOption {
      state = .skipping(option: option, left: length)
      return (NBD.optionHeaderSize, .progress)
    }
    let total = NBD.optionHeaderSize + Int(length)
    guard input.count >= total else { return (0, .needsInput) }
    var payload = OptionReader(UnsafeRawBufferPointer(rebasing: input[NBD.optionHeaderSize..<total]))
    let outcome = answer(option, &payload, catalogue, &output)
    switch outcome {
    case .progress: return (total, outcome)
    case .startTLS:
      state = .awaitingTLS
      return (total, outcome)
    default: return end(total, outcome)
    }
  }

  /// Handles one whole option.
  private mutating func answer(
    _ option: UInt32, _ payload: inout OptionReader, _ catalogue: some ExportCatalogue, _ output: inout [UInt8]
  ) -> Outcome {
    if isBarred && option != NBD.Option.startTLS && option != NBD.Option.abort {
      if option == NBD.Option.exportName { return .close("EXPORT_NAME without TLS") }
      output.appendOptionReply(option, NBD.OptionReply.tlsRequired)
      return .progress
    }
    switch option {
    case NBD.Option.exportName: return enterByName(&payload, catalogue, &output)
    case NBD.Option.abort:
      output.appendOptionReply(option, NBD.OptionReply.ack)
      return .aborted
    case NBD.Option.startTLS where tls != .off:
      let fine = payload.isAtEnd && !isSecured
      output.appendOptionReply(option, fine ? NBD.OptionReply.ack : NBD.OptionReply.invalid)
      return fine ? .startTLS : .progress
    case NBD.Option.list: list(&payload, catalogue, &output)
    case NBD.Option.info, NBD.Option.go: return describe(option, &payload, catalogue, &output)
    case NBD.Option.structuredReply:
      if extendedHeaders {
        output.appendOptionReply(option, NBD.OptionReply.extendedHeadersRequired)
        return .progress
      }
      let fine = payload.isAtEnd && !structuredReplies
      if fine { structuredReplies = true }
      output.appendOptionReply(option, fine ? NBD.OptionReply.ack : NBD.OptionReply.invalid)
    case NBD.Option.extendedHeaders:
      let fine = payload.isAtEnd && !extendedHeaders
      if fine { (structuredReplies, extendedHeaders) = (true, true) }
      output.appendOptionReply(option, fine ? NBD.OptionReply.ack : NBD.OptionReply.invalid)
    case NBD.Option.listMetaContext, NBD.Option.setMetaContext: metaContexts(option, &payload, catalogue, &output)
    // STARTTLS without TLS among them.
    default: output.appendOptionReply(option, NBD.OptionReply.unsupported)
    }
    return .progress
  }

  /// TLS must come first.
  private var isBarred: Bool { tls == .required && !isSecured }

  private mutating func end(_ consumed: Int, _ outcome: Outcome) -> (consumed: Int, outcome: Outcome) {
    state = .over
    return (consumed, outcome)
  }

  /// EXPORT_NAME has no way to say no but to close.
  private mutating func enterByName(
    _ payload: inout OptionReader, _ catalogue: some ExportCatalogue, _ output: inout [UInt8]
  ) -> Outcome {
    if extendedHeaders { return .close("EXPORT_NAME after EXTENDED_HEADERS") }
    guard let name = payload.rest(), let export = resolve(name, catalogue) else { return .close("no such export") }
    if export.isFull { return .close("too many clients on \(export.name)") }
    output.appendBig(export.size)
    output.appendBig(flags(of: export))
    if !omitsZeroes { output.append(contentsOf: repeatElement(0, count: 124)) }
    return .transmit(agreement(name, export))
  }

  func agreement(_ name: String, _ export: ExportDescription) -> Agreement {
    Agreement(
      requestedName: name, export: export, structuredReplies: structuredReplies, extendedHeaders: extendedHeaders,
      contexts: structuredReplies && contextsName == name ? contexts : [])
  }

  func flags(of export: ExportDescription) -> UInt16 {
    export.transmissionFlags | (structuredReplies ? NBD.TransmissionFlag.dontFragment : 0)
      | (extendedHeaders ? NBD.TransmissionFlag.blockStatusPayload : 0)
  }

  func resolve(_ name: String, _ catalogue: some ExportCatalogue) -> ExportDescription? {
    if !name.isEmpty { return catalogue.describe(name) }
    return catalogue.names().first.flatMap { catalogue.describe($0) }
  }
}
