import ElideEvents
import ElideIO
import ElideProjections

/// Checkpoints and proofs of a name's log, made from a store: what a tenant keeps, and checks later without one.
package struct NameProver {
  package let name: String
  /// Which log: the store's id and the name.
  package let origin: String
  private let leaves: [Digest]
  private let history: NameHistory

  /// Reads and verifies the log; one that is not sound is nothing to prove by.
  package init(_ name: String, store: any Store, kept: [NameWitnessed] = []) throws(ElideError) {
    let report = try NameAuditor(store: store, kept: kept).verify(name, volumes: false)
    if let fault = report.firstFault {
      throw ElideError(.fault, "the log of '\(name)' is not sound: \(fault.what) at \(fault.place): \(fault.detail)")
    }
    self.name = name
    origin = TreeCheckpoint.origin(store: try StoreFormat.read(store).store, name: name)
    history = try NameHistory(name, store: store)
    leaves = history.slots.map { MerkleFrontier.leaf($0.raw) }
  }

  package var size: UInt64 { UInt64(leaves.count) }

  /// The tree of the first `size` entries, of all when nil; not signed yet.
  package func checkpoint(_ size: UInt64? = nil) throws(ElideError) -> TreeCheckpoint {
    let size = size ?? self.size
    guard size > 0, size <= self.size else {
      throw ElideError(.notFound, "the log of '\(name)' has \(self.size) entries; there is no tree of \(size)")
    }
    return TreeCheckpoint(origin: origin, size: size, root: MerkleProof.root(leaves[..<Int(size)]))
  }

  /// That entry `seq` is in the tree of a checkpoint, which must be one of this log.
  package func entry(_ seq: UInt64, in checkpoint: TreeCheckpoint) throws(ElideError) -> LogProof {
    try require(checkpoint)
    guard seq < checkpoint.size else {
      throw ElideError(.usage, "entry \(seq) is not in a tree of \(checkpoint.size) entries")
    }
    let path = MerkleProof.inclusion(of: Int(seq), in: leaves[..<Int(checkpoint.size)])
    return LogProof(.entry(raw: history.slots[Int(seq)].raw, index: seq), path: path, checkpoint: checkpoint)
  }

  /// That the tree of a checkpoint begins with that of the first `size` entries.
  package func beginning(_ size: UInt64, of checkpoint: TreeCheckpoint) throws(ElideError) -> LogProof {
    try require(checkpoint)
    guard size <= checkpoint.size else {
      throw ElideError(.usage, "a tree of \(checkpoint.size) entries does not begin with one of \(size)")
    }
    let old = try self.checkpoint(size)
    let path = MerkleProof.consistency(from: Int(size), in: leaves[..<Int(checkpoint.size)])
    return LogProof(.beginning(size: size, root: old.root), path: path, checkpoint: checkpoint)
  }

  private func require(_ checkpoint: TreeCheckpoint) throws(ElideError) {
    guard checkpoint.origin == origin else {
      throw ElideError(.usage, "the checkpoint is of \(checkpoint.origin), the log is \(origin)")
    }
    let mine = try self.checkpoint(checkpoint.size)
    guard mine.root == checkpoint.root else {
      throw ElideError(.fault, "the checkpoint of \(checkpoint.size) entries is not of this log: one of the two was changed")
    }
  }
}

/// What is in a proof, and who vouches for it.
package struct ProofReport: Equatable, Sendable {
  package var proof: LogProof
  /// The hosts, by id, whose keys have signed the checkpoint.
  package var signedBy: [String]
  /// The entry that it proves, if it is one.
  package var entry: NameEntry?
  package var isSound: Bool { proof.holds && !signedBy.isEmpty }

  /// - Parameter keys: public keys of hosts that the caller trusts.
  package init(_ proof: LogProof, keys: [[UInt8]]) {
    self.proof = proof
    signedBy = keys.filter { proof.checkpoint.isSigned(by: $0) }.map { Digest.sha256($0).hex }
    if case .entry(let raw, let index) = proof.claim {
      entry = try? NameEntryCodec.decode(raw, of: proof.checkpoint.logName, at: index)
    }
  }
}

extension TreeCheckpoint {
  /// The last part of the origin.
  package var logName: String { origin.split(separator: "/").last.map(String.init) ?? "" }
}
