import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

struct StoreFsck: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fsck", abstract: "Check a whole store against its logs.",
    discussion: """
      Example:
        elide store fsck --store file:///srv/elide
        elide store fsck --deep --json

      Verifies every name with its volumes; lists objects that no log names, and names that were left in the middle of something,
      with the command that leads on. Lists the whole store; deletes nothing. An orphan may be the work of a host that is writing
      now, or what a lost one did not publish. Exit code 4 when something is missing or wrong; orphans are no fault.
      """)
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Flag(name: .long, help: "Read and check every body and map too.") var deep = false

  private struct Orphan: Encodable {
    let key: String
    let bytes: UInt64
    let ageMilliseconds: UInt64?
    let why: String
  }
  private struct Unfinished: Encodable {
    let name: String
    let phase: String
    let since: String
    let ageMilliseconds: UInt64?
    let owner: String?
    let command: String
  }
  private struct Document: Encodable {
    let store: String
    let names: UInt64
    let volumes: UInt64
    let objects: UInt64
    let bytes: UInt64
    let sound: Bool
    let faults: [VerifyJSON.Fault]
    let faultsLeftOff: UInt64
    let orphans: [Orphan]
    let unfinished: [Unfinished]
  }

  func run() throws {
    let world = World.host()
    let store = try Engine.openStore(options.storeURL, world, create: false)
    let progress = ProgressReporter()
    var check = StoreCheck(store, deep: deep)
    let r = try check.run(progress: progress.handle)
    progress.end()
    let now = world.clock.wallMilliseconds()
    func age(_ since: UInt64?) -> UInt64? { since.map { now > $0 ? now - $0 : 0 } }
    let document = Document(
      store: store.url, names: r.names, volumes: r.volumes, objects: r.objects, bytes: r.bytes, sound: r.isSound,
      faults: r.faults.map(VerifyJSON.Fault.init), faultsLeftOff: r.faultsLeftOff,
      orphans: r.orphans.map { Orphan(key: $0.key, bytes: $0.bytes, ageMilliseconds: age($0.notBefore), why: $0.why) },
      unfinished: r.unfinished.map {
        Unfinished(
          name: $0.name, phase: $0.phase.rawValue, since: $0.since, ageMilliseconds: age(Timestamp.milliseconds($0.since)),
          owner: $0.owner, command: $0.command)
      })
    if json.json { try Output.json(document) } else { text(document) }
    if !r.isSound { throw ExitCode(4) }
  }

  private func text(_ d: Document) {
    print("\(d.store): checked \(d.names) names, \(d.volumes) volumes, \(d.objects) objects, \(ByteSize.text(d.bytes))")
    for f in d.faults { print("FAULT \(f.what) at \(f.place): \(f.detail)") }
    if d.faultsLeftOff > 0 { print("and \(d.faultsLeftOff) more") }
    for u in d.unfinished {
      let age = u.ageMilliseconds.map { ", for \(StatusPrinter.duration($0))" } ?? ""
      print("unfinished: '\(u.name)' is \(u.phase) since \(u.since)\(age); lead on with '\(u.command)'")
    }
    if !d.orphans.isEmpty {
      Output.table(
        ["ORPHAN", "BYTES", "AT MOST OLD", "WHY"],
        d.orphans.map { [$0.key, ByteSize.text($0.bytes), $0.ageMilliseconds.map(StatusPrinter.duration) ?? "-", $0.why] })
    }
    print(d.sound ? "sound" : "NOT SOUND: the first bad object is \(d.faults.first?.place ?? "")")
  }
}
