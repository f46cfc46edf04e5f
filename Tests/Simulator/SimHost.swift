import ElideEngine
import ElideEvents
import ElideIO

/// Waiting in a world of one thread: somebody else's job runs, or the clock moves on. One thread steps a simulated world,
/// hence unchecked.
package final class SimWaiter: Waiter, @unchecked Sendable {
  private let executor: SimExecutor
  private let clock: SimClock
  package init(executor: SimExecutor, clock: SimClock) {
    self.executor = executor
    self.clock = clock
  }
  package func makeWake() throws(ElideError) -> WakeEvent { .silent() }
  package func wait(_ wake: WakeEvent, untilNanoseconds deadline: UInt64, clock: any Clock) {
    if executor.waiting > 0 { return executor.drain() }
    self.clock.advance(milliseconds: 50)
  }
}

/// A simulated machine: disk, names and journals that outlive its processes; clock, threads and the connection to the store
/// of the process that runs now. `process()` is the engine as a program that has just started has it.
package final class SimHost {
  package let faults: SimFaults
  package let files: SimFiles
  package let names: SimNameRows
  package let journals: SimJournals
  package let clock: SimClock
  package let executor = SimExecutor()
  package let store: SimStore
  /// Goes before `store`, for processes that start from now on.
  package var front: (any Store)?
  package var configuration = KeeperConfiguration()
  private let random: SimRandom

  package convenience init(seed: UInt64, bucket: SimBucket, clock: SimClock = SimClock(), fileCapacity: Int = 4 << 20) {
    let faults = SimFaults(seed: seed)
    self.init(
      seed: seed, bucket: bucket, clock: clock, faults: faults,
      files: SimFiles(seed: seed, faults: faults, fileCapacity: fileCapacity), names: SimNameRows(faults: faults),
      journals: SimJournals(faults: faults))
  }

  /// Another machine with a copy of everything that processes of `original` see on its disk, keys and rows and journals too.
  package convenience init(seed: UInt64, of original: SimHost) {
    let faults = SimFaults(seed: seed)
    self.init(
      seed: seed, bucket: original.store.bucket, clock: SimClock(milliseconds: original.clock.milliseconds), faults: faults,
      files: original.files.copy(seed: seed, faults: faults), names: original.names.copy(faults: faults),
      journals: original.journals.copy(faults: faults))
  }

  private init(
    seed: UInt64, bucket: SimBucket, clock: SimClock, faults: SimFaults, files: SimFiles, names: SimNameRows,
    journals: SimJournals
  ) {
    self.faults = faults
    self.files = files
    self.names = names
    self.journals = journals
    self.clock = clock
    journals.isFull = { [files] in files.spaceUsed + 4096 > files.spaceLimit }
    store = SimStore(bucket, seed: seed, faults: faults)
    random = SimRandom(seed: seed ^ 0x4A9D)
    configuration.geometry = WALGeometry(fileBlocks: 40, dataBlocks: 32)
    configuration.unsealedWals = 6
    configuration.unsentBytes = 2 << 20
    configuration.reserveBytes = 16 * 4096
    configuration.easeSeconds = 1
    configuration.outageSeconds = 1
    configuration.spaceSeconds = 1
    configuration.pageSeconds = 1
    configuration.idlePageSeconds = 3
    configuration.pageBytes = 64 << 10
    configuration.checkpointPages = 3
    configuration.checkpointBytes = 16 << 10
    configuration.retryMilliseconds = 100
    configuration.retryLimitMilliseconds = 2000
    // Devices are of some hundred blocks, requests of twenty.
    configuration.front.readAhead.threshold = 8
    configuration.front.readAhead.window = 48
    configuration.front.readAhead.chunk = 16
    configuration.front.readAhead.unit = 4
    configuration.front.readAhead.fetches = 3
  }

  package var world: World { World(clock: clock, random: random, files: files) }

  package func process() throws(ElideError) -> Engine {
    try Engine(
      world: world, directory: DataDirectory(root: "/data"), store: front ?? store, names: names, journals: journals,
      executor: executor, configuration: configuration, waiter: SimWaiter(executor: executor, clock: clock),
      retry: RetryPolicy(pause: { [clock] in clock.advance(milliseconds: $0 / 1_000_000) }))
  }

  /// The process is gone, as a crash ends it.
  package func crash(_ mode: CrashMode) {
    executor.dropAll()
    files.restart(mode)
  }
}
