import ElideEvents
import ElideIO
import Glibc
import Testing

/// Entries with bytes and lines changed at random, from a seed: the decoder answers with a typed error, or with what the
/// bytes say; it never traps, and never takes a changed entry for the one it was.
@Suite struct HostileEntryTests {
  private static let seeds: [UInt64] = [1, 2, 3, 4]
  /// More with ELIDE_FUZZ_ROUNDS.
  static var rounds: Int { getenv("ELIDE_FUZZ_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 3000 }

  @Test(arguments: seeds) func mutatedEntriesNeverTrap(_ seed: UInt64) throws {
    var random = SeededRandom(seed &* 0x9E37_79B9_7F4A_7C15)
    let originals = try Samples.events.map { try EntryCodec.encode(Samples.envelope($0), $0) }
    var decoded = 0
    for round in 0..<Self.rounds {
      let original = originals[round % originals.count]
      var bytes = original
      for _ in 0..<Int.random(in: 1...3, using: &random) { Self.mutate(&bytes, &random) }
      do {
        let entry = try EntryCodec.decode(bytes, of: Samples.log, at: 7)
        #expect(entry.raw == bytes && entry.hash == Digest.sha256(bytes))
        if bytes != original { #expect(entry.hash != Digest.sha256(original)) }
        // What was read can be written, and reads the same again: nothing was cut short on the way in.
        if let event = entry.event {
          let again = try EntryCodec.decode(try EntryCodec.encode(entry.envelope, event))
          #expect(again.event == event && again.envelope == entry.envelope)
        }
        decoded += 1
      } catch { #expect(error.seq == 7) }
    }
    #expect(decoded > 0)
  }

  static func mutate(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
    guard !bytes.isEmpty else { return }
    let at = Int.random(in: 0..<bytes.count, using: &random)
    switch Int.random(in: 0..<7, using: &random) {
    case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 1: bytes[at] = Array("[]{}=\"'\\.#,\n\r\0\u{7F}-0".utf8).randomElement(using: &random) ?? 0
    case 2: bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
    case 3: bytes.insert(contentsOf: (0..<8).map { _ in UInt8.random(in: 0...255, using: &random) }, at: at)
    case 4:  // a line twice
      var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      guard let line = lines.randomElement(using: &random) else { return }
      lines.insert(line, at: Int.random(in: 0...lines.count, using: &random))
      bytes = Array(lines.joined(separator: [UInt8(ascii: "\n")]))
    case 5:  // a line less
      var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      lines.remove(at: Int.random(in: 0..<lines.count, using: &random))
      bytes = Array(lines.joined(separator: [UInt8(ascii: "\n")]))
    default: bytes.remove(at: at)
    }
  }

  @Test(arguments: [
    "", "\n\n", "a = 1\n", "a = -1\n", "a=[]\n", "a = [ 1 , 2 ]\n", "a = [\"x\", \"[[[[[[\"]\n", "[t]\na-b_C = true\n",
    "a = \"\\\"\\\\\\n\\u00e9\\U0001F600 = é # [x]\"\n", "a = 9223372036854775807\n",
  ])
  func whatDocumentsUseIsReadByTheLibrary(_ text: String) {
    #expect(TOMLSubset.problem(Array(text.utf8)) == nil)
    #expect(throws: Never.self) { try TOMLDocument.parse(Array(text.utf8), limit: 1000) }
  }

  @Test(arguments: [
    "a = 1", "a = \"x\n\"\n", "a = 'x'\n", "a.b = 1\n", "\"a\" = 1\n", "[a.b]\n", "[[a]]\n", "[ a ]\n", "a = {}\n", "a = [[1]]\n",
    "a = [1,]\n", "a = [\n1]\n", "a = \"\"\"x\"\"\"\n", "a = \"\\u0000\"\n", "a = \"\\U00000000\"\n", "a = \"\\uD800\"\n",
    "a = \"\\x41\"\n",
    "a = \"\\", "a = 01\n", "a = -0\n", "a = +1\n", "a = 1_0\n", "a = 0x1\n", "a = 1.5\n", "a = nan\n",
    "a = 10000000000000000000\n",
    "a = 1 # x\n", "# x\n", "a = 1\r\n", "a = 2026-01-01\n", "a = truef\n", "\u{FEFF}a = 1\n", "a = \"\u{7F}\"\n", "a = \"\t\"\n",
    " a = 1\n",
  ])
  func whatDocumentsDoNotUseIsRefused(_ text: String) { #expect(TOMLSubset.problem(Array(text.utf8)) != nil) }
}
