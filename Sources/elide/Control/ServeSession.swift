import ElideEngine
import ElideIO

/// The volumes that one `serve` process has open, from opening to the last flush. Owned by the command's thread; between
/// the server's start and its end the devices are the server thread's.
final class ServeSession {
  private struct Served {
    let export: String
    let volume: OpenedVolume
    let isReadOnly: Bool
    /// The right by which it serves, which this process took up and gives back at the end.
    var grant: ServiceGrant?
    /// Of the entry that permits it, where somebody else took the right up and gives it back.
    var epoch: UInt64?
    var isHalted = false
    var failedReads: UInt64 = 0
  }
  /// A silence of the store that was told.
  private var silence: UInt64?
  /// Shorter ones are not news: some requests are sent but once.
  private static let news: UInt64 = 5_000_000_000

  private let engine: Engine
  private var served: [Served] = []
  private var closed = false

  init(_ engine: Engine) { self.engine = engine }

  /// Names of the exports, in the order in which the volumes were given.
  var exports: [String] { served.map(\.export) }

  /// Opens a target by the serve gate; `gate` says how a name is taken up.
  func open(_ target: String, _ gate: ServeGate, prefetch: PrefetchPolicy) throws {
    let (volume, grant) = try gate.open(VolumeSource(target), engine)
    let begun = volume.startPrefetch(
      prefetch, smallBytes: engine.configuration.smallBytes, cacheBytes: engine.cache.budget)
    if prefetch == .all, case .tooLarge(let limit) = begun {
      Output.note("elide: \(target) is not prefetched: it has more than \(ByteSize.text(limit)), half of what the cache may hold")
    }
    served.append(Served(export: target, volume: volume, isReadOnly: gate.isReadOnly || volume.isReadOnly, grant: grant))
    try volume.start()
  }

  /// What the log permits this host to serve.
  func open(_ grant: ServiceGrant, prefetch: PrefetchPolicy) throws {
    let volume = try engine.openLocal(grant.volume, grant: grant)
    _ = volume.startPrefetch(prefetch, smallBytes: engine.configuration.smallBytes, cacheBytes: engine.cache.budget)
    served.append(Served(export: grant.name, volume: volume, isReadOnly: false, epoch: grant.epoch))
    try volume.start()
  }

  func provider() -> sending ServedExports {
    // Handed over: this thread touches no device before the server has ended.
    nonisolated(unsafe) let exports = ServedExports(served.map { ($0.export, $0.volume.device, $0.isReadOnly) }, engine)
    return exports
  }

  /// A control socket for each volume that is written here.
  func listen(_ process: ServingProcess) throws(ElideError) -> [ControlServer] {
    do throws(Errno) { try engine.world.files.makeDirectory(engine.directory.run) } catch {
      throw ElideError(error, doing: "make \(engine.directory.run)")
    }
    var out: [ControlServer] = []
    for s in served {
      guard let port = s.volume.port else { continue }
      let control = ControlServer(port: port, process: process, name: s.export, epoch: s.grant?.epoch ?? s.epoch)
      try control.start(engine.directory.control(s.volume.volume))
      out.append(control)
    }
    return out
  }

  /// Volumes that have halted since the last call, each told once: its export, and why.
  func newlyHalted() -> [(export: String, reason: String, isFenced: Bool)] {
    var out: [(export: String, reason: String, isFenced: Bool)] = []
    for i in served.indices where !served[i].isHalted {
      guard let status = served[i].volume.port?.status, [.halted, .fenced].contains(status.state) else { continue }
      served[i].isHalted = true
      out.append((served[i].export, status.reason ?? "halted", status.state == .fenced))
    }
    return out
  }

  /// What is to be told of the store since the last call: that it is silent, that it answers again, reads that failed.
  func storeNews() -> [String] {
    var out: [String] = []
    let now = engine.world.clock.monotonicNanoseconds()
    if let since = engine.store.silentSince {
      if silence == nil, now &- since >= Self.news {
        silence = since
        out.append("the store does not answer: reads of what is not here wait, and writes stay here")
      }
    } else if let since = silence {
      silence = nil
      out.append("the store answers again, after \((now &- since) / 1_000_000_000) s")
    }
    for i in served.indices {
      let faults = served[i].volume.readFaults
      let count = faults.count
      if count > served[i].failedReads, let last = faults.last { out.append("\(served[i].export): a read failed: \(last)") }
      served[i].failedReads = count
    }
    return out
  }

  private func removeSockets() {
    for s in served where s.volume.port != nil { try? engine.world.files.remove(engine.directory.control(s.volume.volume)) }
  }

  /// Ships everything, closes, and says in the names' logs that they are stopped. Call when no transport uses the devices any
  /// more. One volume's failure does not keep the others from being closed; the first is thrown.
  func close() throws(ElideError) {
    closed = true
    removeSockets()
    var failure: ElideError?
    for s in served {
      do throws(ElideError) {
        try s.volume.close(ship: true)
        // What did not get into the store leaves the name live: the next serve goes on from here.
        if let grant = s.grant { try Lifecycle(engine).leave(grant) }
      } catch {
        failure = failure ?? ElideError(error.kind, "\(s.export): \(error.message)")
      }
    }
    if let failure { throw failure }
  }

  /// On the way out after an error: what is acknowledged is on disk, and the next open finds it.
  func abandon() {
    if !closed { removeSockets() }
  }
}

/// The served volumes as NBD exports: each under its name, and its snapshots, opened when a client asks, as name@label.
/// Used on the server's thread only, which never waits for a snapshot: it is opened elsewhere, and closed when the last
/// client has gone.
final class ServedExports: ExportProvider {
  private let volumes: [(name: String, device: VolumeDevice, isReadOnly: Bool)]
  private let engine: Engine
  private var snapshots: LateExports<OpenedVolume>?

  init(_ volumes: [(String, VolumeDevice, Bool)], _ engine: Engine) {
    self.volumes = volumes.map { (name: $0.0, device: $0.1, isReadOnly: $0.2) }
    self.engine = engine
  }

  func names() -> [String] { volumes.map(\.name) }

  func residents() -> [any BlockDevice] { volumes.map(\.device) }

  func open(_ name: String) -> ExportInfo? {
    volumes.first { $0.name == name || (name.isEmpty && $0.name == volumes.first?.name) }
      .map { ExportInfo(device: $0.device, isReadOnly: $0.isReadOnly) }
  }

  func begin(ready: @escaping @Sendable () -> Void) {
    snapshots = LateExports(ready: ready, make: { [engine] in Self.openSnapshot($0, engine) }) {
      // Nothing is written through it, so closing it does nothing that can fail.
      try? $0.close(ship: false)
    }
  }

  func look(_ name: String) -> ExportLook {
    if let volume = open(name) { return .found(volume) }
    guard name.contains("@"), let base = name.split(separator: "@").first, volumes.contains(where: { $0.name == base }),
      let snapshots
    else { return .absent }
    switch snapshots.look(name) {
    case .absent: return .absent
    case .opening: return .opening
    case .found(let opened):
      return .found(ExportInfo(device: opened.device, isReadOnly: true, description: "snapshot \(name)"))
    }
  }

  func tidy(inUse: (any BlockDevice) -> Bool) { snapshots?.tidy { inUse($0.device) } }

  private static func openSnapshot(_ name: String, _ engine: Engine) -> OpenedVolume? {
    guard let source = try? VolumeSource(name), let opened = try? engine.open(source), (try? opened.start()) != nil else {
      return nil
    }
    return opened
  }
}
