import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// Whose history: a name's log, which is in the store, or one volume's journal. An auditor has a store, or a copy of one, and no
/// data directory; where there is one, its journals and what its host has seen are used too.
struct AuditOptions: ParsableArguments {
  @OptionGroup var options: GlobalOptions
  @Argument(help: "A name, or a volume's ULID.") var target: String
  @Flag(name: .long, help: "Of a volume: read the store's pages, also where this host has the journal.") var fromStore = false
  @Option(name: .long, help: ArgumentHelp("A volume's public key, 64 hex digits: makes signatures anchored.", valueName: "hex"))
  var key: String?

  func place() throws -> AuditPlace {
    let world = World.host()
    let directory = DataDirectory(root: options.dataDirectory)
    let store = try Engine.openStore(options.storeURL, world, create: false)
    let source = try VolumeSource(target)
    guard source.point == .newest else {
      throw ElideError(.usage, "'\(target)': name the volume alone, and the entry with --seq")
    }
    var place = AuditPlace(world: world, directory: directory, store: store, forcesStore: fromStore)
    switch source.base {
    case .volume(let volume): place.target = .volume(volume)
    case .name(let name):
      let hasLog = try NameReader(name, store: store).slot(0) != nil || !NameHistory(name, store: store).isEmpty
      // Volumes that were made before names were logs have a name in their data directory alone.
      place.target = hasLog ? .name(name) : .volume(try local(name, directory))
    }
    if let key {
      guard let bytes = decodeHexadecimal(key), bytes.count == 32 else { throw ElideError(.usage, "--key takes 64 hex digits") }
      if case .volume(let volume) = place.target { place.trusted[volume] = bytes }
    }
    return place
  }

  private func local(_ name: String, _ directory: DataDirectory) throws -> ULID {
    guard World.host().files.exists(directory.names) else {
      throw ElideError(.notFound, "there is no name '\(name)' in \(options.storeURL)")
    }
    return try options.engine(createStore: false).volume(.name(name))
  }
}

/// Where an audit reads.
struct AuditPlace {
  enum Target {
    case name(String)
    case volume(ULID)
  }
  let world: World
  let directory: DataDirectory
  let store: any Store
  let forcesStore: Bool
  var target = Target.name("")
  /// Public keys of volumes that the caller, or a name's log, vouches for.
  var trusted: [ULID: [UInt8]] = [:]

  var auditor: Auditor {
    let (directory, files) = (directory, world.files)
    let journals = LMDBJournals(files: world.files)
    return Auditor(store: store, trusted: trusted) { (volume) throws(ElideError) in
      let place = directory.volume(volume)
      guard files.exists(place.journal) else { return nil }
      do throws(JournalError) { return try journals.open(place, write: false) } catch { throw ElideError(error, volume) }
    }
  }

  func source(_ volume: ULID) -> HistorySource {
    world.files.exists(directory.volume(volume).journal) && !forcesStore ? .local : .store
  }

  /// A name's history, and the keys that it gives its volumes.
  mutating func history(_ name: String) throws -> NameHistory {
    let history = try NameHistory(name, store: store)
    for episode in history.episodes { trusted[episode.episode.volume] = episode.episode.key }
    return history
  }

  /// The volume meant: the one that was given, or a name's newest.
  mutating func volume() throws -> ULID {
    switch target {
    case .volume(let volume): return volume
    case .name(let name):
      guard let last = try history(name).episodes.last else { throw ElideError(.notFound, "'\(name)' has no volume") }
      return last.episode.volume
    }
  }

  func timeline(joining: Bool) throws -> Timeline {
    switch target {
    case .name(let name): try Timeline(name: name, store: store, volumes: joining)
    case .volume(let volume): try Timeline(volume: volume, auditor: auditor, from: source(volume))
    }
  }

  /// What this host has seen of names; nothing where there is no data directory, or its rows are of another version.
  var seen: [NameWitnessed] {
    guard world.files.exists(directory.names), let rows = try? LMDBEnvironment(path: directory.names, readOnly: true),
      let heads = try? NameWitness.heads(LMDBNameRows(rows))
    else { return [] }
    return heads.map { NameWitnessed(name: $0.name, seq: $0.head.seq, says: .hash($0.head.hash), by: "this host") }
  }
}
