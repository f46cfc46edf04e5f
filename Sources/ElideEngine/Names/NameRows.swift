import ElideEvents
import ElideIO

/// What a host keeps of names: entries it has read, their fold, intents, requests, witnesses. Rows of LMDB in production,
/// simulated in tests. A commit is atomic and durable when it returns; when it throws, its outcome is open, and the rows are
/// read again before anything is decided. Several processes of a host may use them at once.
///
/// Safe on any thread and across processes.
package protocol NameRows: AnyObject, Sendable {
  func get(_ table: NameRowTable, _ key: [UInt8]) throws(ElideError) -> [UInt8]?
  /// All rows whose key begins with `prefix`, in byte order.
  func scan(_ table: NameRowTable, prefix: [UInt8]) throws(ElideError) -> [(key: [UInt8], value: [UInt8])]
  func commit(_ changes: [NameRowChange]) throws(ElideError)
}

package enum NameRowTable: String, CaseIterable, Sendable {
  /// name, zero byte, seq (8 bytes, big-endian) → raw bytes.
  case entries = "name_entries"
  /// name → `NameRecord`.
  case folds = "name_folds"
  /// name, zero byte, ULID of the attempt → `NameIntent`. Open ones only.
  case intents = "name_intents"
  /// name, zero byte, request → `NameAnswer`.
  case requests = "name_requests"
  /// name, zero byte, ULID → nothing: attempts of this host, written before their first request leaves.
  case own = "name_own"
  /// name → nothing: this host took over the log as it found it, and has not looked for entries behind its end.
  case unproven = "name_unproven"
  /// ULID → text.
  case alarms = "name_alarms"
  /// name, zero byte, ULID of a volume → `Making`: volumes of this host that are being made for the name.
  case makings = "name_makings"
}

package struct NameRowChange: Equatable, Sendable {
  package let table: NameRowTable
  package let key: [UInt8]
  /// nil removes.
  package let value: [UInt8]?
  package init(_ table: NameRowTable, _ key: [UInt8], _ value: [UInt8]?) {
    self.table = table
    self.key = key
    self.value = value
  }

  /// Whether it would take back what another process of this host has seen meanwhile: a fold never regresses. Such a change
  /// is left out of its commit.
  package func regresses(from there: [UInt8]?) -> Bool {
    guard table == .folds, let there, let value, let known = NameRecord.headSeq(there) else { return false }
    guard let new = NameRecord.headSeq(value) else { return true }
    return new < known
  }
}

/// Keys of rows.
package enum NameRowKey {
  package static func name(_ name: String) -> [UInt8] { Array(name.utf8) }
  package static func prefix(_ name: String) -> [UInt8] { Array(name.utf8) + [0] }
  package static func entry(_ name: String, _ seq: UInt64) -> [UInt8] {
    var w = ByteWriter()
    w.raw(prefix(name))
    withUnsafeBytes(of: seq.bigEndian) { w.raw($0) }
    return w.bytes
  }
  package static func attempt(_ name: String, _ id: ULID) -> [UInt8] {
    var w = ByteWriter()
    w.raw(prefix(name))
    w.ulid(id)
    return w.bytes
  }
  package static func request(_ name: String, _ request: String) -> [UInt8] { prefix(name) + Array(request.utf8) }
}

/// `NameRows` in LMDB.
package final class LMDBNameRows: NameRows {
  private let environment: LMDBEnvironment
  package init(_ environment: LMDBEnvironment) { self.environment = environment }

  package func get(_ table: NameRowTable, _ key: [UInt8]) throws(ElideError) -> [UInt8]? {
    do throws(LMDBError) {
      return try environment.read { (t) throws(LMDBError) in try t.get(table.rawValue, key) }
    } catch { throw fault(error) }
  }

  package func scan(_ table: NameRowTable, prefix: [UInt8]) throws(ElideError) -> [(key: [UInt8], value: [UInt8])] {
    var rows: [(key: [UInt8], value: [UInt8])] = []
    do throws(LMDBError) {
      try environment.read { (t) throws(LMDBError) in
        rows = []
        try t.scan(table.rawValue, from: prefix) { k, v in
          guard k.starts(with: prefix) else { return false }
          rows.append((k, v))
          return true
        }
      }
    } catch { throw fault(error) }
    return rows
  }

  package func commit(_ changes: [NameRowChange]) throws(ElideError) {
    do throws(LMDBError) {
      try environment.write { (t) throws(LMDBError) in
        for c in changes {
          if c.table == .folds, c.regresses(from: try t.get(c.table.rawValue, c.key)) { continue }
          if let value = c.value { try t.put(c.table.rawValue, c.key, value) } else { try t.delete(c.table.rawValue, c.key) }
        }
      }
    } catch { throw fault(error) }
  }

  private func fault(_ error: LMDBError) -> ElideError { ElideError(.failed, "\(environment.path): \(error)") }
}
