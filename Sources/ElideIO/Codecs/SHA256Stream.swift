import COpenSSL

/// SHA-256 of bytes that come in pieces. Owned by one thread; used once.
package final class SHA256Stream {
  private let context: OpaquePointer

  /// nil when memory is exhausted.
  package init?() {
    guard let context = EVP_MD_CTX_new() else { return nil }
    guard EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
      EVP_MD_CTX_free(context)
      return nil
    }
    self.context = context
  }
  deinit { EVP_MD_CTX_free(context) }

  package func update(_ bytes: UnsafeRawBufferPointer) {
    _ = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
  }

  /// Ends it.
  package func finish() -> Digest {
    var out = [UInt8](repeating: 0, count: 32)
    _ = EVP_DigestFinal_ex(context, &out, nil)
    return out.withUnsafeBytes { Digest(bytes: $0) }
  }
}
