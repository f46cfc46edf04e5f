import ArgumentParser
import ElideEngine
import ElideIO

struct CacheCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cache", abstract: "This host's cache of segments.",
    discussion: "Example:\n  elide cache status",
    subcommands: [CacheStatus.self, CacheTrim.self])
}

struct CacheStatus: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "What the cache holds, by volume.", discussion: "Example:\n  elide cache status --json")
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption

  private struct Row: Encodable {
    let volume: String
    let segments: Int
    let bytes: UInt64
  }
  private struct Document: Encodable { let volumes: [Row] }

  func run() throws {
    let usage = try options.engine(createStore: false).cache.usage()
    let rows = Dictionary(grouping: usage, by: \.volume).sorted { $0.key < $1.key }.map { volume, segments in
      Row(volume: volume.description, segments: segments.count, bytes: segments.reduce(0) { $0 + $1.total })
    }
    if json.json { return try Output.json(Document(volumes: rows)) }
    Output.table(["VOLUME", "SEGMENTS", "ON DISK"], rows.map { [$0.volume, "\($0.segments)", ByteSize.text($0.bytes)] })
  }
}

struct CacheTrim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trim", abstract: "Evict segments until the cache holds at most so much.",
    discussion: "Example:\n  elide cache trim --to 10G\n\nWhat is not in the store yet is never evicted.")
  @OptionGroup var options: GlobalOptions
  @Option(name: .long, help: "Bytes to keep at most.") var to: ByteSize

  func run() throws {
    let freed = try options.engine(createStore: false).cache.trim(to: to.bytes)
    print("\(ByteSize.text(freed)) freed")
  }
}
