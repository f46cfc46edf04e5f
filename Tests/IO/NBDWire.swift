@testable import ElideIO

/// Builds what a client sends, byte by byte, right or wrong.
struct NBDWire {
  var bytes: [UInt8] = []

  static func flags(_ flags: UInt32 = 3) -> NBDWire {
    var wire = NBDWire()
    wire.bytes.appendBig(flags)
    return wire
  }

  mutating func option(_ option: UInt32, _ payload: [UInt8] = [], length: UInt32? = nil, magic: UInt64 = NBD.optionMagic) {
    bytes.appendBig(magic)
    bytes.appendBig(option)
    bytes.appendBig(length ?? UInt32(payload.count))
    bytes += payload
  }

  mutating func request(
    _ command: UInt16, flags: UInt16 = 0, cookie: UInt64 = 1, offset: UInt64 = 0, length: UInt32 = 0, payload: [UInt8] = [],
    magic: UInt32 = NBD.requestMagic
  ) {
    bytes.appendBig(magic)
    bytes.appendBig(flags)
    bytes.appendBig(command)
    bytes.appendBig(cookie)
    bytes.appendBig(offset)
    bytes.appendBig(length)
    bytes += payload
  }

  /// With extended headers. `length` is that of the payload if there is one.
  mutating func extended(
    _ command: UInt16, flags: UInt16 = 0, cookie: UInt64 = 1, offset: UInt64 = 0, length: UInt64 = 0, payload: [UInt8] = []
  ) {
    bytes.appendBig(NBD.extendedRequestMagic)
    bytes.appendBig(flags)
    bytes.appendBig(command)
    bytes.appendBig(cookie)
    bytes.appendBig(offset)
    bytes.appendBig(length)
    bytes += payload
  }

  static func text(_ text: String) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBig(UInt32(text.utf8.count))
    return bytes + text.utf8
  }

  /// The payload of INFO and GO.
  static func go(_ name: String, infos: [UInt16] = []) -> [UInt8] {
    var bytes = text(name)
    bytes.appendBig(UInt16(infos.count))
    infos.forEach { bytes.appendBig($0) }
    return bytes
  }

  /// The payload of LIST_META_CONTEXT and SET_META_CONTEXT.
  static func contexts(_ name: String, _ queries: [String]) -> [UInt8] {
    var bytes = text(name)
    bytes.appendBig(UInt32(queries.count))
    for query in queries { bytes += text(query) }
    return bytes
  }
}

/// A handful of exports as values.
struct FixedCatalogue: ExportCatalogue {
  var exports: [ExportDescription]
  func names() -> [String] { exports.map(\.name) }
  func describe(_ name: String) -> ExportDescription? { exports.first { $0.name == name } }

  static let two = FixedCatalogue(exports: [
    ExportDescription(name: "disk", size: 1 << 20, transmissionFlags: 0x17D, text: "a disk"),
    ExportDescription(name: "disk@snap", size: 1 << 19, transmissionFlags: 0x10F),
  ])
}

/// A small generator for tests: the same seed gives the same numbers.
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &+ 0x9E37_79B9_7F4A_7C15 }
  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state &* 0x2545_F491_4F6C_DD1D
  }
}

/// What a handshake said to a stream of bytes.
struct HandshakeRun: Equatable {
  var output: [UInt8] = []
  var agreement: Handshake.Agreement?
  var closed: String?
  var secured = 0
  /// What was left over, the first requests if all went well.
  var rest: [UInt8] = []

  /// Feeds `bytes` in pieces of the sizes that `chunk` draws.
  init(_ bytes: [UInt8], catalogue: FixedCatalogue = .two, tls: TLSPolicy = .off, chunk: () -> Int = { Int.max }) {
    var handshake = Handshake(tls: tls)
    var buffered: [UInt8] = []
    var next = 0
    while next < bytes.count && agreement == nil && closed == nil {
      let end = next + min(max(1, chunk()), bytes.count - next)
      buffered += bytes[next..<end]
      next = end
      drive(&handshake, &buffered, catalogue)
    }
    rest = buffered + bytes[next...]
    if agreement == nil { rest = [] }
  }

  private mutating func drive(_ handshake: inout Handshake, _ buffered: inout [UInt8], _ catalogue: FixedCatalogue) {
    while true {
      let (consumed, outcome) = buffered.withUnsafeBytes { handshake.step($0, catalogue: catalogue, output: &output) }
      buffered.removeFirst(consumed)
      switch outcome {
      case .progress: continue
      case .needsInput: return
      case .startTLS:
        // As if the client had gone on in TLS at once.
        handshake.secured()
        secured += 1
      case .transmit(let agreed):
        agreement = agreed
        return
      case .aborted:
        closed = "aborted"
        return
      case .close(let reason):
        closed = reason
        return
      }
    }
  }

  /// The replies to options: option, type, payload.
  var replies: [OptionReply] {
    var found: [OptionReply] = []
    output.withUnsafeBytes { all in
      var at = 0
      while all.count - at >= 20, all.big(UInt64.self, at: at) == NBD.optionReplyMagic {
        let length = Int(all.big(UInt32.self, at: at + 16))
        guard all.count - at - 20 >= length else { return }
        found.append(
          OptionReply(
            option: all.big(UInt32.self, at: at + 8), type: all.big(UInt32.self, at: at + 12),
            payload: Array(all[at + 20..<at + 20 + length])))
        at += 20 + length
      }
    }
    return found
  }
  var types: [UInt32] { replies.map(\.type) }
}

struct OptionReply: Equatable {
  var option: UInt32
  var type: UInt32
  var payload: [UInt8]
}
