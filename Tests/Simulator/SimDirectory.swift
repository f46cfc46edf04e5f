/// A directory of the simulated file system: the names that processes see, the names on disk, and the changes between, in
/// order. A rename is one change: after a crash the file has its old name or its new one.
final class SimDirectory {
  enum Node {
    case file(SimInode)
    case directory(SimDirectory)
  }

  struct Change {
    /// Applied in order; nil removes.
    var names: [(name: String, node: Node?)]
    /// The other half of a rename to another directory, and which of that one's changes it was: it is on disk when this half
    /// is, unless the name has been another's there since.
    var companion: (directory: SimDirectory, name: String, node: Node, order: UInt64)?
    var order: UInt64 = 0
  }

  private(set) var visible: [String: Node] = [:]
  private var durable: [String: Node] = [:]
  private var pending: [Change] = []
  private var changes: UInt64 = 0
  /// The last change of a name that is on disk.
  private var durableOrder: [String: UInt64] = [:]

  var names: [String] { visible.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }

  @discardableResult
  func change(_ change: Change) -> UInt64 {
    changes += 1
    var change = change
    change.order = changes
    pending.append(change)
    for (name, node) in change.names { visible[name] = node }
    return changes
  }

  private func toDisk(_ change: Change) {
    for (name, node) in change.names { put(name, node, change.order) }
    if let c = change.companion { c.directory.put(c.name, c.node, c.order) }
  }
  private func put(_ name: String, _ node: Node?, _ order: UInt64) {
    guard order > durableOrder[name] ?? 0 else { return }
    durable[name] = node
    durableOrder[name] = order
  }

  /// Fills an empty directory with what readers see in this one, durably; `file` makes the copy of a file.
  func copy(to other: SimDirectory, _ file: (SimInode) -> SimInode) {
    for name in names {
      switch visible[name] {
      case .file(let inode): other.change(.init(names: [(name, .file(file(inode)))]))
      case .directory(let inner):
        let next = SimDirectory()
        inner.copy(to: next, file)
        other.change(.init(names: [(name, .directory(next))]))
      case nil: break
      }
    }
    other.sync()
  }

  func sync() {
    for c in pending { toDisk(c) }
    pending = []
  }

  /// A sync that failed: some changes got there; that the others did not, nobody will say again.
  func failSync(_ random: inout SeededRandom) {
    for c in pending where random.chance(1, in: 2) { toDisk(c) }
    pending = []
  }

  func losePower(_ random: inout SeededRandom) {
    let survivors = Survivors.draw(&random, count: pending.count)
    for (i, c) in pending.enumerated() where survivors.keeps(i, of: pending.count, &random) { toDisk(c) }
    pending = []
  }

  /// After every directory has lost power: what is on disk is what there is.
  func settle() { visible = durable }
  var durableNames: [String] { durable.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }
  func durableNode(_ name: String) -> Node? { durable[name] }
}
