import ElideEvents
import ElideIO

/// A name as data directories had them before names had logs: a row, of this host alone. `Lifecycle+Migrate` turns it into a
/// log at the first use of the name; nothing else reads it.
package struct NameRow: Equatable, Sendable {
  package struct Flags: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The volume is being made; what a crash leaves so may be taken over by the next create.
    package static let creating = Flags(rawValue: 1)
    /// Made by import: an image.
    package static let image = Flags(rawValue: 2)
    /// The name is another volume's in the store: this one is reached by its ULID.
    package static let clashes = Flags(rawValue: 4)
  }
  package var name: String
  package var volume: ULID
  package var flags: Flags

  package init(name: String, volume: ULID, flags: Flags = []) {
    self.name = name
    self.volume = volume
    self.flags = flags
  }
}

/// The old names of a data directory. Durable when a call returns; safe on any thread and across processes.
package protocol NameTable: AnyObject, Sendable {
  func get(_ name: String) throws(ElideError) -> NameRow?
  /// All, in byte order of the names.
  func list() throws(ElideError) -> [NameRow]
  /// Sets `row` if `name` still is what the caller saw (nil: absent); false otherwise.
  func replace(_ name: String, _ seen: NameRow?, with row: NameRow?) throws(ElideError) -> Bool
}

/// `NameTable` in LMDB. Row: version 1, flags, 16 bytes of ULID.
package final class LMDBNameTable: NameTable {
  private let environment: LMDBEnvironment
  private static let table = "names"

  package init(_ environment: LMDBEnvironment) { self.environment = environment }

  /// Opens or makes the rows of names in `directory`, whose parent exists. One environment per directory and process.
  package static func environment(_ directory: String, _ files: any Files) throws(ElideError) -> LMDBEnvironment {
    do throws(Errno) { try files.makeDirectory(directory) } catch { throw ElideError(error, doing: "make \(directory)") }
    do throws(LMDBError) { return try LMDBEnvironment(path: directory) } catch { throw fault(directory, error) }
  }

  package func get(_ name: String) throws(ElideError) -> NameRow? {
    guard VolumeName.fault(name) == nil else { return nil }
    let bytes: [UInt8]?
    do throws(LMDBError) {
      bytes = try environment.read { (t) throws(LMDBError) in try t.get(Self.table, Array(name.utf8)) }
    } catch { throw fault(error) }
    return try bytes.map { (b) throws(ElideError) in try decode(name, b) }
  }

  package func list() throws(ElideError) -> [NameRow] {
    var raw: [(String, [UInt8])] = []
    do throws(LMDBError) {
      try environment.read { (t) throws(LMDBError) in
        try t.scan(Self.table, from: []) { k, v in
          raw.append((String(decoding: k, as: UTF8.self), v))
          return true
        }
      }
    } catch { throw fault(error) }
    var rows: [NameRow] = []
    for (name, value) in raw { rows.append(try decode(name, value)) }
    return rows
  }

  package func replace(_ name: String, _ seen: NameRow?, with row: NameRow?) throws(ElideError) -> Bool {
    let key = Array(name.utf8)
    let before = seen.map(encode)
    let after = row.map(encode)
    do throws(LMDBError) {
      return try environment.write { (t) throws(LMDBError) in
        guard try t.get(Self.table, key) == before else { return false }
        if let after { try t.put(Self.table, key, after) } else { try t.delete(Self.table, key) }
        return true
      }
    } catch { throw fault(error) }
  }

  private func encode(_ row: NameRow) -> [UInt8] {
    var w = ByteWriter(capacity: 18)
    w.u8(1)
    w.u8(row.flags.rawValue)
    w.ulid(row.volume)
    return w.bytes
  }

  private func decode(_ name: String, _ bytes: [UInt8]) throws(ElideError) -> NameRow {
    do throws(FormatError) {
      var r = ByteReader(bytes, what: "the row of name \(name)")
      guard try r.u8() == 1 else { throw r.error("unknown version") }
      let flags = NameRow.Flags(rawValue: try r.u8())
      let row = NameRow(name: name, volume: try r.ulid(), flags: flags)
      try r.end()
      return row
    } catch { throw ElideError(.fault, "\(environment.path): \(error)") }
  }

  private func fault(_ error: LMDBError) -> ElideError { Self.fault(environment.path, error) }

  private static func fault(_ path: String, _ error: LMDBError) -> ElideError {
    ElideError(error == .noSpace ? .tryLater : .failed, "\(path): \(error)")
  }
}
