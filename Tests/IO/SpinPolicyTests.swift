import Testing

@testable import ElideIO

/// A client that sends its next request so long after each answer, and the server's thread with its policy beside it. No clock:
/// time is what the waits add up to.
private struct Turns {
  var policy = SpinPolicy(.adaptive(50))
  var now: UInt64 = 1
  /// Time spent looking, of which in vain.
  var looked: UInt64 = 0
  var inVain: UInt64 = 0
  var found = 0
  /// What sleeping adds to a wait.
  var wakeup: UInt64 = 20_000

  mutating func turn(_ gap: UInt64) {
    let window = policy.window(at: now)
    if gap <= window {
      looked += gap
      now += gap
      found += 1
      policy.found()
    } else {
      looked += window
      inVain += window
      now += gap + wakeup
      policy.slept(gap + wakeup, at: now)
    }
  }
  mutating func turns(_ count: Int, _ gap: UInt64) { for _ in 0..<count { turn(gap) } }
}

@Suite struct SpinPolicyTests {
  @Test func fastClientsAreWaitedForAwake() {
    var t = Turns()
    t.turns(1000, 30_000)
    // A few short waits, two windows that were too small, and from then on each is found.
    #expect(t.found >= 985)
    #expect(t.inVain <= 50_000)
  }

  @Test func slowClientsCostNothing() {
    for gap: UInt64 in [100_000, 1_000_000, 60_000_000_000] {
      var t = Turns()
      t.turns(1000, gap)
      #expect(t.looked == 0, "\(gap) ns")
    }
  }

  /// Soon enough to be hoped for, and never within the window: what is spent in vain falls to nothing.
  @Test func hopeEnds() {
    var t = Turns()
    t.turns(100_000, 70_000)
    #expect(t.found == 0)
    #expect(t.inVain < 7_000_000)
    let before = t.inVain
    t.turns(4000, 70_000)
    #expect(t.inVain - before <= 200_000)
  }

  @Test func oneLongWaitCloses() {
    var t = Turns()
    t.turns(100, 10_000)
    #expect(t.policy.window(at: t.now) > 0)
    let before = t.looked
    t.turn(5_000_000)
    #expect(t.looked - before <= 50_000)
    #expect(t.policy.window(at: t.now) == 0)
    t.turns(100, 5_000_000)
    #expect(t.looked - before <= 50_000)
    // And who is fast again is waited for again, soon.
    let found = t.found
    t.turns(100, 10_000)
    #expect(t.found - found >= 85)
  }

  /// Bursts that are over when the window opens: they end to be looked for.
  @Test func shortBurstsAreGivenUp() {
    var t = Turns()
    for _ in 0..<1000 {
      t.turns(12, 10_000)
      t.turn(2_000_000)
    }
    #expect(t.inVain < 300_000)
  }

  @Test func someLateOnesDoNotClose() {
    var t = Turns()
    t.turns(50, 20_000)
    let found = t.found
    for _ in 0..<100 {
      t.turns(9, 20_000)
      t.turn(60_000)
    }
    #expect(t.found - found == 900)
  }

  @Test func aCrowdedMachineIsLeftAlone() {
    var t = Turns()
    t.turns(100, 10_000)
    #expect(!t.policy.isCrowded(step: 40_000) && t.policy.isCrowded(step: 60_000))
    var pauses: [UInt64] = []
    for _ in 0..<16 {
      let start = t.now
      t.policy.crowded(at: t.now)
      while t.policy.window(at: t.now) == 0 { t.turn(10_000) }
      pauses.append(t.now - start)
    }
    #expect(pauses[0] >= 1_000_000 && pauses[0] < 2_000_000)
    #expect(pauses[15] >= 5_000_000_000 && pauses[15] < 5_010_000_000)
    // Some found in between: an accident, after which it goes on soon.
    t.turns(100, 10_000)
    let start = t.now
    t.policy.crowded(at: t.now)
    while t.policy.window(at: t.now) == 0 { t.turn(10_000) }
    #expect(t.now - start < 2_000_000)
  }

  /// Where waking takes now 40 and now 110 us, who is fast is found out all the same.
  @Test func uncertainWakeUpsDoNotHideFastClients() {
    var t = Turns()
    for i in 0..<2000 {
      t.wakeup = i % 4 == 3 ? 110_000 : 40_000
      t.turn(i % 16 == 0 ? 80_000 : 30_000)
    }
    #expect(t.found > 1700)
  }

  @Test func whatWasAskedForIsDone() {
    var off = Turns(policy: SpinPolicy(.off))
    off.turns(100, 1000)
    #expect(off.policy.isOff && off.looked == 0)
    var fixed = Turns(policy: SpinPolicy(.fixed(30)))
    fixed.turns(10, 1_000_000)
    #expect(fixed.looked == 300_000 && !fixed.policy.isCrowded(step: .max))
    #expect(SpinPolicy(.fixed(0)).isOff)
  }
}
