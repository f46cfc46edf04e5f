import ElideEvents
import ElideIO

/// A name's log, folded slot by slot: chain, meaning, and the edge of the Merkle tree over its entries. A value without I/O.
package struct NameFold: Equatable, Sendable {
  package private(set) var state: NameState
  package private(set) var tree: MerkleFrontier
  /// The last slot and the SHA-256 of its bytes; nil before slot 0.
  package private(set) var head: JournalHead?

  package init(name: String) {
    state = NameState(name: name)
    tree = MerkleFrontier()
  }

  /// Goes on from a state that stands at `head`. nil when the three do not stand at the same slot.
  package init?(state: NameState, tree: MerkleFrontier, head: JournalHead) {
    guard state.seq == head.seq, tree.count == head.seq + 1 else { return nil }
    self.state = state
    self.tree = tree
    self.head = head
  }

  package var nextSeq: UInt64 { head.map { $0.seq + 1 } ?? 0 }

  /// Folds the bytes of the next slot, whatever they are; a slot that changes nothing is returned as its violation.
  @discardableResult
  package mutating func next(_ raw: [UInt8], areVerified: Bool = false) -> Violation? { step(raw, areVerified: areVerified).1 }

  /// The same, with what the bytes are.
  package mutating func step(_ raw: [UInt8], areVerified: Bool = false) -> (NameStep, Violation?) {
    var replay = NameReplay(name: state.name, after: head)
    let step = replay.next(raw, areVerified: areVerified)
    head = replay.position
    tree.append(raw)
    return (step, state.apply(step))
  }
}
