import COpenSSL
import Glibc

/// One side of a TLS session, fed with bytes and asked for bytes: it does no I/O of its own. Owned by one thread.
///
/// Memory is bounded: at most `pieceSize` bytes wait to be decrypted, and no more is encrypted before what was has been
/// taken, so that beyond a record or two only answers to the peer's own messages add to the output.
final class TLSSession {
  enum Step: Equatable {
    case done
    /// The peer has to say something first (or to be told what waits in the output).
    case needsInput
    /// The peer says that it will send no more.
    case ended
    case failed(String)
  }

  /// The most that may be fed at once, and the most that is encrypted at once.
  static let pieceSize = 64 << 10
  /// The most that one record carries.
  static let recordSize = 16 << 10

  private let session: OpaquePointer
  private let input: OpaquePointer
  private let output: OpaquePointer
  private let context: TLSContext?
  /// Small pieces gathered into one record.
  private let record = UnsafeMutableRawPointer.allocate(byteCount: recordSize, alignment: 16)
  private var isOver = false
  /// Whose pre-shared key was asked for. It is theirs only if the handshake succeeds with it.
  var user: String?

  /// nil when there is no memory.
  convenience init?(_ context: TLSContext) {
    self.init(raw: context.context, isServer: true, keeping: context)
  }

  /// - Parameter raw: an SSL_CTX that outlives the session, as `keeping` may see to.
  init?(raw: OpaquePointer, isServer: Bool, keeping context: TLSContext?) {
    guard let session = SSL_new(raw) else { return nil }
    guard let input = elide_bio_memory() else {
      SSL_free(session)
      return nil
    }
    guard let output = elide_bio_memory() else {
      BIO_free(input)
      SSL_free(session)
      return nil
    }
    SSL_set_bio(session, input, output)
    if isServer { SSL_set_accept_state(session) } else { SSL_set_connect_state(session) }
    self.session = session
    self.input = input
    self.output = output
    self.context = context
    SSL_set_ex_data(session, 0, Unmanaged.passUnretained(self).toOpaque())
  }

  deinit {
    SSL_free(session)
    record.deallocate()
  }

  // MARK: Encrypted bytes

  /// Room for what came from the peer.
  var room: Int { max(0, Self.pieceSize - elide_bio_pending(input)) }
  /// Takes at most `room` bytes that came from the peer.
  func feed(_ bytes: UnsafeRawBufferPointer) {
    precondition(bytes.count <= room)
    if bytes.count > 0 { BIO_write(input, bytes.baseAddress, Int32(bytes.count)) }
  }
  /// Bytes that wait to be sent.
  var outputCount: Int { elide_bio_pending(output) }
  /// Takes bytes that are to be sent into `target`, and returns how many.
  func takeOutput(_ target: UnsafeMutableRawBufferPointer) -> Int {
    max(0, Int(BIO_read(output, target.baseAddress, Int32(clamping: target.count))))
  }
  /// There may be something to receive without more input.
  var hasPending: Bool { !isOver && (SSL_has_pending(session) == 1 || elide_bio_pending(input) > 0) }

  // MARK: What they mean

  /// Goes on with the handshake.
  func shakeHands() -> Step {
    ERR_clear_error()
    let result = SSL_do_handshake(session)
    return result == 1 ? .done : judge(result)
  }

  /// Decrypts up to `target.count` bytes, at least one when `.done`.
  func receive(_ target: UnsafeMutableRawBufferPointer, count: inout Int) -> Step {
    count = 0
    while count < target.count {
      ERR_clear_error()
      let n = SSL_read(session, target.baseAddress.map { $0 + count }, Int32(clamping: target.count - count))
      guard n > 0 else {
        let step = judge(n)
        // What was there before goes first; the rest is found again.
        return count > 0 ? .done : step
      }
      count += Int(n)
    }
    return .done
  }

  /// Encrypts from the front of the pieces, and returns how many bytes; nil when the session is of no use any more. The pieces
  /// may go as soon as it returns.
  func send(_ pieces: UnsafePointer<iovec>, count: Int) -> Int? {
    var total = 0
    var index = 0
    var offset = 0
    while index < count && total < Self.pieceSize {
      let piece = pieces[index]
      let left = piece.iov_len - offset
      if left >= Self.recordSize {
        guard let base = piece.iov_base, let n = encrypt(base + offset, left) else { return nil }
        total += n
        offset += n
        if offset == piece.iov_len { (index, offset) = (index + 1, 0) }
        continue
      }
      var gathered = 0
      while index < count && gathered < Self.recordSize {
        let taken = min(pieces[index].iov_len - offset, Self.recordSize - gathered)
        if let base = pieces[index].iov_base { memcpy(record + gathered, base + offset, taken) }
        gathered += taken
        offset += taken
        if offset == pieces[index].iov_len { (index, offset) = (index + 1, 0) }
      }
      if gathered > 0 {
        guard encrypt(record, gathered) == gathered else { return nil }
        total += gathered
      }
    }
    return total
  }

  /// One record. The output takes whatever there is, so that it is never put off.
  private func encrypt(_ bytes: UnsafeRawPointer, _ count: Int) -> Int? {
    if isOver { return nil }
    ERR_clear_error()
    let n = SSL_write(session, bytes, Int32(min(count, Self.recordSize)))
    return n > 0 ? Int(n) : nil
  }

  /// Tells the peer that nothing more comes.
  func finish() {
    if isOver || SSL_is_init_finished(session) != 1 { return }
    isOver = true
    ERR_clear_error()
    SSL_shutdown(session)
    ERR_clear_error()
  }

  /// Version, cipher, and who the peer is as far as it has shown it; once the handshake is done.
  var summary: String {
    let version = String(cString: SSL_get_version(session))
    let cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(session)).map { String(cString: $0) } ?? "?"
    return "\(version) \(cipher)\(peer)"
  }

  private var peer: String {
    // In TLS 1.3 a pre-shared key is a session that is resumed; there are no others here.
    if let user, SSL_get_psk_identity(session) != nil || SSL_session_reused(session) == 1 { return ", user \(user)" }
    guard let certificate = SSL_get0_peer_certificate(session), let name = X509_get_subject_name(certificate),
      let line = X509_NAME_oneline(name, nil, 0)
    else { return "" }
    defer { CRYPTO_free(line, #fileID, #line) }
    return ", certificate \(String(cString: line))"
  }

  private func judge(_ result: Int32) -> Step {
    switch SSL_get_error(session, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .needsInput
    case SSL_ERROR_ZERO_RETURN: return .ended
    default:
      isOver = true
      let verdict = SSL_get_verify_result(session)
      let reason = TLSError.takeReason()
      if verdict != X509_V_OK { return .failed("\(reason): \(String(cString: X509_verify_cert_error_string(Int(verdict))))") }
      return .failed(reason.isEmpty ? "the session broke" : reason)
    }
  }
}
