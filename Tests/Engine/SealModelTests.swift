import ElideIO
import ElideProjections
import Testing

@testable import ElideEngine

@Suite struct SealModelTests {
  /// Writes random overlapping records with repeated contents into a file and the model.
  private func write(_ scribe: WALScribe, _ random: inout SeededGenerator, _ model: inout [UInt64: [UInt8]]) throws {
    for _ in 0..<Int.random(in: 1...60, using: &random) {
      let lba = UInt64.random(in: 0..<200, using: &random)
      let count = Int.random(in: 1...12, using: &random)
      if Int.random(in: 0..<6, using: &random) == 0 { scribe.closeFrame() }
      switch Int.random(in: 0..<8, using: &random) {
      case 0, 1:
        let isTrim = Bool.random(using: &random)
        if isTrim { try scribe.trim(lba, UInt64(count)) } else { try scribe.zero(lba, UInt64(count)) }
        for i in 0..<count { model[lba + UInt64(i)] = numberedBlock(0) }
      default:
        // Contents from a small set, in rising order: duplicates in runs, in the file, and across files.
        let first = Int.random(in: 0..<120, using: &random)
        let data = (0..<count).map { numberedBlock((first + $0) % 120) }
        try scribe.write(lba, data)
        for i in 0..<count { model[lba + UInt64(i)] = data[i] }
      }
    }
  }

  /// Whatever was written, in whatever frames, the sealed segments hold exactly that.
  @Test(arguments: 0..<25) func sealedSegmentsAreWhatWasWritten(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let volume = SealingVolume(dedupLimit: seed % 3 == 0 ? 40 : 1 << 16)
    for n in 1...5 as ClosedRange<UInt64> {
      let scribe = try volume.scribe(n)
      try write(scribe, &random, &volume.model)
      let sealed = try volume.seal(scribe)
      #expect(sealed.content.fault == nil && sealed.content.blocks == UInt64(sealed.blocks))
      #expect(try SegmentContent.decode(sealed.content.encode()) == sealed.content)
      for (lba, bytes) in volume.model {
        let isRight = volume.read(lba) == bytes
        #expect(isRight, "block \(lba) after file \(n)")
      }
    }
    #expect(Set(volume.base.keys) == Set(volume.model.keys))
    // No block is stored twice while the index remembers the first.
    if seed % 3 != 0 {
      let all = volume.sealed.values.flatMap(\.hashes)
      #expect(Set(all).count == all.count && all.count <= 119)
    }
  }

  /// The same frames and the same offers give the same content, and a map made again is the map.
  @Test(arguments: 0..<10) func sealingIsAFunctionOfFramesAndOffers(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let volume = SealingVolume()
    for n in 1...3 as ClosedRange<UInt64> {
      let scribe = try volume.scribe(n)
      try write(scribe, &random, &volume.model)
      let offers = volume.dedup
      let first = try volume.seal(scribe)
      let sealer = Sealer(files: HostFiles(), volume: volume.volume)
      let again = try sealer.seal(try scribe.scan(), file: scribe.file, dedup: { offers[$0] }, keep: { _, _ in })
      #expect(again == first && again.content.encode() == first.content.encode())
      #expect(try sealer.places(of: first.content, try scribe.scan(), file: scribe.file) == first.places)
    }
  }

  /// How the writes were batched into frames makes no difference, only their order does.
  @Test func framingDoesNotShowInTheContent() throws {
    let volume = SealingVolume()
    let one = try volume.scribe(1)
    let many = try WALScribe(volume: volume.volume, number: 1, directory: volume.directory.path + "/other")
    for scribe in [one, many] {
      for i in 0..<40 as Range<Int> {
        try scribe.write(UInt64(i * 7 % 50), [numberedBlock(i % 11), numberedBlock(i % 5)])
        if scribe === many { scribe.closeFrame() }
      }
    }
    let sealer = Sealer(files: HostFiles(), volume: volume.volume)
    let a = try sealer.seal(try one.scan(), file: one.file, dedup: { _ in nil }, keep: { _, _ in })
    let b = try sealer.seal(try many.scan(), file: many.file, dedup: { _ in nil }, keep: { _, _ in })
    #expect(a.content == b.content && a.hashes == b.hashes && a.places.crcs == b.places.crcs && a.placement != b.placement)
  }

  /// A visible block that is not what its record says: nothing is sealed, and the place is named.
  @Test(arguments: 0..<20) func aDamagedBlockIsNamed(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let volume = SealingVolume()
    let scribe = try volume.scribe(1)
    for i in 0..<10 {
      scribe.closeFrame()
      try scribe.write(UInt64(i), [numberedBlock(i + 1)])
    }
    let victim = Int.random(in: 0..<10, using: &random)
    let at = UInt64(2 + 2 * victim) * 4096
    try flipBit(scribe.path, in: at..<at + 4096, &random)
    do {
      try volume.seal(scribe)
      Issue.record("a damaged block was sealed")
    } catch {
      guard case .corrupt(let v, 1, let frame, let detail) = try #require(error as? WALError) else { throw error }
      #expect(v == volume.volume && frame == UInt64(victim + 1) && detail.contains("block \(victim),"))
    }
    #expect(volume.sealed.isEmpty)
  }

  /// What was overwritten in the same file does not have to be right.
  @Test func anOverwrittenBlockMayBeDamaged() throws {
    let volume = SealingVolume()
    let scribe = try volume.scribe(1)
    try scribe.write(3, [numberedBlock(1)])
    try scribe.write(3, [numberedBlock(2)])
    var random = SeededGenerator(seed: 1)
    try flipBit(scribe.path, in: 2 * 4096..<3 * 4096, &random)
    try volume.seal(scribe)
    #expect(volume.read(3) == numberedBlock(2))
  }

  @Test func aFileOfTrimsHasNoBlocks() throws {
    let volume = SealingVolume()
    let scribe = try volume.scribe(1)
    try scribe.trim(0, 1 << 32)
    try scribe.zero(1 << 32, 1 << 20)
    let sealed = try volume.seal(scribe)
    #expect(sealed.blocks == 0 && sealed.content.runs.count == 2)
  }

  @Test func duplicatesInALineageKeepRemoteBlocksLocal() throws {
    // An ancestor's segment 1, of which nothing is here.
    let ancestor = ULID(high: 1, low: 1)
    let volume = SealingVolume()
    let old = (1...20).map(numberedBlock)
    volume.segments.directory.set(
      SegmentEntry(number: 1, volume: ancestor, blocks: 20, hash: Digest.sha256([1]), locator: .local, uploaded: true))
    volume.dedup.insert(segment: 1, hashes: old.map { Digest.sha256($0) })
    let scribe = try volume.scribe(2)
    try scribe.write(100, [old[4], old[5], old[6], numberedBlock(77), old[19]])
    let sealed = try volume.seal(scribe)
    #expect(
      sealed.content.runs == [
        .init(lba: 100, count: 3, kind: .duplicate(BlockHandle(segment: 1, r: 4))), .init(lba: 103, count: 1, kind: .data(r: 0)),
        .init(lba: 104, count: 1, kind: .duplicate(BlockHandle(segment: 1, r: 19))),
      ])
    let file = try volume.segments.attach(1)
    #expect((0..<20).filter { file.isPresent($0) } == [4, 5, 6, 19])
    for (i, bytes) in [old[4], old[5], old[6], numberedBlock(77), old[19]].enumerated() {
      #expect(volume.read(100 + UInt64(i)) == bytes)
    }
    #expect(HostFiles().exists(volume.segments.cache.directory(ancestor) + "/0000000000000001"))
  }
}
