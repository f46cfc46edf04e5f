import ElideIO

/// TOML documents that carry their own signature: `volume.toml`, `host.pub`, and name entries.
///
/// The seal is exactly the document's last bytes, `[seal]\nsignature = "ed25519:<128 hex>"\n`; what is signed is
/// `elide/1/<subject>\0` and all bytes before the seal. So no canonical form is needed, and a signature for one subject
/// is none for another.
package enum SealedDocument {
  private static let opening = Array("[seal]\nsignature = \"ed25519:".utf8)
  private static let closing = Array("\"\n".utf8)
  private static let sealBytes = opening.count + 128 + closing.count

  /// `body` with its seal. `body` ends with a line break and has no `[seal]` table. `sign` gives 64 bytes.
  package static func seal(_ body: [UInt8], subject: String, sign: ([UInt8]) -> [UInt8]) -> [UInt8] {
    precondition(body.last == UInt8(ascii: "\n"))
    let signature = sign(signed(body, subject))
    precondition(signature.count == 64)
    return body + opening + Array(hexadecimal(signature).utf8) + closing
  }

  /// The body and the signature of a sealed document; nil when its last bytes are not a seal.
  package static func split(_ document: [UInt8]) -> (body: [UInt8], signature: [UInt8])? {
    guard document.count >= sealBytes else { return nil }
    let body = document[..<(document.count - sealBytes)]
    let seal = document[(document.count - sealBytes)...]
    guard seal.starts(with: opening), seal.suffix(closing.count).elementsEqual(closing) else { return nil }
    guard body.isEmpty || body.last == UInt8(ascii: "\n") else { return nil }
    let hex = String(decoding: seal.dropFirst(opening.count).prefix(128), as: UTF8.self)
    guard let signature = decodeHexadecimal(hex), signature.count == 64 else { return nil }
    return (Array(body), signature)
  }

  /// The body of a document that `key` sealed for `subject`.
  package static func open(_ document: [UInt8], subject: String, key: [UInt8]) throws(TOMLError) -> [UInt8] {
    guard let (body, signature) = split(document) else { throw TOMLError("not sealed") }
    guard verifyEd25519(signature, of: signed(body, subject), publicKey: key) else {
      throw TOMLError("not sealed by the key it should be sealed by")
    }
    return body
  }

  private static func signed(_ body: [UInt8], _ subject: String) -> [UInt8] { Array("elide/1/\(subject)\0".utf8) + body }
}
