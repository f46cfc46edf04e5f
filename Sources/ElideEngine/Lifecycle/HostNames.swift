import ElideEvents
import ElideIO
import ElideProjections

/// The names that this host knows: its rows of them, and their logs as this process appends to them.
///
/// Logs are in the store, and any host can read each; the rows are what was read, for those who must not wait for a store. Safe
/// on any thread and beside other processes of the data directory: each call opens the log anew from the rows.
package final class HostNames: Sendable {
  package let rows: any NameRows
  /// Names of before there were logs; nil where there never were any.
  package let old: (any NameTable)?
  package let author: NameAuthor
  private let store: any Store
  private let world: World
  private let retry: RetryPolicy

  package init(
    store: any Store, rows: any NameRows, old: (any NameTable)? = nil, author: NameAuthor, world: World, retry: RetryPolicy
  ) {
    self.store = store
    self.rows = rows
    self.old = old
    self.author = author
    self.world = world
    self.retry = retry
  }

  /// The log of a name, as this process reads and appends to it. For one thread.
  package func log(_ name: String) throws(ElideError) -> NameLog {
    let log = try NameLog(name, store: store, rows: rows, author: author, clock: world.clock, random: world.random)
    let retry = retry
    log.pause = { retry.pauseBefore($0) }
    return log
  }

  /// What this host knows of a name without asking the store; nil when it has read nothing of its log.
  package func known(_ name: String) throws(ElideError) -> NameState? {
    guard VolumeName.fault(name) == nil, let bytes = try rows.get(.folds, NameRowKey.name(name)),
      let record = try? NameRecord.decode(bytes, name: name), record.fold.head != nil
    else { return nil }
    return record.fold.state
  }

  /// All names that this host has read of, in byte order, without asking the store.
  package func all() throws(ElideError) -> [NameState] {
    var out: [NameState] = []
    for row in try rows.scan(.folds, prefix: []) {
      let name = String(decoding: row.key, as: UTF8.self)
      if let record = try? NameRecord.decode(row.value, name: name), record.fold.head != nil { out.append(record.fold.state) }
    }
    return out
  }

  /// The name under which `volume` was granted, as far as this host has read; a renamed name's new one is preferred.
  package func name(of volume: ULID) throws(ElideError) -> NameState? {
    let granted = try all().filter { $0.holdings.episodes.contains { $0.volume == volume } }
    return granted.first { $0.phase != .renamed } ?? granted.first
  }

  /// All names that have a log in the store, in byte order, read from there: for what is asked seldom.
  package func inStore() throws(ElideError) -> [String] {
    let prefix = "events/"
    var out: [String] = []
    var after: String?
    while true {
      let page: [StoredObject]
      do throws(StoreError) { page = try store.list(prefix, after: after, limit: 1000) } catch { throw ElideError(error) }
      for object in page {
        guard let name = object.key.dropFirst(prefix.count).split(separator: "/").first else { continue }
        if out.last != String(name) { out.append(String(name)) }
      }
      guard let last = out.last, page.count == 1000 else { return out }
      // Behind everything of that name.
      after = "\(prefix)\(last)/~"
    }
  }

  /// The attempts of this host that are not decided, of all names.
  package func openAttempts() throws(ElideError) -> [NameIntent] {
    var out: [NameIntent] = []
    for row in try rows.scan(.intents, prefix: []) {
      guard let end = row.key.firstIndex(of: 0) else { continue }
      let name = String(decoding: row.key[..<end], as: UTF8.self)
      do throws(FormatError) { out.append(try NameIntent.decode(row.value, name: name)) } catch {
        throw ElideError(.fault, "\(error)")
      }
    }
    return out
  }
}

/// A volume that this host makes for a name. The row is durable before the volume's directory is, and goes when the volume has
/// its first page in the store, or when it is certain that it never comes to be.
package struct Making: Equatable, Sendable {
  package enum Kind: UInt8, Sendable {
    case created = 1
    case forked = 2
    case imported = 3
    /// Of a claim or a recovery: it continues an earlier volume of the name.
    case continued = 4
  }
  package var name: String
  package var volume: ULID
  package var kind: Kind

  package init(name: String, volume: ULID, kind: Kind) {
    self.name = name
    self.volume = volume
    self.kind = kind
  }
}

extension HostNames {
  /// The volumes that are being made, for one name or for all.
  package func makings(_ name: String? = nil) throws(ElideError) -> [Making] {
    var out: [Making] = []
    for row in try rows.scan(.makings, prefix: name.map { NameRowKey.prefix($0) } ?? []) {
      guard let end = row.key.firstIndex(of: 0) else { continue }
      let name = String(decoding: row.key[..<end], as: UTF8.self)
      do throws(FormatError) {
        var r = ByteReader(row.value, what: "what is being made for '\(name)'")
        guard try r.u8() == 1, let kind = Making.Kind(rawValue: try r.u8()) else { throw r.error("another version") }
        out.append(Making(name: name, volume: try r.ulid(), kind: kind))
        try r.end()
      } catch { throw ElideError(.fault, "\(error)") }
    }
    return out
  }

  package func begin(_ making: Making) throws(ElideError) {
    var w = ByteWriter(capacity: 18)
    w.u8(1)
    w.u8(making.kind.rawValue)
    w.ulid(making.volume)
    try rows.commit([NameRowChange(.makings, NameRowKey.attempt(making.name, making.volume), w.bytes)])
  }

  package func end(_ making: Making) throws(ElideError) {
    try rows.commit([NameRowChange(.makings, NameRowKey.attempt(making.name, making.volume), nil)])
  }
}
