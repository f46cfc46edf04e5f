import ElideIO
import Glibc
import Synchronization
import Testing

/// Far longer than anything here takes: a bound for a run that would hang, not a time that is asserted.
private func patience() -> UInt64 { HostClock().monotonicNanoseconds() + 60_000_000_000 }

@Suite struct MailboxTests {
  @Test func boundedAndInOrder() {
    let woken = Mutex(0)
    let box = Mailbox<Int>(capacity: 3) { woken.withLock { $0 += 1 } }
    for round in 0..<5 {
      #expect(box.receive() == nil)
      for i in 0..<3 { #expect(box.send(round * 10 + i)) }
      #expect(!box.send(99))
      #expect(box.count == 3)
      for i in 0..<3 { #expect(box.receive() == round * 10 + i) }
    }
    #expect(woken.withLock { $0 } == 15, "a refused message wakes nobody")
  }

  @Test func waitsForWhatComes() throws {
    let requests = Mailbox<Int>(capacity: 1)
    let answers = Mailbox<Int>(capacity: 1)
    let thread = try spawnThread(name: "echo") {
      while let n = requests.waitReceive(deadlineNanoseconds: patience()), n >= 0 { _ = answers.send(n + 1) }
    }
    for i in 0..<1000 {
      #expect(requests.send(i))
      #expect(answers.waitReceive(deadlineNanoseconds: patience()) == i + 1)
    }
    #expect(requests.send(-1))
    thread.join()
    #expect(answers.waitReceive(deadlineNanoseconds: 0) == nil, "a deadline that has passed")
    #expect(answers.waitReceive(deadlineNanoseconds: HostClock().monotonicNanoseconds() + 1000) == nil)
  }

  @Test func nothingIsLostBetweenManySenders() throws {
    let box = Mailbox<Int>(capacity: 8)
    let sum = Mutex(0)
    try onThreads(5) { i in
      if i == 0 {
        for _ in 0..<4000 {
          guard let n = box.waitReceive(deadlineNanoseconds: patience()) else { return }
          sum.withLock { $0 += n }
        }
      } else {
        let end = patience()
        for n in 1...1000 { while !box.send(n) && HostClock().monotonicNanoseconds() < end { sched_yield() } }
      }
    }
    #expect(sum.withLock { $0 } == 4 * 500_500)
    #expect(box.count == 0)
  }
}

@Suite struct ExecutorTests {
  @Test func syncLaneRunsInOrderAndStopDrains() throws {
    let executor = try ThreadExecutor(fetchThreads: 2, shipThreads: 2)
    let order = Mutex([Int]())
    let others = Mutex(0)
    for i in 0..<2000 {
      executor.submit(.sync) { order.withLock { $0.append(i) } }
      executor.submit(i % 2 == 0 ? .fetch : .ship) { others.withLock { $0 += 1 } }
    }
    executor.stop()
    #expect(order.withLock { $0 } == Array(0..<2000))
    #expect(others.withLock { $0 } == 2000)
    executor.submit(.sync) { order.withLock { $0.append(-1) } }
    #expect(executor.queued(.sync) == 0, "dropped after stop")
    executor.stop()
  }

  /// A lane that is never empty must not keep what its finished jobs held.
  @Test func finishedJobsAreLetGo() throws {
    final class Held: Sendable {
      let gone: Mailbox<Int>
      init(_ gone: Mailbox<Int>) { self.gone = gone }
      deinit { _ = gone.send(1) }
    }
    let executor = try ThreadExecutor(fetchThreads: 1, shipThreads: 1)
    let gone = Mailbox<Int>(capacity: 10)
    let gate = Mailbox<Int>(capacity: 1)
    func submitHolder() {
      let held = Held(gone)
      executor.submit(.fetch) { _ = held.gone }
    }
    submitHolder()
    executor.submit(.fetch) { _ = gate.waitReceive(deadlineNanoseconds: patience()) }
    for _ in 0..<100 { executor.submit(.fetch) {} }
    #expect(gone.waitReceive(deadlineNanoseconds: patience()) == 1)
    #expect(executor.queued(.fetch) >= 100)
    _ = gate.send(1)
    executor.stop()
  }

  @Test func wakeEventIsReadableUntilCleared() throws {
    let event = try WakeEvent()
    func readable() -> Bool {
      var p = pollfd(fd: event.descriptor, events: Int16(POLLIN), revents: 0)
      return poll(&p, 1, 0) == 1
    }
    #expect(!readable())
    event.signal()
    event.signal()
    event.wait(milliseconds: -1)
    #expect(readable())
    event.clear()
    #expect(!readable())
    event.clear()  // does not block
    let silent = WakeEvent.silent()
    silent.signal()
    silent.clear()
    #expect(silent.descriptor == -1)
  }
}
