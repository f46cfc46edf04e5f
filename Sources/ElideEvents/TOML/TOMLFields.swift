import ElideIO

/// Takes the fields of one table by name and type; what nobody took is an error at `end`. So a reader states once what
/// a table holds, and a missing, mistyped, out-of-range or superfluous key is reported by its name.
package struct TOMLFields {
  private var fields: [(key: String, value: TOMLNode)]
  private let name: String

  /// `name` is the table's, for error texts; empty for the root.
  package init(_ fields: [(key: String, value: TOMLNode)], table name: String = "") {
    self.fields = fields
    self.name = name
  }

  private func path(_ key: String) -> String { name.isEmpty ? key : "\(name).\(key)" }

  private mutating func take(_ key: String) -> TOMLNode? {
    guard let i = fields.firstIndex(where: { $0.key == key }) else { return nil }
    return fields.remove(at: i).value
  }

  private mutating func need(_ key: String) throws(TOMLError) -> TOMLNode {
    guard let value = take(key) else { throw TOMLError("\(path(key)) is missing") }
    return value
  }

  private func mistyped(_ key: String, _ value: TOMLNode, _ wanted: String) -> TOMLError {
    TOMLError("\(path(key)) is \(value.kindName), not \(wanted)")
  }

  package mutating func integer(
    _ key: String, _ range: ClosedRange<UInt64> = 0...UInt64(Int64.max)
  ) throws(TOMLError) -> UInt64 {
    let value = try need(key)
    guard case .integer(let v) = value else { throw mistyped(key, value, "an integer") }
    return try bounded(key, v, range)
  }

  private func bounded(_ key: String, _ v: Int64, _ range: ClosedRange<UInt64>) throws(TOMLError) -> UInt64 {
    guard v >= 0, range.contains(UInt64(v)) else {
      throw TOMLError("\(path(key)) is \(v), outside \(range.lowerBound)...\(range.upperBound)")
    }
    return UInt64(v)
  }

  package mutating func boolean(_ key: String) throws(TOMLError) -> Bool {
    let value = try need(key)
    guard case .boolean(let v) = value else { throw mistyped(key, value, "a boolean") }
    return v
  }

  package mutating func string(_ key: String, limit: Int = Entry.maxBytes) throws(TOMLError) -> String {
    let value = try need(key)
    guard case .string(let v) = value else { throw mistyped(key, value, "a string") }
    guard v.utf8.count <= limit else { throw TOMLError("\(path(key)) has \(v.utf8.count) bytes, more than \(limit)") }
    return v
  }

  package mutating func optionalString(_ key: String, limit: Int = Entry.maxBytes) throws(TOMLError) -> String? {
    guard fields.contains(where: { $0.key == key }) else { return nil }
    return try string(key, limit: limit)
  }

  package mutating func ulid(_ key: String) throws(TOMLError) -> ULID {
    let text = try string(key)
    guard let v = ULID(text) else { throw TOMLError("\(path(key)) is not a ULID") }
    return v
  }

  package mutating func digest(_ key: String) throws(TOMLError) -> Digest {
    let text = try string(key)
    guard text.utf8.starts(with: "sha256:".utf8), let v = Digest(hex: text.dropFirst(7)) else {
      throw TOMLError("\(path(key)) is not \"sha256:<64 hex>\"")
    }
    return v
  }

  package mutating func publicKey(_ key: String) throws(TOMLError) -> [UInt8] { try ed25519(key, bytes: 32) }
  package mutating func signature(_ key: String) throws(TOMLError) -> [UInt8] { try ed25519(key, bytes: 64) }

  private mutating func ed25519(_ key: String, bytes: Int) throws(TOMLError) -> [UInt8] {
    let text = try string(key)
    guard text.utf8.starts(with: "ed25519:".utf8), let v = decodeHexadecimal(text.dropFirst(8)), v.count == bytes else {
      throw TOMLError("\(path(key)) is not \"ed25519:<\(2 * bytes) hex>\"")
    }
    return v
  }

  package mutating func strings(_ key: String, limit: Int = Entry.maxBytes) throws(TOMLError) -> [String] {
    var out: [String] = []
    for value in try array(key) {
      guard case .string(let v) = value else { throw mistyped(key, value, "strings") }
      guard v.utf8.count <= limit else { throw TOMLError("\(path(key)) has a string of more than \(limit) bytes") }
      out.append(v)
    }
    return out
  }

  package mutating func integers(_ key: String, _ range: ClosedRange<UInt64>) throws(TOMLError) -> [UInt64] {
    var out: [UInt64] = []
    for value in try array(key) {
      guard case .integer(let v) = value else { throw mistyped(key, value, "integers") }
      out.append(try bounded(key, v, range))
    }
    return out
  }

  private mutating func array(_ key: String) throws(TOMLError) -> [TOMLNode] {
    let value = try need(key)
    guard case .array(let v) = value else { throw mistyped(key, value, "an array") }
    return v
  }

  package mutating func table(_ key: String) throws(TOMLError) -> TOMLFields {
    let value = try need(key)
    guard case .table(let v) = value else { throw mistyped(key, value, "a table") }
    return TOMLFields(v, table: path(key))
  }

  package func contains(_ key: String) -> Bool { fields.contains { $0.key == key } }

  /// Every field has been taken.
  package func end() throws(TOMLError) {
    if let extra = fields.first { throw TOMLError("\(path(extra.key)) is not known here") }
  }
}
