import ElideEvents
import ElideIO
import Testing

@Suite struct DocumentTests {
  private let key = SigningKey(secret: [UInt8](repeating: 7, count: 32))!
  private let other = SigningKey(secret: [UInt8](repeating: 8, count: 32))!
  private let created = "2026-01-31T12:00:00.000Z"

  @Test func eachComesBackAsItWentIn() throws {
    for hint in [
      HeadHint(volume: Samples.volume, page: 12, length: 4096),
      HeadHint(volume: Samples.volume, page: 0, length: 1, checkpoint: "volumes/x/maps/1-ab", checkpointLength: 9),
    ] { #expect(try HeadHint.decode(hint.encode()) == hint) }
    for lineage in [nil, Samples.lineage] {
      let volume = VolumeDocument(
        volume: Samples.volume, size: 1 << 30, key: key.publicKey, lineage: lineage, created: created)
      #expect(try VolumeDocument.decode(volume.encode(sign: key.sign)) == volume)
    }
    let host = HostDocument(key: key.publicKey, created: created)
    #expect(try HostDocument.decode(host.encode(sign: key.sign)) == host)
    #expect(host.id == Digest.sha256(key.publicKey).hex)
    let store = StoreDocument(store: Samples.volume, created: created)
    #expect(try StoreDocument.decode(store.encode()) == store)
  }

  @Test func sealsOfOthersAndChangedBytesAreRefused() throws {
    let volume = VolumeDocument(volume: Samples.volume, size: 1 << 30, key: key.publicKey, created: created)
    #expect(throws: DocumentError.self) { try VolumeDocument.decode(volume.encode(sign: other.sign)) }
    let host = HostDocument(key: key.publicKey, created: created)
    #expect(throws: DocumentError.self) { try HostDocument.decode(host.encode(sign: other.sign)) }
    let good = volume.encode(sign: key.sign)
    for i in good.indices {
      var bytes = good
      bytes[i] ^= 0x01
      #expect(throws: DocumentError.self, "byte \(i)") { try VolumeDocument.decode(bytes) }
    }
    for n in 0..<good.count { #expect(throws: DocumentError.self) { try VolumeDocument.decode(Array(good[..<n])) } }
    #expect(throws: DocumentError.self) { try VolumeDocument.decode(good + [UInt8(ascii: "\n")]) }
  }

  @Test func aSealIsForOneSubject() throws {
    let body = Array("a = 1\n".utf8)
    let sealed = SealedDocument.seal(body, subject: "name/a", sign: key.sign)
    #expect(try SealedDocument.open(sealed, subject: "name/a", key: key.publicKey) == body)
    #expect(throws: TOMLError.self) { try SealedDocument.open(sealed, subject: "name/b", key: key.publicKey) }
  }

  @Test(arguments: ["", "format = 2\n", "format = 1\n", "format = 1\nstore = \"x\"\ncreated = \"2026-01-31T12:00:00.000Z\"\n"])
  func otherFormatsAreRefused(_ text: String) {
    #expect(throws: DocumentError.self) { try StoreDocument.decode(Array(text.utf8)) }
    #expect(throws: DocumentError.self) { try HeadHint.decode(Array(text.utf8)) }
  }
}
