import COpenSSL

/// An Ed25519 key pair (RFC 8032) over OpenSSL. The private key is 32 bytes; who holds the value owns the secret.
package struct SigningKey: Sendable {
  /// 32 secret bytes.
  package let secret: [UInt8]
  /// The 32-byte public key.
  package let publicKey: [UInt8]

  package init?(secret: [UInt8]) {
    guard secret.count == 32, let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, secret, 32) else { return nil }
    defer { EVP_PKEY_free(key) }
    var out = [UInt8](repeating: 0, count: 32)
    var n = 32
    guard EVP_PKEY_get_raw_public_key(key, &out, &n) == 1, n == 32 else { return nil }
    self.secret = secret
    publicKey = out
  }

  /// A fresh key.
  package init(random: any Randomness) {
    while true {
      var bytes = [UInt8](repeating: 0, count: 32)
      bytes.withUnsafeMutableBytes { random.fill($0) }
      if let key = SigningKey(secret: bytes) {
        self = key
        return
      }
    }
  }

  /// 64 bytes; deterministic.
  package func sign(_ message: [UInt8]) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: 64)
    var n = 64
    let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, secret, 32)
    let context = EVP_MD_CTX_new()
    defer {
      EVP_MD_CTX_free(context)
      EVP_PKEY_free(key)
    }
    precondition(
      key != nil && context != nil && EVP_DigestSignInit(context, nil, nil, nil, key) == 1
        && EVP_DigestSign(context, &out, &n, message, message.count) == 1 && n == 64, "OpenSSL cannot sign: out of memory")
    return out
  }
}

/// Whether `signature` (64 bytes) is that of `publicKey` (32 bytes) over `message`. Anything malformed is false.
package func verifyEd25519(_ signature: [UInt8], of message: [UInt8], publicKey: [UInt8]) -> Bool {
  guard signature.count == 64, publicKey.count == 32,
    let key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, publicKey, 32)
  else { return false }
  defer { EVP_PKEY_free(key) }
  guard let context = EVP_MD_CTX_new() else { return false }
  defer { EVP_MD_CTX_free(context) }
  guard EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1 else { return false }
  return EVP_DigestVerify(context, signature, 64, message, message.count) == 1
}

extension SigningKey {
  /// The key in the file `path`: 64 hexadecimal digits and a newline, readable by its owner alone. Made durably on first
  /// use; of several first users all get the same key.
  package static func kept(at path: String, world: World) throws -> SigningKey {
    if !world.files.exists(path) {
      let fresh = SigningKey(random: world.random)
      let temporary = "\(path).\(ULID(clock: world.clock, random: world.random))"
      _ = try world.files.createFile(path, with: Array((hexadecimal(fresh.secret) + "\n").utf8), temporary: temporary)
    }
    let text = String(decoding: try world.files.readFile(path, limit: 4096), as: UTF8.self)
    guard text.hasSuffix("\n"), let secret = decodeHexadecimal(text.dropLast()), let key = SigningKey(secret: secret) else {
      throw FormatError(path, offset: 0, "is not a key: 64 hexadecimal digits and a newline are wanted")
    }
    return key
  }
}
