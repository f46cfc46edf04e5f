import ElideEngine
import ElideIO

/// `NameTable` in memory, durable at once; a crash at a change leaves it done or not. Outlives processes. One thread steps
/// a simulated world, hence unchecked.
package final class SimNameTable: NameTable, @unchecked Sendable {
  private var rows: [String: NameRow] = [:]
  private let faults: SimFaults
  private let site: Int

  package init(faults: SimFaults) {
    self.faults = faults
    site = faults.site("replace", "names", mutates: true)
  }

  package func get(_ name: String) throws(ElideError) -> NameRow? {
    if faults.isCrashed { throw ElideError(.failed, "the host is gone") }
    return rows[name]
  }
  package func list() throws(ElideError) -> [NameRow] {
    if faults.isCrashed { throw ElideError(.failed, "the host is gone") }
    return rows.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }.compactMap { rows[$0] }
  }
  package func replace(_ name: String, _ seen: NameRow?, with row: NameRow?) throws(ElideError) -> Bool {
    switch faults.enter(site) {
    case .proceed: break
    case .fail(let error): throw ElideError(.failed, "names: \(error)")
    case .crash(let phase):
      if phase == .after, rows[name] == seen { rows[name] = row }
      throw ElideError(.failed, "the host is gone")
    }
    guard rows[name] == seen else { return false }
    rows[name] = row
    return true
  }
}
