/// When a read that has not begun to be answered is worth asking for a second time: after the 95th percentile of what the
/// last reads took, and for few of them, so that a slow store is not made slower.
package struct HedgePolicy: Sendable {
  package enum Setting: Equatable, Sendable {
    case off
    case adaptive
    case after(milliseconds: UInt64)

    package init?(_ text: String) {
      switch text {
      case "off": self = .off
      case "adaptive": self = .adaptive
      default:
        guard let n = UInt64(text), (1...60_000).contains(n) else { return nil }
        self = .after(milliseconds: n)
      }
    }
  }

  /// Reads seen before there is an opinion, and remembered.
  package static let enough = 20
  private static let kept = 64
  private static let leastNanoseconds: UInt64 = 5_000_000
  /// Of a hundred reads, so many may be sent twice; after a quiet time, so many at once.
  private static let share = 10
  private static let most = 10 * 100

  private let setting: Setting
  private var recent: [UInt64] = []
  private var next = 0
  /// In hundredths of a hedge.
  private var allowance = HedgePolicy.most / 2

  package init(_ setting: Setting) { self.setting = setting }

  /// How long to wait before asking again; nil for not at all.
  package func delay() -> UInt64? {
    guard allowance >= 100 else { return nil }
    switch setting {
    case .off: return nil
    case .after(let milliseconds): return milliseconds * 1_000_000
    case .adaptive:
      guard recent.count >= Self.enough else { return nil }
      return max(recent.sorted()[recent.count * 95 / 100], Self.leastNanoseconds)
    }
  }

  /// A read was answered, its first byte after `nanoseconds`, by one request or two.
  package mutating func note(_ nanoseconds: UInt64, hedged: Bool) {
    if recent.count < Self.kept { recent.append(nanoseconds) } else { recent[next] = nanoseconds }
    next = (next + 1) % Self.kept
    allowance = min(Self.most, allowance + Self.share) - (hedged ? 100 : 0)
    allowance = max(0, allowance)
  }
}

/// Pauses between the tries of an idempotent request: doubling, half of each drawn by chance so that many clients do not come
/// back together, and an end.
package struct Backoff: Sendable {
  private let patience: S3Settings.Patience
  private let begun: UInt64
  package private(set) var tries = 0

  package init(_ patience: S3Settings.Patience, now: UInt64) {
    self.patience = patience
    begun = now
  }

  /// After a failed try: how long to pause, or nil when it was the last.
  ///
  /// - Parameters:
  ///   - reached: whether anybody answered.
  ///   - atLeast: what the server asked for.
  package mutating func pause(now: UInt64, random: any Randomness, reached: Bool, atLeast: UInt64 = 0) -> UInt64? {
    tries += 1
    if !reached && tries >= patience.unreachableTries { return nil }
    let full = min(patience.firstPauseNanoseconds << UInt64(min(tries - 1, 20)), patience.longestPauseNanoseconds)
    var draw: UInt64 = 0
    withUnsafeMutableBytes(of: &draw) { random.fill($0) }
    let pause = max(full / 2 + draw % (full / 2 + 1), min(atLeast, patience.longestPauseNanoseconds))
    return now &- begun + pause > patience.operationNanoseconds ? nil : pause
  }
}
