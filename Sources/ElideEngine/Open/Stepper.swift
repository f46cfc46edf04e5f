import ElideIO
import Synchronization

/// A state machine that one thread steps: in production a thread of its own, in a simulator the only one.
package protocol Stepper: AnyObject {
  /// Does one bounded piece of work; false when there is none before the next message or `deadline`.
  func step() -> Bool
  /// Nanoseconds of the monotonic clock.
  var deadline: UInt64 { get }
  /// Nothing will ever be left to do.
  var isFinished: Bool { get }
}

/// A thread that steps a machine until told to stop.
package final class StepperThread: Sendable {
  private let isStopping = Atomic<Bool>(false)
  private let wake: WakeEvent
  private let thread: Mutex<JoinableThread?> = Mutex(nil)

  /// The machine is this thread's alone until `stop` has returned.
  package init(name: String, _ machine: any Stepper, wake: WakeEvent, clock: any Clock, waiter: any Waiter) throws(ElideError) {
    self.wake = wake
    // Handed over, never shared: the caller does not touch it before `stop`.
    nonisolated(unsafe) let machine = machine
    do throws(Errno) {
      let started = try spawnThread(name: name) { [self] in
        while !isStopping.load(ordering: .acquiring) {
          wake.clear()
          while !isStopping.load(ordering: .acquiring), machine.step() {}
          if isStopping.load(ordering: .acquiring) { break }
          waiter.wait(wake, untilNanoseconds: machine.deadline, clock: clock)
        }
      }
      thread.withLock { $0 = started }
    } catch { throw ElideError(error, doing: "start the thread \(name)") }
  }

  /// Waits for the step in progress. Once.
  package func stop() {
    isStopping.store(true, ordering: .releasing)
    wake.signal()
    let running = thread.withLock { t -> JoinableThread? in
      defer { t = nil }
      return t
    }
    running?.join()
  }
}

/// The keeper's part for a volume that is only read: brings what reads want.
package final class ReadDesk: Stepper {
  package let inbox: Mailbox<KeeperMessage>
  private let fetches: FetchDesk
  private let clock: any Clock
  private let segments: VolumeSegments
  package let fetcher: Fetcher

  package init(
    fetcher: Fetcher, store: WatchedStore, segments: VolumeSegments, executor: any Executor, front: Mailbox<FrontMessage>,
    clock: any Clock, configuration: KeeperConfiguration, wake: @escaping @Sendable () -> Void
  ) {
    self.fetcher = fetcher
    self.segments = segments
    self.clock = clock
    fetches = FetchDesk(
      fetcher: fetcher, store: store, executor: executor, front: front, clock: clock, patience: .init(configuration), wake: wake)
    inbox = Mailbox(capacity: 4096, wake: wake)
  }

  package var faults: ReadFaults { fetches.faults }

  package func step() -> Bool {
    guard let message = inbox.receive() else {
      if fetches.step() { return true }
      segments.closeRetired()
      return false
    }
    switch message {
    case .wanted(let segment, let r, let count): fetches.want(segment, r, count)
    case .ahead(let segment, let r, let count): fetches.ahead(segment, r, count)
    default: break
    }
    return true
  }

  package var deadline: UInt64 {
    // What is due and was not done waits for a message.
    let next = fetches.deadline
    return next > clock.monotonicNanoseconds() ? next : .max
  }
  package var isFinished: Bool { false }
}
