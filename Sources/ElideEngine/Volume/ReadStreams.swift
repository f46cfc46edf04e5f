/// How far to read ahead of sequential readers. In blocks of 4 KiB, as the device has them.
package struct ReadAheadLimits: Equatable, Sendable {
  /// Blocks that must have been read in sequence before anything is fetched ahead.
  package var threshold: UInt64 = 64
  /// Blocks between a reader and the end of what was fetched ahead of it, at most. It has to cover the bandwidth of the store
  /// times its latency.
  package var window: UInt64 = 16384
  /// Blocks of one request ahead, at most.
  package var chunk: UInt64 = 512
  /// Less is not asked for, unless it is the end: what is stored together comes together.
  package var unit: UInt64 = 16
  /// Requests ahead under way, of all readers of a volume together; 0: never read ahead.
  package var fetches = 16
  /// Memory that they take: the stored and plain bytes of each while it is under way.
  package var bytes: UInt64 { UInt64(fetches) * chunk * 4096 * 2 }
  package init() {}

  /// Ahead of a reader at most an eighth of the cache is fetched: what others need stays.
  func within(cacheBytes: UInt64) -> ReadAheadLimits {
    var limits = self
    limits.window = min(window, cacheBytes / 8 / 4096)
    limits.chunk = max(1, min(chunk, limits.window))
    limits.unit = max(1, min(unit, limits.window))
    return limits
  }
}

/// The sequential readers among those who read a volume, and how far ahead of each to fetch. By LBA: that a file lies in
/// several segments, or that its blocks are in the overlay or were never written, does not end a stream.
///
/// - A stream begins with a read that found something missing, so that a volume which is all local has none, and grows with
///   reads that go on near its end: several connections bring them a little out of order. Reads that go back add nothing,
///   and who reads less than half of what he passes begins anew.
/// - Ahead of a stream is fetched half of what it read: so at most a third of all that is fetched was not asked for, and a
///   long stream has a window as wide as the limit.
///
/// A value without I/O, owned by the device's thread. Bounded: 16 streams, the least lately used gives way.
struct ReadStreams {
  struct Stream: Equatable {
    /// Where it began, where the next read is expected, and how many blocks between were read.
    var start: UInt64
    var next: UInt64
    var read: UInt64
    /// Up to here everything is local or asked for.
    var ahead: UInt64
    /// Blocks looked at since one was last missing.
    var idle: UInt64 = 0
    /// When it last went on.
    var used: UInt64
    /// The segment whose encoding was asked for last.
    var encoded: UInt64 = 0
  }

  let limits: ReadAheadLimits
  private(set) var streams: [Stream] = []
  /// Doubles when what was fetched ahead failed, or the disk did not take it.
  private(set) var threshold: UInt64
  private var reads: UInt64 = 0
  static let most = 16

  init(_ limits: ReadAheadLimits) {
    self.limits = limits
    threshold = limits.threshold
    streams.reserveCapacity(Self.most)
  }

  @inline(__always)
  var isEmpty: Bool { streams.isEmpty }

  /// A read of blocks [lba, lba+count); `missed`: not all of them were local.
  mutating func note(lba: UInt64, count: UInt64, missed: Bool) {
    guard limits.fetches > 0, limits.window > 0, count > 0 else { return }
    reads &+= 1
    let slack = max(limits.unit, min(count &* 16, 8192))
    for i in streams.indices where lba &+ slack >= streams[i].next && lba <= streams[i].next &+ slack {
      return goOn(i, lba, count)
    }
    if missed { begin(lba, count) }
  }

  private mutating func begin(_ lba: UInt64, _ count: UInt64) {
    let stream = Stream(start: lba, next: lba &+ count, read: count, ahead: lba &+ count, used: reads)
    if streams.count < Self.most { return streams.append(stream) }
    if let oldest = streams.indices.min(by: { streams[$0].used < streams[$1].used }) { streams[oldest] = stream }
  }

  private mutating func goOn(_ i: Int, _ lba: UInt64, _ count: UInt64) {
    var s = streams[i]
    s.used = reads
    let end = lba &+ count
    // What fills a gap counts like what is new; reading the same again, or backwards, cannot make it more than there is.
    s.read &+= end > s.next ? end &- max(lba, s.next) : count
    s.next = max(s.next, end)
    s.read = min(s.read, s.next &- s.start)
    if s.read &* 2 < s.next &- s.start {
      s = Stream(start: lba, next: end, read: count, ahead: end, used: reads)
    }
    s.ahead = max(s.ahead, s.next)
    streams[i] = s
  }

  /// Blocks to have ahead of a stream, whole units.
  func window(_ s: Stream) -> UInt64 {
    s.read < threshold ? 0 : min(s.read / 2, limits.window) / limits.unit &* limits.unit
  }

  /// How many blocks to ask for at once ahead of a stream: an eighth of the window, so that several are under way.
  func chunk(_ window: UInt64) -> UInt64 { min(limits.chunk, max(limits.unit, window / 8)) }

  /// Whose turn it is to be fetched ahead for, and from where to where: the stream that has least ahead of it.
  func due(end: UInt64) -> (stream: Int, from: UInt64, to: UInt64)? {
    var best: (stream: Int, from: UInt64, to: UInt64)?
    var least = UInt64.max
    for i in streams.indices {
      let s = streams[i]
      let window = window(s)
      guard window > 0, s.ahead < end, s.ahead &- s.next < least else { continue }
      let (target, chunk) = (min(s.next &+ window, end), chunk(window))
      guard s.ahead < target, target == end || target &- s.ahead >= chunk else { continue }
      least = s.ahead &- s.next
      best = (i, s.ahead, min(s.ahead &+ chunk, target))
    }
    return best
  }

  /// Everything up to `end` is asked for or was local already; `missing` blocks were not. Who finds everything here for two
  /// windows is no longer followed.
  mutating func asked(_ i: Int, upTo end: UInt64, missing: UInt64) {
    let from = streams[i].ahead
    streams[i].ahead = max(from, end)
    streams[i].idle = missing > 0 ? 0 : streams[i].idle &+ (end &- min(from, end))
    if streams[i].idle > 2 &* limits.window { streams.remove(at: i) }
  }

  /// Notes whose encoding was asked for; false when it is the same as before.
  mutating func wantsEncoding(_ i: Int, of segment: UInt64) -> Bool {
    if streams[i].encoded == segment { return false }
    streams[i].encoded = segment
    return true
  }

  /// What was asked for ahead came, and stayed.
  mutating func succeeded() { threshold = limits.threshold }

  /// It did not: nothing more is fetched ahead before readers have shown that they go on, for twice as long each time.
  mutating func failed() {
    streams.removeAll(keepingCapacity: true)
    threshold = min(threshold &* 2, max(limits.window, limits.threshold))
  }

  /// The structure's own rules, for tests.
  func checkInvariants() {
    precondition(streams.count <= Self.most, "too many streams")
    for s in streams {
      precondition(s.start <= s.next && s.read <= s.next - s.start && s.ahead >= s.next, "a stream that is none: \(s)")
      precondition(window(s) <= min(limits.window, s.read / 2), "a window wider than half of what was read")
    }
  }
}
