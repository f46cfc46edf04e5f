import ArgumentParser
import ElideEngine
import Foundation
import Glibc

/// The command line: nouns, then verbs. Each command is a file in `Commands/`; what they share is in `Support/`.
@main struct Elide: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "elide",
    abstract: "Block storage for many virtual machines: logs, forks, and a history that can be replayed.",
    discussion: """
      A first volume:
        elide volume create vm1 --size 10G
        elide serve vm1 --nbd unix:/tmp/vm1.sock

      Exit codes: 0 done, 1 failed, 2 usage, 3 unknown, 4 verification found a fault, 10 not found, 11 owned by another,
      12 fenced, 13 the store refused, 75 try later, 130 interrupted.
      """,
    version: "0.1.0",
    subcommands: [
      VolumeCommand.self, SnapshotCommand.self, PinCommand.self, ServeCommand.self, EventsCommand.self, StoreCommand.self,
      CacheCommand.self, InspectCommand.self, StatusCommand.self, CoordinatorCommand.self, VolumeProcessCommand.self,
    ])

  /// Each segment with blocks here is an open file: the soft limit of a login shell, 1024, is 32 GiB of them.
  private static func raiseFileLimit() {
    var limit = rlimit()
    let which = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard getrlimit(which, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
    limit.rlim_cur = limit.rlim_max
    // What is not allowed leaves things as they are.
    _ = setrlimit(which, &limit)
  }

  /// Ends the process at once, without what libraries do at an exit: threads of a volume that still run crashed in it. What was
  /// acknowledged is on disk, as after a kill.
  private static func leave(_ code: Int32) -> Never {
    fflush(nil)
    _exit(code)
  }

  static func main() async {
    signal(SIGPIPE, SIG_IGN)
    raiseFileLimit()
    do {
      var command = try parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch let error as ElideError {
      Output.note("elide: \(error.message)")
      leave(error.exitCode)
    } catch let code as ExitCode {
      leave(code.rawValue)
    } catch {
      let code = exitCode(for: error).rawValue
      let text = fullMessage(for: error)
      if code == 0 { print(text) } else { Output.note(text) }
      // The parser's own code for bad usage is 64; ours is 2.
      leave(code == 64 ? 2 : code)
    }
  }
}

extension GlobalOptions {
  /// The engine on this host. `createStore`: whether a missing store directory is made.
  func engine(createStore: Bool = true, settings: HostSettings = HostSettings()) throws -> Engine {
    try Engine.onHost(dataDirectory: dataDirectory, store: storeURL, createStore: createStore, settings: settings)
  }
}

/// Turns what the engine says of its progress into a progress line; ends long work at Ctrl-C.
final class ProgressReporter {
  private var line: ProgressLine?
  private var step: WorkProgress.Step?

  init() { Interrupt.install() }

  func handle(_ progress: WorkProgress) -> Bool {
    if progress.step != step {
      line?.end()
      line = ProgressLine(progress.step.rawValue, total: progress.total)
      step = progress.step
    }
    line?.update(progress.done)
    return !Interrupt.isSet
  }
  func end() { line?.end() }
}
