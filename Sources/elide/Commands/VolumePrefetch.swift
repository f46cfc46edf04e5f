import ArgumentParser
import ElideEngine
import ElideIO

struct VolumePrefetch: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prefetch", abstract: "Bring all of a volume into this host's cache.",
    discussion: """
      Examples:
        elide volume prefetch vm1
        elide volume prefetch debian@installed

      Fetches what the newest published cut (or the snapshot) has and this host's cache lacks, so that reading it needs no
      store. The volume may be served meanwhile, here or elsewhere. Interrupted, it keeps what has come; the next time goes on.
      """)
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Argument(help: "Name or ULID, with @label or :seq for a point in the past.") var volume: String

  private struct Document: Encodable {
    let volume: String
    let mappedBytes: UInt64
    let fetchedBytes: UInt64
  }

  func run() throws {
    Interrupt.install()
    var line: ProgressLine?
    defer { line?.end() }
    let engine = try options.engine(createStore: false)
    let (mapped, fetched) = try engine.prefetch(VolumeSource(volume)) { done, total in
      if line == nil { line = ProgressLine("prefetching", total: total) }
      line?.update(done)
      return !Interrupt.isSet
    }
    line?.end()
    if json.json { return try Output.json(Document(volume: volume, mappedBytes: mapped, fetchedBytes: fetched)) }
    print("\(volume): \(ByteSize.text(mapped)) are local; \(ByteSize.text(fetched)) were fetched")
  }
}
