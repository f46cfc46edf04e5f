import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

struct PinCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pin", abstract: "Keep points of a name, and see who keeps which.",
    discussion: "Example:\n  elide pin list debian", subcommands: [PinAdd.self, PinList.self, PinRemove.self])
}

struct PinAdd: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add", abstract: "Keep a published point until a time, or until the pin is removed.",
    discussion: "Examples:\n  elide pin add vm1 before-upgrade\n  elide pin add vm1 120 --until 2026-12-31T00:00:00.000Z")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Argument(help: "A snapshot's label, or the number of a published entry.") var point: String
  @Option(name: .long, help: ArgumentHelp("When it ends.", valueName: "time")) var until: String?
  func run() throws { try lifecycle.run(.pin(name: name, point: point, until: until)) }
}

struct PinRemove: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Remove a pin. A fork's pin stays as long as the fork may be.",
    discussion: "Example:\n  elide pin remove vm1 01J9ZC4M2Q8RZ5T0V3W6X7Y8Z9")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Argument(help: "The pin, as 'elide pin list' shows it.") var pin: String
  func run() throws { try lifecycle.run(.unpin(name: name, pin: pin)) }
}

struct PinList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List what keeps points of a name.", discussion: "Example:\n  elide pin list vm1 --json")
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Argument(help: "Name.") var name: String

  private struct Document: Encodable { let pins: [PinJSON] }

  func run() throws {
    let log = try options.engine(createStore: false).names.log(name)
    try log.refresh()
    if log.state.isFree { throw ElideError(.notFound, log.state.sentence) }
    let pins = log.state.holdings.pins.map(PinJSON.init)
    if json.json { return try Output.json(Document(pins: pins)) }
    Output.table(
      ["PIN", "BY", "HOST", "VOLUME", "ENTRY", "UNTIL"],
      pins.map { [$0.pin, $0.by, String($0.host.prefix(12)), $0.volume, "\($0.seq)", $0.slot != nil ? "fork" : $0.until ?? "-"] })
  }
}

struct PinJSON: Encodable {
  let pin: String
  let by: String
  let host: String
  let volume: String
  let seq: UInt64
  /// Of a fork: the slot of the log of `by`.
  let slot: UInt64?
  let until: String?

  init(_ p: Pin) {
    pin = p.id.description
    by = p.by
    host = p.host
    volume = p.cut.volume.description
    seq = p.cut.seq
    switch p.hold {
    case .fork(let n): (slot, until) = (n, nil)
    case .until(let time): (slot, until) = (nil, time)
    }
  }
}
