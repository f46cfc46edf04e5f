import ElideIO
import ElideProjections

/// A blob and its SHA-256.
struct KeptBlob {
  let digest: Digest
  let bytes: [UInt8]
  init(_ bytes: [UInt8]) {
    self.bytes = bytes
    digest = Digest.sha256(bytes)
  }
}

/// What opening hands to a keeper.
package struct RecoveredKeeper {
  package var wals: [UInt64: KeptWal] = [:]
  package var chain = WALChain.genesis
  package var pageLog = PageLog()
  package var intent: PageIntent?
  package var checkpoint: LocalCheckpoint?
  package var checkpointedSize: UInt64 = 0
  /// A device will be written; otherwise only what is there is shipped.
  package var isServed = false
  package init() {}
}
