import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Simulator
import Testing

/// What a tenant keeps of a name's log, and checks without the store.
@Suite struct ProofTests {
  private func signed(_ prover: NameProver, _ world: HandedOverWorld, _ size: UInt64? = nil) throws -> TreeCheckpoint {
    var note = try prover.checkpoint(size)
    note.sign(world.engines[1].host.key)
    return note
  }

  @Test func everyEntryAndEveryBeginningIsProved() throws {
    let world = try HandedOverWorld()
    let prover = try NameProver("db", store: world.store)
    let key = world.engines[1].host.key.publicKey
    for size in 1...prover.size {
      let note = try signed(prover, world, size)
      for seq in 0..<size {
        let proof = try LogProof.decode(prover.entry(seq, in: note).encode())
        let report = ProofReport(proof, keys: [key])
        #expect(report.isSound && report.entry?.envelope.seq == seq)
        #expect(!ProofReport(proof, keys: [world.engines[0].host.key.publicKey]).isSound)
      }
      for old in 1...size {
        let proof = try LogProof.decode(prover.beginning(old, of: note).encode())
        #expect(ProofReport(proof, keys: [key]).isSound)
      }
      #expect(throws: ElideError.self) { try prover.entry(size, in: note) }
    }
  }

  /// A log that was rewritten cannot be proved to go on from the checkpoint that somebody kept; nor is it, once published.
  @Test func aKeptCheckpointContradictsARewrittenLog() throws {
    let world = try HandedOverWorld()
    let prover = try NameProver("db", store: world.store)
    let note = try signed(prover, world, 9)
    let kept = NameWitnessed(name: "db", seq: 8, says: .root(note.root), by: "my checkpoint")
    #expect(try world.verify(volumes: false, kept: [kept]).isSound)
    let count = try world.count("events/db/")
    // Cut off behind entry 7, and nothing in the store remembers.
    var changes = (8..<count).map { (key: StoreLayout.nameEntry("db", $0), bytes: [UInt8]?.none) }
    changes.append((StoreLayout.nameHint("db"), nil))
    for object in try world.store.all(under: "hosts/") where object.key.contains("/heads/") { changes.append((object.key, nil)) }
    try world.with(changes) { () throws in
      #expect(try world.verify(volumes: false).isSound)
      #expect(try world.verify(volumes: false, kept: [kept]).firstFault?.place == StoreLayout.nameEntry("db", 8))
      #expect(throws: ElideError.self) { try NameProver("db", store: world.store).beginning(3, of: note) }
    }
    // Published, it is found there.
    let key = StoreLayout.nameNote("db", 8)
    try FileManager.default.createDirectory(
      at: world.path(key).deletingLastPathComponent(), withIntermediateDirectories: true)
    try world.set(key, note.encode())
    #expect(try world.verify(volumes: false).isSound)
    try world.with(changes) { () throws in
      #expect(try world.verify(volumes: false).firstFault?.place == StoreLayout.nameEntry("db", 8))
    }
    var stranger = try prover.checkpoint(9)
    stranger.sign(SigningKey(random: HostRandom()))
    var edited = note.encode()
    edited[50] ^= 1
    for bytes in [stranger.encode(), edited, []] {
      let place = try world.with([(key, bytes)]) { try world.verify(volumes: false).firstFault?.place }
      #expect(place == key)
    }
  }

  @Test func whatAnAuditorKeptIsReadFromFiles() throws {
    let world = try HandedOverWorld()
    let prover = try NameProver("db", store: world.store)
    let file = "\(world.world.root)/kept"
    let head = try #require(try world.verify(volumes: false).head)
    let heads = try #require(try world.store.all(under: "hosts/").first { $0.key.contains("/heads/") })
    for bytes in [
      try signed(prover, world).encode(), Array("# mine\ndb \(head.seq) \(head.hash)\n".utf8), try world.bytes(heads.key),
    ] {
      try Data(bytes).write(to: URL(fileURLWithPath: file))
      let kept = try WitnessFile.read(HostFiles(), file)
      #expect(kept.contains { $0.name == "db" && $0.seq <= head.seq })
      #expect(try world.verify(volumes: false, kept: kept).isSound)
    }
    try Data("db nine".utf8).write(to: URL(fileURLWithPath: file))
    #expect(throws: ElideError.self) { try WitnessFile.read(HostFiles(), file) }
  }

  /// Ten thousand entries, with many pins: checkpoints are compared on the way, and no state is kept for an entry.
  @Test func aLongLogIsVerifiedInOnePass() throws {
    #if DEBUG
      let count: UInt64 = 640
    #else
      let count: UInt64 = 10_048
    #endif
    let bucket = SimBucket()
    let host = NamesHost(seed: 1, bucket: bucket, weather: .clear)
    let log = try host.log("db")
    log.hintInterval = 1 << 40
    let volume = ULID(high: 4, low: 1)
    _ = try log.perform(.create(NewVolumeFacts(volume: volume, key: [UInt8](repeating: 3, count: 32), size: 512)))
    for n in 1..<count {
      let cut = Cut(volume: volume, seq: n, page: n, pageHash: Digest.sha256([1]))
      let command: NameCommand = n % 8 == 1 ? .pin(cut: cut, by: "p\(n)", hold: .until(nil)) : .note(text: "note \(n)")
      _ = try log.perform(command)
    }
    let auditor = NameAuditor(store: host.store)
    let report = try auditor.verify("db", volumes: false)
    #expect(report.entries == count && report.checkpoints == count / 64)
    // Its host has published no key.
    #expect(report.faults.map(\.what) == ["host"])
    let history = try NameHistory("db", store: host.store)
    #expect(try history.state(at: count / 2).seq == count / 2 && history.state(at: count - 1) == log.state)
  }
}
