import CElide
import CTOML
import Glibc

/// A parsed TOML document as plain values.
///
/// Read through the C layer of TOMLKit rather than its Swift types: those never free what they parse (tables, strings,
/// integers and error texts), which a fold over a million entries would notice. Here everything is copied out and freed.
package enum TOMLNode: Equatable, Sendable {
  case string(String)
  case integer(Int64)
  case boolean(Bool)
  case array([TOMLNode])
  /// In the parser's order, which is that of the keys' bytes; keys are unique.
  case table([(key: String, value: TOMLNode)])
  /// A float, date or time: no format here has one.
  case other

  package static func == (a: TOMLNode, b: TOMLNode) -> Bool {
    switch (a, b) {
    case (.string(let x), .string(let y)): x == y
    case (.integer(let x), .integer(let y)): x == y
    case (.boolean(let x), .boolean(let y)): x == y
    case (.array(let x), .array(let y)): x == y
    case (.table(let x), .table(let y)): x.elementsEqual(y) { $0.key == $1.key && $0.value == $1.value }
    case (.other, .other): true
    default: false
    }
  }

  package var kindName: String {
    switch self {
    case .string: "a string"
    case .integer: "an integer"
    case .boolean: "a boolean"
    case .array: "an array"
    case .table: "a table"
    case .other: "a float, date or time"
    }
  }
}

/// Why a document is not TOML that we read: one line.
package struct TOMLError: Error, Equatable, Sendable, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

package enum TOMLDocument {
  /// The root table of a document of at most `limit` bytes. Duplicate keys are errors, as TOML says.
  package static func parse(_ bytes: [UInt8], limit: Int) throws(TOMLError) -> [(key: String, value: TOMLNode)] {
    guard bytes.count <= limit else { throw TOMLError("\(bytes.count) bytes, more than \(limit)") }
    if let problem = TOMLSubset.problem(bytes) { throw TOMLError(problem) }
    var terminated = bytes.map { CChar(bitPattern: $0) }
    terminated.append(0)
    let failure = UnsafeMutablePointer<CTOMLParseError>.allocate(capacity: 1)
    defer { failure.deallocate() }
    guard let root = tableCreateFromString(terminated, failure) else { throw TOMLError(describe(failure.pointee)) }
    // Emptied, a table holds nothing but itself; it was made by C++'s new.
    defer {
      tableClear(root)
      elide_cxx_delete(UnsafeMutableRawPointer(root))
    }
    return table(root)
  }

  private static func describe(_ failure: CTOMLParseError) -> String {
    defer { free(UnsafeMutableRawPointer(mutating: failure.description)) }
    return "\(String(cString: failure.description)) (line \(failure.source.begin.line), column \(failure.source.begin.column))"
  }

  private static func table(_ table: OpaquePointer) -> [(key: String, value: TOMLNode)] {
    let count = tableSize(table)
    guard count > 0 else { return [] }
    let keys = tableGetKeys(table)
    defer { free(UnsafeMutableRawPointer(mutating: keys)) }
    var out: [(key: String, value: TOMLNode)] = []
    out.reserveCapacity(count)
    for i in 0..<count {
      let key = keys[i]
      defer { free(UnsafeMutableRawPointer(mutating: key)) }
      guard let value = tableGetNode(table, key) else { continue }
      out.append((String(cString: key), node(value)))
    }
    return out
  }

  /// Asks for each type in turn: the layer's own type query looks at a null pointer for all types but one.
  private static func node(_ node: OpaquePointer) -> TOMLNode {
    if let text = nodeAsString(node) {
      defer { free(UnsafeMutableRawPointer(mutating: text)) }
      return .string(String(cString: text))
    }
    if let value = nodeAsInt(node) {
      defer { free(UnsafeMutableRawPointer(mutating: value)) }
      return .integer(value.pointee)
    }
    if let value = nodeAsBool(node) {
      defer { free(UnsafeMutableRawPointer(mutating: value)) }
      return .boolean(value.pointee)
    }
    if let inner = nodeAsTable(node) { return .table(table(inner)) }
    if let array = nodeAsArray(node) {
      return .array((0..<arraySize(array)).map { Self.node(arrayGetNode(array, Int64($0))) })
    }
    return .other
  }
}
