import Testing

@testable import ElideEngine

/// Who counts as a sequential reader, and how much is fetched ahead of him.
@Suite struct ReadStreamsTests {
  private let end: UInt64 = 1 << 30

  /// Takes what is due until nothing is, as a device does whose keeper answers at once; everything is missing.
  private func take(_ streams: inout ReadStreams, end: UInt64? = nil) -> [Range<UInt64>] {
    var ranges: [Range<UInt64>] = []
    for _ in 0..<10_000 {
      guard let (i, from, to) = streams.due(end: end ?? self.end) else { return ranges }
      #expect(from < to)
      ranges.append(from..<to)
      streams.asked(i, upTo: to, missing: to - from)
      streams.checkInvariants()
    }
    Issue.record("there is no end to what is due")
    return ranges
  }

  @Test func whoReadsInSequenceIsFetchedAheadOf() {
    var streams = ReadStreams(ReadAheadLimits())
    var ahead: [Range<UInt64>] = []
    var asked: UInt64 = 0
    for lba in stride(from: 1000 as UInt64, to: 1000 + 64 * 1024, by: 64) {
      streams.note(lba: lba, count: 64, missed: ahead.allSatisfy { !$0.contains(lba) })
      asked += 64
      ahead += take(&streams)
      let most = ahead.reduce(0) { $0 + UInt64($1.count) }
      // What was fetched ahead and not read yet is at most half of what was read.
      let unread = ahead.reduce(0) { $0 + UInt64($1.filter { $0 >= lba + 64 }.count) }
      #expect(unread <= asked / 2 && most <= asked + asked / 2)
    }
    // Nothing twice; left out only what the reader came to himself, at the beginning.
    for (a, b) in zip(ahead, ahead.dropFirst()) {
      #expect(a.upperBound <= b.lowerBound && (a.upperBound == b.lowerBound || b.lowerBound < 1000 + 4096))
    }
    #expect(ahead.last!.upperBound >= 1000 + 64 * 1024 + 16_000)
    #expect(ahead.map(\.count).max() == 512)
  }

  @Test func theWindowHasALimit() {
    var limits = ReadAheadLimits()
    limits.window = 256
    limits.chunk = 64
    var streams = ReadStreams(limits)
    var furthest: UInt64 = 0
    for lba in stride(from: 0 as UInt64, to: 100_000, by: 32) {
      streams.note(lba: lba, count: 32, missed: true)
      furthest = take(&streams).last?.upperBound ?? furthest
      #expect(furthest <= lba + 32 + 256)
    }
    #expect(furthest > 100_000)
  }

  @Test func scatteredReadersAreLeftAlone() {
    var streams = ReadStreams(ReadAheadLimits())
    var random = SeededGenerator(seed: 7)
    for _ in 0..<20_000 {
      streams.note(lba: .random(in: 0..<(1 << 24), using: &random), count: .random(in: 1...8, using: &random), missed: true)
      #expect(take(&streams).isEmpty)
    }
    #expect(streams.streams.count == ReadStreams.most)
  }

  /// Random reads of a few megabytes come near each other all the time.
  @Test func scatteredReadersOfASmallPlaceAreLeftAlone() {
    var random = SeededGenerator(seed: 8)
    for span in [300, 1000, 4000] as [UInt64] {
      var streams = ReadStreams(ReadAheadLimits())
      var ahead: UInt64 = 0
      for _ in 0..<5_000 {
        streams.note(lba: .random(in: 0..<span, using: &random), count: 1, missed: true)
        ahead += take(&streams).reduce(0) { $0 + UInt64($1.count) }
      }
      #expect(ahead <= span / 2)
    }
  }

  @Test func whoReadsBackwardsIsLeftAlone() {
    for count in [1, 8, 64] as [UInt64] {
      var streams = ReadStreams(ReadAheadLimits())
      var lba: UInt64 = 1 << 20
      while lba > 4096 {
        lba -= count
        streams.note(lba: lba, count: count, missed: true)
        // The first read of 256 KiB by itself is a sequence; what is behind it nobody reads.
        #expect(take(&streams).allSatisfy { $0.lowerBound >= lba })
      }
      #expect(streams.streams.allSatisfy { $0.read <= max(64, 2 * count) })
    }
  }

  @Test func theSameAgainIsNoSequence() {
    var streams = ReadStreams(ReadAheadLimits())
    for _ in 0..<1000 {
      streams.note(lba: 500, count: 32, missed: true)
      #expect(take(&streams).isEmpty)
    }
  }

  /// Every tenth block, then some, by strides that stay near: less than half of what is passed is read.
  @Test(arguments: [(1, 3), (4, 13), (16, 100), (64, 1000)] as [(UInt64, UInt64)]) func stridesAreNoSequence(
    count: UInt64, stride step: UInt64
  ) {
    var streams = ReadStreams(ReadAheadLimits())
    var lba: UInt64 = 0
    var ahead: UInt64 = 0
    for _ in 0..<5_000 {
      streams.note(lba: lba, count: count, missed: true)
      lba += step
      ahead += take(&streams).reduce(0) { $0 + UInt64($1.count) }
    }
    // A stride's first reads may look like a sequence of their own.
    #expect(ahead <= count * 5_000 / 2)
    if count < 64 { #expect(ahead == 0) }
  }

  @Test func interleavedReadersEachHaveTheirOwn() {
    var streams = ReadStreams(ReadAheadLimits())
    let starts = (0..<UInt64(ReadStreams.most)).map { $0 << 22 }
    var ahead: [UInt64: UInt64] = [:]
    for step in 0..<200 as Range<UInt64> {
      for start in starts {
        streams.note(lba: start + step * 64, count: 64, missed: true)
        for range in take(&streams) { ahead[range.lowerBound >> 22, default: 0] += UInt64(range.count) }
      }
    }
    for start in starts { #expect(ahead[start >> 22, default: 0] > 200 * 64) }
  }

  /// Of many due the one with least ahead comes first: none starves.
  @Test func whoHasLeastAheadComesFirst() throws {
    var streams = ReadStreams(ReadAheadLimits())
    for lba in stride(from: 0 as UInt64, to: 4096, by: 64) {
      streams.note(lba: lba, count: 64, missed: true)
      streams.note(lba: 1 << 20 + lba, count: 64, missed: true)
    }
    let (first, from, to) = try #require(streams.due(end: end))
    streams.asked(first, upTo: to, missing: to - from)
    let (second, _, _) = try #require(streams.due(end: end))
    #expect(second != first)
  }

  @Test func readsOutOfOrderAreOneSequence() {
    var streams = ReadStreams(ReadAheadLimits())
    var random = SeededGenerator(seed: 3)
    var ahead: UInt64 = 0
    // Batches of sixteen requests, each in an order of its own, as several connections bring them.
    for batch in 0..<64 as Range<UInt64> {
      for k in (0..<16 as Range<UInt64>).shuffled(using: &random) {
        streams.note(lba: (batch * 16 + k) * 64, count: 64, missed: true)
        ahead = max(ahead, take(&streams).last?.upperBound ?? 0)
      }
    }
    #expect(streams.streams.filter { $0.read > 30_000 }.count == 1)
    #expect(ahead > 64 * 16 * 64 + 8192)
  }

  @Test func theEndOfTheDeviceIsTheEnd() {
    var streams = ReadStreams(ReadAheadLimits())
    var furthest: UInt64 = 0
    for lba in stride(from: 0 as UInt64, to: 1000, by: 40) {
      streams.note(lba: lba, count: 40, missed: true)
      furthest = take(&streams, end: 1003).last?.upperBound ?? furthest
      #expect(furthest <= 1003)
    }
    #expect(furthest == 1003)
    // It grows, and the stream goes on.
    streams.note(lba: 1000, count: 40, missed: true)
    #expect(take(&streams, end: 4000).last?.upperBound ?? 0 > 1040)
  }

  @Test func whatFailsIsTriedAgainLaterEachTime() {
    var streams = ReadStreams(ReadAheadLimits())
    var lba: UInt64 = 0
    var waits: [UInt64] = []
    for _ in 0..<5 {
      let start = lba
      while take(&streams).isEmpty {
        streams.note(lba: lba, count: 16, missed: true)
        lba += 16
      }
      waits.append(lba - start)
      streams.failed()
      #expect(streams.isEmpty)
    }
    #expect(waits == [64, 128, 256, 512, 1024])
    streams.succeeded()
    #expect(streams.threshold == 64)
  }

  @Test func whoFindsEverythingLocalIsFollowedNoLonger() {
    var limits = ReadAheadLimits()
    limits.window = 512
    limits.chunk = 64
    var streams = ReadStreams(limits)
    streams.note(lba: 0, count: 64, missed: true)
    var lba: UInt64 = 64
    while !streams.isEmpty, lba < 100_000 {
      streams.note(lba: lba, count: 64, missed: false)
      lba += 64
      while let (i, _, to) = streams.due(end: end) { streams.asked(i, upTo: to, missing: 0) }
    }
    #expect(lba < 3 * 1024)
    // And without a miss nobody begins.
    streams.note(lba: lba, count: 64, missed: false)
    #expect(streams.isEmpty)
  }

  @Test func itCanBeSwitchedOff() {
    var limits = ReadAheadLimits()
    limits.fetches = 0
    var streams = ReadStreams(limits)
    for lba in stride(from: 0 as UInt64, to: 10_000, by: 64) { streams.note(lba: lba, count: 64, missed: true) }
    #expect(streams.isEmpty)
  }

  @Test func asMuchAsTheCacheHolds() {
    let limits = ReadAheadLimits().within(cacheBytes: 8 << 20)
    #expect(limits.window == 256 && limits.chunk == 256)
    #expect(ReadAheadLimits().within(cacheBytes: 32 << 30) == ReadAheadLimits())
    #expect(ReadAheadLimits().within(cacheBytes: 0).window == 0)
    var streams = ReadStreams(ReadAheadLimits().within(cacheBytes: 0))
    streams.note(lba: 0, count: 1000, missed: true)
    #expect(streams.isEmpty)
  }

  /// Whatever comes, the structure holds, and no more is fetched ahead than half of what was read.
  @Test(arguments: 0..<50) func anything(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var limits = ReadAheadLimits()
    limits.window = .random(in: 16...1024, using: &random)
    limits.chunk = .random(in: 1...limits.window, using: &random)
    var streams = ReadStreams(limits)
    var heads = (0..<20).map { _ in UInt64.random(in: 0..<100_000, using: &random) }
    for _ in 0..<2_000 {
      let i = Int.random(in: 0..<heads.count, using: &random)
      let count = UInt64.random(in: 1...64, using: &random)
      switch Int.random(in: 0..<10, using: &random) {
      case 0: heads[i] = .random(in: 0..<100_000, using: &random)
      case 1: heads[i] -= min(heads[i], count)
      case 2: streams.failed()
      case 3: streams.succeeded()
      default: break
      }
      streams.note(lba: heads[i], count: count, missed: .random(using: &random))
      heads[i] += count
      streams.checkInvariants()
      for range in take(&streams, end: 100_000) { #expect(range.upperBound <= 100_000) }
    }
  }
}
