import COpenSSL
import Glibc
import MemoryDevice
import Testing

@testable import ElideIO

/// STARTTLS in the state machine, and through a server.
@Suite struct NBDTLSTests {
  private typealias Reply = NBD.OptionReply

  private func run(_ tls: TLSPolicy, _ build: (inout NBDWire) -> Void) -> HandshakeRun {
    var wire = NBDWire.flags()
    build(&wire)
    return HandshakeRun(wire.bytes, tls: tls)
  }

  // MARK: The state machine

  @Test func withoutTLSNothingIsKnownOfIt() {
    let run = run(.off) {
      $0.option(NBD.Option.startTLS)
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.types.first == Reply.unsupported && run.secured == 0 && run.agreement != nil)
  }

  @Test func whenRequiredNothingElseIsAnswered() {
    let options: [(UInt32, [UInt8])] = [
      (NBD.Option.list, []), (NBD.Option.info, NBDWire.go("disk")), (NBD.Option.go, NBDWire.go("disk")),
      (NBD.Option.structuredReply, []), (NBD.Option.setMetaContext, NBDWire.contexts("disk", ["base:allocation"])),
      (NBD.Option.listMetaContext, NBDWire.contexts("disk", [])), (NBD.Option.extendedHeaders, []), (4, []), (99, [1, 2]),
      (99, [UInt8](repeating: 1, count: NBD.maximumOption + 1)),
    ]
    let run = run(.required) { wire in options.forEach { wire.option($0, $1) } }
    #expect(run.types == options.map { _ in Reply.tlsRequired } && run.agreement == nil)
    #expect(run.replies.allSatisfy { $0.payload.isEmpty })
    #expect(self.run(.required) { $0.option(NBD.Option.abort) }.types == [Reply.ack])
    #expect(self.run(.required) { $0.option(NBD.Option.exportName, Array("disk".utf8)) }.closed != nil)
  }

  @Test(arguments: [TLSPolicy.allowed, .required])
  func insideNothingIsMissing(tls: TLSPolicy) {
    let run = run(tls) {
      $0.option(NBD.Option.startTLS)
      $0.option(NBD.Option.startTLS)
      $0.option(NBD.Option.list)
      $0.option(NBD.Option.go, NBDWire.go("nobody"))
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.types == [Reply.ack, Reply.invalid, Reply.server, Reply.server, Reply.ack, Reply.unknown, 3, 3, 1])
    #expect(run.secured == 1 && run.agreement != nil)
  }

  @Test func whatWasSaidBeforeIsForgotten() {
    let run = run(.allowed) {
      $0.option(NBD.Option.structuredReply)
      $0.option(NBD.Option.setMetaContext, NBDWire.contexts("disk", ["base:allocation"]))
      $0.option(NBD.Option.startTLS)
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.agreement?.structuredReplies == false && run.agreement?.contexts == [])
    let again = self.run(.allowed) {
      $0.option(NBD.Option.structuredReply)
      $0.option(NBD.Option.startTLS)
      $0.option(NBD.Option.structuredReply)
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(again.agreement?.structuredReplies == true && again.types.prefix(3) == [1, 1, 1])
  }

  @Test func aPayloadOfStartTLSIsInvalid() {
    let run = run(.required) {
      $0.option(NBD.Option.startTLS, [0])
      $0.option(NBD.Option.list)
    }
    #expect(run.types == [Reply.invalid, Reply.tlsRequired] && run.secured == 0)
  }

  @Test func plainTextIsNeverReadOnceTLSWasAgreedTo() {
    var handshake = Handshake(tls: .allowed)
    var wire = NBDWire.flags()
    wire.option(NBD.Option.startTLS)
    wire.option(NBD.Option.list)
    var output: [UInt8] = []
    wire.bytes.withUnsafeBytes { raw in
      var at = handshake.step(raw, catalogue: FixedCatalogue.two, output: &output).consumed
      let (consumed, outcome) = handshake.step(
        UnsafeRawBufferPointer(rebasing: raw[at...]), catalogue: FixedCatalogue.two, output: &output)
      #expect(outcome == .startTLS)
      at += consumed
      output = []
      let rest = UnsafeRawBufferPointer(rebasing: raw[at...])
      guard case .close = handshake.step(rest, catalogue: FixedCatalogue.two, output: &output).outcome else {
        Issue.record("an option behind STARTTLS was looked at")
        return
      }
    }
    #expect(output.isEmpty)
  }

  // MARK: The server

  private let files: TLSFiles
  init() throws { files = try TLSFiles() }
  private static let alice: [UInt8] = (0..<16).map { UInt8($0 * 0x11) }

  private func fixture(
    required: Bool = true, manner: MemoryDevice.Manner = .immediate, configure: (inout NBDServerConfiguration) -> Void = { _ in }
  ) throws -> NBDFixture {
    let context = try TLSContext(certificates: files.path, preSharedKeys: "\(files.path)/keys.psk")
    return try NBDFixture(manner: manner) {
      $0.tls = context
      $0.requiresTLS = required
      configure(&$0)
    }
  }

  /// Behind the greeting.
  private func connect(_ fixture: NBDFixture) throws -> NBDClient {
    let client = try #require(NBDClient(path: fixture.path))
    #expect(client.receive(18)?.count == 18)
    #expect(client.send(NBDWire.flags().bytes))
    return client
  }

  private func enter(_ client: NBDClient, structured: Bool = true) -> Bool {
    var wire = NBDWire()
    if structured { wire.option(NBD.Option.structuredReply) }
    wire.option(NBD.Option.go, NBDWire.go("disk"))
    guard client.send(wire.bytes) else { return false }
    for expected in structured ? [1, 3, 3, 1] : [3, 3, 1] {
      guard let head = client.receive(20) else { return false }
      let (type, length) = head.withUnsafeBytes { ($0.big(UInt32.self, at: 12), Int($0.big(UInt32.self, at: 16))) }
      guard type == expected, client.receive(length) != nil else { return false }
    }
    client.structured = structured
    return true
  }

  private func pattern(_ count: Int, _ seed: UInt64) -> [UInt8] {
    var random = Seeded(seed)
    return (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
  }

  @Test(arguments: MemoryDevice.Manner.allCases, [TLS1_2_VERSION, TLS1_3_VERSION])
  func readsAndWrites(manner: MemoryDevice.Manner, version: Int32) throws {
    let fixture = try fixture(manner: manner) { $0.requestsInFlight = 8 }
    let context = try TLSPeer.context(version: version, authority: "\(files.path)/ca-cert.pem")
    defer { SSL_CTX_free(context) }
    let client = try connect(fixture)
    #expect(client.startTLS(context))
    #expect(enter(client))
    for (offset, count) in [(0, 4096), (5, 3), (4090, 20), (1 << 20, 1 << 20), ((8 << 20) - 1, 1), (12345, 100_000)] {
      let bytes = pattern(count, UInt64(offset))
      #expect(client.write(bytes, at: UInt64(offset)) == 0)
      #expect(client.read(UInt32(count), at: UInt64(offset)) == bytes)
    }
    // More requests than there are slots, in one go: the session holds what the connection has no room for.
    var wire = NBDWire()
    for index in 0..<60 {
      wire.request(
        NBD.Command.write, cookie: UInt64(index), offset: UInt64(index) * 8192, length: 5000,
        payload: pattern(5000, UInt64(index)))
    }
    #expect(client.send(wire.bytes))
    for _ in 0..<60 { #expect(client.reply()?.error == 0) }
    for index in 0..<60 { #expect(client.read(5000, at: UInt64(index) * 8192) == pattern(5000, UInt64(index))) }
    #expect(fixture.stop())
  }

  @Test func preSharedKeysLetIn() throws {
    let fixture = try fixture()
    for (key, works) in [(Self.alice, true), (Array(Self.alice.reversed()), false)] {
      let context = try TLSPeer.context(user: "alice", key: key)
      defer { SSL_CTX_free(context) }
      let client = try connect(fixture)
      #expect((client.startTLS(context) && enter(client)) == works)
    }
    #expect(fixture.stop() && fixture.server.statistics.connectionsDropped == 1)
  }

  @Test func plainClientsGetNowhereWhereTLSIsRequired() throws {
    let fixture = try fixture()
    let client = try connect(fixture)
    var wire = NBDWire()
    wire.option(NBD.Option.go, NBDWire.go("disk"))
    #expect(client.send(wire.bytes))
    #expect(client.receive(20)?[12...] == [0x80, 0, 0, 5, 0, 0, 0, 0])
    // It may still change its mind.
    let context = try TLSPeer.context()
    defer { SSL_CTX_free(context) }
    #expect(client.startTLS(context) && enter(client) && client.write([1, 2, 3], at: 7) == 0)
    #expect(client.read(3, at: 7) == [1, 2, 3])
  }

  @Test func plainClientsAreWelcomeWhereTLSIsAllowed() throws {
    let fixture = try fixture(required: false)
    let client = try fixture.client()
    #expect(client.write([9], at: 0) == 0)
    let context = try TLSPeer.context()
    defer { SSL_CTX_free(context) }
    let secured = try connect(fixture)
    #expect(secured.startTLS(context) && enter(secured) && secured.read(1, at: 0) == [9])
    #expect(fixture.stop())
  }

  /// Somebody in the middle puts options behind the client's STARTTLS. They must have no effect and get no answer.
  @Test func optionsBehindStartTLSAreThrownAway() throws {
    let fixture = try fixture(required: false)
    let client = try connect(fixture)
    var wire = NBDWire()
    wire.option(NBD.Option.startTLS)
    wire.option(NBD.Option.list)
    wire.option(NBD.Option.go, NBDWire.go("disk"))
    #expect(client.sendPlain(wire.bytes))
    #expect(client.receive(20)?[12...] == [0, 0, 0, 1, 0, 0, 0, 0])
    #expect(client.receive(1) == nil)
    #expect(fixture.stop() && fixture.server.statistics.connectionsDropped == 1)
  }

  @Test func aHandshakeThatStopsIsDropped() throws {
    let fixture = try fixture { $0.handshakeTimeout = 50 }
    let client = try connect(fixture)
    var wire = NBDWire()
    wire.option(NBD.Option.startTLS)
    #expect(client.sendPlain(wire.bytes) && client.receive(20) != nil)
    // The beginning of a record, and no end.
    #expect(client.sendPlain([22, 3, 1, 2, 0, 1]))
    #expect(client.drain())
    #expect(fixture.stop() && fixture.server.statistics.connectionsDropped == 1)
  }

  @Test func streamsThatBreakOffLeaveNothingBehind() throws {
    let fixture = try fixture(manner: .shuffled)
    let context = try TLSPeer.context()
    defer { SSL_CTX_free(context) }
    for round in 0..<12 {
      let client = try connect(fixture)
      if round == 0 { continue }
      #expect(client.startTLS(context))
      if round == 1 { continue }
      #expect(enter(client))
      let session = try #require(client.tls)
      var wire = NBDWire()
      for index in 0..<4 {
        wire.request(NBD.Command.write, offset: UInt64(index * 4096), length: 4096, payload: pattern(4096, 1))
      }
      #expect(TLSPeer.send(session, wire.bytes))
      var records = TLSPeer.output(session)
      if round % 3 == 0 { records[records.count / 2] ^= 1 }
      client.sendPlain(Array(records[..<(records.count * round / 12)]))
      if round % 3 == 1 { client.finishSending() }
    }
    let last = try connect(fixture)
    #expect(last.startTLS(context) && enter(last) && last.read(4096, at: 1 << 20) == [UInt8](repeating: 0, count: 4096))
    #expect(fixture.stop())
  }

  @Test func aStopEndsSessionsInOrder() throws {
    let fixture = try fixture()
    let context = try TLSPeer.context()
    defer { SSL_CTX_free(context) }
    let client = try connect(fixture)
    #expect(client.startTLS(context) && enter(client) && client.write([1], at: 0) == 0)
    fixture.server.stop()
    #expect(client.receive(1) == nil)
    let session = try #require(client.tls)
    var bytes: [UInt8] = [0]
    var count = 0
    // Said goodbye, not cut off.
    #expect(bytes.withUnsafeMutableBytes { session.receive($0, count: &count) } == .ended)
    #expect(fixture.stop())
  }
}
