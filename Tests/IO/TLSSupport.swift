import COpenSSL
import Glibc
import MemoryDevice

@testable import ElideIO

/// A directory with an authority, a server and clients, for one test.
final class TLSFiles {
  let path: String
  private let authority: OpaquePointer
  private let authorityKey: OpaquePointer
  private var serial = 1

  init() throws {
    var template = Array("/tmp/elide-tls-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Errno.current }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    authorityKey = try Self.key()
    authority = try Self.certificate("authority", key: authorityKey, issuer: nil, issuerKey: authorityKey, serial: 1)
    try save(TLSContext.File.authority, certificate: authority)
    try issue("server", to: TLSContext.File.certificate, TLSContext.File.key)
    try write("keys.psk", "# users\nalice:00112233445566778899aabbccddeeff\nbob:ffeeddccbbaa9988\n")
  }
  deinit {
    X509_free(authority)
    EVP_PKEY_free(authorityKey)
    for name in (try? names()) ?? [] { unlink("\(path)/\(name)") }
    rmdir(path)
  }

  private func names() throws -> [String] {
    guard let directory = opendir(path) else { throw Errno.current }
    defer { closedir(directory) }
    var found: [String] = []
    while let entry = readdir(directory) {
      found.append(
        withUnsafePointer(to: &entry.pointee.d_name) {
          String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
        })
    }
    return found
  }

  /// A certificate of the authority and its key.
  func issue(_ name: String, to certificate: String, _ keyFile: String) throws {
    serial += 1
    let key = try Self.key()
    defer { EVP_PKEY_free(key) }
    let made = try Self.certificate(name, key: key, issuer: authority, issuerKey: authorityKey, serial: serial)
    defer { X509_free(made) }
    try save(certificate, certificate: made)
    guard let bio = BIO_new_file("\(path)/\(keyFile)", "w") else { throw Errno(EIO) }
    defer { BIO_free(bio) }
    guard PEM_write_bio_PrivateKey(bio, key, nil, nil, 0, nil, nil) == 1 else { throw Errno(EIO) }
  }

  func write(_ name: String, _ text: String) throws {
    guard let file = fopen("\(path)/\(name)", "w") else { throw Errno.current }
    fputs(text, file)
    fclose(file)
  }

  private func save(_ name: String, certificate: OpaquePointer) throws {
    guard let bio = BIO_new_file("\(path)/\(name)", "w") else { throw Errno(EIO) }
    defer { BIO_free(bio) }
    guard PEM_write_bio_X509(bio, certificate) == 1 else { throw Errno(EIO) }
  }

  private static func key() throws -> OpaquePointer {
    var key: OpaquePointer?
    guard let context = EVP_PKEY_CTX_new_id(NID_ED25519, nil) else { throw Errno(EIO) }
    defer { EVP_PKEY_CTX_free(context) }
    guard EVP_PKEY_keygen_init(context) == 1, EVP_PKEY_keygen(context, &key) == 1, let key else { throw Errno(EIO) }
    return key
  }

  private static func certificate(
    _ name: String, key: OpaquePointer, issuer: OpaquePointer?, issuerKey: OpaquePointer, serial: Int
  ) throws -> OpaquePointer {
    guard let made = X509_new(), let subject = X509_get_subject_name(made) else { throw Errno(ENOMEM) }
    X509_set_version(made, 2)
    ASN1_INTEGER_set(X509_get_serialNumber(made), serial)
    X509_gmtime_adj(X509_getm_notBefore(made), -3600)
    X509_gmtime_adj(X509_getm_notAfter(made), 3600)
    X509_NAME_add_entry_by_txt(subject, "CN", 0x1000, name, -1, -1, 0)
    X509_set_issuer_name(made, issuer.map { X509_get_subject_name($0) } ?? subject)
    X509_set_pubkey(made, key)
    if issuer == nil, let extra = X509V3_EXT_conf_nid(nil, nil, NID_basic_constraints, "critical,CA:TRUE") {
      X509_add_ext(made, extra, -1)
      X509_EXTENSION_free(extra)
    }
    guard X509_sign(made, issuerKey, nil) > 0 else { throw Errno(EIO) }
    return made
  }
}

/// The other side of a session.
enum TLSPeer {
  /// A context of a client, for the caller to free. With a user it has a pre-shared key, with a certificate it shows that, and without
  /// an authority it trusts every server.
  static func context(
    version: Int32 = TLS1_3_VERSION, user: String? = nil, key: [UInt8] = [], authority: String? = nil, certificate: String? = nil,
    keyFile: String? = nil
  ) throws -> OpaquePointer {
    guard let context = SSL_CTX_new(TLS_client_method()) else { throw Errno(ENOMEM) }
    elide_tls_maximum_version(context, version)
    if user != nil {
      SSL_CTX_set_cipher_list(context, "PSK:!aNULL")
      SSL_CTX_set_psk_client_callback(context) { session, _, user, userRoom, key, keyRoom in
        guard let session, let raw = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(session), 0), let user, let key else { return 0 }
        let peer = Unmanaged<Secret>.fromOpaque(raw).takeUnretainedValue()
        strncpy(user, peer.user, Int(userRoom))
        for (at, byte) in peer.key.enumerated() where at < Int(keyRoom) { key[at] = byte }
        return UInt32(peer.key.count)
      }
      // Lives as long as the tests do.
      SSL_CTX_set_ex_data(context, 0, Unmanaged.passRetained(Secret(user: user ?? "", key: key)).toOpaque())
    }
    if let authority {
      SSL_CTX_load_verify_file(context, authority)
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    }
    if let certificate, let keyFile {
      guard SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) == 1,
        SSL_CTX_use_PrivateKey_file(context, keyFile, SSL_FILETYPE_PEM) == 1
      else { throw Errno(EIO) }
    }
    return context
  }

  final class Secret {
    let user: String
    let key: [UInt8]
    init(user: String, key: [UInt8]) {
      self.user = user
      self.key = key
    }
  }

  /// Takes all the output of a session.
  static func output(_ session: TLSSession) -> [UInt8] {
    var all: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 7000)
    while true {
      let n = piece.withUnsafeMutableBytes { session.takeOutput($0) }
      if n == 0 { return all }
      all += piece[..<n]
    }
  }

  static func feed(_ session: TLSSession, _ bytes: [UInt8]) {
    bytes.withUnsafeBytes { session.feed($0) }
  }

  static func send(_ session: TLSSession, _ bytes: [UInt8]) -> Bool {
    var bytes = bytes
    return bytes.withUnsafeMutableBytes { raw in
      var done = 0
      while done < raw.count {
        var piece = iovec(iov_base: raw.baseAddress.map { $0 + done }, iov_len: raw.count - done)
        guard let n = session.send(&piece, count: 1), n > 0 else { return false }
        done += n
      }
      return true
    }
  }

  /// What a session has received by now, and how it stands.
  static func received(_ session: TLSSession) -> (bytes: [UInt8], step: TLSSession.Step) {
    var all: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 20_000)
    while true {
      var count = 0
      let step = piece.withUnsafeMutableBytes { session.receive($0, count: &count) }
      all += piece[..<count]
      if step != .done { return (all, step) }
    }
  }

  /// Passes messages back and forth until both are done or one has failed. What each said last.
  static func meet(_ server: TLSSession, _ client: TLSSession) -> (server: TLSSession.Step, client: TLSSession.Step) {
    var s = TLSSession.Step.needsInput
    var c = TLSSession.Step.needsInput
    for _ in 0..<20 where s == .needsInput || c == .needsInput {
      if c == .needsInput { c = client.shakeHands() }
      feed(server, output(client))
      if s == .needsInput { s = server.shakeHands() }
      feed(client, output(server))
    }
    return (s, c)
  }
}
