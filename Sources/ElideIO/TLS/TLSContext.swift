import COpenSSL
import Glibc

/// Why TLS cannot be offered as asked.
package struct TLSError: Error, Equatable, CustomStringConvertible, Sendable {
  /// The file that is at fault; empty when none is.
  package let path: String
  package let detail: String
  package init(path: String = "", detail: String) {
    self.path = path
    self.detail = detail
  }
  package var description: String { path.isEmpty ? "TLS: \(detail)" : "TLS: \(path): \(detail)" }

  /// With what OpenSSL has on its list of errors, which is empty afterwards.
  static func last(_ path: String = "", _ what: String) -> TLSError {
    let reason = takeReason()
    return TLSError(path: path, detail: reason.isEmpty ? what : "\(what): \(reason)")
  }

  /// The reason of OpenSSL's newest error, as text. Empties the thread's list of errors.
  static func takeReason() -> String {
    let code = ERR_peek_last_error()
    ERR_clear_error()
    guard code != 0, let reason = ERR_reason_error_string(code) else { return "" }
    return String(cString: reason)
  }
}

/// What a server presents to clients and asks of them: certificates, pre-shared keys, or both. Made once, used by any number
/// of sessions; nothing of it changes after `init`.
///
/// TLS 1.2 at least, with forward secrecy and AEAD ciphers only. No renegotiation, no compression, no tickets, no
/// resumption: every session proves anew who it is.
package final class TLSContext: Sendable {
  /// The names of the files in a directory of certificates, as QEMU, nbdkit and libnbd have them.
  package enum File {
    package static let authority = "ca-cert.pem"
    package static let revoked = "ca-crl.pem"
    package static let certificate = "server-cert.pem"
    package static let key = "server-key.pem"
  }

  // Reference-counted and locked by OpenSSL; only read after `init`.
  nonisolated(unsafe) let context: OpaquePointer
  let keys: PreSharedKeys

  /// - Parameters:
  ///   - certificates: a directory with the files of `File`; the list of revoked ones may be missing, and so may the
  ///     authority unless clients are to show certificates.
  ///   - preSharedKeys: a file of lines `USER:HEX`, as GnuTLS's psktool makes it.
  ///   - verifyPeer: a client must show a certificate of the authority. (One with a pre-shared key has shown that.)
  package init(certificates: String?, preSharedKeys: String?, verifyPeer: Bool = false) throws(TLSError) {
    if certificates == nil && preSharedKeys == nil { throw TLSError(detail: "neither certificates nor pre-shared keys") }
    keys = try preSharedKeys.map { path throws(TLSError) in try PreSharedKeys(path: path) } ?? PreSharedKeys()
    guard let context = SSL_CTX_new(TLS_server_method()) else { throw TLSError.last("", "no context") }
    self.context = context
    elide_tls_restrict(context)
    // OpenSSL takes a pre-shared key for a session that is resumed, and wants to know whose sessions these are.
    SSL_CTX_set_session_id_context(context, [UInt8]("elide".utf8), 5)
    var ciphers: [String] = []
    if let certificates {
      try Self.load(certificates, verifyPeer: verifyPeer, into: context)
      ciphers += ["ECDHE+AESGCM", "ECDHE+CHACHA20", "DHE+AESGCM", "DHE+CHACHA20"]
    } else if verifyPeer {
      throw TLSError(detail: "client certificates can only be asked for with certificates of the server")
    }
    if preSharedKeys != nil {
      ciphers += ["kDHEPSK+AESGCM", "kDHEPSK+CHACHA20", "kECDHEPSK+CHACHA20"]
      SSL_CTX_set_ex_data(context, 0, Unmanaged.passUnretained(keys).toOpaque())
      SSL_CTX_set_psk_server_callback(context, findPreSharedKey)
      // A key goes with SHA-256. With another hash on offer, a client that has one as well would be asked for a certificate.
      guard SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") == 1 else {
        throw TLSError.last("", "no cipher")
      }
    }
    guard SSL_CTX_set_cipher_list(context, ciphers.joined(separator: ":") + ":!aNULL") == 1 else {
      throw TLSError.last("", "no cipher")
    }
  }

  deinit { SSL_CTX_free(context) }

  private static func load(_ directory: String, verifyPeer: Bool, into context: OpaquePointer) throws(TLSError) {
    let certificate = "\(directory)/\(File.certificate)"
    let key = "\(directory)/\(File.key)"
    let authority = "\(directory)/\(File.authority)"
    let revoked = "\(directory)/\(File.revoked)"
    for path in [certificate, key] { try checkReadable(path) }
    guard SSL_CTX_use_certificate_chain_file(context, certificate) == 1 else {
      throw TLSError.last(certificate, "no certificate")
    }
    guard SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 else { throw TLSError.last(key, "no private key") }
    guard SSL_CTX_check_private_key(context) == 1 else { throw TLSError.last(key, "not the key of the certificate") }
    guard verifyPeer else { return }
    try checkReadable(authority)
    guard SSL_CTX_load_verify_file(context, authority) == 1, let names = SSL_load_client_CA_file(authority) else {
      throw TLSError.last(authority, "no certificate")
    }
    SSL_CTX_set_client_CA_list(context, names)
    if access(revoked, F_OK) == 0 {
      guard let store = SSL_CTX_get_cert_store(context), X509_STORE_load_file(store, revoked) == 1 else {
        throw TLSError.last(revoked, "no list of revoked certificates")
      }
      X509_STORE_set_flags(store, UInt(X509_V_FLAG_CRL_CHECK))
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
  }

  private static func checkReadable(_ path: String) throws(TLSError) {
    if access(path, R_OK) != 0 { throw TLSError(path: path, detail: Errno.current.description) }
  }
}

/// Keys by the names of their users.
final class PreSharedKeys: Sendable {
  static let longestUser = 255
  static let longestKey = 64
  private let keys: [String: [UInt8]]

  init() { keys = [:] }

  /// Reads lines `USER:HEX`; empty ones and those that begin with # do not count. Errors name the line, never the key.
  convenience init(path: String) throws(TLSError) {
    guard let text = readSmallFile(path, limit: 1 << 20) else { throw TLSError(path: path, detail: Errno.current.description) }
    do { try self.init(text: text) } catch { throw TLSError(path: path, detail: error.detail) }
  }

  init(text: String) throws(TLSError) {
    var found: [String: [UInt8]] = [:]
    // By scalars: as a Character, "\r\n" is one, and no "\n".
    for (number, scalars) in text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let line = Substring(scalars.last == "\r" ? scalars.dropLast() : scalars)
      if line.isEmpty || line.hasPrefix("#") { continue }
      guard let colon = line.lastIndex(of: ":"), let key = bytes(ofHex: line[line.index(after: colon)...]), !key.isEmpty,
        key.count <= Self.longestKey
      else { throw TLSError(detail: "line \(number + 1) is not USER:HEX") }
      let user = String(line[..<colon])
      guard !user.isEmpty, user.utf8.count <= Self.longestUser else {
        throw TLSError(detail: "line \(number + 1) has no user, or one of more than \(Self.longestUser) bytes")
      }
      guard found.updateValue(key, forKey: user) == nil else {
        throw TLSError(detail: "line \(number + 1): \(user) has two keys")
      }
    }
    if found.isEmpty { throw TLSError(detail: "no keys") }
    keys = found
  }

  func key(of user: String) -> [UInt8]? { keys[user] }
}

/// The bytes of an even number of hexadecimal digits.
private func bytes(ofHex text: Substring) -> [UInt8]? {
  let digits = Array(text.utf8)
  guard digits.count % 2 == 0 else { return nil }
  var bytes: [UInt8] = []
  for at in stride(from: 0, to: digits.count, by: 2) {
    guard let high = nibble(digits[at]), let low = nibble(digits[at + 1]) else { return nil }
    bytes.append(high << 4 | low)
  }
  return bytes
}

private func nibble(_ digit: UInt8) -> UInt8? {
  switch digit {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
  default: nil
  }
}

/// The text of a file of at most `limit` bytes; nil with errno set when there is none.
private func readSmallFile(_ path: String, limit: Int) -> String? {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  if descriptor < 0 { return nil }
  defer { close(descriptor) }
  var text: [UInt8] = []
  var piece = [UInt8](repeating: 0, count: 4096)
  while true {
    let count = read(descriptor, &piece, piece.count)
    if count < 0 { return nil }
    if count == 0 { break }
    text += piece[..<count]
    if text.count > limit {
      errno = EFBIG
      return nil
    }
  }
  return String(decoding: text, as: UTF8.self)
}

/// OpenSSL asks for the key of a user, in TLS 1.2 and 1.3 alike. 0: there is none.
private func findPreSharedKey(
  _ session: OpaquePointer?, _ user: UnsafePointer<CChar>?, _ target: UnsafeMutablePointer<UInt8>?, _ room: UInt32
) -> UInt32 {
  guard let session, let user, let target, let context = SSL_get_SSL_CTX(session), let raw = SSL_CTX_get_ex_data(context, 0)
  else { return 0 }
  let keys = Unmanaged<PreSharedKeys>.fromOpaque(raw).takeUnretainedValue()
  guard let name = String(validatingCString: user), let key = keys.key(of: name), key.count <= Int(room) else { return 0 }
  for (index, byte) in key.enumerated() { target[index] = byte }
  if let raw = SSL_get_ex_data(session, 0) { Unmanaged<TLSSession>.fromOpaque(raw).takeUnretainedValue().user = name }
  return UInt32(key.count)
}
