import ElideEvents
import ElideIO
import ElideProjections
import Glibc

/// Where the engine gets a volume's journal: LMDB in production, simulated in tests.
package protocol JournalStores: AnyObject, Sendable {
  /// Opens the journal of the volume in `directory`; with `write` makes it if absent (the caller holds the volume's lock).
  func open(_ directory: VolumeDirectory, write: Bool) throws(JournalError) -> any JournalStore
}

/// Journals in LMDB.
package final class LMDBJournals: JournalStores {
  private let files: any Files
  package init(files: any Files) { self.files = files }
  package func open(_ directory: VolumeDirectory, write: Bool) throws(JournalError) -> any JournalStore {
    try LMDBJournalStore(volumeDirectory: directory.root, files: files, mode: write ? .write : .read)
  }
}

/// Everything that Elide does, for the command line, the control sockets and the tests: one data directory, one store.
///
/// A facade over the parts in `Open`, `Keeper`, `Import` and `Replay`. Its calls block; make them from any thread that may
/// wait. Errors are `ElideError`s, whose kind is the exit code. Nothing is cached between calls but the identity of the
/// host, so several processes may work on one data directory; a volume is served by one of them at a time.
package final class Engine: Sendable {
  package let world: World
  package let directory: DataDirectory
  package let host: HostIdentity
  package let store: WatchedStore
  /// Who this process is in logs: minted anew with each engine.
  package let incarnation: ULID
  package let names: HostNames
  package let journals: any JournalStores
  package let executor: any Executor
  package let configuration: KeeperConfiguration
  /// How calls that drive a keeper wait.
  package let waiter: any Waiter
  /// How often fetches are tried again, and how they wait.
  package let retry: RetryPolicy
  /// The host's block cache.
  package let cache: SegmentCache
  /// What is kept of the disk for journals.
  let reserve: SpaceReserve

  /// Opens a data directory, making it and the host's identity on first use. The store is not touched.
  package init(
    world: World, directory: DataDirectory, store: any Store, names rows: any NameRows, oldNames: (any NameTable)? = nil,
    journals: any JournalStores, executor: any Executor, configuration: KeeperConfiguration = KeeperConfiguration(),
    waiter: any Waiter = HostWaiter(), retry: RetryPolicy = RetryPolicy()
  ) throws(ElideError) {
    self.world = world
    self.directory = directory
    self.store = WatchedStore(store, clock: world.clock)
    self.journals = journals
    self.executor = executor
    self.configuration = configuration
    self.waiter = waiter
    self.retry = retry
    host = try HostIdentity(world, directory)
    incarnation = ULID(clock: world.clock, random: world.random)
    names = HostNames(
      store: self.store, rows: rows, old: oldNames, author: NameAuthor(key: host.key, incarnation: incarnation), world: world,
      retry: retry)
    cache = SegmentCache(root: directory.cache, files: world.files)
    reserve = SpaceReserve(path: directory.reserve, files: world.files, bytes: configuration.reserveBytes)
  }

  /// The engine on this machine. `store` is a URL as people write it; nil means `<data-dir>/store`. With `createStore`
  /// false a store directory that does not exist is an error (for commands that only read). What `settings` says goes before
  /// the directory's `elide.toml`.
  package static func onHost(
    dataDirectory: String, store url: String? = nil, createStore: Bool = true,
    configuration: KeeperConfiguration = KeeperConfiguration(), settings: HostSettings = HostSettings()
  ) throws(ElideError) -> Engine {
    let world = World.host()
    let directory = DataDirectory(root: dataDirectory)
    do throws(Errno) { try world.files.makeDirectory(dataDirectory) } catch {
      throw ElideError(error, doing: "make the data directory \(dataDirectory)")
    }
    let store = try openStore(url ?? "file://\(absolute(dataDirectory))/store", world, create: createStore)
    let file = try HostSettings(world.files, dataDirectory: dataDirectory)
    var configuration = configuration
    file.apply(to: &configuration)
    settings.apply(to: &configuration)
    let executor: ThreadExecutor
    do throws(Errno) {
      executor = try ThreadExecutor(
        fetchThreads: settings.fetchThreads ?? file.fetchThreads ?? 8,
        aheadThreads: max(1, configuration.front.readAhead.fetches))
    } catch { throw ElideError(error, doing: "start threads") }
    let names = try LMDBNameTable.environment(directory.names, world.files)
    let engine = try Engine(
      world: world, directory: directory, store: store, names: LMDBNameRows(names), oldNames: LMDBNameTable(names),
      journals: LMDBJournals(files: world.files), executor: executor, configuration: configuration)
    if let budget = settings.cacheBytes ?? file.cacheBytes { engine.cache.budget = budget }
    return engine
  }

  /// Opens a store by its URL.
  package static func openStore(_ url: String, _ world: World, create: Bool) throws(ElideError) -> any Store {
    let parsed: StoreURL
    do { parsed = try StoreURL(url) } catch { throw ElideError(.usage, error.description) }
    do { return try parsed.open(world: world, create: create) } catch {
      // Nothing but the URL is concerned, and the detail names it.
      if case .refused("", let detail) = error { throw ElideError(.storeRefused, detail) }
      throw ElideError(error)
    }
  }

  private static func absolute(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    guard let here = getcwd(nil, 0) else { return path }
    defer { free(here) }
    return path == "." ? String(cString: here) : "\(String(cString: here))/\(path)"
  }
}
