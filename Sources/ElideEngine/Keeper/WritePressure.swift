/// How fast a guest may write, by how much of what it wrote is not in the store yet. A value: no clock, no I/O.
///
///     unsent      0 ─────────── limit/2 ──────────────────── limit
///     writes      as they come │ slower and slower           │ wait; ENOSPC once the store has failed
///
/// From half of the limit on, with x running from 0 to 1 over the other half, a write brings `half / easeSeconds * (1-x)/x` bytes
/// a second and a little more: no step where it begins, and at half of the way the rest would last for `easeSeconds`. So a store
/// that is only slow meets a guest that is as slow, somewhere below the limit. A store that has failed leaves the guest about
/// three times `easeSeconds` in which all goes on, if slowly.
struct WritePressure: Equatable, Sendable {
  let limit: UInt64
  let easeSeconds: UInt64

  enum Verdict: Equatable, Sendable {
    case free
    /// Bytes a second, at least one.
    case slowed(UInt64)
    /// At the limit: nothing more, until some of it is in the store.
    case held
    /// At the limit, and nothing gets there.
    case refused
  }

  /// - Parameters:
  ///   - unsent: real bytes of data: of files open, closed and sealed.
  ///   - hasFailed: shipping fails, and has for long enough that it is not a hiccup.
  func verdict(unsent: UInt64, hasFailed: Bool) -> Verdict {
    let half = limit / 2
    if unsent < half || half == 0 { return .free }
    if unsent >= limit { return hasFailed ? .refused : .held }
    // In double precision: rates need no more, and no product overflows.
    let x = max(Double(unsent - half), 1) / Double(limit - half)
    let base = Double(half) / Double(max(1, easeSeconds))
    let rate = base * (1 - x) / x + base / 30
    return .slowed(UInt64(max(1, min(rate, 1e15))))
  }
}

/// What a front may append: the keeper says so whenever it changes.
package enum WriteAllowance: Equatable, Sendable {
  case free
  /// So many bytes more, and then ask.
  case slowed(UInt64)
  /// Writes of data fail with ENOSPC. Nothing else does.
  case refused
}

/// Gives out bytes at a rate that changes: who gets some pays by waiting before the next.
struct PacedGrants: Equatable, Sendable {
  /// Bytes given out and not paid for yet, as of `at`.
  private var owed: UInt64 = 0
  private var at: UInt64 = 0
  /// A grant lasts about so long.
  static let slice: UInt64 = 20_000_000
  static let least: UInt64 = 4096
  static let most: UInt64 = 4 << 20

  /// Bytes for somebody who needs `wanted`; nil while earlier ones are not paid for. Times in nanoseconds.
  ///
  /// - Parameter room: bytes up to the limit; one grant is a small part of them.
  mutating func grant(_ wanted: UInt64, rate: UInt64, room: UInt64, now: UInt64) -> UInt64? {
    pay(rate, now)
    guard owed == 0 else { return nil }
    let most = min(Self.most, room / 16)
    let bytes = max(wanted, max(Self.least, min(most, rate / (1_000_000_000 / Self.slice))))
    owed = bytes
    return bytes
  }

  private mutating func pay(_ rate: UInt64, _ now: UInt64) {
    let paid = Double(now &- min(at, now)) * Double(rate) / 1e9
    // What is paid is whole bytes: of less the time is kept.
    if paid < 1 && owed > 0 { return }
    owed -= UInt64(min(paid, Double(owed)))
    at = now
  }

  /// When everything will be paid for, at this rate.
  func due(rate: UInt64) -> UInt64 {
    at &+ UInt64(min(Double(owed) * 1e9 / Double(max(1, rate)) + 1, 3600e9))
  }
}
