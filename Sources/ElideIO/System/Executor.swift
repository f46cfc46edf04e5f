import CElide
import Synchronization

/// Kinds of waiting, so that one kind never stands behind another.
package enum Lane: Int, CaseIterable, Sendable {
  /// fdatasync of write-ahead files: one thread, since the files are synced in order.
  case sync
  /// Reads that a guest waits for.
  case fetch
  /// Reads that nobody waits for yet.
  case ahead
  /// Encoding and uploads. Steps back for whoever else wants the processor.
  case ship
  /// Reading and hashing of closed write-ahead files. Steps back too.
  case seal
  /// What was put off in the two lanes before until it must be: it never waits for a store, and steps back for nobody.
  case overdue

  /// Whether its threads leave the processor to others. Not for good: a tenth of what one of those gets is theirs, so that
  /// what is begun ends.
  var stepsBack: Bool { self == .ship || self == .seal }
}

/// Runs jobs that wait (for a disk, a store, a codec) away from the threads that must not. Threads in production; in the
/// simulator a list from which the seed draws.
package protocol Executor: AnyObject, Sendable {
  /// Runs `job` once, later, on a thread of the lane. Jobs of one lane may run side by side, except in `.sync`, where they
  /// run in order. After `stop` jobs are dropped.
  func submit(_ lane: Lane, _ job: @escaping @Sendable () -> Void)
}

/// `Executor` over plain threads. The queues grow as needed: callers bound what they have in flight, and `queued` shows it.
package final class ThreadExecutor: Executor {
  /// A closure in a struct passes through generic code (arrays, optionals, the lock) as it is; a bare one is wrapped anew,
  /// on the heap, each time.
  private struct Job: Sendable {
    let run: @Sendable () -> Void
  }

  private final class LaneQueue: Sendable {
    private struct State {
      /// Jobs in order; those before `head` are gone.
      var jobs: [Job?] = []
      var head = 0
      var stopped = false

      mutating func next() -> Job? {
        guard head < jobs.count else { return nil }
        let job = jobs[head]
        jobs[head] = nil  // what the job holds must not outlive it
        head += 1
        if head * 2 >= jobs.count {
          jobs.removeFirst(head)
          head = 0
        }
        return job
      }
    }
    private let state = Mutex(State())
    private let change = Condition()

    var count: Int { state.withLock { $0.jobs.count - $0.head } }

    func push(_ job: Job) {
      state.withLock { if !$0.stopped { $0.jobs.append(job) } }
      change.signal()
    }
    func stop() {
      state.withLock { $0.stopped = true }
      change.broadcast()
    }
    /// The next job, waiting for one; nil once stopped and empty.
    func pop() -> Job? {
      while true {
        let seen = change.count
        let (job, stopped) = state.withLock { s in (s.next(), s.stopped) }
        if let job { return job }
        if stopped { return nil }
        change.wait(after: seen)
      }
    }
  }

  private let queues: [LaneQueue]
  private let threads: Mutex<[JoinableThread]>

  /// Starts its threads at once: one for `.sync` and `.seal` each, two for `.overdue`, and as many as told for the other lanes.
  /// One of `.ahead` waits for one request: their number covers the latency of a store.
  package init(fetchThreads: Int = 4, aheadThreads: Int = 16, shipThreads: Int = 2) throws(Errno) {
    let queues = Lane.allCases.map { _ in LaneQueue() }
    self.queues = queues
    var started: [JoinableThread] = []
    let counts: [(Lane, Int)] = [
      (.sync, 1), (.fetch, fetchThreads), (.ahead, aheadThreads), (.ship, shipThreads), (.seal, 1), (.overdue, 2),
    ]
    do throws(Errno) {
      for (lane, count) in counts {
        for i in 0..<count {
          let queue = queues[lane.rawValue]
          started.append(
            try spawnThread(name: "elide-\(lane)-\(i)") {
              if lane.stepsBack { elide_step_back() }
              while let job = queue.pop() { job.run() }
            })
        }
      }
    } catch {
      for queue in queues { queue.stop() }
      for thread in started { thread.join() }
      throw error
    }
    threads = Mutex(started)
  }

  package func submit(_ lane: Lane, _ job: @escaping @Sendable () -> Void) { queues[lane.rawValue].push(Job(run: job)) }

  /// Jobs of a lane that no thread has taken yet.
  package func queued(_ lane: Lane) -> Int { queues[lane.rawValue].count }

  /// Runs what is queued, then ends the threads. Call once, not from a job.
  package func stop() {
    for queue in queues { queue.stop() }
    let all = threads.withLock { list -> [JoinableThread] in
      defer { list = [] }
      return list
    }
    for thread in all { thread.join() }
  }
}
