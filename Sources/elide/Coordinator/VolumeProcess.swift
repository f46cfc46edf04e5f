import ArgumentParser
import ElideEngine
import ElideIO
import Foundation
import Glibc
import Logging

/// One volume in service, as the coordinator starts it: NBD on `run/<vol>.sock`, control on `run/<vol>.ctl`. It appends nothing
/// to the name's log: it serves as long as the log says that this host may, and ends with exit code 12 when it says otherwise.
///
/// SIGTERM ends it in good order: exit code 0 says that everything acknowledged is in the store.
struct VolumeProcessCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "volume-process", abstract: "Serve one volume for the coordinator.", shouldDisplay: false)
  @OptionGroup var options: GlobalOptions
  @Option(name: .long) var volume: String
  @Argument var name: String

  func run() async throws {
    Interrupt.install()
    let log = Logger(label: "elide.volume")
    guard let volume = ULID(volume) else { throw ElideError(.usage, "'\(volume)' is no volume's ULID") }
    let engine = try options.engine(createStore: false)
    if try engine.names.makings(name).contains(where: { $0.volume == volume }) {
      throw ElideError(.tryLater, "volume \(volume) of '\(name)' is not wholly made yet")
    }
    let grant = try Lifecycle(engine).grantOfLive(name)
    guard grant.volume == volume else {
      throw ElideError(.fenced, "'\(name)' goes on with volume \(grant.volume), not with \(volume)")
    }
    let session = ServeSession(engine)
    defer { session.abandon() }
    try session.open(grant, prefetch: engine.configuration.prefetch)
    var configuration = NBDServerConfiguration()
    configuration.log = { log.debug("\($0)") }
    let server: NBDServer
    do throws(NBDServerError) {
      server = try NBDServer(
        listening: [.unix(path: engine.directory.socket(volume))], exports: session.provider(), configuration: configuration)
    } catch { throw ElideError(.failed, error.description) }
    let thread = try server.start()
    let controls = try session.listen(
      ServingProcess(clients: { server.statistics.connectionsOpen }, volumes: 1, end: { Interrupt.raise() }))
    var halt: (reason: String, isFenced: Bool)?
    while !Interrupt.isSet, halt == nil {
      for text in session.storeNews() { log.warning("\(text)", metadata: ["name": "\(name)"]) }
      if let halted = session.newlyHalted().first { halt = (halted.reason, halted.isFenced) }
      try? await Task.sleep(for: .milliseconds(50))
    }
    for control in controls { control.stop() }
    server.stop()
    thread.join()
    if let halt {
      // Clients have had their errors. A fenced volume stays as it is; any other is recovered by the next process.
      throw ElideError(halt.isFenced ? .fenced : .failed, "'\(name)' has halted: \(halt.reason)")
    }
    try session.close()
  }
}
