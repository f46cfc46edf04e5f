import ArgumentParser
import ElideEngine
import ElideIO

struct StoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "store", abstract: "Look after the object store.",
    discussion: "Example:\n  elide store stat --store file:///srv/elide",
    subcommands: [StoreInit.self, StoreProbeCommand.self, StoreStat.self, StoreFsck.self, StoreCopy.self])
}

struct StoreInit: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Make a store; says which one when it exists.",
    discussion: "Example:\n  elide store init --store file:///srv/elide")
  @OptionGroup var options: GlobalOptions

  func run() throws {
    let engine = try options.engine()
    let document = try StoreFormat.readOrMake(engine.store, engine.world)
    print("\(options.storeURL): store \(document.store)")
  }
}

struct StoreStat: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stat", abstract: "Count what a store holds, by kind and volume.",
    discussion: "Example:\n  elide store stat --json\n\nLists the whole store.")
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption

  private struct Row: Encodable {
    var volume: String
    var segments = 0
    var segmentBytes: UInt64 = 0
    var pages = 0
    var pageBytes: UInt64 = 0
    var maps = 0
    var mapBytes: UInt64 = 0
  }
  private struct Document: Encodable {
    let store: String
    let volumes: [Row]
  }

  func run() throws {
    let store = try options.engine(createStore: false).store
    var rows: [String: Row] = [:]
    var after: String?
    while true {
      let page: [StoredObject]
      do throws(StoreError) { page = try store.list("volumes/", after: after, limit: 1000) } catch { throw ElideError(error) }
      guard let last = page.last else { break }
      for object in page { count(object, into: &rows) }
      after = last.key
    }
    let volumes = rows.values.sorted { $0.volume < $1.volume }
    if json.json { return try Output.json(Document(store: store.url, volumes: volumes)) }
    Output.table(
      ["VOLUME", "SEGMENTS", "BYTES", "PAGES", "BYTES", "MAPS", "BYTES"],
      volumes.map {
        [
          $0.volume, "\($0.segments)", ByteSize.text($0.segmentBytes), "\($0.pages)", ByteSize.text($0.pageBytes), "\($0.maps)",
          ByteSize.text($0.mapBytes),
        ]
      })
  }

  private func count(_ object: StoredObject, into rows: inout [String: Row]) {
    let parts = object.key.split(separator: "/").map(String.init)
    guard parts.count >= 3 else { return }
    var row = rows[parts[1]] ?? Row(volume: parts[1])
    switch parts[2] {
    case "segments":
      row.segments += 1
      row.segmentBytes += object.size
    case "journal":
      row.pages += 1
      row.pageBytes += object.size
    case "maps":
      row.maps += 1
      row.mapBytes += object.size
    default: break
    }
    rows[parts[1]] = row
  }
}

struct StoreCopy: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "copy", abstract: "Copy a whole store, for an auditor or a backup.",
    discussion: """
      Example:
        elide store copy file:///mnt/audit --store file:///srv/elide

      Every object is copied, journals last, so that the copy never names what it lacks. Run again, it copies what is new.
      """)
  @OptionGroup var options: GlobalOptions
  @Argument(help: "Where to, file:///path.") var destination: String

  func run() throws {
    let engine = try options.engine(createStore: false)
    let progress = ProgressReporter()
    let target = try Engine.openStore(destination, engine.world, create: true)
    try engine.copyStore(to: target, progress: progress.handle)
    progress.end()
    print("\(engine.store.url) copied to \(destination)")
  }
}
