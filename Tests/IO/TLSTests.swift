import COpenSSL
import Glibc
import Testing

@testable import ElideIO

@Suite struct TLSTests {
  private let files: TLSFiles
  init() throws { files = try TLSFiles() }

  private func file(_ name: String) -> String { "\(files.path)/\(name)" }
  private func server(verifyPeer: Bool = false, keys: Bool = false) throws -> TLSContext {
    try TLSContext(certificates: files.path, preSharedKeys: keys ? file("keys.psk") : nil, verifyPeer: verifyPeer)
  }

  private func meet(_ server: TLSContext, _ client: OpaquePointer) throws -> (
    server: TLSSession, client: TLSSession, steps: (server: TLSSession.Step, client: TLSSession.Step)
  ) {
    let s = try #require(TLSSession(server))
    let c = try #require(TLSSession(raw: client, isServer: false, keeping: nil))
    return (s, c, TLSPeer.meet(s, c))
  }

  private static let alice: [UInt8] = (0..<16).map { UInt8($0 * 0x11) }

  @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
  func certificatesOfTheAuthorityAreAccepted(version: Int32) throws {
    let context = try TLSPeer.context(version: version, authority: file("ca-cert.pem"))
    defer { SSL_CTX_free(context) }
    let (server, client, steps) = try meet(try server(), context)
    #expect(steps == (.done, .done))
    // More than a record, in pieces of all sizes.
    let message = (0..<50_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    #expect(TLSPeer.send(client, message))
    TLSPeer.feed(server, TLSPeer.output(client))
    #expect(TLSPeer.received(server).bytes == message)
    #expect(TLSPeer.send(server, message))
    TLSPeer.feed(client, TLSPeer.output(server))
    #expect(TLSPeer.received(client).bytes == message)
    server.finish()
    TLSPeer.feed(client, TLSPeer.output(server))
    #expect(TLSPeer.received(client).step == .ended)
    #expect(server.summary.hasPrefix(version == TLS1_2_VERSION ? "TLSv1.2 " : "TLSv1.3 "))
  }

  @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
  func preSharedKeys(version: Int32) throws {
    for hasCertificates in [false, true] {
      let server = try TLSContext(
        certificates: hasCertificates ? files.path : nil, preSharedKeys: file("keys.psk"), verifyPeer: hasCertificates)
      for (user, key, works) in [
        ("alice", Self.alice, true), ("alice", Self.alice.reversed(), false), ("bob", Self.alice, false),
        ("eve", Self.alice, false),
      ] {
        let context = try TLSPeer.context(version: version, user: user, key: key)
        defer { SSL_CTX_free(context) }
        let met = try meet(server, context)
        #expect((met.steps.server == .done) == works, "\(user) \(met.steps)")
        if works { #expect(met.server.summary.hasSuffix(", user alice"), "\(met.server.summary)") }
      }
    }
  }

  @Test func clientsWithoutTheRightCertificateAreRefused() throws {
    try files.issue("client", to: "client-cert.pem", "client-key.pem")
    let other = try TLSFiles()
    try other.issue("client", to: "client-cert.pem", "client-key.pem")
    let strict = try server(verifyPeer: true)
    for (directory, works) in [(files.path, true), (other.path, false), (nil, false)] {
      let context = try TLSPeer.context(
        authority: file("ca-cert.pem"), certificate: directory.map { "\($0)/client-cert.pem" },
        keyFile: directory.map { "\($0)/client-key.pem" })
      defer { SSL_CTX_free(context) }
      let met = try meet(strict, context)
      #expect((met.steps.server == .done) == works, "\(met.steps)")
      if works { #expect(met.server.summary.hasSuffix(", certificate /CN=client")) }
      // Whoever asks for none does not look at one either.
      #expect(try meet(try server(), context).steps.server == .done)
    }
  }

  @Test func oldVersionsAreRefused() throws {
    let context = try TLSPeer.context(version: TLS1_1_VERSION)
    defer { SSL_CTX_free(context) }
    guard case .failed = try meet(try server(), context).steps.server else {
      Issue.record("TLS 1.1 was accepted")
      return
    }
  }

  @Test func renegotiationIsRefused() throws {
    let context = try TLSPeer.context(version: TLS1_2_VERSION)
    defer { SSL_CTX_free(context) }
    let s = try #require(TLSSession(try server()))
    let raw = try #require(SSL_new(context))
    defer { SSL_free(raw) }
    let (input, output) = (elide_bio_memory(), elide_bio_memory())
    SSL_set_bio(raw, input, output)
    SSL_set_connect_state(raw)
    func exchange() {
      var bytes = [UInt8](repeating: 0, count: 60_000)
      let n = BIO_read(output, &bytes, Int32(bytes.count))
      if n > 0 { TLSPeer.feed(s, Array(bytes[..<Int(n)])) }
      _ = s.shakeHands()
      let answer = TLSPeer.output(s)
      BIO_write(input, answer, Int32(answer.count))
    }
    for _ in 0..<5 {
      SSL_do_handshake(raw)
      exchange()
    }
    #expect(SSL_is_init_finished(raw) == 1)
    #expect(SSL_renegotiate(raw) == 1)
    SSL_do_handshake(raw)
    var bytes = [UInt8](repeating: 0, count: 60_000)
    let n = BIO_read(output, &bytes, Int32(bytes.count))
    #expect(n > 0)
    TLSPeer.feed(s, Array(bytes[..<Int(max(0, n))]))
    #expect(TLSPeer.received(s).bytes.isEmpty)
    let answer = TLSPeer.output(s)
    BIO_write(input, answer, Int32(answer.count))
    // The server says no, and the client's handshake does not come to its end.
    #expect(SSL_do_handshake(raw) != 1)
  }

  /// Spoiled, cut and repeated records: a failure at most, and never a byte that was not sent.
  @Test func spoiledStreams() throws {
    let context = try TLSPeer.context(authority: file("ca-cert.pem"))
    defer { SSL_CTX_free(context) }
    let server = try server()
    var random = Seeded(77)
    let message = (0..<3000).map { UInt8(truncatingIfNeeded: $0) }
    for _ in 0..<60 {
      let met = try meet(server, context)
      #expect(TLSPeer.send(met.client, message))
      let sent = TLSPeer.output(met.client)
      let spoiled = NBDStreams.mutate(sent, &random)
      var at = 0
      var got: [UInt8] = []
      while at < spoiled.count {
        let n = min(spoiled.count - at, Int.random(in: 1...900, using: &random), met.server.room)
        TLSPeer.feed(met.server, Array(spoiled[at..<at + n]))
        at += n
        let (bytes, step) = TLSPeer.received(met.server)
        got += bytes
        guard step == .needsInput else { break }
      }
      #expect(message.starts(with: got))
    }
    // No handshake comes out of noise.
    for _ in 0..<200 {
      let session = try #require(TLSSession(server))
      var noise = (0..<Int.random(in: 1...2000, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
      if Bool.random(using: &random) { noise.replaceSubrange(0..<min(3, noise.count), with: [22, 3, 1].prefix(noise.count)) }
      TLSPeer.feed(session, noise)
      #expect(session.shakeHands() != .done)
      #expect(TLSPeer.output(session).count < 4096)
    }
  }

  @Test func filesAtFaultAreNamed() throws {
    func failure(_ directory: String?, _ keys: String? = nil, verifyPeer: Bool = false) -> String {
      do throws(TLSError) {
        _ = try TLSContext(certificates: directory, preSharedKeys: keys, verifyPeer: verifyPeer)
        return ""
      } catch { return error.description }
    }
    #expect(failure("/nonexistent").contains("/nonexistent/server-cert.pem: No such file"))
    #expect(failure(nil, "/nonexistent").contains("/nonexistent: No such file"))
    #expect(failure(nil).contains("neither"))
    #expect(failure(nil, file("keys.psk"), verifyPeer: true).contains("client certificates"))
    try files.write("server-key.pem", "nonsense")
    #expect(failure(files.path).contains("server-key.pem: no private key"))
    try files.issue("another", to: "another-cert.pem", "server-key.pem")
    #expect(failure(files.path).contains("server-key.pem"))
    try files.issue("server", to: "server-cert.pem", "server-key.pem")
    #expect(failure(files.path) == "")
    unlink(file("ca-cert.pem"))
    #expect(failure(files.path) == "")
    #expect(failure(files.path, verifyPeer: true).contains("ca-cert.pem: No such file"))
  }

  @Test(arguments: [
    "", "# none\n", "alice", "alice:", ":00", "alice:0", "alice:0g", "alice:00\nalice:01\n",
    "alice:" + String(repeating: "00", count: 65), String(repeating: "a", count: 256) + ":00",
  ])
  func badKeyFiles(text: String) {
    let error = #expect(throws: TLSError.self) { try PreSharedKeys(text: text) }
    #expect(error?.detail.contains("0g") != true)
  }

  @Test func keyFiles() throws {
    let keys = try PreSharedKeys(text: "# comment\r\n\nalice:0aFF\r\nhost:name:01\n")
    #expect(keys.key(of: "alice") == [0x0A, 0xFF] && keys.key(of: "host:name") == [1] && keys.key(of: "bob") == nil)
  }
}
