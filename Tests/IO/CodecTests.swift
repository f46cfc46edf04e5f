import CElide
import ElideIO
import Glibc
import Testing

private func bytes(_ hex: String) -> [UInt8] { decodeHexadecimal(hex)! }

@Suite struct ChecksumTests {
  /// RFC 3720, appendix B.4, and the check value of the CRC catalogues.
  @Test(
    arguments: [
      ([UInt8](repeating: 0, count: 32), 0x8A91_36AA), ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
      (Array(0..<32), 0x46DD_794E), (Array((0..<32).reversed()), 0x113F_DB5C), (Array("123456789".utf8), 0xE306_9283),
      ([], 0),
    ] as [([UInt8], UInt32)])
  func crc32cVectors(input: [UInt8], crc: UInt32) {
    #expect(input.withUnsafeBytes { crc32c($0) } == crc)
    for cut in 0...input.count {
      let first = input[..<cut].withUnsafeBytes { crc32c($0) }
      #expect(input[cut...].withUnsafeBytes { crc32c($0, seed: first) } == crc, "continued at \(cut)")
    }
  }

  /// Every length and alignment against the definition, bit by bit.
  @Test func crc32cMatchesItsDefinition() {
    let data = SeededRandom(9).bytes(300)
    func slow(_ b: ArraySlice<UInt8>) -> UInt32 {
      var c = ~UInt32(0)
      for byte in b {
        c ^= UInt32(byte)
        for _ in 0..<8 { c = c & 1 == 1 ? c >> 1 ^ 0x82F6_3B78 : c >> 1 }
      }
      return ~c
    }
    for start in 0..<9 {
      for end in stride(from: start, through: 300, by: 7) {
        #expect(data[start..<end].withUnsafeBytes { crc32c($0) } == slow(data[start..<end]))
      }
    }
  }

  @Test func sha256Vectors() {
    #expect(Digest.sha256([]).hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    let abc = Digest.sha256(Array("abc".utf8))
    #expect(abc.hex == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(Digest(hex: abc.hex) == abc)
    #expect(abc.bytes.withUnsafeBytes { Digest(bytes: $0) } == abc)
    #expect(Digest(hex: abc.hex.uppercased()) == nil, "one spelling per value")
    #expect(Digest(hex: String(abc.hex.dropLast(2))) == nil)
    #expect(Digest(hex: String(repeating: "g", count: 64)) == nil)
  }

  @Test func zeroScan() {
    for n in [0, 1, 15, 16, 17, 31, 4096] {
      var b = [UInt8](repeating: 0, count: n)
      #expect(elide_is_zero(b, n) == 1)
      for i in Set([0, n / 2, n - 1, min(15, n - 1), min(16, n - 1)]) where i >= 0 && i < n {
        b[i] = 1
        #expect(elide_is_zero(b, n) == 0)
        b[i] = 0
      }
    }
  }
}

@Suite struct ByteCodecTests {
  @Test func roundTrip() throws {
    let id = ULID(high: 0x0123_4567_89AB_CDEF, low: 42)
    var w = ByteWriter()
    w.u8(1)
    w.u16(0x0203)
    w.u32(0x0405_0607)
    w.u64(0x08090A0B_0C0D0E0F)
    for v: UInt64 in [0, 127, 128, 16_383, 16_384, 1 << 62, .max] { w.varint(v) }
    w.string("häuser")
    w.digest(Digest.sha256([1]))
    w.ulid(id)
    #expect(Array(w.bytes[0..<7]) == [1, 3, 2, 7, 6, 5, 4])
    var r = ByteReader(w.bytes, what: "test")
    #expect(try r.u8() == 1)
    #expect(try r.u16() == 0x0203)
    #expect(try r.u32() == 0x0405_0607)
    #expect(try r.u64() == 0x08090A0B_0C0D0E0F)
    for v: UInt64 in [0, 127, 128, 16_383, 16_384, 1 << 62, .max] { #expect(try r.varint() == v) }
    #expect(try r.string(limit: 7) == "häuser")
    #expect(try r.digest() == Digest.sha256([1]))
    #expect(try r.ulid() == id)
    try r.end()
  }

  @Test(
    arguments: [
      [0x80], [0x80, 0x00], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02],
      [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], [],
    ] as [[UInt8]])
  func badVarints(input: [UInt8]) {
    #expect(throws: FormatError.self) {
      var r = ByteReader(input, what: "test")
      _ = try r.varint()
    }
  }

  @Test func errorsNameTheObjectAndTheByte() {
    var r = ByteReader([1, 2, 3, 0xFF, 0xFF][1...], what: "page 7")
    #expect(throws: FormatError("page 7", offset: 0, "ends early: 8 more bytes wanted, 4 left")) { try r.u64() }
    #expect(throws: Never.self) { try r.u16() }
    #expect(throws: FormatError("page 7", offset: 2, "2 bytes too many")) { try r.end() }
    #expect(throws: FormatError.self) { try r.raw(-1) }
    #expect(throws: FormatError.self) { try r.raw(.max) }
    #expect(throws: FormatError.self) { try r.string(limit: 100) }
    var text = ByteReader([2, 0xC3, 0x28], what: "t")
    #expect(throws: FormatError("t", offset: 3, "text is not UTF-8")) { try text.string(limit: 9) }
    var count = ByteReader([0xFF, 0xFF, 0xFF, 0xFF, 0x0F], what: "t")
    #expect(throws: FormatError("t", offset: 5, "runs is 4294967295, more than 1000")) { try count.count("runs", limit: 1000) }
  }

  /// Any bytes, read in any way: an error or a value, and the position stays inside.
  @Test func randomBytesNeverTrap() {
    let random = SeededRandom(11)
    for _ in 0..<20_000 {
      var r = ByteReader(random.bytes(random.below(40)), what: "noise")
      for _ in 0..<12 {
        let before = r.remaining
        switch random.below(9) {
        case 0: _ = try? r.u8()
        case 1: _ = try? r.u16()
        case 2: _ = try? r.u32()
        case 3: _ = try? r.u64()
        case 4: _ = try? r.varint()
        case 5: _ = try? r.string(limit: 20)
        case 6: _ = try? r.digest()
        case 7: _ = try? r.ulid()
        default: _ = try? r.count("n", limit: 3)
        }
        #expect(r.remaining >= 0 && r.remaining <= before)
      }
    }
  }
}

@Suite struct ULIDTests {
  @Test func text() {
    let id = ULID(high: 0x0156_3E3A_B5D3_D676, low: 0x4C61_EFB9_9302_BD5B)
    #expect(id.description == "01ARZ3NDEKTSV4RRFFQ69G5FAV", "the example of the specification")
    #expect(ULID(id.description) == id)
    #expect(ULID("7ZZZZZZZZZZZZZZZZZZZZZZZZZ") == ULID(high: .max, low: .max))
    for bad in ["", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARYZ6S41"] {
      #expect(ULID(bad) == nil)
    }
  }

  @Test func orderOfTextIsOrderOfValue() {
    let random = SeededRandom(5)
    let ids = (0..<500).map { _ in ULID(high: random.next() >> random.below(64), low: random.next()) }
    #expect(ids.sorted().map { $0.description } == ids.map { $0.description }.sorted())
    for id in ids { #expect(ULID(id.description) == id) }
  }

  @Test func carriesTheTime() {
    let id = ULID(clock: StillClock(1_700_000_000_123), random: SeededRandom(1))
    #expect(id.milliseconds == 1_700_000_000_123)
    #expect(id != ULID(clock: StillClock(1_700_000_000_123), random: SeededRandom(2)))
  }
}

@Suite struct ZstdTests {
  let codec = ZstdCodec()!

  @Test func roundTripWithReusedContexts() {
    let random = SeededRandom(2)
    for _ in 0..<50 {
      let plain = (0..<random.below(70_000)).map { _ in UInt8(random.below(4)) }
      guard let frame = codec.compressed(plain, level: 1) else {
        #expect(plain.count < 100)
        continue
      }
      #expect(frame.count < plain.count)
      #expect(codec.decompressed(frame[...], size: plain.count) == plain)
      #expect(codec.decompressed(frame[...], size: plain.count + 1) == nil)
      #expect(codec.decompressed(frame[...], size: plain.count - 1) == nil)
      #expect(codec.decompressed(frame.dropLast(), size: plain.count) == nil)
    }
    #expect(codec.compressed(random.bytes(4096)) == nil, "noise does not shrink")
    #expect(codec.compressed([]) == nil)
  }

  /// A frame that claims 2^60 bytes: the size that counts is the caller's.
  @Test func claimsAreNotAllocated() {
    let frame = bytes("28b52ffd" + "e0" + "0000000000000010" + "010000")
    #expect(codec.decompressed(frame[...], size: 100) == nil)
  }

  @Test func damagedFramesAreRefusedOrGiveExactlyTheSize() throws {
    let random = SeededRandom(8)
    let plain = (0..<5000).map { UInt8(truncatingIfNeeded: $0 / 7) }
    let frame = try #require(codec.compressed(plain))
    for _ in 0..<5000 {
      var bad = frame
      for _ in 0...random.below(4) { bad[random.below(bad.count)] = UInt8(truncatingIfNeeded: random.next()) }
      if random.below(3) == 0 { bad.removeLast(random.below(bad.count)) }
      let out = codec.decompressed(bad[...], size: plain.count)
      #expect(out == nil || out?.count == plain.count)
    }
    #expect(codec.decompressed(frame[...], size: plain.count) == plain, "the context has survived")
  }
}

@Suite struct SignatureTests {
  /// RFC 8032, section 7.1, tests 1 to 3.
  @Test(arguments: [
    (
      "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
      "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    ),
    (
      "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    ),
    (
      "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
      "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    ),
  ])
  func knownVectors(secret: String, publicKey: String, message: String, signature: String) throws {
    let key = try #require(SigningKey(secret: bytes(secret)))
    #expect(hexadecimal(key.publicKey) == publicKey)
    #expect(hexadecimal(key.sign(bytes(message))) == signature)
    #expect(verifyEd25519(bytes(signature), of: bytes(message), publicKey: bytes(publicKey)))
    for i in 0..<64 {
      var bad = bytes(signature)
      bad[i] ^= 1
      #expect(!verifyEd25519(bad, of: bytes(message), publicKey: bytes(publicKey)))
    }
    #expect(!verifyEd25519(bytes(signature), of: bytes(message) + [0], publicKey: bytes(publicKey)))
  }

  @Test func malformedIsFalse() {
    let key = SigningKey(random: SeededRandom(1))
    let signature = key.sign([1])
    #expect(!verifyEd25519([], of: [1], publicKey: key.publicKey))
    #expect(!verifyEd25519(signature + [0], of: [1], publicKey: key.publicKey))
    #expect(!verifyEd25519(signature, of: [1], publicKey: []))
    #expect(!verifyEd25519(signature, of: [1], publicKey: [UInt8](repeating: 0xFF, count: 32)))
    #expect(SigningKey(secret: [1, 2]) == nil)
    #expect(SigningKey(random: SeededRandom(1)).secret == key.secret)
    #expect(SigningKey(random: SeededRandom(2)).secret != key.secret)
  }

  /// First use makes the key, everybody after reads the same one, and only the owner can.
  @Test func keptInAFile() throws {
    let directory = try TemporaryDirectory()
    let path = directory / "host.key"
    let world = World.host()
    let key = try SigningKey.kept(at: path, world: world)
    #expect(try SigningKey.kept(at: path, world: world).secret == key.secret)
    #expect(try world.files.list(directory.path) == ["host.key"])
    var info = stat()
    #expect(stat(path, &info) == 0 && info.st_mode & 0o777 == 0o600)
    try world.files.replaceFile(path, with: Array("no key\n".utf8))
    #expect(throws: FormatError.self) { try SigningKey.kept(at: path, world: world) }
  }
}

@Suite struct LtHashTests {
  @Test func orderDoesNotMatterAndRemovalUndoes() {
    let elements = (0..<20).map { Array("element \($0)".utf8) }
    var a = LtHash16()
    for e in elements { a.add(e) }
    var b = LtHash16()
    for e in elements.reversed() { b.add(e) }
    #expect(a == b)
    #expect(LtHash16(bytes: a.bytes) == a)
    b.add(elements[3])
    #expect(a != b, "a multiset: twice is not once")
    b.remove(elements[3])
    #expect(a == b)
    for e in elements.shuffled() { b.remove(e) }
    #expect(b == LtHash16())
    var (left, right) = (LtHash16(), LtHash16())
    for (i, e) in elements.enumerated() { if i < 7 { left.add(e) } else { right.add(e) } }
    #expect(left + right == a)
  }

  /// SHAKE-256 of nothing begins 46 b9 dd 2b …: fixes expansion and byte order, which are a format.
  @Test func lanesAreShake256() {
    var h = LtHash16()
    h.add([])
    #expect(hexadecimal(h.bytes.prefix(16)) == "46b9dd2b0ba88d13233b3feb743eeb24")
    #expect(h.bytes.count == 2048)
    #expect(LtHash16(bytes: Array(h.bytes.dropLast())) == nil)
  }
}
