/// How a server waits for the next request before it sleeps. Times are in microseconds.
package enum Spin: Equatable, Sendable {
  case off
  /// Looks for so long at most, while clients answer that fast and nobody else wants the processor.
  case adaptive(Int)
  /// Looks so long each time, whatever it costs.
  case fixed(Int)
}

/// Decides how long a thread looks for the next request before it sleeps: a value that is told what happened, and when. It is
/// opened by waits that were short, grows while they end soon after it, and is closed when many end late or one takes very
/// long. A closing that has not paid makes the next opening wait for more. All times are in nanoseconds of one clock.
struct SpinPolicy: Equatable {
  /// Short waits that open it, and what that may grow to.
  static let patience: (least: UInt32, most: UInt32) = (8, 4096)
  /// So many of them a longer one takes back.
  static let setback: UInt32 = 2
  /// So many requests must be found before a closing has paid.
  static let paying: UInt32 = 16
  /// A look in vain, after which the request came soon, costs as many of the requests found as this; so many are kept in mind.
  static let price: UInt32 = 4
  static let memory: UInt32 = 32
  /// How long it stays closed after another thread took the processor, and what that may grow to.
  static let pause: (least: UInt64, most: UInt64) = (1_000_000, 5_000_000_000)
  /// With so many found since it was opened, being interrupted is an accident and not a crowd.
  static let calm: UInt32 = 64
  /// A wait of so many windows is no late request but a client that does something else.
  static let away: UInt64 = 10

  let isFixed: Bool
  /// The window at most.
  let limit: UInt64
  private var open: UInt64 = 0
  private var shortWaits: UInt32 = 0
  private var patience = Self.patience.least
  private var hits: UInt32 = 0
  private var credit: UInt32 = 0
  private var pausedUntil: UInt64 = 0
  private var pause = Self.pause.least

  init(_ spin: Spin) {
    switch spin {
    case .off: (isFixed, limit) = (false, 0)
    case .adaptive(let n): (isFixed, limit) = (false, UInt64(max(0, n)) * 1000)
    case .fixed(let n): (isFixed, limit) = (n > 0, UInt64(max(0, n)) * 1000)
    }
  }

  var isOff: Bool { limit == 0 }

  /// How long to look, from `now` on; 0 for not at all.
  func window(at now: UInt64) -> UInt64 { isFixed ? limit : now < pausedUntil ? 0 : open }

  /// A step of looking took so long that another thread must have run.
  func isCrowded(step: UInt64) -> Bool { !isFixed && step > limit }

  /// Something came while it looked.
  mutating func found() {
    hits = hits == .max ? hits : hits + 1
    credit = min(Self.memory, credit + 1)
  }

  /// Something came `wait` after it began to look, or to sleep where it did not look. With a wait that is short, sleeping and
  /// waking were a good part of it: somebody awake would have had it within half of it, about.
  mutating func slept(_ wait: UInt64, at now: UInt64) {
    if isFixed || now < pausedUntil { return }
    if wait >= Self.away * limit { return close() }
    let isShort = wait < 2 * limit
    if open == 0 {
      // Waking takes as long as it likes: some long ones among the short do not count for much.
      shortWaits = isShort ? shortWaits + 1 : shortWaits - min(shortWaits, Self.setback)
      if shortWaits >= patience { (open, credit) = (max(1, limit / 4), 2 * Self.price) }
    } else if isShort && open < limit {
      open = min(limit, 2 * open)
    } else if credit >= Self.price {
      credit -= Self.price
    } else {
      close()
    }
  }

  private mutating func close() {
    if open > 0 { patience = hits >= Self.paying ? Self.patience.least : min(Self.patience.most, 2 * patience) }
    forget()
  }

  /// Another thread took the processor meanwhile: it needs it more.
  mutating func crowded(at now: UInt64) {
    pause = hits >= Self.calm ? Self.pause.least : pause
    pausedUntil = now + pause
    pause = min(Self.pause.most, 2 * pause)
    forget()
  }

  private mutating func forget() { (open, shortWaits, hits, credit) = (0, 0, 0, 0) }
}
