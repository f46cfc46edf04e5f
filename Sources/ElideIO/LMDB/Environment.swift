import CLMDB
import Glibc
import Synchronization

/// What LMDB says went wrong.
package enum LMDBError: Error, Equatable, Sendable, CustomStringConvertible {
  /// ENOSPC while writing; the transaction did not commit.
  case noSpace
  /// The file is not a database, is damaged, or was made by another version.
  case damaged(String)
  /// A commit whose outcome is not known: an I/O error while it was written or synced.
  case unknown(String)
  case system(Errno)

  package var description: String {
    switch self {
    case .noSpace: "no space left for the database"
    case .damaged(let detail): "damaged database: \(detail)"
    case .unknown(let detail): "the commit may or may not have happened: \(detail)"
    case .system(let errno): "\(errno)"
    }
  }

  static func check(_ code: Int32) throws(LMDBError) {
    switch code {
    case 0: return
    case ENOSPC: throw .noSpace
    // A key of no or too many bytes, or more tables than the environment was opened for.
    case MDB_BAD_VALSIZE, MDB_DBS_FULL, MDB_TXN_FULL: throw .system(.invalid)
    case MDB_READERS_FULL: throw .system(Errno(EAGAIN))
    case let code where code > 0: throw .system(Errno(code))
    default: throw .damaged(String(cString: mdb_strerror(code)))
    }
  }
}

/// An LMDB environment (one directory, `data.mdb`) with its tables.
///
/// - Commits are synced (no NOSYNC, no WRITEMAP): one that returned survives a power cut, a crash leaves the last of them.
/// - One writer at a time among all processes; readers never block it. Safe on any thread.
/// - Do not begin a transaction inside another one on the same thread: growing the file waits until none is running.
/// - The closure of a transaction may run again from the start (when the file had to grow), so it must not do anything
///   that cannot be done twice.
/// - One open environment per directory in a process: a second is refused with EBUSY, since closing it would drop the
///   locks of the first. It closes when the last reference goes.
package final class LMDBEnvironment: @unchecked Sendable {  // the handle is LMDB's own, made for use by many threads
  package let path: String
  private let environment: OpaquePointer
  private let identity: String
  /// Held shared by each transaction, alone by what LMDB forbids beside any: resizing the map, opening table handles.
  private let gate: UnsafeMutablePointer<pthread_rwlock_t>
  private let tables = Mutex([String: MDB_dbi]())

  /// Upper bound of a database; also what keeps doubling from overflowing.
  private static let maxMapSize = 1 << 40
  private static let openDirectories = Mutex(Set<String>())

  /// Opens it, and makes it if absent, in a directory that exists. `mapSize` bytes to begin with; it grows as needed.
  package init(path: String, mapSize: Int = 64 << 20, maxTables: UInt32 = 16, readOnly: Bool = false) throws(LMDBError) {
    self.path = path
    identity = try Self.claim(path)
    var raw: OpaquePointer?
    let made = mdb_env_create(&raw)
    guard made == 0, let raw else {
      Self.release(identity)
      throw .system(Errno(ENOMEM))
    }
    environment = raw
    gate = .allocate(capacity: 1)
    var attributes = pthread_rwlockattr_t()
    pthread_rwlockattr_init(&attributes)
    // Else readers that come one after another keep out for ever whoever must be alone.
    pthread_rwlockattr_setkind_np(&attributes, Int32(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP))
    pthread_rwlock_init(gate, &attributes)
    pthread_rwlockattr_destroy(&attributes)
    // From here on `deinit` cleans up, also when the rest throws.
    try LMDBError.check(mdb_env_set_maxdbs(raw, maxTables))
    try LMDBError.check(mdb_env_set_mapsize(raw, mapSize))
    // NOTLS: read transactions belong to objects, not to threads.
    let flags = UInt32(MDB_NOTLS) | (readOnly ? UInt32(MDB_RDONLY) : 0)
    try LMDBError.check(mdb_env_open(raw, path, flags, 0o600))
    // Processes that were killed while reading would hold old pages for ever.
    var dead: Int32 = 0
    try LMDBError.check(mdb_reader_check(raw, &dead))
  }
  deinit {
    mdb_env_close(environment)
    pthread_rwlock_destroy(gate)
    gate.deallocate()
    Self.release(identity)
  }

  private static func claim(_ path: String) throws(LMDBError) -> String {
    guard let resolved = realpath(path, nil) else { throw .system(.current) }
    defer { free(resolved) }
    let identity = String(cString: resolved)
    guard openDirectories.withLock({ $0.insert(identity).inserted }) else { throw .system(Errno(EBUSY)) }
    return identity
  }
  private static func release(_ identity: String) { openDirectories.withLock { _ = $0.remove(identity) } }

  // MARK: Transactions

  /// Runs `body` in a read transaction: it sees one state.
  package func read<Result>(_ body: (borrowing Transaction) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
    var absent: Set<String> = []
    while true {
      switch try attempt(writable: false, absent: absent, body) {
      case .done(let result): return result
      case .mapFull, .mapResized: try adoptMapSize()
      case .unopened(let name): if try !openTable(name, create: false) { absent.insert(name) }
      }
    }
  }

  /// Runs `body` in a write transaction and commits it durably; if `body` throws nothing happens. When the map is full
  /// it grows, and `body` runs again from the start.
  package func write<Result>(_ body: (borrowing Transaction) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
    while true {
      switch try attempt(writable: true, absent: [], body) {
      case .done(let result): return result
      case .mapFull: try grow()
      case .mapResized: try adoptMapSize()
      case .unopened(let name): _ = try openTable(name, create: true)
      }
    }
  }

  private enum Attempt<Result> {
    case done(Result)
    /// The closure's changes do not fit: grow and run it again.
    case mapFull
    /// Another process has grown the map.
    case mapResized
    /// It asked for a table that has no handle yet: open it while nothing else runs, and run it again.
    case unopened(String)
  }

  private func attempt<Result>(
    writable: Bool, absent: Set<String>, _ body: (borrowing Transaction) throws(LMDBError) -> Result
  ) throws(LMDBError) -> Attempt<Result> {
    pthread_rwlock_rdlock(gate)
    defer { pthread_rwlock_unlock(gate) }
    var raw: OpaquePointer?
    let begun = mdb_txn_begin(environment, nil, writable ? 0 : UInt32(MDB_RDONLY), &raw)
    if begun == MDB_MAP_RESIZED { return .mapResized }
    try LMDBError.check(begun)
    guard let raw else { throw .system(Errno(ENOMEM)) }
    // A table opened after this transaction began is none of its state; so the handles are read after it has begun, and
    // only under the gate do they change.
    let transaction = Transaction(raw: raw, writable: writable, handles: tables.withLock { $0 }, absent: absent)
    let result: Result
    do throws(LMDBError) {
      result = try body(transaction)
    } catch {
      mdb_txn_abort(raw)
      if let name = transaction.wishes.unopened { return .unopened(name) }
      if transaction.wishes.mapFull { return .mapFull }
      throw error
    }
    // A closure may have swallowed the error that asks for another run.
    if transaction.wishes.unopened != nil || transaction.wishes.mapFull || !writable { mdb_txn_abort(raw) }
    if let name = transaction.wishes.unopened { return .unopened(name) }
    if transaction.wishes.mapFull { return .mapFull }
    return writable ? try commit(raw, result) : .done(result)
  }

  private func commit<Result>(_ raw: OpaquePointer, _ result: Result) throws(LMDBError) -> Attempt<Result> {
    let code = mdb_txn_commit(raw)
    switch code {
    case 0: return .done(result)
    case MDB_MAP_FULL: return .mapFull
    case ENOSPC:
      // Data pages are written before the meta page that makes them count. If it was the meta page that failed, LMDB
      // lets nobody begin again.
      var probe: OpaquePointer?
      guard mdb_txn_begin(environment, nil, 0, &probe) == 0 else { throw .unknown(Errno.noSpace.description) }
      mdb_txn_abort(probe)
      throw .noSpace
    default: throw .unknown(String(cString: mdb_strerror(code)))
    }
  }

  // MARK: What needs the environment alone

  private func alone<Result, Failure>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    pthread_rwlock_wrlock(gate)
    defer { pthread_rwlock_unlock(gate) }
    return try body()
  }

  private func grow() throws(LMDBError) {
    try alone { () throws(LMDBError) in
      var info = MDB_envinfo()
      try LMDBError.check(mdb_env_info(environment, &info))
      guard info.me_mapsize < Self.maxMapSize else { throw .noSpace }
      try LMDBError.check(mdb_env_set_mapsize(environment, info.me_mapsize * 2))
    }
  }

  private func adoptMapSize() throws(LMDBError) {
    try alone { () throws(LMDBError) in try LMDBError.check(mdb_env_set_mapsize(environment, 0)) }
  }

  /// Opens the handle of a table in a transaction of its own; with `create` the table is made if absent. False when there
  /// is none.
  private func openTable(_ name: String, create: Bool) throws(LMDBError) -> Bool {
    while true {
      let code = alone { openTableOnce(name, create: create) }
      switch code {
      case 0: return true
      case MDB_NOTFOUND: return false
      case MDB_MAP_RESIZED: try adoptMapSize()
      case MDB_MAP_FULL: try grow()
      default: try LMDBError.check(code)
      }
    }
  }

  private func openTableOnce(_ name: String, create: Bool) -> Int32 {
    if tables.withLock({ $0[name] != nil }) { return 0 }
    var raw: OpaquePointer?
    let begun = mdb_txn_begin(environment, nil, create ? 0 : UInt32(MDB_RDONLY), &raw)
    if begun != 0 { return begun }
    var dbi: MDB_dbi = 0
    let code = mdb_dbi_open(raw, name, create ? UInt32(MDB_CREATE) : 0, &dbi)
    if code != 0 {
      mdb_txn_abort(raw)
      return code
    }
    // Also a reading transaction is committed, else its handles close with it.
    let committed = mdb_txn_commit(raw)
    if committed == 0 { tables.withLock { $0[name] = dbi } }
    return committed
  }
}
