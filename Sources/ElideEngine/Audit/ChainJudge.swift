import ElideIO

/// What stands in one slot of a chained log: a name's entries, or a volume's pages.
struct ChainLink {
  /// The object.
  var key: String
  /// nil: nothing is there, though something should be.
  var hash: Digest?
  /// What it says of the slot before; nil in the first one, and when it cannot be read.
  var previous: Digest?
  /// What is wrong with it by itself.
  var fault: String?
  /// What others, who signed it, say of the hash here.
  var claims: [Claim] = []

  struct Claim {
    var hash: Digest
    /// The object or file that says so.
    var by: String
  }
}

/// Finds which slots of a chain are not what was put there. A chain by itself only says that two neighbours do not fit: which
/// of them was replaced follows from their own neighbours, and from what others have signed.
enum ChainJudge {
  struct Finding: Equatable {
    var index: Int
    /// "missing", "entry" (wrong by itself) or "chain".
    var what: String
    var detail: String
  }

  /// In order. `keepsForeign`: bytes that are no entry, and that the next one was appended to, stand there rightly.
  static func findings(_ links: [ChainLink], keepsForeign: Bool) -> [Finding] {
    var found: [Int: Finding] = [:]
    for (i, link) in links.enumerated() {
      guard let hash = link.hash else {
        let witness = link.claims.first.map { ", and \($0.by) names it" } ?? ", and later ones are there"
        found[i] = Finding(index: i, what: "missing", detail: "it is not there" + witness)
        continue
      }
      if let fault = link.fault, !(keepsForeign && isContinued(i, links)) {
        found[i] = Finding(index: i, what: "entry", detail: fault)
      } else if let claim = link.claims.first(where: { $0.hash != hash }) {
        found[i] = Finding(index: i, what: "chain", detail: "it is not the one that \(claim.by) names: it was replaced")
      }
    }
    for i in links.indices.dropFirst() {
      guard links[i].hash != nil, links[i].fault == nil, links[i - 1].hash != nil, !fits(i, links), found[i] == nil,
        found[i - 1] == nil
      else { continue }
      let bad = blame(i, links)
      found[bad] = Finding(
        index: bad, what: "chain",
        detail: bad == i
          ? "it does not continue the one before it: it was replaced"
          : "the next one continues another than this: it was replaced")
    }
    return found.values.sorted { $0.index < $1.index }
  }

  /// Whether link i names the bytes before it.
  private static func fits(_ i: Int, _ links: [ChainLink]) -> Bool { links[i].previous == links[i - 1].hash }

  /// Somebody appended behind these bytes, having read them.
  private static func isContinued(_ i: Int, _ links: [ChainLink]) -> Bool {
    guard i + 1 < links.count, links[i + 1].hash != nil, links[i + 1].fault == nil else { return false }
    return fits(i + 1, links)
  }

  /// Links i - 1 and i are fine by themselves, and do not fit: which of them was replaced?
  private static func blame(_ i: Int, _ links: [ChainLink]) -> Int {
    if links[i].claims.contains(where: { $0.hash == links[i].hash }) { return i - 1 }
    if links[i - 1].claims.contains(where: { $0.hash == links[i - 1].hash }) { return i }
    // The one after it, if it can be read, was appended to what was there.
    if i + 1 < links.count, links[i + 1].hash != nil, links[i + 1].fault == nil { return fits(i + 1, links) ? i - 1 : i }
    return i - 1
  }
}
