import ElideEvents
import ElideIO
import Testing

/// Checkpoints as notes, and proofs as files: other people's vectors, and what no file may say.
@Suite struct ProofDocumentTests {
  /// Leaves, roots and paths that implementations of RFC 6962 share.
  private static let inputs: [[UInt8]] = [
    [], [0x00], [0x10], [0x20, 0x21], [0x30, 0x31], Array(0x40...0x43), Array(0x50...0x57), Array(0x60...0x6F),
  ]
  private static let roots = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
  ]
  private static let leaves = inputs.map { MerkleFrontier.leaf($0) }

  @Test func treesAreThoseOfRFC6962() {
    #expect(MerkleProof.root([]).hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    for (i, root) in Self.roots.enumerated() { #expect(MerkleProof.root(Self.leaves[...i]).hex == root, "\(i + 1) leaves") }
    #expect(
      MerkleProof.inclusion(of: 0, in: Self.leaves[...]).map(\.hex) == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
      ])
    #expect(
      MerkleProof.consistency(from: 6, in: Self.leaves[...]).map(\.hex) == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
      ])
  }

  private static let key = SigningKey(secret: [UInt8](repeating: 7, count: 32)) ?? SigningKey(random: SeededRandom(7))
  private static let origin = "elide/store/01J00000000000000000000000/name/db"

  private static func checkpoint(_ size: Int = 8) -> TreeCheckpoint {
    var c = TreeCheckpoint(origin: origin, size: UInt64(size), root: MerkleProof.root(leaves[..<size]))
    c.sign(key)
    return c
  }

  /// The note that the specification shows: its text, its key's name, and a signature of the right shape.
  @Test func theNoteOfTheSpecificationIsRead() throws {
    let text = """
      example.com/behind-the-sofa
      20852163
      CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

      — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=

      """
    let note = try TreeCheckpoint.decode(Array(text.utf8))
    #expect(note.origin == "example.com/behind-the-sofa" && note.size == 20_852_163)
    #expect(note.signatures.count == 1 && note.signatures[0].bytes.count == 64)
    #expect(note.encode() == Array(text.utf8))
    #expect(!note.isSigned(by: Self.key.publicKey))
  }

  @Test func aNoteIsWhatItsKeySigned() throws {
    let note = Self.checkpoint()
    #expect(try TreeCheckpoint.decode(note.encode()) == note && note.isSigned(by: Self.key.publicKey))
    #expect(try Fixtures.bytes("proofs/checkpoint.note") { note.encode() } == note.encode())
    var other = note
    other.size += 1
    #expect(!other.isSigned(by: Self.key.publicKey))
    other = note
    other.origin += "2"
    #expect(!other.isSigned(by: Self.key.publicKey))
    // A second host signs beside the first.
    let second = SigningKey(random: SeededRandom(9))
    other = note
    other.sign(second)
    let both = try TreeCheckpoint.decode(other.encode())
    #expect(both.isSigned(by: Self.key.publicKey) && both.isSigned(by: second.publicKey))
  }

  @Test func proofsHoldOrDoNot() throws {
    for n in 1...8 {
      let note = Self.checkpoint(n)
      for i in 0..<n {
        let path = MerkleProof.inclusion(of: i, in: Self.leaves[..<n])
        let proof = LogProof(.entry(raw: Self.inputs[i], index: UInt64(i)), path: path, checkpoint: note)
        #expect(try LogProof.decode(proof.encode()) == proof && proof.holds)
        if (n, i) == (8, 5) { #expect(try Fixtures.bytes("proofs/entry.tlog-proof") { proof.encode() } == proof.encode()) }
        #expect(!LogProof(.entry(raw: [1], index: UInt64(i)), path: path, checkpoint: note).holds)
      }
      for m in 1...n {
        let root = MerkleProof.root(Self.leaves[..<m])
        let path = MerkleProof.consistency(from: m, in: Self.leaves[..<n])
        let proof = LogProof(.beginning(size: UInt64(m), root: root), path: path, checkpoint: note)
        #expect(try LogProof.decode(proof.encode()) == proof && proof.holds)
        #expect(!LogProof(.beginning(size: UInt64(m), root: Digest.sha256([m == 1 ? 2 : 1])), path: path, checkpoint: note).holds)
      }
    }
  }

  /// Whatever byte is changed, it is no proof any more, or not of the same.
  @Test func everyByteOfAProofCounts() throws {
    let path = MerkleProof.inclusion(of: 5, in: Self.leaves[...])
    let bytes = LogProof(.entry(raw: Self.inputs[5], index: 5), path: path, checkpoint: Self.checkpoint()).encode()
    for at in bytes.indices {
      var changed = bytes
      changed[at] ^= 1
      let proof = try? LogProof.decode(changed)
      #expect(proof.map { !$0.holds || !$0.checkpoint.isSigned(by: Self.key.publicKey) } ?? true, "byte \(at)")
    }
    for end in bytes.indices { #expect((try? LogProof.decode(Array(bytes[..<end]))) == nil) }
  }

  @Test func base64HasOneSpelling() {
    for n in 0..<70 {
      let bytes = [UInt8](0..<UInt8(n))
      #expect(decodeBase64(base64(bytes)) == bytes)
    }
    for text in ["A", "AA", "AAA", "A===", "AB==", "AAB=", "AA==AAAA", "AAAA=", "AA-A", "AA A", "=AAA"] {
      #expect(decodeBase64(text) == nil, "\(text)")
    }
  }
}
