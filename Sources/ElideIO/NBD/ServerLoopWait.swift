import Glibc

// How the thread waits for what comes next.
extension ServerLoop {
  /// So many looks at the last connection for one at everything.
  private static let looks = 4

  /// Waits until something can be done; how many events the poller has. 0 also when a request came while it looked for one.
  func wait() -> Int {
    // One request came and was answered, and nothing is under way: whoever sent it may send the next at once. Who has many
    // under way needs no haste: what comes meanwhile is taken together.
    let isTurn = answered == 1 && inFlight == 0
    answered = 0
    guard !spin.isOff, isTurn || spin.isFixed, !isDraining, eager.isEmpty else { return poller.wait(milliseconds: timeout()) }
    let start = monotonicNanoseconds()
    let window = spin.window(at: start)
    if window > 0, let count = look(from: start, for: window) {
      spin.found()
      return count
    }
    let count = poller.wait(milliseconds: timeout())
    let now = monotonicNanoseconds()
    spin.slept(now - start, at: now)
    return count
  }

  /// nil when nothing came within the window, or somebody else wants the processor.
  private func look(from start: UInt64, for window: UInt64) -> Int? {
    var now = start
    var turn = 0
    repeat {
      turn &+= 1
      // Straight from the socket: what is there needs no poller to say so.
      if receiveFromLast() { return 0 }
      if turn % Self.looks == 0 || connections[last] == nil {
        let count = poller.wait(milliseconds: 0)
        if count > 0 { return count }
      }
      if !spin.isFixed { sched_yield() }
      let before = now
      now = monotonicNanoseconds()
      if spin.isCrowded(step: now - before) {
        spin.crowded(at: now)
        return nil
      }
    } while now - start < window
    return nil
  }

  /// Works off what the connection that was answered last has sent since; false when there is nothing.
  private func receiveFromLast() -> Bool {
    guard let connection = connections[last], connection.pointee.phase == .transmission, connection.pointee.tls == nil,
      connection.pointee.canReceive
    else { return false }
    switch connection.pointee.receive() {
    case .nothing: return false
    case .some:
      connection.pointee.isActive = true
      list(connection)
      work(connection)
    case .ended:
      list(connection)
      peerEnded(connection)
    case .failed:
      list(connection)
      fail(connection)
    }
    return true
  }
}
