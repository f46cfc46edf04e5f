import ArgumentParser
import ElideEngine
import ElideIO

struct SnapshotCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot", abstract: "Take and list snapshots.",
    discussion: "Example:\n  elide snapshot create vm1 --label before-upgrade",
    subcommands: [SnapshotCreate.self, SnapshotList.self])
}

struct SnapshotCreate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create", abstract: "Keep a volume as it is now; online.",
    discussion: """
      Example:
        elide snapshot create vm1 --label before-upgrade

      Returns when the snapshot is published: another host can open or fork it. The guest goes on meanwhile.
      """)
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Argument(help: "Name or ULID.") var volume: String
  @Option(name: .long, help: "A letter, then letters, digits and . _ -.") var label: String

  func run() throws {
    let engine = try options.engine()
    let source = try VolumeSource(volume)
    if let fault = SnapshotLabel.fault(label) { throw ElideError(.usage, "the label '\(label)' \(fault)") }
    let found = try engine.find(source.base, fresh: false)
    let id = found.volume
    if try Serving.status(id, engine) == nil { try engine.requireWritable(source.base) }
    let made = try Serving.snapshot(id, label, engine) ?? SnapshotJSON(engine.createSnapshot(id, label: label))
    if json.json { return try Output.json(made) }
    print("\(volume)@\(label): snapshot \(made.snapshot) at entry \(made.point.map(String.init) ?? "-")")
  }
}

struct SnapshotList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List a volume's snapshots.", discussion: "Example:\n  elide snapshot list vm1 --json")
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Argument(help: "Name or ULID.") var volume: String

  private struct Document: Encodable { let snapshots: [SnapshotJSON] }

  func run() throws {
    let engine = try options.engine(createStore: false)
    let id = try engine.volume(VolumeSource(volume).base)
    let status = try Serving.status(id, engine) ?? StatusJSON(engine.closedStatus(id))
    if json.json { return try Output.json(Document(snapshots: status.snapshots)) }
    Output.table(
      ["LABEL", "SNAPSHOT", "POINT", "SIZE", "PUBLISHED"],
      status.snapshots.map {
        [$0.label, $0.snapshot, $0.point.map(String.init) ?? "-", ByteSize.text($0.size), $0.published ? "yes" : "no"]
      })
  }
}
