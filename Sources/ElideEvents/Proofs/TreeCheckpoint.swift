import ElideIO

// A signed statement of a log's Merkle tree, in the C2SP formats that other people's tools read:
//
//   elide/store/<store ULID>/name/<name>       origin: which log
//   12                                         entries in the tree
//   <base 64>                                  root, RFC 6962
//                                              (an empty line)
//   — <key name> <base 64 of key id, signature>
//
// c2sp.org/tlog-checkpoint inside c2sp.org/signed-note. The signed text is the lines before the empty one. The key name is the
// origin; the key id is the first 4 bytes of SHA-256(key name ‖ line feed ‖ 1 ‖ public key), so that several hosts sign alike.

/// What is wrong with a note or a proof.
package struct ProofError: Error, Equatable, Sendable, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// A checkpoint of a log's tree, with the signatures that it carries. Hostile until `isSigned`.
package struct TreeCheckpoint: Equatable, Sendable {
  package struct Signature: Equatable, Sendable {
    package var name: String
    /// 4 bytes.
    package var key: [UInt8]
    package var bytes: [UInt8]
  }
  package var origin: String
  /// Entries in the tree.
  package var size: UInt64
  package var root: Digest
  /// Lines that say nothing here, and are signed with the rest.
  package var extensions: [String] = []
  package var signatures: [Signature] = []

  package static let maxBytes = 64 << 10
  private static let maxSignatures = 64
  private static let dash = "\u{2014} "

  package init(origin: String, size: UInt64, root: Digest) {
    self.origin = origin
    self.size = size
    self.root = root
  }

  /// The origin of a name's log.
  package static func origin(store: ULID, name: String) -> String { "elide/store/\(store)/name/\(name)" }

  /// What is signed.
  package var text: String {
    ([origin, String(size), base64(root.bytes)] + extensions).map { $0 + "\n" }.joined()
  }

  package mutating func sign(_ key: SigningKey) {
    let id = Self.keyID(origin, key.publicKey)
    signatures.append(Signature(name: origin, key: id, bytes: key.sign(Array(text.utf8))))
  }

  /// Whether this key has signed it under the log's name.
  package func isSigned(by publicKey: [UInt8]) -> Bool {
    let id = Self.keyID(origin, publicKey)
    return signatures.contains { s in
      s.name == origin && s.key == id && verifyEd25519(s.bytes, of: Array(text.utf8), publicKey: publicKey)
    }
  }

  package static func keyID(_ name: String, _ publicKey: [UInt8]) -> [UInt8] {
    Array(Digest.sha256(Array(name.utf8) + [10, 1] + publicKey).bytes[..<4])
  }

  package func encode() -> [UInt8] {
    let lines = signatures.map { Self.dash + $0.name + " " + base64($0.key + $0.bytes) + "\n" }
    return Array((text + "\n" + lines.joined()).utf8)
  }

  package static func decode(_ bytes: [UInt8]) throws(ProofError) -> TreeCheckpoint {
    guard bytes.count <= maxBytes, let note = String(validating: bytes, as: UTF8.self) else {
      throw ProofError("a checkpoint is at most \(maxBytes) bytes of UTF-8")
    }
    guard !note.utf8.contains(where: { $0 < 0x20 && $0 != 10 }), note.utf8.last == 10 else {
      throw ProofError("a checkpoint has control characters, or does not end its last line")
    }
    var lines = note.utf8.split(separator: 10, omittingEmptySubsequences: false).dropLast().map { String($0) ?? "" }
    guard let empty = lines.lastIndex(of: "") else { throw ProofError("a checkpoint has no signatures") }
    let signed = lines[(empty + 1)...]
    lines = Array(lines[..<empty])
    guard lines.count >= 3, !lines.contains("") else { throw ProofError("a checkpoint has at least three lines, none empty") }
    guard let size = UInt64(lines[1]), String(size) == lines[1] else { throw ProofError("'\(lines[1])' is not a size") }
    guard let root = decodeBase64(lines[2]), let digest = Digest(hex: hexadecimal(root)) else {
      throw ProofError("the root is no digest")
    }
    var checkpoint = TreeCheckpoint(origin: lines[0], size: size, root: digest)
    checkpoint.extensions = Array(lines[3...])
    guard !signed.isEmpty, signed.count <= maxSignatures else { throw ProofError("\(signed.count) signatures") }
    for line in signed { checkpoint.signatures.append(try signature(line)) }
    return checkpoint
  }

  private static func signature(_ line: String) throws(ProofError) -> Signature {
    guard line.hasPrefix(dash) else { throw ProofError("a line that is no signature") }
    let words = line.dropFirst(dash.count).split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 2, !words[0].isEmpty, !words[0].contains("+"), let bytes = decodeBase64(words[1]), bytes.count > 4
    else { throw ProofError("a signature is a name and base 64") }
    return Signature(name: String(words[0]), key: Array(bytes[..<4]), bytes: Array(bytes[4...]))
  }
}
