import ArgumentParser
import ElideEngine
import ElideIO

struct VolumeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "volume", abstract: "Make, list and look after volumes.",
    discussion: "Example:\n  elide volume create vm1 --size 10G",
    subcommands: [
      VolumeCreate.self, VolumeImport.self, VolumeList.self, VolumeStatusCommand.self, VolumeVerify.self, VolumeResize.self,
      VolumeLs.self, VolumePrefetch.self, VolumeStart.self, VolumeStop.self, VolumeRelease.self, VolumeClaim.self,
      VolumeRename.self, VolumeRemove.self, VolumePurge.self, VolumeCancel.self, VolumeNote.self, VolumeDiscardDisplaced.self,
    ])
}

struct VolumeCreate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create", abstract: "Make an empty volume, or a fork of one.",
    discussion: """
      Examples:
        elide volume create vm1 --size 10G
        elide volume create vm2 --from debian
        elide volume create vm3 --from vm1@before-upgrade

      A fork copies no data. Its source is a name, a volume's ULID, either with @label for a snapshot, or :seq for a
      published cut.
      """)
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name of the new volume.") var name: String
  @Option(name: .long, help: "Size of an empty volume, such as 10G; a multiple of 512 bytes.") var size: ByteSize?
  @Option(name: .long, help: ArgumentHelp("What to fork.", valueName: "source")) var from: String?

  func validate() throws {
    if (size == nil) == (from == nil) { throw ValidationError("Say either --size, or --from.") }
  }

  func run() throws { try lifecycle.make(.create(name: name, size: size?.bytes, from: from)) }
}

struct VolumeImport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import", abstract: "Make a volume from a disk image.",
    discussion: """
      Example:
        elide volume import debian ext4:root.img

      The source is raw:FILE or ext4:FILE (which must hold an ext4 file system). When this returns the store has all of
      it, and any host can open or fork it. Interrupted, it leaves nothing behind.
      """)
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name of the new volume.") var name: String
  @Argument(help: "raw:FILE or ext4:FILE.") var source: String

  func run() throws {
    let parts = source.split(separator: ":", maxSplits: 1).map(String.init)
    guard parts.count == 2, ["raw", "ext4"].contains(parts[0]) else {
      throw ElideError(.usage, "'\(source)': the source is raw:FILE or ext4:FILE")
    }
    let path = absolute(parts[1])
    if parts[0] == "ext4" { try Ext4Image.check(path) }
    try lifecycle.make(.importImage(name: name, source: "\(parts[0]):\(path)"))
  }
}

struct VolumeList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the volumes of this host.", discussion: "Example:\n  elide volume list --json")
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption

  private struct Document: Encodable { let volumes: [VolumeJSON] }

  func run() throws {
    let volumes = try options.engine().listVolumes()
    if json.json { return try Output.json(Document(volumes: volumes.map(VolumeJSON.init))) }
    Output.table(
      ["NAME", "VOLUME", "SIZE", "KIND", "STATE", "PARENT"],
      volumes.map { v in
        [
          v.name ?? "-", v.volume.description, ByteSize.text(v.size), v.isImage ? "image" : v.isWritable ? "volume" : "read-only",
          v.phase ?? "-", v.parent.map { "\($0.volume):\($0.seq)" } ?? "-",
        ]
      })
  }
}

struct VolumeStatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "What a volume holds, and what of it is not in the store yet.",
    discussion: "Example:\n  elide volume status vm1")
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Argument(help: "Name or ULID.") var volume: String

  func run() throws {
    let engine = try options.engine(createStore: false)
    let id = try engine.volume(VolumeSource(volume).base)
    let status = try Serving.status(id, engine) ?? StatusJSON(engine.closedStatus(id))
    if json.json { return try Output.json(status) }
    StatusPrinter.print(status, name: volume)
  }
}

struct VolumeVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Read every block of a volume and check it against what was sealed.",
    discussion: """
      Examples:
        elide volume verify vm1
        elide volume verify vm1@before-upgrade --json

      Reads from the cache where a block is local, from the store otherwise. Exit code 4 when something is wrong.
      """)
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Argument(help: "Name or ULID, with @label for a snapshot.") var volume: String

  func run() throws {
    let progress = ProgressReporter()
    let report = try options.engine(createStore: false).verifyVolume(VolumeSource(volume), progress: progress.handle)
    progress.end()
    try ReportPrinter.finish(report, json: json.json)
  }
}
