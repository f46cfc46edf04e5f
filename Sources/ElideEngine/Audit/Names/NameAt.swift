import ElideEvents
import ElideIO
import ElideProjections

/// A field of a name's state that two points do not share; nil: it is not there.
package struct ChangedField: Equatable, Sendable {
  package var field: String
  package var from: String?
  package var to: String?
}

extension NameHistory {
  /// The state after an entry; before entry 0 the name is absent.
  package func state(at seq: UInt64) throws(ElideError) -> NameState {
    guard seq < UInt64(slots.count) else {
      throw ElideError(.notFound, "the log of '\(name)' ends at entry \(slots.last?.seq ?? 0), \(seq) is not there")
    }
    return fold(through: seq).state
  }

  /// Folds the slots anew. `seq` is one of them.
  func fold(through seq: UInt64) -> NameFold {
    var fold = NameFold(name: name)
    for slot in slots.prefix(Int(seq) + 1) { fold.next(slot.raw, areVerified: slot.fault == nil) }
    return fold
  }

  /// What changed between the states after two entries, in the order of the encoded state.
  package func diff(_ from: UInt64, _ to: UInt64) throws(ElideError) -> [ChangedField] {
    let a = Self.fields(try state(at: from))
    let b = Self.fields(try state(at: to))
    var out: [ChangedField] = []
    for (field, value) in b {
      let before = a.first { $0.0 == field }?.1
      if before != value { out.append(ChangedField(field: field, from: before, to: value)) }
    }
    for (field, value) in a where !b.contains(where: { $0.0 == field }) {
      out.append(ChangedField(field: field, from: value, to: nil))
    }
    return out
  }

  /// The encoded state, one `key = value` a line.
  private static func fields(_ state: NameState) -> [(String, String)] {
    String(decoding: state.encode(), as: UTF8.self).split(separator: "\n").compactMap { line in
      guard let equals = line.firstIndex(of: "=") else { return nil }
      return (String(line[..<equals].dropLast()), String(line[equals...].dropFirst(2)))
    }
  }
}
