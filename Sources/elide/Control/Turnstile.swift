import Synchronization

/// Takes so many at once, and no more.
final class Turnstile: Sendable {
  private let limit: Int
  private let inside = Mutex(0)
  init(_ limit: Int) { self.limit = limit }

  /// False when all places are taken.
  func enter() -> Bool {
    inside.withLock { n in
      if n >= limit { return false }
      n += 1
      return true
    }
  }
  func leave() { inside.withLock { $0 -= 1 } }
}
