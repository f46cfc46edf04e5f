import Glibc
import Synchronization

/// Kinds of waiting, so that one kind never stands behind another.
package enum Lane: Int, CaseIterable, Sendable {
  /// fdatasync of write-ahead files: one thread, since the files are synced in order.
  case sync
  /// Reads that a guest waits for.
  case fetch
  /// Encoding and uploads.
  case ship
}

/// Runs jobs that wait (for a disk, a store, a codec) away from the threads that must not. Threads in production; in the
/// simulator a list from which the seed draws.
package protocol Executor: AnyObject, Sendable {
  /// Runs `job` once, later, on a thread of the lane. Jobs of one lane may run side by side, except in `.sync`, where they
  /// run in order. After `stop` jobs are dropped.
  func submit(_ lane: Lane, _ job: @escaping @Sendable () -> Void)
}

/// `Executor` over plain threads. The queues grow as needed: callers bound what they have in flight.
package final class ThreadExecutor: Executor {
  // Unchecked: the pointers are set once and point at objects that are made for sharing.
  private final class LaneQueue: @unchecked Sendable {
    struct State {
      var jobs: [@Sendable () -> Void] = []
      var head = 0
      var stopped = false
    }
    let state = Mutex(State())
    let mutex: UnsafeMutablePointer<pthread_mutex_t>
    let condition: UnsafeMutablePointer<pthread_cond_t>

    init() {
      mutex = .allocate(capacity: 1)
      condition = .allocate(capacity: 1)
      pthread_mutex_init(mutex, nil)
      pthread_cond_init(condition, nil)
    }
    deinit {
      pthread_cond_destroy(condition)
      pthread_mutex_destroy(mutex)
      condition.deallocate()
      mutex.deallocate()
    }

    func push(_ job: @escaping @Sendable () -> Void) {
      pthread_mutex_lock(mutex)
      state.withLock { if !$0.stopped { $0.jobs.append(job) } }
      pthread_cond_signal(condition)
      pthread_mutex_unlock(mutex)
    }
    func stop() {
      pthread_mutex_lock(mutex)
      state.withLock { $0.stopped = true }
      pthread_cond_broadcast(condition)
      pthread_mutex_unlock(mutex)
    }
    /// The next job, waiting for one; nil once stopped and empty.
    func pop() -> (@Sendable () -> Void)? {
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      while true {
        let (job, stopped) = state.withLock { s -> ((@Sendable () -> Void)?, Bool) in
          guard s.head < s.jobs.count else {
            s.jobs.removeAll(keepingCapacity: true)
            s.head = 0
            return (nil, s.stopped)
          }
          let job = s.jobs[s.head]
          s.head += 1
          return (job, s.stopped)
        }
        if let job { return job }
        if stopped { return nil }
        pthread_cond_wait(condition, mutex)
      }
    }
  }

  private let queues: [LaneQueue]
  private let threads: Mutex<[JoinableThread]>

  /// Starts its threads at once: one for `.sync`, and as many as told for the other lanes.
  package init(fetchThreads: Int = 4, shipThreads: Int = 2) throws(Errno) {
    let queues = Lane.allCases.map { _ in LaneQueue() }
    self.queues = queues
    var started: [JoinableThread] = []
    let counts: [(Lane, Int)] = [(.sync, 1), (.fetch, fetchThreads), (.ship, shipThreads)]
    for (lane, count) in counts {
      for i in 0..<count {
        let queue = queues[lane.rawValue]
        started.append(try spawnThread(name: "elide-\(lane)-\(i)") { while let job = queue.pop() { job() } })
      }
    }
    threads = Mutex(started)
  }

  package func submit(_ lane: Lane, _ job: @escaping @Sendable () -> Void) { queues[lane.rawValue].push(job) }

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
