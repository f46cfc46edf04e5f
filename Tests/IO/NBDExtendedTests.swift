import Glibc
import MemoryDevice
import Testing

@testable import ElideIO

/// Extended headers: what is agreed on, how requests are read, and replies through a server.
@Suite struct NBDExtendedTests {
  private typealias Flag = NBD.CommandFlag
  private static let payload = Flag.payloadLength

  // MARK: The handshake

  private func handshake(_ build: (inout NBDWire) -> Void) -> HandshakeRun {
    var wire = NBDWire.flags()
    build(&wire)
    return HandshakeRun(wire.bytes, tls: .allowed)
  }

  @Test func extendedHeadersBringStructuredRepliesAndTheFilter() {
    let run = handshake {
      $0.option(NBD.Option.extendedHeaders)
      $0.option(NBD.Option.setMetaContext, NBDWire.contexts("disk", ["base:allocation"]))
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.types == [1, 4, 1, 3, 3, 1] && run.replies[3].payload.suffix(2) == [0x11, 0xFD])
    #expect(run.agreement?.extendedHeaders == true && run.agreement?.structuredReplies == true)
    #expect(run.agreement?.contexts == .allocation)
  }

  @Test func theyAreAgreedOnOnceAndCannotBeTakenBack() {
    let run = handshake {
      $0.option(NBD.Option.structuredReply)
      $0.option(NBD.Option.extendedHeaders, [0])
      $0.option(NBD.Option.extendedHeaders)
      $0.option(NBD.Option.extendedHeaders)
      $0.option(NBD.Option.structuredReply)
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    typealias Reply = NBD.OptionReply
    #expect(run.types == [1, Reply.invalid, 1, Reply.invalid, Reply.extendedHeadersRequired, 3, 3, 1])
    #expect(run.agreement?.extendedHeaders == true)
    let byName = handshake {
      $0.option(NBD.Option.extendedHeaders)
      $0.option(NBD.Option.exportName, Array("disk".utf8))
    }
    #expect(byName.closed != nil && byName.agreement == nil)
  }

  @Test func startTLSForgetsThem() {
    let run = handshake {
      $0.option(NBD.Option.extendedHeaders)
      $0.option(NBD.Option.startTLS)
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.secured == 1 && run.agreement?.extendedHeaders == false && run.agreement?.structuredReplies == false)
  }

  // MARK: Requests

  private func transmission(
    size: UInt64 = 1 << 40, isReadOnly: Bool = false, contexts: MetaContexts = [.allocation, .residency],
    maximumPayload: UInt32 = 1 << 20
  ) -> Transmission {
    Transmission(
      size: size, isReadOnly: isReadOnly, structuredReplies: true, extendedHeaders: true, contexts: contexts,
      maximumPayload: maximumPayload)
  }

  /// All actions that a stream leads to, in pieces of `piece` bytes. The payloads of writes are taken.
  private func actions(_ bytes: [UInt8], _ start: Transmission, piece: Int = .max) -> [Transmission.Action] {
    var transmission = start
    var found: [Transmission.Action] = []
    var buffered: [UInt8] = []
    var next = 0
    while next < bytes.count || !buffered.isEmpty {
      let end = min(bytes.count, piece == .max ? bytes.count : next + piece)
      let grew = end > next
      buffered += bytes[next..<end]
      next = end
      while true {
        if transmission.isTakingPayload {
          let n = min(buffered.count, Int(transmission.payloadLeft))
          transmission.took(n)
          buffered.removeFirst(n)
          if transmission.payloadLeft > 0 { break }
          continue
        }
        let (consumed, action) = buffered.withUnsafeBytes { transmission.step($0) }
        buffered.removeFirst(consumed)
        if action == .needsInput { break }
        found.append(action)
        switch action {
        case .close, .disconnect: return found
        default: continue
        }
      }
      if !grew { break }
    }
    return found
  }

  private func one(
    _ command: UInt16, flags: UInt16 = 0, offset: UInt64 = 0, length: UInt64 = 0, payload: [UInt8] = [],
    _ start: Transmission? = nil
  ) -> Transmission.Action? {
    var wire = NBDWire()
    wire.extended(command, flags: flags, offset: offset, length: length, payload: payload)
    let found = actions(wire.bytes, start ?? transmission())
    #expect(found.count <= 1)
    return found.first
  }

  private func error(_ action: Transmission.Action?) -> UInt32? {
    if case .refuse(_, let error) = action { return error }
    return nil
  }

  private func filter(_ length: UInt64, _ ids: [UInt32]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBig(length)
    ids.forEach { bytes.appendBig($0) }
    return bytes
  }

  @Test func lengthsOf64Bits() {
    for command in [NBD.Command.trim, NBD.Command.writeZeroes, NBD.Command.cache, NBD.Command.blockStatus] {
      guard case .request(let request) = one(command, offset: 4096, length: 1 << 39) else {
        Issue.record("command \(command) of 512 GiB was refused")
        continue
      }
      #expect(request.length == 1 << 39 && request.offset == 4096)
      #expect(error(one(command, offset: 1 << 40, length: .max)) != nil)
      #expect(error(one(command, offset: .max, length: 2)) != nil)
    }
    #expect(error(one(NBD.Command.read, length: 1 << 39)) == NBD.Failure.invalid)
    #expect(error(one(NBD.Command.writeZeroes, length: 1 << 41)) == NBD.Failure.noSpace)
  }

  @Test func payloads() {
    let bytes = [UInt8](repeating: 7, count: 4096)
    for flags in [Self.payload, Self.payload | Flag.forceUnitAccess, 0] {
      guard case .write(let request) = one(NBD.Command.write, flags: flags, length: 4096, payload: bytes) else {
        Issue.record("a write with flags \(flags) was refused")
        continue
      }
      #expect(request.length == 4096)
    }
    // Commands that have none: it is thrown away, and what follows is understood.
    for command in [NBD.Command.read, NBD.Command.trim, NBD.Command.writeZeroes, NBD.Command.flush, NBD.Command.cache, 99] {
      var wire = NBDWire()
      wire.extended(command, flags: Self.payload, length: 4096, payload: bytes)
      wire.extended(NBD.Command.flush, cookie: 2)
      for piece in [1, 31, 33, Int.max] {
        let found = actions(wire.bytes, transmission(), piece: piece)
        #expect(found.count == 2 && error(found.first) == NBD.Failure.invalid)
        #expect(found.last == .request(NBDRequest(cookie: 2, offset: 0, length: 0, command: NBD.Command.flush, flags: 0)))
      }
    }
    // More than was advertised, and more than anybody may send.
    let large = [UInt8](repeating: 7, count: (1 << 20) + 1)
    #expect(
      error(one(NBD.Command.write, flags: Self.payload, length: UInt64(large.count), payload: large)) == NBD.Failure.invalid)
    for command in [NBD.Command.write, NBD.Command.blockStatus, NBD.Command.trim] {
      let length = UInt64(NBD.maximumPayload) + 1
      #expect(one(command, flags: Self.payload, length: length) == .close(.hugePayload(length)))
      #expect(one(command, flags: Self.payload, length: .max) == .close(.hugePayload(.max)))
    }
  }

  @Test func compactRequestsAreNoneHere() {
    var wire = NBDWire()
    wire.request(NBD.Command.flush)
    wire.request(NBD.Command.flush)
    #expect(actions(wire.bytes, transmission()) == [.close(.wrongMagic(NBD.requestMagic))])
    var extended = NBDWire()
    extended.extended(NBD.Command.flush)
    let compact = Transmission(size: 1, isReadOnly: false, structuredReplies: true, contexts: [])
    #expect(actions(extended.bytes, compact) == [.close(.wrongMagic(NBD.extendedRequestMagic))])
  }

  @Test func filters() {
    func ask(_ ids: [UInt32], _ start: Transmission? = nil, length: UInt64 = 1 << 33, piece: Int = .max) -> Transmission.Action? {
      var wire = NBDWire()
      let payload = filter(length, ids)
      wire.extended(
        NBD.Command.blockStatus, flags: Self.payload | Flag.requestOne, offset: 4096, length: UInt64(payload.count),
        payload: payload)
      wire.extended(NBD.Command.flush)
      let found = actions(wire.bytes, start ?? transmission(), piece: piece)
      #expect(found.count == 2, "the payload was taken for a request: \(found)")
      return found.first
    }
    for piece in [1, 33, 47, Int.max] {
      for (ids, filter) in [([1], MetaContexts.allocation), ([2], .residency), ([2, 1], [.allocation, .residency])]
        as [([UInt32], _)]
      {
        guard case .request(let request) = ask(ids, piece: piece) else {
          Issue.record("the filter \(ids) was refused")
          continue
        }
        #expect(request.length == 1 << 33 && request.filter == filter && request.offset == 4096)
      }
      for ids in [[], [0], [3], [1, 1], [1, 2, 1], [1, 3], [UInt32](repeating: 1, count: 5000)] as [[UInt32]] {
        #expect(error(ask(ids, piece: piece)) == NBD.Failure.invalid, "\(ids.prefix(4))")
      }
      #expect(error(ask([2], transmission(contexts: .allocation), piece: piece)) == NBD.Failure.invalid)
    }
    #expect(error(ask([1], length: .max)) == NBD.Failure.invalid)
    #expect(error(ask([1], length: 0)) == NBD.Failure.invalid)
    // A length that is no filter's, and none at all.
    #expect(
      error(one(NBD.Command.blockStatus, flags: Self.payload, length: 13, payload: [UInt8](repeating: 0, count: 13))) != nil)
    #expect(error(one(NBD.Command.blockStatus, flags: Self.payload)) == NBD.Failure.invalid)
    // Without extended headers there is no such flag, and nothing behind the header.
    var wire = NBDWire()
    wire.request(NBD.Command.blockStatus, flags: Self.payload, length: 4096)
    wire.request(NBD.Command.flush)
    let compact = Transmission(size: 1 << 20, isReadOnly: false, structuredReplies: true, contexts: .allocation)
    let found = actions(wire.bytes, compact)
    #expect(found.count == 2 && error(found.first) == NBD.Failure.invalid)
  }

  @Test func aStopRefusesPayloadsToo() {
    var stopping = transmission()
    stopping.isShuttingDown = true
    let bytes = [UInt8](repeating: 1, count: 16)
    for command in [NBD.Command.write, NBD.Command.blockStatus, NBD.Command.trim] {
      #expect(error(one(command, flags: Self.payload, length: 16, payload: bytes, stopping)) == NBD.Failure.shutdown)
    }
  }

  /// Spoiled streams: whatever comes out is within the export, and never more payload than was allowed.
  @Test func spoiledStreams() {
    var random = Seeded(4242)
    var wire = NBDWire()
    wire.extended(NBD.Command.write, flags: Self.payload, cookie: 1, length: 64, payload: [UInt8](repeating: 5, count: 64))
    wire.extended(NBD.Command.read, cookie: 2, offset: 512, length: 4096)
    let payload = filter(1 << 16, [1, 2])
    wire.extended(NBD.Command.blockStatus, flags: Self.payload, length: UInt64(payload.count), payload: payload)
    wire.extended(NBD.Command.trim, cookie: 3, length: 1 << 19)
    wire.extended(NBD.Command.cache, flags: Self.payload, length: 3, payload: [1, 2, 3])
    wire.extended(NBD.Command.flush)
    for _ in 0..<4000 {
      let bytes = NBDStreams.mutate(wire.bytes, &random)
      let whole = actions(bytes, transmission(size: 1 << 20))
      #expect(whole == actions(bytes, transmission(size: 1 << 20), piece: Int.random(in: 1...70, using: &random)))
      for case .request(let request) in whole {
        #expect(request.offset <= 1 << 20 && request.length <= (1 << 20) - request.offset)
      }
    }
  }

  // MARK: Replies

  @Test(arguments: MemoryDevice.Manner.allCases)
  func repliesOfEveryKind(manner: MemoryDevice.Manner) throws {
    let fixture = try NBDFixture(manner: manner)
    let client = try #require(
      NBDClient(path: fixture.path, export: "disk", contexts: ["base:allocation", "elide:residency"], extended: true))
    let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7 + 1) }
    #expect(client.write(bytes, at: 12345) == 0)
    #expect(client.read(100_000, at: 12345) == bytes)
    #expect(client.read(1 << 20, at: 4 << 20) == [UInt8](repeating: 0, count: 1 << 20))
    #expect(client.call(NBD.Command.flush) == NBDClient.Reply(cookie: 1, chunks: [NBD.Chunk.none]))
    #expect(client.call(NBD.Command.writeZeroes, offset: 12345, length: 100_000)?.error == 0)
    #expect(client.read(100_000, at: 12345) == [UInt8](repeating: 0, count: 100_000))
    for command in [NBD.Command.read, NBD.Command.trim, NBD.Command.blockStatus, 77] {
      let reply = client.call(command, offset: 8 << 20, length: 1)
      #expect(reply?.error == NBD.Failure.invalid && reply?.chunks == [NBD.Chunk.error])
    }
    let status = try #require(client.call(NBD.Command.blockStatus, flags: Flag.requestOne, offset: 0, length: 4096))
    #expect(status.chunks == [NBD.Chunk.extendedBlockStatus, NBD.Chunk.extendedBlockStatus])
    #expect(status.data.prefix(24) == [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 3])
    let filtered = client.call(
      NBD.Command.blockStatus, flags: Self.payload, length: 12, payload: filter(8 << 20, [MetaContexts.residency.rawValue]))
    #expect(filtered?.chunks == [NBD.Chunk.extendedBlockStatus])
    #expect(filtered?.data.prefix(8) == [0, 0, 0, 2, 0, 0, 0, 8] && filtered?.data.count == 8 + 8 * 16)
    #expect(fixture.stop())
  }
}
