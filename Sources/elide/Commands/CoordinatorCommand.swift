import ArgumentParser
import ElideEngine
import ElideIO
import Foundation
import Logging

struct CoordinatorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "coordinator", abstract: "The host's daemon: it keeps live names in service.",
    discussion: "Example:\n  elide coordinator run", subcommands: [CoordinatorRun.self, CoordinatorStatus.self])
}

extension ControlAccess.Readers: ExpressibleByArgument {}

struct CoordinatorRun: AsyncParsableCommand {
  enum Stopping: String, ExpressibleByArgument, CaseIterable { case leave, drain }

  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run the coordinator in the foreground, as systemd wants it.",
    discussion: """
      Example:
        elide coordinator run --data-dir /var/lib/elide --store 's3://vms?endpoint=https://s3.example.net'

      It needs no configuration. Names that are live on this host are served, each by a process of its own, with NBD on
      <data-dir>/run/<volume>.sock; commands of the command line go through <data-dir>/run/control.sock as long as it runs.
      When it ends, is restarted or is killed, volumes stay in service, and the next one takes their processes over.
      """)
  @OptionGroup var options: GlobalOptions
  @Option(name: .long, help: "Who may read status besides those who may act: group (nobody else) or all.")
  var readers = ControlAccess.Readers.group
  @Option(name: .long, help: "What becomes of volumes in service at SIGTERM: leave or drain.") var onStop = Stopping.leave

  func run() async throws {
    Interrupt.install()
    let systemd = SystemdNotify.take()
    let log = Logger(label: "elide.coordinator")
    let engine = try options.engine()
    // The lock says that the socket is this process's: it comes first.
    let coordinator = try Coordinator(engine, storeURL: options.storeURL, log: log)
    var addresses: [ListenAddress] = []
    if SocketActivation.isOffered {
      do throws(ListenError) { addresses = try SocketActivation.take() } catch { throw ElideError(.failed, error.description) }
    }
    if addresses.isEmpty { addresses = [.unix(path: engine.directory.coordinatorSocket)] }
    let api = CoordinatorAPI(coordinator, access: ControlAccess(readers: readers)) { Interrupt.isSet }
    let server: UnixHTTPServer
    do throws(ListenError) {
      server = try UnixHTTPServer(listening: addresses, mode: 0o666, refusal: Serving.refusal) {
        request, peer, responder in
        api.handle(request, peer, responder)
      }
    } catch { throw ElideError(.failed, error.description) }
    try coordinator.start()
    do throws(Errno) { try server.start() } catch { throw ElideError(error, doing: "start a thread") }
    log.info(
      "coordinator of \(engine.directory.root)",
      metadata: ["host": "\(engine.host.id.prefix(12))", "incarnation": "\(engine.incarnation)", "store": "\(engine.store.url)"])
    systemd.tell("READY=1", "STATUS=Looking after \((try? engine.names.all().count) ?? 0) names")
    while !Interrupt.isSet { try? await Task.sleep(for: .milliseconds(50)) }
    systemd.tell("STOPPING=1")
    server.stop()
    coordinator.stop(draining: onStop == .drain)
  }
}

struct CoordinatorStatus: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "What the coordinator looks after, and what somebody should look at.",
    discussion: "Example:\n  elide coordinator status --json")
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption

  func run() throws {
    let directory = DataDirectory(root: options.dataDirectory)
    guard let client = try CoordinatorClient.running(World.host(), directory) else {
      throw ElideError(.notFound, "no coordinator runs on \(directory.root)")
    }
    let status = try client.status()
    if json.json { return try Output.json(status) }
    Output.fields([
      ("host", status.host), ("data", status.dataDirectory), ("store", status.store),
      ("coordinator", "process \(status.process), for \(StatusPrinter.duration(status.uptimeMilliseconds))"),
      ("names", "\(status.names)"), ("open attempts", "\(status.openAttempts.count)"),
    ])
    print("")
    Output.table(
      ["NAME", "PHASE", "PROCESS", "CLIENTS", "NOT IN STORE", "AGE", "RESTARTS"],
      status.volumes.map { v in
        [
          v.name, v.phase, v.process.map(String.init) ?? "-", v.status?.clients.map(String.init) ?? "-",
          v.status.map { ByteSize.text($0.unsealedBytes + $0.unsentBytes) } ?? "-",
          v.status.map { StatusPrinter.duration($0.exposureMilliseconds) } ?? "-", "\(v.restarts)",
        ]
      })
    if !status.alarms.isEmpty { print("") }
    for alarm in status.alarms { print("ALARM \(alarm)") }
  }
}
