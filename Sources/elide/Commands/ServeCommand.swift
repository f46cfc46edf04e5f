import ArgumentParser
import ElideEngine
import ElideIO
import Foundation
import Logging

extension PrefetchPolicy: ExpressibleByArgument {}

struct ServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Serve volumes over NBD, in the foreground.",
    discussion: """
      Examples:
        elide serve vm1 --nbd unix:/run/vm1.sock
        elide serve vm1 vm2 --nbd tcp:127.0.0.1:10809
        elide serve vm1 --nbd tcp:0.0.0.0:10809 --tls-certificates /etc/pki/elide --tls-verify-peer
        elide serve vm1 --nbd unix:/tmp/s --run 'nbdcopy "$uri" disk.img'

      Each volume is an export of its name, each of its snapshots a read-only export name@label. A name is served for
      writing by the host that owns it, once its log in the store says so; images, and with --read-only the newest published
      cut of any name, are served anywhere, and fetch what is read. At Ctrl-C clients are drained, everything is shipped and
      the name is stopped; a second Ctrl-C kills, which loses nothing that was acknowledged.
      """)
  @OptionGroup var options: GlobalOptions
  @OptionGroup(title: "Transport") var transport: TransportOptions
  @Argument(help: "Names or ULIDs, with @label or :seq for a point in the past.") var targets: [String]
  @Option(name: .long, help: ArgumentHelp("Where to listen; may be repeated.", valueName: "unix:PATH|tcp:HOST:PORT|systemd"))
  var nbd: [String] = []
  @Flag(name: .long, help: "Serve the newest published cut, whosever the name is, and refuse writes.") var readOnly = false
  @Flag(name: .long, help: "Claim names that nobody owns.") var claim = false
  @Flag(name: .long, help: ArgumentHelp("The names are live at this host already.", visibility: .private)) var granted = false
  @Option(name: .long, help: "Run a shell command with $uri set to the first export, and exit with its code.") var run: String?
  var isQuiet = false
  @Option(
    name: .long,
    help: """
      Look for requests this long before sleeping, in microseconds, whatever it costs; 0 for never. Without it the server looks \
      up to 50 while clients are that fast and nobody else wants the processor.
      """)
  var spin: Int?

  @Option(name: .long, help: "Bytes of disk for the block cache of this host, such as 100G; else as elide.toml says, or 32G.")
  var cacheBytes: ByteSize?

  @Option(name: .long, help: "Bring volumes into the cache as a whole: off, small or all; else as elide.toml says, or small.")
  var prefetch: PrefetchPolicy?

  @Option(
    name: .long,
    help: "Bytes of a volume that the store need not have, such as 8G: slower writes from half of it, ENOSPC in an outage.")
  var unsentBytes: ByteSize?

  @Option(name: .long, help: "How long reads wait for a store that does not answer, such as 90s, 10m or 1h (the default).")
  var storePatience: String?

  func validate() throws {
    if targets.isEmpty { throw ValidationError("Name a volume to serve.") }
    if nbd.isEmpty && run == nil && !SocketActivation.isOffered {
      throw ValidationError("Say where to listen: --nbd unix:PATH or --nbd tcp:HOST:PORT.")
    }
    for text in nbd where text != TransportOptions.inherited && ListenAddress(text) == nil {
      throw ValidationError("'\(text)' is neither unix:PATH nor tcp:HOST:PORT nor systemd.")
    }
    if let unsentBytes, let fault = HostSettings.faultOfUnsent(unsentBytes.bytes) {
      throw ValidationError("--unsent-bytes: \(fault).")
    }
    if let storePatience, HostSettings.seconds(storePatience) == nil {
      throw ValidationError("--store-patience: '\(storePatience)' is no time, such as 90s, 10m or 1h.")
    }
    if let spin, !(0...1_000_000).contains(spin) { throw ValidationError("--spin is in microseconds, at most 1000000.") }
  }

  func run() async throws {
    Interrupt.install()
    var addresses = try TransportOptions.addresses(nbd, orInherited: run == nil)
    var settings = HostSettings()
    settings.cacheBytes = cacheBytes?.bytes
    settings.unsentBytes = unsentBytes?.bytes
    settings.storePatience = storePatience.flatMap(HostSettings.seconds)
    let engine = try options.engine(settings: settings)
    let session = ServeSession(engine)
    defer { session.abandon() }
    for target in targets {
      let gate = ServeGate(isReadOnly: readOnly, claims: claim, isGranted: granted)
      try session.open(target, gate, prefetch: prefetch ?? engine.configuration.prefetch)
    }

    var scratch: String?
    if addresses.isEmpty {
      let directory = NSTemporaryDirectory() + "elide-\(getpid())"
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
      scratch = directory
      addresses = [.unix(path: directory + "/nbd.sock")]
    }
    defer { if let scratch { try? FileManager.default.removeItem(atPath: scratch) } }

    var configuration = NBDServerConfiguration()
    if let spin { configuration.spin = spin == 0 ? .off : .fixed(spin) }
    try transport.apply(to: &configuration)
    let log = Logger(label: "elide.nbd")
    configuration.log = { log.debug("\($0)") }
    let server: NBDServer
    do throws(NBDServerError) {
      server = try NBDServer(listening: addresses, exports: session.provider(), configuration: configuration)
    } catch { throw ElideError(.failed, error.description) }
    let thread = try server.start()
    let controls = try session.listen(
      ServingProcess(
        clients: { server.statistics.connectionsOpen }, volumes: session.exports.count, end: { Interrupt.raise() }))
    for address in server.addresses where !isQuiet {
      Output.note("serving \(session.exports.joined(separator: ", ")) on \(address)")
    }

    var code: Int32 = 0
    if let command = run {
      code = try await runCommand(command, uri: uri(server.addresses[0], session.exports[0]))
    } else {
      while !Interrupt.isSet {
        sayNews(session)
        try? await Task.sleep(for: .milliseconds(50))
      }
    }
    for control in controls { control.stop() }
    server.stop()
    thread.join()
    sayNews(session)
    defer { if !isQuiet { Output.note(traffic(engine.store.counters)) } }
    try session.close()
    if code != 0 { throw ExitCode(code) }
  }

  /// What has happened since the last time. One volume's end is not the others': all go on answering what they can.
  private func sayNews(_ session: ServeSession) {
    for text in session.storeNews() { Output.note("elide: \(text)") }
    for halted in session.newlyHalted() {
      if halted.isFenced {
        Output.note("elide: \(halted.export) is fenced: \(halted.reason)\nelide: every request fails from here on")
        continue
      }
      Output.note(
        "elide: \(halted.export) has halted: \(halted.reason)\n"
          + "elide: it answers reads; writes and flushes fail. What was acknowledged is on disk: serve it again to recover")
    }
  }

  /// What this process asked of the store, from opening to closing.
  private func traffic(_ c: StoreCounters) -> String {
    "store: \(c.requests) requests (\(c.gets) GET, \(c.puts) PUT, \(c.lists) LIST), "
      + "\(ByteSize.text(c.bytesRead)) read, \(ByteSize.text(c.bytesWritten)) written"
  }

  private func uri(_ address: ListenAddress, _ export: String) -> String {
    switch address {
    case .unix(let path): NBDURI.unix(path: path, export: export)
    case .tcp(let host, let port): NBDURI.tcp(host: host, port: port, export: export)
    case .inherited: ""
    }
  }

  /// The exit code of `sh -c command`, waited for on a thread of its own.
  private func runCommand(_ command: String, uri: String) async throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", command]
    process.environment = ProcessInfo.processInfo.environment.merging(["uri": uri]) { $1 }
    return try await withCheckedThrowingContinuation { continuation in
      process.terminationHandler = { p in
        continuation.resume(returning: p.terminationReason == .exit ? p.terminationStatus : 128 + p.terminationStatus)
      }
      do { try process.run() } catch { continuation.resume(throwing: ElideError(.failed, "cannot run the command: \(error)")) }
    }
  }
}
