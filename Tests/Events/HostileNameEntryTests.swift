import ElideEvents
import ElideIO
import Testing

/// Name entries with bytes and lines changed at random: an error with its place, or an entry whose seal no longer holds;
/// and what is read can be written again.
@Suite struct HostileNameEntryTests {
  @Test(arguments: [1, 2, 3, 4] as [UInt64]) func mutatedEntriesNeverTrap(_ seed: UInt64) throws {
    var random = SeededRandom(seed &* 0x9E37_79B9_7F4A_7C15)
    let originals = try NameSamples.chain()
    var decoded = 0
    for round in 0..<HostileEntryTests.rounds {
      let original = originals[round % originals.count]
      var bytes = original.raw
      for _ in 0..<Int.random(in: 1...3, using: &random) { HostileEntryTests.mutate(&bytes, &random) }
      do throws(EntryError) {
        let entry = try NameEntryCodec.decode(bytes, of: "db", at: 7)
        decoded += 1
        #expect(entry.raw == bytes)
        if bytes != original.raw { #expect(!entry.isSigned, "a changed entry still verifies") }
        if let event = entry.event, entry.key == NameSamples.key.publicKey {
          let again = try NameEntryCodec.encode(entry.envelope, event, key: NameSamples.key)
          #expect(again.event == event && again.envelope == entry.envelope)
          #expect(try NameEntryCodec.decode(again.raw, of: "db", at: 7) == again)
        }
      } catch { #expect(error.seq == 7 && error.log == "name/db") }
      var replay = NameReplay(name: "db")
      _ = replay.next(bytes)
      #expect(replay.position == JournalHead(seq: 0, hash: Digest.sha256(bytes)))
    }
    #expect(decoded > 0)
  }
}
