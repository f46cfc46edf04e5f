import CLMDB
import Glibc

extension LMDBEnvironment {
  /// One state of the tables, valid inside the closure that receives it.
  package struct Transaction: ~Copyable {
    /// What a transaction asks of whoever runs it; apart, since the transaction itself is only borrowed.
    final class Wishes {
      var mapFull = false
      var unopened: String?
    }
    private let raw: OpaquePointer
    private let writable: Bool
    private let handles: [String: MDB_dbi]
    private let absent: Set<String>
    let wishes = Wishes()

    init(raw: OpaquePointer, writable: Bool, handles: [String: MDB_dbi], absent: Set<String>) {
      self.raw = raw
      self.writable = writable
      self.handles = handles
      self.absent = absent
    }

    private func check(_ code: Int32) throws(LMDBError) {
      if code == MDB_MAP_FULL { wishes.mapFull = true }
      try LMDBError.check(code)
    }

    /// The handle of a table; nil when it does not exist.
    private func table(_ name: String) throws(LMDBError) -> MDB_dbi? {
      if let handle = handles[name] { return handle }
      if absent.contains(name) { return nil }
      wishes.unopened = name
      throw .system(Errno(EAGAIN))
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
      guard writable, let dbi = try self.table(table) else { throw .system(Errno(EROFS)) }
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
      guard writable, let dbi = try self.table(table) else { throw .system(Errno(EROFS)) }
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
