import COpenSSL

/// MD5, for S3's `Content-MD5` and ETags: against damage on the way, not against anybody's intention.
package enum MD5 {
  /// 16 bytes; nil where the library has it switched off.
  package static func digest(of body: BodyBytes) -> [UInt8]? {
    guard let context = EVP_MD_CTX_new() else { return nil }
    defer { EVP_MD_CTX_free(context) }
    guard EVP_DigestInit_ex(context, EVP_md5(), nil) == 1 else { return nil }
    body.forEach { _ = EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
    var out = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var count: UInt32 = 0
    guard EVP_DigestFinal_ex(context, &out, &count) == 1, count == 16 else { return nil }
    return Array(out[..<16])
  }
}
