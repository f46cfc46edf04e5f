import ElideIO

/// Metrics in the text format of Prometheus (exposition format 0.0.4): families in the order in which they are first named,
/// each with its help and type before its samples.
struct MetricsText {
  enum Kind: String { case counter, gauge }

  private struct Family {
    let help: String
    let kind: Kind
    var samples: [String] = []
  }
  private var order: [String] = []
  private var families: [String: Family] = [:]

  /// - Parameters:
  ///   - name: ends in `_total` (counters), `_seconds` or `_bytes`, or is a count of things.
  ///   - labels: names and values, in order; values may hold anything.
  mutating func add(
    _ name: String, _ kind: Kind, _ help: String, _ labels: [(String, String)] = [], _ value: Double
  ) {
    if families[name] == nil {
      families[name] = Family(help: help, kind: kind)
      order.append(name)
    }
    let set = labels.isEmpty ? "" : "{" + labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",") + "}"
    families[name]?.samples.append("\(name)\(set) \(Self.number(value))")
  }

  mutating func add(_ name: String, _ kind: Kind, _ help: String, _ labels: [(String, String)] = [], _ value: UInt64) {
    add(name, kind, help, labels, Double(value))
  }

  var text: String {
    var out = ""
    for name in order {
      guard let family = families[name] else { continue }
      out += "# HELP \(name) \(family.help)\n# TYPE \(name) \(family.kind.rawValue)\n"
      for sample in family.samples { out += sample + "\n" }
    }
    return out
  }

  private static func number(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
  }

  private static func escaped(_ text: String) -> String {
    var out = ""
    for c in text.unicodeScalars {
      switch c {
      case "\\": out += "\\\\"
      case "\"": out += "\\\""
      case "\n": out += "\\n"
      default: out.unicodeScalars.append(c)
      }
    }
    return out
  }
}
