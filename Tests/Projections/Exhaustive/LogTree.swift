import ElideEvents
import ElideIO
import ElideProjections

/// All logs of one name that a world can come to, as a tree: a node is a log, its children are the logs with one entry more. A
/// request on its way is the node that it would make: it lands if the log is that node's parent by then. So a world's state
/// holds small numbers, while every entry is real: encoded, signed, decoded and folded once.
final class LogTree {
  struct Node {
    let parent: Int32
    let depth: Int
    let fold: NameFold
    let event: NameEvent?
    let host: Int
    let incarnation: Int
    let id: ULID
    var isLegal = true
  }
  private struct Edge: Hashable {
    let parent: Int32
    let kind: String
    let detail: String
    let host: Int
    let incarnation: Int
    let epoch: UInt64
  }
  private(set) var nodes: [Node]
  private var edges: [Edge: Int32] = [:]
  private let name: String
  /// What went wrong with the fold itself (I5), if anything did.
  private(set) var trouble: String?

  static let keys = (0..<3).compactMap { SigningKey(secret: [UInt8](repeating: UInt8($0 + 1), count: 32)) }
  static let hosts = keys.map { Digest.sha256($0.publicKey).hex }

  init(_ name: String) {
    self.name = name
    nodes = [
      Node(parent: -1, depth: 0, fold: NameFold(name: name), event: nil, host: 0, incarnation: 0, id: ULID(high: 0, low: 0))
    ]
  }

  func state(_ node: Int32) -> NameState { nodes[Int(node)].fold.state }
  func depth(_ node: Int32) -> Int { nodes[Int(node)].depth }
  func parent(_ node: Int32) -> Int32 { nodes[Int(node)].parent }
  /// The log cut to `depth` entries.
  func ancestor(_ node: Int32, _ depth: Int) -> Int32 {
    var n = node
    while nodes[Int(n)].depth > depth { n = nodes[Int(n)].parent }
    return n
  }
  func isLegal(_ node: Int32) -> Bool { nodes[Int(node)].isLegal }
  /// The log as entries, oldest first.
  func entries(_ node: Int32) -> [Node] {
    var out: [Node] = []
    var n = node
    while n > 0 {
      out.append(nodes[Int(n)])
      n = nodes[Int(n)].parent
    }
    return out.reversed()
  }

  static func author(_ state: NameState, _ host: Int, _ incarnation: Int) -> Author {
    let inc = ULID(high: UInt64(incarnation) + 1, low: UInt64(host) + 1)
    let mine = state.owner == hosts[host] && state.incarnation == inc
    return Author(host: hosts[host], incarnation: inc, epoch: mine ? state.epoch : 0)
  }

  /// What the real decision says of a command in the log `view`: the node that the request would make; nil when it is
  /// refused, or done already. A decided entry must be legal.
  func decide(_ command: NameCommand, _ view: Int32, _ host: Int, _ incarnation: Int) -> Int32? {
    let state = state(view)
    guard case .append(let event)? = try? state.decide(command, by: Self.author(state, host, incarnation)) else { return nil }
    let node = child(view, event, host, incarnation)
    if !isLegal(node) { trouble = trouble ?? "decided, and illegal: \(event) in \(state.sentence)" }
    return node
  }

  func child(_ view: Int32, _ event: NameEvent, _ host: Int, _ incarnation: Int) -> Int32 {
    let before = nodes[Int(view)].fold
    let author = Self.author(before.state, host, incarnation)
    let edge = Edge(
      parent: view, kind: event.kind, detail: "\(event)", host: host, incarnation: incarnation, epoch: author.epoch)
    if let known = edges[edge] { return known }
    let id = ULID(high: 3, low: UInt64(nodes.count))
    var e = Envelope(
      log: NameEntryCodec.log(name), seq: before.nextSeq, prev: before.head?.hash, id: id, kind: event.kind,
      at: "2026-01-31T12:00:00.000Z", actor: author.host, incarnation: author.incarnation)
    e.epoch = author.epoch
    var fold = before
    var isLegal = false
    if let raw = try? NameEntryCodec.encode(e, event, key: Self.keys[host]).raw {
      isLegal = fold.next(raw) == nil
      checkReplay(before, raw, fold)
    } else {
      trouble = trouble ?? "cannot be written: \(event)"
    }
    let n = Int32(nodes.count)
    nodes.append(
      Node(
        parent: view, depth: Int(before.nextSeq) + 1, fold: fold, event: event, host: host, incarnation: incarnation, id: id,
        isLegal: isLegal))
    edges[edge] = n
    return n
  }

  /// I5, and the rule of epochs, for each entry that any world ever writes.
  private func checkReplay(_ before: NameFold, _ raw: [UInt8], _ after: NameFold) {
    if let head = before.head {
      let kept = try? NameState.decode(before.state.encode())
      var again = kept.flatMap { NameFold(state: $0, tree: before.tree, head: head) }
      again?.next(raw)
      if again != after { trouble = trouble ?? "another fold from the encoded state" }
    }
    let (old, new) = (before.state, after.state)
    if (old.owner, old.incarnation) != (new.owner, new.incarnation), new.epoch != new.seq {
      trouble = trouble ?? "ownership changed without its epoch"
    }
    if (new.owner == nil) == NameState.owned.contains(new.phase) { trouble = trouble ?? "\(new.phase) and owner disagree" }
  }
}

/// The shorthand of the worlds.
enum WorldFacts {
  static func volume(_ n: Int) -> ULID { ULID(high: 7, low: UInt64(n)) }
  static func key(_ n: Int) -> [UInt8] { [UInt8](repeating: UInt8(n % 251), count: 32) }
  static func cut(_ volume: Int, _ page: Int) -> Cut {
    Cut(
      volume: Self.volume(volume), seq: UInt64(page), page: UInt64(page),
      pageHash: Digest.sha256([UInt8(truncatingIfNeeded: volume), UInt8(page)]))
  }
  static let list = Digest.sha256([1])
}
func == (a: (String?, ULID?), b: (String?, ULID?)) -> Bool { a.0 == b.0 && a.1 == b.1 }
