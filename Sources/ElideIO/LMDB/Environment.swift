import CLMDB
import Glibc

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
}

/// An LMDB environment (one directory, `data.mdb`) with its tables. Commits are synced (no NOSYNC, no WRITEMAP). One
/// writer at a time among all processes; readers never block it.
///
/// Owner: one object per directory and process (LMDB's own rule). A crash leaves the last committed state.
package final class LMDBEnvironment: @unchecked Sendable {  // the handle is LMDB's own, made for use by many threads
  private let environment: OpaquePointer
  package let path: String

  /// Opens or makes it. `mapSize` grows as needed, up to `maxMapSize` bytes.
  package init(path: String, mapSize: Int = 64 << 20, maxTables: UInt32 = 16, readOnly: Bool = false) throws(LMDBError) {
    var raw: OpaquePointer?
    try Self.check(mdb_env_create(&raw))
    guard let raw else { throw .system(Errno(ENOMEM)) }
    // The members are set last: once all of them are, a failing initialiser runs `deinit`, and that closes too.
    var ready = false
    defer { if !ready { mdb_env_close(raw) } }
    try Self.check(mdb_env_set_maxdbs(raw, maxTables))
    try Self.check(mdb_env_set_mapsize(raw, mapSize))
    // NOTLS: read transactions belong to objects, not to threads.
    let flags = UInt32(MDB_NOTLS) | (readOnly ? UInt32(MDB_RDONLY) : 0)
    try Self.check(mdb_env_open(raw, path, flags, 0o600))
    ready = true
    environment = raw
    self.path = path
  }
  deinit { mdb_env_close(environment) }

  private static func check(_ code: Int32) throws(LMDBError) {
    switch code {
    case 0: return
    case ENOSPC: throw .noSpace
    case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_VERSION_MISMATCH, MDB_INVALID, MDB_PANIC:
      throw .damaged(String(cString: mdb_strerror(code)))
    case let code where code > 0: throw .system(Errno(code))
    default: throw .damaged(String(cString: mdb_strerror(code)))
    }
  }

  /// Runs `body` in a read transaction: it sees one state.
  package func read<Result>(_ body: (borrowing Transaction) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
    var raw: OpaquePointer?
    var begun = mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &raw)
    if begun == MDB_MAP_RESIZED {
      // Another process has grown the map: take its size over.
      try Self.check(mdb_env_set_mapsize(environment, 0))
      begun = mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &raw)
    }
    try Self.check(begun)
    guard let raw else { throw .system(Errno(ENOMEM)) }
    defer { mdb_txn_abort(raw) }
    return try body(Transaction(raw: raw, writable: false))
  }

  /// Runs `body` in a write transaction and commits it durably; if `body` throws nothing happens. When the map is full
  /// it grows, and `body` runs again from the start.
  package func write<Result>(_ body: (borrowing Transaction) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
    while true {
      var raw: OpaquePointer?
      let begun = mdb_txn_begin(environment, nil, 0, &raw)
      if begun == MDB_MAP_RESIZED {
        // Another process has grown the map: take its size over.
        try Self.check(mdb_env_set_mapsize(environment, 0))
        continue
      }
      try Self.check(begun)
      guard let raw else { throw .system(Errno(ENOMEM)) }
      let transaction = Transaction(raw: raw, writable: true)
      let result: Result
      do throws(LMDBError) {
        result = try body(transaction)
      } catch {
        mdb_txn_abort(raw)
        if transaction.mapFull {
          try grow()
          continue
        }
        throw error
      }
      let code = mdb_txn_commit(raw)
      switch code {
      case 0: return result
      case MDB_MAP_FULL: try grow()
      case ENOSPC: throw .noSpace  // LMDB writes data pages before the meta page that makes them count
      default: throw .unknown(String(cString: mdb_strerror(code)))
      }
    }
  }

  private func grow() throws(LMDBError) {
    var info = MDB_envinfo()
    try Self.check(mdb_env_info(environment, &info))
    guard info.me_mapsize < 1 << 40 else { throw .noSpace }
    try Self.check(mdb_env_set_mapsize(environment, info.me_mapsize * 2))
  }

  /// One state of the tables, valid inside the closure that receives it.
  package struct Transaction: ~Copyable {
    fileprivate let raw: OpaquePointer
    fileprivate let writable: Bool
    private let full: UnsafeMutablePointer<Bool>
    fileprivate var mapFull: Bool { full.pointee }

    fileprivate init(raw: OpaquePointer, writable: Bool) {
      self.raw = raw
      self.writable = writable
      full = .allocate(capacity: 1)
      full.initialize(to: false)
    }
    deinit { full.deallocate() }

    private func check(_ code: Int32) throws(LMDBError) {
      if code == MDB_MAP_FULL { full.pointee = true }
      try LMDBEnvironment.check(code)
    }

    /// The table, made if absent; nil in a read transaction when there is none.
    private func table(_ name: String) throws(LMDBError) -> MDB_dbi? {
      var dbi: MDB_dbi = 0
      let code = mdb_dbi_open(raw, name, writable ? UInt32(MDB_CREATE) : 0, &dbi)
      if code == MDB_NOTFOUND { return nil }
      try check(code)
      return dbi
    }

    package func get(_ table: String, _ key: [UInt8]) throws(LMDBError) -> [UInt8]? {
      guard let dbi = try self.table(table) else { return nil }
      var value = MDB_val()
      let code = key.withUnsafeBytes { k -> Int32 in
        var k = MDB_val(mv_size: k.count, mv_data: UnsafeMutableRawPointer(mutating: k.baseAddress))
        return mdb_get(raw, dbi, &k, &value)
      }
      if code == MDB_NOTFOUND { return nil }
      try check(code)
      return Array(UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size))
    }

    /// Keys are 1 to 511 bytes.
    package func put(_ table: String, _ key: [UInt8], _ value: [UInt8]) throws(LMDBError) {
      guard let dbi = try self.table(table) else { throw .system(Errno(EROFS)) }
      let code = key.withUnsafeBytes { k -> Int32 in
        value.withUnsafeBytes { v -> Int32 in
          var k = MDB_val(mv_size: k.count, mv_data: UnsafeMutableRawPointer(mutating: k.baseAddress))
          var v = MDB_val(mv_size: v.count, mv_data: UnsafeMutableRawPointer(mutating: v.baseAddress))
          return mdb_put(raw, dbi, &k, &v, 0)
        }
      }
      try check(code)
    }

    package func delete(_ table: String, _ key: [UInt8]) throws(LMDBError) {
      guard let dbi = try self.table(table) else { return }
      let code = key.withUnsafeBytes { k -> Int32 in
        var k = MDB_val(mv_size: k.count, mv_data: UnsafeMutableRawPointer(mutating: k.baseAddress))
        return mdb_del(raw, dbi, &k, nil)
      }
      if code != MDB_NOTFOUND { try check(code) }
    }

    /// The last key of a table with its value.
    package func last(_ table: String) throws(LMDBError) -> (key: [UInt8], value: [UInt8])? {
      var found: (key: [UInt8], value: [UInt8])?
      try walk(table, first: MDB_LAST, from: nil, next: nil) { k, v in
        found = (k, v)
        return false
      }
      return found
    }

    /// Calls `body` for each key from `start` on, in byte order, until it returns false.
    package func scan(_ table: String, from start: [UInt8], _ body: ([UInt8], [UInt8]) -> Bool) throws(LMDBError) {
      try walk(table, first: MDB_SET_RANGE, from: start, next: MDB_NEXT, body)
    }

    private func walk(
      _ table: String, first: MDB_cursor_op, from start: [UInt8]?, next: MDB_cursor_op?, _ body: ([UInt8], [UInt8]) -> Bool
    ) throws(LMDBError) {
      guard let dbi = try self.table(table) else { return }
      var cursor: OpaquePointer?
      try check(mdb_cursor_open(raw, dbi, &cursor))
      defer { mdb_cursor_close(cursor) }
      var value = MDB_val()
      var key = MDB_val()
      var code: Int32
      if let start, !start.isEmpty {
        code = start.withUnsafeBytes { s -> Int32 in
          key = MDB_val(mv_size: s.count, mv_data: UnsafeMutableRawPointer(mutating: s.baseAddress))
          return mdb_cursor_get(cursor, &key, &value, first)
        }
      } else {
        code = mdb_cursor_get(cursor, &key, &value, start == nil ? first : MDB_FIRST)
      }
      while code == 0 {
        let k = Array(UnsafeRawBufferPointer(start: key.mv_data, count: key.mv_size))
        let v = Array(UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size))
        guard body(k, v), let next else { return }
        code = mdb_cursor_get(cursor, &key, &value, next)
      }
      if code != MDB_NOTFOUND { try check(code) }
    }
  }
}
