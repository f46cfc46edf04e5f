import ElideEngine
import ElideIO

/// `NameRows` in memory, durable at once; a crash at a commit leaves it done or not, whole. Outlives processes. One thread steps
/// a simulated world, hence unchecked.
package final class SimNameRows: NameRows, @unchecked Sendable {
  private var tables: [NameRowTable: [[UInt8]: [UInt8]]] = [:]
  private let faults: SimFaults
  private let site: Int

  package init(faults: SimFaults) {
    self.faults = faults
    site = faults.site("commit", "names", mutates: true)
  }

  /// What a copied disk has.
  package func copy(faults: SimFaults) -> SimNameRows {
    let other = SimNameRows(faults: faults)
    other.tables = tables
    return other
  }

  private func alive() throws(ElideError) {
    if faults.isCrashed { throw ElideError(.failed, "the host is gone") }
  }

  package func get(_ table: NameRowTable, _ key: [UInt8]) throws(ElideError) -> [UInt8]? {
    try alive()
    return tables[table]?[key]
  }
  package func scan(_ table: NameRowTable, prefix: [UInt8]) throws(ElideError) -> [(key: [UInt8], value: [UInt8])] {
    try alive()
    return (tables[table] ?? [:]).filter { $0.key.starts(with: prefix) }.map { (key: $0.key, value: $0.value) }
      .sorted { $0.key.lexicographicallyPrecedes($1.key) }
  }
  package func commit(_ changes: [NameRowChange]) throws(ElideError) {
    switch faults.enter(site) {
    case .proceed: apply(changes)
    case .fail(let error):
      // An error after which nobody knows: every other commit was done.
      if error != .crashed, faults.calls % 2 == 0 { apply(changes) }
      throw ElideError(.failed, "names: \(error)")
    case .crash(let phase):
      if phase == .after || (phase == .partly && faults.calls % 2 == 0) { apply(changes) }
      throw ElideError(.failed, "the host is gone")
    }
  }

  private func apply(_ changes: [NameRowChange]) {
    for c in changes where !c.regresses(from: tables[c.table]?[c.key]) { tables[c.table, default: [:]][c.key] = c.value }
  }
}
