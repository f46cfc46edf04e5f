import ElideIO

/// Keys of the objects in a store. One place, so that nobody spells a key twice.
package enum StoreLayout {
  package static let format = "elide.toml"

  /// Decimal with leading zeros: byte order is numeric order.
  package static func digits(_ n: UInt64, _ width: Int) -> String {
    let text = String(n)
    return String(repeating: "0", count: max(0, width - text.count)) + text
  }

  package static func volume(_ volume: ULID) -> String { "volumes/\(volume)" }
  package static func document(_ volume: ULID) -> String { "volumes/\(volume)/volume.toml" }
  package static func head(_ volume: ULID) -> String { "volumes/\(volume)/head.toml" }
  package static func page(_ volume: ULID, _ page: UInt64) -> String { "volumes/\(volume)/journal/\(digits(page, 8))" }
  package static func body(volume: ULID, segment: UInt64, hash: Digest) -> String {
    "volumes/\(volume)/segments/\(digits(segment, 16))-\(hash)"
  }
  package static func checkpoint(_ volume: ULID, seq: UInt64, digest: Digest) -> String {
    "volumes/\(volume)/maps/\(digits(seq, 16))-\(digest)"
  }
  // Names: docs/formats/names.md.
  package static func nameEntries(_ name: String) -> String { "events/\(name)/" }
  /// Entries come before checkpoints in a list: digits before letters.
  package static func isNameEntry(_ key: String, of name: String) -> Bool {
    key.hasPrefix(nameEntries(name)) && key.dropFirst(nameEntries(name).count).first?.isNumber == true
  }
  package static func nameEntry(_ name: String, _ seq: UInt64) -> String { "events/\(name)/\(digits(seq, 16)).toml" }
  package static func nameCheckpoint(_ name: String, _ seq: UInt64) -> String {
    "events/\(name)/checkpoints/\(digits(seq, 16)).toml"
  }
  /// A signed checkpoint of the tree that ends with entry `seq`, as a note.
  package static func nameNote(_ name: String, _ seq: UInt64) -> String {
    "events/\(name)/checkpoints/\(digits(seq, 16)).note"
  }
  package static func nameHint(_ name: String) -> String { "names/\(name).toml" }
  package static func heads(_ host: String, date: String) -> String { "hosts/\(host)/heads/\(date).toml" }

  package static func host(_ id: String) -> String { "hosts/\(id)/host.pub" }
}
