import ElideEvents
import ElideIO
import ElideProjections

/// Somebody saw, and signed or kept, what stands in a slot of a name's log.
package struct NameWitnessed: Equatable, Sendable {
  package enum Says: Equatable, Sendable {
    /// The SHA-256 of the slot's bytes.
    case hash(Digest)
    /// The root of the Merkle tree over all slots up to and with this one.
    case root(Digest)
  }
  package var name: String
  package var seq: UInt64
  package var says: Says
  /// The object, the file, or "this host".
  package var by: String

  package init(name: String, seq: UInt64, says: Says, by: String) {
    self.name = name
    self.seq = seq
    self.says = says
    self.by = by
  }
}

/// What a store itself holds against those who would cut it short: hosts' keys and their signed heads, the entries in hints,
/// signed checkpoints. An auditor adds what he kept himself.
struct StoreWitnesses {
  /// Public keys by host id, as `host.pub` gives them.
  private(set) var hosts: [String: [UInt8]] = [:]
  private(set) var claims: [NameWitnessed] = []
  /// Documents of heads that were read.
  private(set) var headsRead = 0
  private(set) var faults: [VerifyReport.Fault] = []

  /// Reads what hosts have published.
  init(_ store: any Store) throws(ElideError) {
    for object in try store.all(under: "hosts/") {
      let parts = object.key.split(separator: "/").map(String.init)
      guard parts.count >= 3 else { continue }
      guard let bytes = try store.found(object.key) else { continue }
      if parts.count == 3, parts[2] == "host.pub" { host(bytes, parts[1], object.key) }
      if parts.count == 4, parts[2] == "heads" { heads(bytes, parts[1], parts[3], object.key) }
    }
  }

  private mutating func host(_ bytes: [UInt8], _ id: String, _ key: String) {
    do throws(DocumentError) {
      let document = try HostDocument.decode(bytes)
      if document.id == id {
        hosts[id] = document.key
      } else {
        faults.append(.init("host", at: key, "it is the key of host \(document.id)"))
      }
    } catch { faults.append(.init("host", at: key, error.detail)) }
  }

  private mutating func heads(_ bytes: [UInt8], _ id: String, _ file: String, _ key: String) {
    do throws(TOMLError) {
      let document = try HostHeads.decode(bytes)
      guard document.host == id, file == document.date + ".toml" else {
        faults.append(.init("heads", at: key, "it is of host \(document.host), \(document.date)"))
        return
      }
      headsRead += 1
      for h in document.heads {
        claims.append(NameWitnessed(name: h.name, seq: h.head.seq, says: .hash(h.head.hash), by: key))
      }
    } catch { faults.append(.init("heads", at: key, error.description)) }
  }

  /// Notes beside a name's log, of the trees that hosts have signed.
  mutating func notes(_ name: String, _ store: any Store) throws(ElideError) {
    for object in try store.all(under: "events/\(name)/checkpoints/") where object.key.hasSuffix(".note") {
      guard let bytes = try store.found(object.key) else { continue }
      do throws(ProofError) {
        let note = try TreeCheckpoint.decode(bytes)
        guard note.size > 0, note.logName == name, StoreLayout.nameNote(name, note.size - 1) == object.key else {
          throw ProofError("it is of another place")
        }
        guard hosts.values.contains(where: { note.isSigned(by: $0) }) else { throw ProofError("no host of this store signed it") }
        claims.append(NameWitnessed(name: name, seq: note.size - 1, says: .root(note.root), by: object.key))
      } catch { faults.append(.init("checkpoint", at: object.key, error.description)) }
    }
  }

  /// What the hint of `name` knows: entries are believed for their seals, whatever the hint is.
  static func hint(_ name: String, _ store: any Store) throws(ElideError) -> [NameWitnessed] {
    let key = StoreLayout.nameHint(name)
    guard let bytes = try store.found(key), let hint = try? NameHint.decode(bytes) else { return [] }
    var claims: [NameWitnessed] = []
    for raw in hint.entries {
      guard let entry = try? NameEntryCodec.decode(raw, of: name, at: 0),
        NameReader.judge(raw, name, entry.envelope.seq).1 == nil
      else { continue }
      claims.append(NameWitnessed(name: name, seq: entry.envelope.seq, says: .hash(entry.hash), by: key))
    }
    if let bytes = hint.checkpoint, let checkpoint = try? NameCheckpoint.decode(bytes, of: name),
      let head = checkpoint.fold.head
    {
      claims.append(NameWitnessed(name: name, seq: head.seq, says: .hash(head.hash), by: key))
    }
    return claims
  }
}

/// Keys that hosts have published in a store.
package enum HostKeys {
  package static func published(in store: any Store) throws(ElideError) -> [[UInt8]] {
    try StoreWitnesses(store).hosts.sorted { $0.key < $1.key }.map(\.value)
  }
}

extension Store {
  /// The whole object; nil when the store has none.
  func found(_ key: String) throws(ElideError) -> [UInt8]? {
    do throws(StoreError) { return try get(key, range: nil) } catch {
      if case .notFound = error { return nil }
      throw ElideError(error)
    }
  }
}
