import ElideIO

/// A client's stream through handshake and transmission. However it is cut into pieces, the answers are the same; every
/// request that is let through lies inside the export.
///
/// Input: how the stream is cut (and what is said to STARTTLS), then the stream. After STARTTLS it goes on as if in TLS.
enum NBDFuzz {
  private struct Exports: ExportCatalogue {
    static let all = [
      ExportDescription(name: "disk", size: 1 << 20, transmissionFlags: 0x17D, text: "a disk"),
      ExportDescription(name: "disk@snap", size: 1 << 19, transmissionFlags: 0x10F),
    ]
    func names() -> [String] { Self.all.map(\.name) }
    func describe(_ name: String) -> ExportDescription? { Self.all.first { $0.name == name } }
  }

  private struct Session: Equatable {
    var output: [UInt8] = []
    var agreement: Handshake.Agreement?
    var closed: String?
    var secured = 0
    var actions: [Transmission.Action] = []
    var payloads: [UInt64] = []
    var isOver = false
  }

  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let cut = Int(input.byte())
    let stream = input.rest()
    let tls: TLSPolicy = [.off, .allowed, .required][cut % 3]
    let whole = play(stream, tls, piece: Int.max)
    let pieces = play(stream, tls, piece: cut + 1)
    precondition(whole == pieces, "the answers depend on how the stream arrives")
    // A LIST is the longest answer to the shortest question.
    precondition(whole.output.count <= 300 + 16 * stream.count, "answers beyond all proportion")
    precondition(whole.secured <= (tls == .off ? 0 : 1), "TLS in TLS")
    precondition(whole.agreement == nil || whole.secured == 1 || tls != .required, "let in without TLS")
    guard let size = whole.agreement?.export.size else { return }
    for action in whole.actions {
      switch action {
      case .request(let r), .write(let r):
        precondition(r.offset <= size && r.length <= size - r.offset, "a request past the end")
      default: break
      }
    }
  }

  private static func play(_ stream: [UInt8], _ tls: TLSPolicy, piece: Int) -> Session {
    var s = Session()
    var handshake = Handshake(tls: tls)
    var transmission: Transmission?
    var buffered: [UInt8] = []
    var next = 0
    while next < stream.count && !s.isOver {
      let end = next + min(piece, stream.count - next)
      buffered += stream[next..<end]
      next = end
      while !s.isOver {
        let went =
          if transmission == nil { shake(&handshake, &transmission, &buffered, &s) } else {
            transmit(&transmission!, &buffered, &s)
          }
        if !went { break }
      }
    }
    return s
  }

  /// One step of the handshake; false when it needs more.
  private static func shake(
    _ handshake: inout Handshake, _ transmission: inout Transmission?, _ buffered: inout [UInt8], _ s: inout Session
  ) -> Bool {
    let (consumed, outcome) = buffered.withUnsafeBytes { handshake.step($0, catalogue: Exports(), output: &s.output) }
    buffered.removeFirst(consumed)
    switch outcome {
    case .needsInput:
      precondition(buffered.count < Handshake.bufferSize, "more is wanted than the buffer holds")
      return false
    case .progress: return true
    case .startTLS:
      handshake.secured()
      s.secured += 1
      return true
    case .transmit(let agreed):
      s.agreement = agreed
      transmission = Transmission(
        size: agreed.export.size, isReadOnly: agreed.export.name != "disk", structuredReplies: agreed.structuredReplies,
        extendedHeaders: agreed.extendedHeaders, contexts: agreed.contexts)
      return true
    case .aborted: s.closed = "aborted"
    case .close(let reason): s.closed = reason
    }
    s.isOver = true
    return true
  }

  /// One request, or a piece of its payload; false when it needs more.
  private static func transmit(_ transmission: inout Transmission, _ buffered: inout [UInt8], _ s: inout Session) -> Bool {
    if transmission.isTakingPayload {
      let n = min(buffered.count, Int(transmission.payloadLeft))
      if n == 0 { return false }
      s.payloads[s.payloads.count - 1] += UInt64(n)
      buffered.removeFirst(n)
      transmission.took(n)
      return true
    }
    let (consumed, action) = buffered.withUnsafeBytes { transmission.step($0) }
    buffered.removeFirst(consumed)
    switch action {
    case .needsInput: return false
    case .write: s.payloads.append(0)
    case .disconnect, .close: s.isOver = true
    default: break
    }
    s.actions.append(action)
    return true
  }

  // MARK: seeds

  static var seeds: [[UInt8]] {
    let handshakes: [[UInt8]] = [
      flags(3) + option(8) + option(6, go("", [1, 2, 3])) + option(9, contexts("", []))
        + option(10, contexts("", ["base:allocation"]))
        + option(7, go("", [1, 2, 3])),
      flags(3) + option(5) + option(8) + option(10, contexts("disk", ["base:allocation", "elide:residency"]))
        + option(7, go("disk", [3])),
      flags(1) + option(1, Array("disk@snap".utf8)),
      flags(3) + option(11) + option(77, [1, 2, 3]) + option(3) + option(7, go("nobody", [])) + option(2),
    ]
    let requests =
      request(1, 0, 1, 4096, 16, [UInt8](repeating: 0xA5, count: 16)) + request(0, 0, 2, 0, 65536) + request(4, 0, 4, 8192, 4096)
      + request(3, 0, 5, 0, 0) + request(6, 2, 6, 12345, 777) + request(7, 0, 7, 0, 1 << 20) + request(5, 0, 8, 0, 1 << 16)
      + request(42, 0, 9, 0, 0) + request(0, 4, 10, 100, 3) + request(1, 0x80, 12, 0, 5, [1, 2, 3, 4, 5])
      + request(2, 0, 13, 0, 0)
    // In TLS, and with extended headers.
    let secured = [1] + flags(3) + option(8) + option(5) + option(8) + option(7, go("disk", [3])) + requests
    let required = [2] + flags(3) + option(3) + option(5) + option(5) + option(7, go("", [])) + requests
    let extended =
      [0] + flags(3) + option(8) + option(11) + option(8) + option(10, contexts("disk", ["base:allocation", "elide:residency"]))
      + option(7, go("disk", [3])) + extended(1, 0x20, 4096, 16, [UInt8](repeating: 0xA5, count: 16)) + extended(0, 0, 0, 65536)
      + extended(6, 0, 0, 1 << 20) + extended(7, 0x20, 0, 12, big(UInt64(1 << 20)) + big(UInt32(1)))
      + extended(7, 0x28, 0, 16, big(UInt64(4096)) + big(UInt32(2)) + big(UInt32(1))) + extended(4, 0x20, 0, 3, [1, 2, 3])
      + extended(3, 0, 0, 0) + extended(2, 0, 0, 0)
    return handshakes.map { [0] + $0 + requests } + [secured, required, extended]
  }

  private static func big<T: FixedWidthInteger>(_ v: T) -> [UInt8] { withUnsafeBytes(of: v.bigEndian) { Array($0) } }
  private static func text(_ t: String) -> [UInt8] { big(UInt32(t.utf8.count)) + t.utf8 }
  private static func flags(_ f: UInt32) -> [UInt8] { big(f) }
  private static func option(_ o: UInt32, _ payload: [UInt8] = []) -> [UInt8] {
    Array("IHAVEOPT".utf8) + big(o) + big(UInt32(payload.count)) + payload
  }
  private static func go(_ name: String, _ infos: [UInt16]) -> [UInt8] {
    text(name) + big(UInt16(infos.count)) + infos.flatMap { big($0) }
  }
  private static func contexts(_ name: String, _ queries: [String]) -> [UInt8] {
    text(name) + big(UInt32(queries.count)) + queries.flatMap { text($0) }
  }
  private static func extended(
    _ command: UInt16, _ flags: UInt16, _ offset: UInt64, _ length: UInt64, _ payload: [UInt8] = []
  ) -> [UInt8] {
    big(UInt32(0x21e4_1c71)) + big(flags) + big(command) + big(UInt64(9)) + big(offset) + big(length) + payload
  }
  private static func request(
    _ command: UInt16, _ flags: UInt16, _ cookie: UInt64, _ offset: UInt64, _ length: UInt32, _ payload: [UInt8] = []
  ) -> [UInt8] {
    big(UInt32(0x2560_9513)) + big(flags) + big(command) + big(cookie) + big(offset) + big(length) + payload
  }
}
