import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation
import Simulator
import Testing

/// `scripts/verifier`, written from the formats alone and sharing no code, on the same tampered buckets: it names the same
/// object.
@Suite struct OtherVerifierTests {
  private static let script =
    #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 } + "/scripts/verifier/verify-bucket.py"

  private func run(_ arguments: [String]) throws -> (code: Int32, out: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
    process.arguments = ["-B", Self.script] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let out = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: out, as: UTF8.self))
  }

  private struct Answer: Decodable {
    let bucket: String
    let sound: Bool
    let first: String?
    let completeTo: [String: UInt64?]
  }

  private struct Case {
    let what: String
    let changes: [(key: String, bytes: [UInt8]?)]
    let first: String?
  }

  private func cases(_ world: HandedOverWorld) throws -> [Case] {
    var out = [Case(what: "untouched", changes: [], first: nil)]
    func tamper(_ key: String, next: String?, _ what: String, removable: Bool) throws {
      let raw = try world.bytes(key)
      for at in [0, raw.count / 3, raw.count - 1] {
        var edited = raw
        edited[at] ^= 1
        // What lies behind a page's head is not this verifier's business.
        if key.contains("/journal/"), try JournalPage.parse(raw).headLength <= at { continue }
        out.append(Case(what: "\(what) byte \(at)", changes: [(key, edited)], first: key))
      }
      out.append(Case(what: "\(what) lengthened", changes: [(key, raw + [10])], first: key))
      if removable { out.append(Case(what: "\(what) removed", changes: [(key, nil)], first: key)) }
      guard let next else { return }
      let other = try world.bytes(next)
      out.append(Case(what: "\(what) swapped", changes: [(key, other), (next, raw)], first: key))
    }
    let count = try world.count("events/db/")
    for seq in 0..<count {
      let next = seq + 1 < count ? StoreLayout.nameEntry("db", seq + 1) : nil
      try tamper(StoreLayout.nameEntry("db", seq), next: next, "entry \(seq)", removable: true)
      let rolled = (seq..<count).map { (key: StoreLayout.nameEntry("db", $0), bytes: [UInt8]?.none) }
      out.append(Case(what: "rolled back to \(seq)", changes: rolled, first: StoreLayout.nameEntry("db", seq)))
    }
    for volume in world.volumes {
      let pages = try world.count("volumes/\(volume)/journal/")
      for n in 0..<pages {
        let next = n + 1 < pages ? StoreLayout.page(volume, n + 1) : nil
        try tamper(StoreLayout.page(volume, n), next: next, "page \(n) of \(volume)", removable: n + 1 < pages)
      }
      try tamper(StoreLayout.document(volume), next: nil, "document of \(volume)", removable: true)
    }
    for engine in world.engines { try tamper(StoreLayout.host(engine.host.id), next: nil, "host", removable: true) }
    return out
  }

  @Test func itNamesTheSameObjects() throws {
    let world = try HandedOverWorld()
    let place = "\(world.world.root)/copies"
    _ = try AuditExport(from: world.store, to: LocalStore(root: "\(place)/whole", world: world.world.world), bodies: false)
      .name("db")
    let cases = try cases(world)
    #expect(cases.count > 100)
    for (i, one) in cases.enumerated() {
      let copy = "\(place)/\(i)"
      try FileManager.default.copyItem(atPath: "\(place)/whole", toPath: copy)
      for change in one.changes {
        let url = URL(fileURLWithPath: "\(copy)/\(change.key)")
        if let bytes = change.bytes { try Data(bytes).write(to: url) } else { try FileManager.default.removeItem(at: url) }
      }
      // Ours, on the very same copy.
      let store = try LocalStore(root: copy, world: world.world.world)
      #expect(try NameAuditor(store: store).verify("db", bodies: false).firstFault?.place == one.first, "ours: \(one.what)")
    }
    let ran = try run(["--json", "--name", "db"] + cases.indices.map { "\(place)/\($0)" })
    let answers = try ran.out.split(separator: "\n").map { try JSONDecoder().decode(Answer.self, from: Data($0.utf8)) }
    #expect(ran.code == 4 && answers.count == cases.count)
    for (one, answer) in zip(cases, answers) {
      #expect(answer.first == one.first && answer.sound == (one.first == nil), "theirs: \(one.what): \(answer.first ?? "")")
    }
    #expect(answers.first?.completeTo["db"] == .some(try world.count("events/db/") - 1))
  }

  @Test func itChecksProofsAndCheckpoints() throws {
    #expect(try run(["--self-test"]).code == 0)
    let world = try HandedOverWorld(notes: 64)
    let prover = try NameProver("db", store: world.store)
    var note = try prover.checkpoint(20)
    note.sign(world.engines[2].host.key)
    func file(_ name: String, _ bytes: [UInt8]) throws -> String {
      let path = "\(world.world.root)/\(name)"
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      return path
    }
    let trust = ["--trust", world.path(StoreLayout.host(world.engines[2].host.id)).path]
    let other = ["--trust", world.path(StoreLayout.host(world.engines[0].host.id)).path]
    for proof in [try prover.entry(6, in: note), try prover.beginning(9, of: note)] {
      let bytes = proof.encode()
      let path = try file("proof", bytes)
      #expect(try run(["--proof", path] + trust).code == 0)
      #expect(try run(["--proof", path, world.root]).code == 0)
      #expect(try run(["--proof", path] + other).code == 4)
      var edited = proof
      edited.path[0] = Digest.sha256([1])
      #expect(try run(["--proof", file("edited", edited.encode())] + trust).code == 4)
    }
    let kept = ["--name", "db", "--witness", try file("kept", note.encode())]
    #expect(try run(kept + [world.root]).code == 0)
    // Another tree of twenty entries.
    var lie = TreeCheckpoint(origin: note.origin, size: 20, root: Digest.sha256([1]))
    lie.sign(world.engines[2].host.key)
    #expect(try run(["--name", "db", "--witness", file("lie", lie.encode()), world.root]).code == 4)
    // Only one host is trusted: what others wrote is not.
    let strict = try run(["--name", "db", "--json", world.root] + trust)
    #expect(strict.code == 4 && strict.out.contains("none that is trusted"))
  }
}
