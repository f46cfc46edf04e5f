import ElideEvents
import ElideIO
import Glibc
import Testing

/// Entries and a page as they were once written, in `fixtures/`: what a journal holds must be readable for ever. The
/// tests compare; only with ELIDE_WRITE_FIXTURES=1 in the environment do they write what is missing, never what is there.
enum Fixtures {
  static var directory: String {
    parentDirectory(parentDirectory(parentDirectory(#filePath))) + "/fixtures"
  }

  /// The fixture's bytes; written first if it is missing and writing is asked for.
  static func bytes(_ name: String, or make: () throws -> [UInt8]) throws -> [UInt8] {
    let files = HostFiles()
    let path = directory + "/" + name
    if !files.exists(path), getenv("ELIDE_WRITE_FIXTURES") != nil {
      try files.makeDirectory(parentDirectory(path))
      try files.replaceFile(path, with: try make())
    }
    return try files.readFile(path)
  }
}

@Suite struct GoldenTests {
  @Test func everyKindIsWrittenAndReadAsItWas() throws {
    var number = 0
    var previous: Digest?
    for event in Samples.events {
      var envelope = Samples.envelope(event, seq: UInt64(number), prev: previous)
      if number % 2 == 1 {
        envelope.request = "r-\(number)"
        envelope.operator = "uid:1000"
        envelope.reason = "a reason with \"quotes\" and a \\"
      }
      let raw = try EntryCodec.encode(envelope, event)
      let name = "journal/schema-1/\(number < 10 ? "0" : "")\(number)-\(event.kind).toml"
      let golden = try Fixtures.bytes(name) { raw }
      #expect(golden == raw, "\(name) is written differently now")
      let entry = try EntryCodec.decode(golden)
      #expect(entry.event == event && entry.envelope == envelope, "\(name) is read differently now")
      previous = Digest.sha256(golden)
      number += 1
    }
  }

  @Test func theGoldenEntriesAreOneChain() throws {
    let names = try HostFiles().list(Fixtures.directory + "/journal/schema-1")
    #expect(names.count == Samples.events.count)
    var replay = JournalReplay(log: Samples.log)
    for name in names {
      let committed = try replay.next(try HostFiles().readFile(Fixtures.directory + "/journal/schema-1/" + name))
      #expect(committed != nil)
    }
  }

  /// The page is read, not compared with one built now: its bytes depend on the release of zstd.
  @Test func aPageIsReadAsItWas() throws {
    let sample = try PageSample()
    let built = try sample.pages()
    for i in 0...1 {
      let bytes = try Fixtures.bytes("pages/version-1/0000000\(i)") { built[i].bytes }
      let page = try JournalPage.parse(bytes)
      try page.verify(key: sample.key.publicKey)
      let fresh = try JournalPage.parse(built[i].bytes)
      #expect(page.header.volume == fresh.header.volume && page.header.cut == fresh.header.cut)
      #expect(page.header.checkpoints == fresh.header.checkpoints && page.header.sums == fresh.header.sums)
      #expect(try page.entries() == fresh.entries())
      for frame in fresh.frames {
        #expect(try page.blob(frame.digest, in: bytes) == fresh.blob(frame.digest, in: built[i].bytes))
      }
    }
    let first = try JournalPage.parse(Fixtures.bytes("pages/version-1/00000000") { [] })
    let second = try JournalPage.parse(Fixtures.bytes("pages/version-1/00000001") { [] })
    var chain = PageChain(volume: Samples.volume, key: sample.key.publicKey)
    try chain.accept(first)
    try chain.accept(second)
  }
}
