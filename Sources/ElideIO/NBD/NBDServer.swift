import Synchronization

/// Why a server does not come up.
package enum NBDServerError: Error, Equatable, CustomStringConvertible, Sendable {
  case listen(ListenError)
  case system(Errno)
  package var description: String {
    switch self {
    case .listen(let error): error.description
    case .system(let error): "cannot start the NBD server: \(error)"
    }
  }
}

/// What other threads may tell the server's thread.
final class ServerControl: Sendable {
  let wake: WakeEvent
  let jobs: Mailbox<@Sendable () -> Void>
  private let stopping = Atomic(false)
  private let exportsReady = Atomic(false)

  init() throws(Errno) {
    let wake = try WakeEvent()
    self.wake = wake
    jobs = Mailbox(capacity: 256, wake: { wake.signal() })
  }

  /// Exports that were being opened can be looked at again.
  func setReady() {
    exportsReady.store(true, ordering: .releasing)
    wake.signal()
  }
  func takeReady() -> Bool { exportsReady.exchange(false, ordering: .acquiringAndReleasing) }

  var isStopping: Bool { stopping.load(ordering: .acquiring) }
  func stop() {
    stopping.store(true, ordering: .releasing)
    wake.signal()
  }
}

/// An NBD server: listeners, exports, and one thread that serves them all and owns the exports' devices.
///
/// It listens from `init` on (clients wait until it serves), serves from `start` or `run` until `stop`, and is used
/// once. All members may be called from any thread.
///
/// A stop closes the listeners, answers new requests with ESHUTDOWN, finishes those in flight, and closes. It does not
/// flush the devices: that is up to their owner.
package final class NBDServer: Sendable {
  /// With the port that the system chose.
  package let addresses: [ListenAddress]
  private let control: ServerControl
  private let counters: ServerCounters
  private let parts: Mutex<Parts?>
  private let outcome = Mutex(true)

  // Made by the caller of init, and handed to the server's thread once.
  private struct Parts: @unchecked Sendable {
    let listeners: [Listener]
    let provider: any ExportProvider
    let configuration: NBDServerConfiguration
  }

  /// - Parameter exports: used on the server's thread only, from its start to its end.
  package init(
    listening: [ListenAddress], exports: sending any ExportProvider,
    configuration: NBDServerConfiguration = NBDServerConfiguration()
  ) throws(NBDServerError) {
    precondition(configuration.maximumConnections <= 0xFFFF && configuration.requestsInFlight <= 0xFFFF)
    precondition(configuration.maximumPayload <= NBD.maximumPayload && configuration.requestsInFlight > 0)
    precondition(!configuration.requiresTLS || configuration.tls != nil)
    var listeners: [Listener] = []
    for address in listening {
      do { listeners.append(try Listener(address)) } catch { throw .listen(error) }
    }
    do { control = try ServerControl() } catch { throw .system(error) }
    counters = ServerCounters()
    addresses = listeners.map(\.address)
    parts = Mutex(Parts(listeners: listeners, provider: exports, configuration: configuration))
  }

  deinit { counters.deallocate() }

  /// Serves on a thread of its own, to be joined after `stop`. `wasClean` then tells how it ended.
  package func start() throws(Errno) -> JoinableThread {
    try spawnThread(name: "elide-nbd") { _ = self.run() }
  }

  /// Serves on this thread until it is stopped. False when requests were still with a device after the time for a
  /// stop: then the devices' buffers are leaked rather than freed under them.
  package func run() -> Bool {
    guard let parts = parts.withLock({ $0.take() }) else { return false }
    let result: Bool
    do {
      let loop = try ServerLoop(
        listeners: parts.listeners, provider: parts.provider, configuration: parts.configuration, control: control,
        counters: counters)
      result = loop.run()
      // Its memory is what the devices still use.
      if !result { _ = Unmanaged.passRetained(loop) }
    } catch {
      parts.configuration.log("cannot start: \(error)")
      result = false
    }
    outcome.withLock { $0 = result }
    return result
  }

  /// Begins to stop. `run` returns when all is finished, or when the time for it is over.
  package func stop() { control.stop() }

  package var wasClean: Bool { outcome.withLock { $0 } }

  /// Runs a job on the server's thread between two rounds, where it may touch the devices. It must not wait. False
  /// when too many are waiting.
  package func perform(_ job: @escaping @Sendable () -> Void) -> Bool { control.jobs.send(job) }

  package var statistics: NBDStatistics { counters.snapshot }
}
