import ElideIO

// Files that prove something of a log to whoever knows a host's key, without the log.
//
//   c2sp.org/tlog-proof@v1            an entry is in the tree that a checkpoint signs (c2sp.org/tlog-proof)
//   extra <base 64>                   the entry's raw bytes: the leaf is their hash
//   index <n>
//   <base 64 of a hash> …             from the leaf's sibling up
//                                     (an empty line)
//   <checkpoint>
//
//   elide-consistency@v1              the tree that a checkpoint signs begins with a smaller one
//   old <size> <base 64 of its root>
//   <base 64 of a hash> …
//                                     (an empty line)
//   <checkpoint>

/// A proof as it is kept in a file. Hostile until it holds and its checkpoint is signed by a key that the caller trusts.
package struct LogProof: Equatable, Sendable {
  package enum Claim: Equatable, Sendable {
    /// These bytes are entry `index`.
    case entry(raw: [UInt8], index: UInt64)
    /// The tree of the first `size` entries had this root.
    case beginning(size: UInt64, root: Digest)
  }
  package var claim: Claim
  package var path: [Digest]
  package var checkpoint: TreeCheckpoint

  package static let maxBytes = 256 << 10
  private static let entryMark = "c2sp.org/tlog-proof@v1"
  private static let beginningMark = "elide-consistency@v1"
  private static let maxPath = 64

  package init(_ claim: Claim, path: [Digest], checkpoint: TreeCheckpoint) {
    self.claim = claim
    self.path = path
    self.checkpoint = checkpoint
  }

  /// Whether the hashes lead to the checkpoint's root. Who signed the checkpoint is another question.
  package var holds: Bool {
    switch claim {
    case .entry(let raw, let index):
      MerkleProof.isIncluded(MerkleFrontier.leaf(raw), at: index, of: checkpoint.size, root: checkpoint.root, by: path)
    case .beginning(let size, let root):
      MerkleProof.isConsistent(from: size, root, to: checkpoint.size, checkpoint.root, by: path)
    }
  }

  package func encode() -> [UInt8] {
    var lines: [String]
    switch claim {
    case .entry(let raw, let index): lines = [Self.entryMark, "extra \(base64(raw))", "index \(index)"]
    case .beginning(let size, let root): lines = [Self.beginningMark, "old \(size) \(base64(root.bytes))"]
    }
    lines += path.map { base64($0.bytes) }
    return Array(lines.map { $0 + "\n" }.joined().utf8) + [10] + checkpoint.encode()
  }

  package static func decode(_ bytes: [UInt8]) throws(ProofError) -> LogProof {
    guard bytes.count <= maxBytes else { throw ProofError("a proof of \(bytes.count) bytes") }
    var rest = bytes[...]
    var lines: [String] = []
    while true {
      guard let end = rest.firstIndex(of: 10), lines.count <= maxPath + 3 else { throw ProofError("a proof without an end") }
      guard let line = String(validating: rest[..<end], as: UTF8.self) else { throw ProofError("a proof is UTF-8") }
      rest = rest[(end + 1)...]
      if line.isEmpty { break }
      lines.append(line)
    }
    let checkpoint = try TreeCheckpoint.decode(Array(rest))
    var words = lines[...]
    let claim: Claim
    switch words.popFirst() {
    case entryMark: claim = try entry(&words)
    case beginningMark: claim = try beginning(&words)
    case let other: throw ProofError("'\(other ?? "")' is no kind of proof")
    }
    var path: [Digest] = []
    for line in words {
      guard let hash = decodeBase64(line), let digest = Digest(hex: hexadecimal(hash)) else {
        throw ProofError("'\(line)' is no hash")
      }
      path.append(digest)
    }
    guard path.count <= maxPath else { throw ProofError("\(path.count) hashes") }
    return LogProof(claim, path: path, checkpoint: checkpoint)
  }

  private static func entry(_ lines: inout ArraySlice<String>) throws(ProofError) -> Claim {
    guard let extra = lines.popFirst(), extra.hasPrefix("extra "), let raw = decodeBase64(extra.dropFirst(6)) else {
      throw ProofError("the entry's bytes are missing: a line 'extra BASE64'")
    }
    guard let line = lines.popFirst(), line.hasPrefix("index "), let index = UInt64(line.dropFirst(6)),
      line == "index \(index)"
    else { throw ProofError("the entry's number is missing: a line 'index N'") }
    return .entry(raw: raw, index: index)
  }

  private static func beginning(_ lines: inout ArraySlice<String>) throws(ProofError) -> Claim {
    let words = (lines.popFirst() ?? "").split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 3, words[0] == "old", let size = UInt64(words[1]), String(size) == words[1],
      let root = decodeBase64(words[2]), let digest = Digest(hex: hexadecimal(root))
    else { throw ProofError("the smaller tree is missing: a line 'old SIZE ROOT'") }
    return .beginning(size: size, root: digest)
  }
}
