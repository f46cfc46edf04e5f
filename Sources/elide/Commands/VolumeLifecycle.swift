import ArgumentParser
import ElideEngine
import ElideIO

// Commands by which a name changes. Each is one `LifecycleCommand`.

struct VolumeStart: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "start", abstract: "Serve a name, by the coordinator of this host.",
    discussion: "Examples:\n  elide volume start vm1\n  elide volume start vm1 --claim")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Flag(name: .long, help: "Claim it first when nobody owns it.") var claim = false
  func run() throws { try lifecycle.run(.start(name: name, claim: claim)) }
}

struct VolumeStop: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stop", abstract: "End service; everything is in the store when it returns.",
    discussion: "Examples:\n  elide volume stop vm1\n  elide volume stop vm1 --release")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Flag(name: .long, help: "Also while clients are connected.") var force = false
  @Flag(name: .long, help: "And release it, so that any host may claim it.") var release = false
  func run() throws { try lifecycle.run(.stop(name: name, force: force, release: release)) }
}

struct VolumeRelease: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "release", abstract: "Give a name up, so that any host may claim it; or, by force, take it from its owner.",
    discussion: """
      Examples:
        elide volume release vm1
        elide volume release vm1 --force --dry-run
        elide volume release vm1 --force --yes --expect HOST@EPOCH --reason 'host is dead'

      --force fences the owner and makes a volume of this host from the last cut in the store. What the owner had not published
      is not in it; its host offers that as a fork when it comes back.
      """)
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Flag(name: .long, help: "Take it from its owner.") var force = false
  @Option(
    name: .long, help: ArgumentHelp("Whom the force is meant for; it lands there or not at all.", valueName: "host[@epoch]"))
  var expect: String?
  @Flag(name: .customLong("self"), help: "This host owns it, and its local volume is lost.") var isSelf = false
  @Flag(name: .long, help: "Go back further when the newest page cannot be read; the log says what is lost.") var acceptLoss =
    false
  @Flag(name: .long, help: "Do not ask for the name to be typed.") var yes = false

  func validate() throws {
    if !force, expect != nil || isSelf || acceptLoss {
      throw ValidationError("--expect, --self and --accept-loss are of --force.")
    }
    if force, yes, expect == nil, !lifecycle.dryRun { throw ValidationError("--yes needs --expect HOST[@EPOCH].") }
  }

  func run() throws {
    guard force else { return try lifecycle.run(.release(name: name)) }
    let command = LifecycleCommand.forceRelease(name: name, expect: expect, isSelf: isSelf, acceptsLoss: acceptLoss)
    if !yes, !lifecycle.dryRun {
      var rehearsal = lifecycle
      rehearsal.dryRun = true
      Output.note(try rehearsal.perform(command).message)
    }
    try lifecycle.confirm(name, yes, "'\(name)' is taken from its owner")
    try lifecycle.run(command)
  }
}

struct VolumeClaim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "claim", abstract: "Own a name that was released, going on at the cut that was released.",
    discussion: "Example:\n  elide volume claim vm1")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  func run() throws { try lifecycle.run(.claim(name: name, serve: false)) }
}

struct VolumeRename: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rename", abstract: "Give a stopped volume another name.", discussion: "Example:\n  elide volume rename vm1 vm2")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Argument(help: "New name, which must be free.") var to: String
  func run() throws { try lifecycle.run(.rename(name: name, to: to)) }
}

struct VolumeResize: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resize", abstract: "Grow a volume, served or not.", discussion: "Example:\n  elide volume resize vm1 20G")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name, or the ULID of a volume that has none.") var volume: String
  @Argument(help: "New size, at least the present one.") var size: ByteSize

  func run() throws {
    guard case .volume(let id) = try VolumeSource(volume).base else {
      return try lifecycle.run(.resize(name: volume, size: size.bytes))
    }
    let engine = try lifecycle.options.engine()
    if let name = try engine.names.name(of: id) { return try lifecycle.run(.resize(name: name.name, size: size.bytes)) }
    if try Serving.resize(id, size.bytes, engine) == false { _ = try engine.resize(id, to: size.bytes) }
    print("\(volume): \(ByteSize.text(size.bytes))")
  }
}

struct VolumeRemove: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Remove this host's copy of a name that it does not own; the store keeps all.",
    discussion: "Example:\n  elide volume remove vm1")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  func run() throws { try lifecycle.run(.remove(name: name)) }
}

struct VolumePurge: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "purge", abstract: "Delete a name's data everywhere. There is no way back.",
    discussion: """
      Examples:
        elide volume purge vm1 --dry-run
        elide volume purge vm1 --yes

      The name must be stopped, or an image, and nothing may hold it (see 'elide pin list'). Its history stays in the store.
      """)
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Flag(name: .long, help: "Do not ask for the name to be typed.") var yes = false
  func run() throws {
    try lifecycle.confirm(name, yes, "everything that '\(name)' holds is deleted from the store")
    try lifecycle.run(.purge(name: name))
  }
}

struct VolumeCancel: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cancel", abstract: "Give up what is under way for a name: an attempt that is not decided, an import.",
    discussion: "Example:\n  elide volume cancel vm1")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  func run() throws { try lifecycle.run(.cancel(name: name)) }
}

struct VolumeNote: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "note", abstract: "Put a note for people into a name's log.",
    discussion: "Example:\n  elide volume note vm1 'moved to rack 7'")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Argument(help: "What to note.") var text: String
  func run() throws { try lifecycle.run(.note(name: name, text: text)) }
}

struct VolumeDiscardDisplaced: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "discard-displaced", abstract: "Give up a volume that was taken from its host and is kept for it.",
    discussion: "Example:\n  elide volume discard-displaced vm1 01J9ZC4M2Q8RZ5T0V3W6X7Y8Z9")
  @OptionGroup var lifecycle: LifecycleOptions
  @Argument(help: "Name.") var name: String
  @Argument(help: "ULID of the displaced volume.") var volume: String
  func run() throws { try lifecycle.run(.discardDisplaced(name: name, volume: volume)) }
}
