import ArgumentParser
import ElideEngine

struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "This host at a glance, without the network.",
    discussion: "Example:\n  elide status --json")
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption

  private struct Row: Encodable {
    let name: String?
    let status: StatusJSON
  }
  private struct Document: Encodable {
    let host: String
    let dataDirectory: String
    let store: String
    let volumes: [Row]
  }

  func run() throws {
    let engine = try options.engine(createStore: false)
    var rows: [Row] = []
    for volume in try engine.listVolumes() {
      let status = try Serving.status(volume.volume, engine) ?? StatusJSON(engine.closedStatus(volume.volume))
      rows.append(Row(name: volume.name, status: status))
    }
    if json.json {
      return try Output.json(
        Document(host: engine.host.id, dataDirectory: engine.directory.root, store: engine.store.url, volumes: rows))
    }
    Output.fields([("host", engine.host.id), ("data", engine.directory.root), ("store", engine.store.url)])
    print("")
    Output.table(
      ["NAME", "STATE", "SIZE", "PUBLISHED", "NOT IN STORE", "AGE"],
      rows.map { row in
        [
          row.name ?? row.status.volume, row.status.state, ByteSize.text(row.status.size),
          row.status.cut.map { "entry \($0)" } ?? "-", ByteSize.text(row.status.unsealedBytes + row.status.unsentBytes),
          StatusPrinter.duration(row.status.exposureMilliseconds),
        ]
      })
  }
}
