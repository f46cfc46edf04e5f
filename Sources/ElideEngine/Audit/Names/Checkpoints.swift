import ElideEvents
import ElideIO
import ElideProjections

/// The checkpoints beside a name's log, compared with the fold while the log is read: one at a time is in memory.
struct Checkpoints {
  private let name: String
  private let store: any Store
  /// Those that were not read yet, by the slot that their key names.
  private var waiting: [UInt64: String] = [:]
  /// What signed checkpoints say of slots.
  private(set) var claims: [NameWitnessed] = []
  private(set) var compared: UInt64 = 0
  /// Damaged ones, and those that say something else than the entries, in the order of their slots.
  private(set) var faults: [VerifyReport.Fault] = []
  private(set) var differing: [VerifyReport.Fault] = []

  init(_ name: String, store: any Store) throws(ElideError) {
    self.name = name
    self.store = store
    for object in try store.all(under: "events/\(name)/checkpoints/") where object.key.hasSuffix(".toml") {
      guard let seq = UInt64(object.key.dropLast(5).suffix(16)), StoreLayout.nameCheckpoint(name, seq) == object.key else {
        continue
      }
      waiting[seq] = object.key
    }
  }

  /// The one that speaks of the slot where `fold` stands, if there is one.
  mutating func compare(_ fold: NameFold) throws(ElideError) {
    guard let seq = fold.head?.seq, let key = waiting.removeValue(forKey: seq), let found = try read(seq, key) else { return }
    compared += 1
    if found.fold != fold {
      differing.append(.init("checkpoint", at: key, "it does not say what the entries up to \(seq) say"))
    }
  }

  /// Those of slots that are not there.
  mutating func readRest() throws(ElideError) {
    for (seq, key) in waiting.sorted(by: { $0.key < $1.key }) { _ = try read(seq, key) }
    waiting = [:]
  }

  private mutating func read(_ seq: UInt64, _ key: String) throws(ElideError) -> NameCheckpoint? {
    guard let bytes = try store.found(key) else { return nil }
    do throws(TOMLError) {
      let checkpoint = try NameCheckpoint.decode(bytes, of: name)
      guard let head = checkpoint.fold.head, head.seq == seq else { throw TOMLError("it is that of another entry") }
      claims.append(NameWitnessed(name: name, seq: seq, says: .hash(head.hash), by: key))
      return checkpoint
    } catch {
      faults.append(.init("checkpoint", at: key, error.description))
      return nil
    }
  }
}
