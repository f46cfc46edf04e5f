import ElideEvents
import ElideIO
import ElideProjections

/// Ownership episodes of one name: pages, reaps, deletes, crashes, adoption, force and force again, recovery. The name log is
/// the real one; pages, segments and journals are shapes.
struct FenceWorld: World {
  struct Point: Hashable {
    var volume: Int
    /// -1: the volume has no page.
    var page: Int
  }
  enum Page: Hashable {
    case page(host: Int, incarnation: Int, live: Set<Int>, basis: Point?)
    /// The terminal page.
    case end(by: Int)

    var live: Set<Int> {
      if case .page(_, _, let live, _) = self { return live }
      return []
    }
    var isEnd: Bool {
      if case .end = self { return true }
      return false
    }
  }
  struct PagePut: Hashable {
    var volume: Int
    var page: Int
    var content: Page
  }
  enum Place: Hashable { case up, down, gone }
  enum Phase: Hashable { case idle, boot, appending, deleting, putting, building, halted, off }
  enum Want: Hashable {
    case nothing
    case entry(Int32, then: Phase)
    case page(PagePut)
    case basis(Point)
  }
  struct Host: Hashable {
    var place = Place.up
    var incarnation = 0
    /// The log as far as it was read.
    var known: Int32
    var phase = Phase.idle
    var volume = 0
    /// Pages that the local journal knows of, and the frozen bytes of the next.
    var pages = 0
    var want = Want.nothing
    var frozen: PagePut?
  }
  struct Budget: Hashable {
    var crashes = 0
    var fences = 1
    var pages = 2
    var reaps = 1
    var deaths = 0
    var discards = 0
  }
  struct State: Hashable {
    var log: Int32
    var pages: [Int: [Page]] = [:]
    var gone: Set<Int> = []
    var entries: Set<Int32> = []
    var puts: Set<PagePut> = []
    var deletes: Set<Int> = []
    var hosts: [Host]
    var reported: Set<Point> = []
    var budget: Budget
  }

  struct Rules {
    var hosts = 2
    var budget = Budget()
    /// The rules of the design, each of which can be left out to see that the run notices.
    var endsPageLogs = true
    var checksAfterPut = true
    var freezesPages = true
    /// The newest page cannot be read, and the operator accepts the loss: cuts are lost, bytes that are kept are not.
    var losesPages = false
  }
  let rules: Rules
  let tree = LogTree("db")
  let root: Int32
  /// What each reap deletes.
  private final class Lists { var of: [Int32: Set<Int>] = [:] }
  private let lists = Lists()

  init(_ rules: Rules) {
    self.rules = rules
    let facts = NewVolumeFacts(volume: WorldFacts.volume(1), key: WorldFacts.key(1), size: 1 << 20)
    root = tree.child(tree.child(0, .created(facts), 0, 0), .started, 0, 0)
  }

  func begin() -> [State] {
    let hosts = (0..<rules.hosts).map { i in Host(known: i == 0 ? root : 0, volume: i == 0 ? 1 : 0) }
    return [State(log: root, hosts: hosts, budget: rules.budget)]
  }

  // MARK: Looking

  func newest(_ g: State, _ volume: Int) -> Int { (g.pages[volume] ?? []).lastIndex { !$0.isEnd } ?? -1 }
  func isEnded(_ g: State, _ volume: Int) -> Bool { g.pages[volume]?.last?.isEnd ?? false }
  func live(_ g: State, _ p: Point) -> Set<Int> {
    guard p.page >= 0, let pages = g.pages[p.volume], p.page < pages.count else { return [] }
    return pages[p.page].live
  }
  func number(_ volume: ULID?) -> Int { Int(volume?.low ?? 0) }
  func basis(_ state: NameState, of volume: Int) -> Point? {
    guard let cut = state.holdings.episodes.first(where: { number($0.volume) == volume })?.basis else { return nil }
    return Point(volume: number(cut.volume), page: Int(cut.seq))
  }
  /// What the volume reads at its newest page, or at what it continues.
  func reads(_ g: State, _ state: NameState, _ volume: Int, _ pages: Int) -> Set<Int> {
    if pages > 0 { return live(g, Point(volume: volume, page: pages - 1)) }
    return basis(state, of: volume).map { live(g, $0) } ?? []
  }

  // MARK: Steps

  func steps(_ g: State) -> [(String, State)] {
    var out: [(String, State)] = []
    for entry in g.entries.sorted() {
      var next = g
      next.entries.remove(entry)
      if tree.parent(entry) == g.log { next.log = entry }
      out.append(("entry lands: \(tree.nodes[Int(entry)].event?.kind ?? "") of \(tree.nodes[Int(entry)].host)", tidied(next)))
    }
    for put in g.puts where put.page <= (g.pages[put.volume] ?? []).count {
      var next = g
      next.puts.remove(put)
      if put.page == (g.pages[put.volume] ?? []).count { next.pages[put.volume, default: []].append(put.content) }
      out.append(("page lands: \(put.volume)/\(put.page) \(put.content)", tidied(next)))
    }
    for segment in g.deletes {
      var next = g
      next.deletes.remove(segment)
      next.gone.insert(segment)
      out.append(("delete lands: \(segment)", next))
    }
    for i in g.hosts.indices { out += FenceHost(world: self, g: g, index: i).steps() }
    return out
  }

  func tidied(_ g: State) -> State {
    var next = g
    next.entries = g.entries.filter { tree.depth($0) > tree.depth(g.log) }
    next.puts = g.puts.filter { $0.page >= (g.pages[$0.volume] ?? []).count }
    return next
  }

  func remember(_ reap: Int32, _ list: Set<Int>) { lists.of[reap] = list }
  func list(_ reap: Int32) -> Set<Int> { lists.of[reap] ?? [] }

  // MARK: Invariants

  func fault(_ g: State) -> String? {
    if let trouble = tree.trouble { return trouble }
    let state = tree.state(g.log)
    let serving = g.hosts.indices.filter { i in
      g.hosts[i].place == .up && state.mayServe(LogTree.author(state, i, g.hosts[i].incarnation))
    }
    if serving.count > 1 { return "I1: two hosts may serve" }
    for (_, pages) in g.pages {
      let writers = Set(
        pages.compactMap { page -> Int? in
          if case .page(let host, _, _, _) = page { return host }
          return nil
        })
      if writers.count > 1 { return "pages of one volume from two hosts" }
    }
    return recoveryFault(g, state) ?? liveFault(g, state)
  }

  private func recoveryFault(_ g: State, _ state: NameState) -> String? {
    let log = tree.entries(g.log)
    for (i, node) in log.enumerated() {
      guard case .recovered(let basis, let lost)? = node.event, node.isLegal else { continue }
      var point = Point(volume: number(basis.volume), page: -1)
      if case .cut(let cut) = basis { point.page = Int(cut.seq) }
      if lost.isEmpty, g.reported.contains(where: { $0.volume == point.volume && $0.page > point.page }) {
        return "I6: a cut that was reported is not in the basis"
      }
      // The granted episode before this one decides what is continued.
      let before = tree.state(node.parent)
      guard let episode = before.holdings.episodes.last else { return "recovered from nothing" }
      let own = number(episode.volume)
      if point.volume != own {
        if self.basis(before, of: own) != point { return "the basis is not what the last episode was built on" }
        if lost.isEmpty, g.reported.contains(where: { $0.volume == own }) {
          return "I6: the basis ignores cuts of a later episode"
        }
      }
      let isNewest = !log[(i + 1)...].contains { if case .recovered? = $0.event { $0.isLegal } else { false } }
      let new = number(tree.state(tree.ancestor(g.log, node.fold.state.nextSeq == 0 ? 0 : Int(node.fold.state.nextSeq))).volume)
      if isNewest, newest(g, new) < 1, !live(g, point).isDisjoint(with: g.gone) {
        return "I3: a segment of the basis was deleted"
      }
    }
    return nil
  }

  private func liveFault(_ g: State, _ state: NameState) -> String? {
    if state.phase == .live || state.phase == .stopped {
      let volume = number(state.volume)
      if !reads(g, state, volume, newest(g, volume) + 1).isDisjoint(with: g.gone) {
        return "I3: the owner's newest cut needs a deleted segment"
      }
    }
    for d in state.holdings.displaced {
      let volume = number(d.volume)
      if !live(g, Point(volume: volume, page: newest(g, volume))).isDisjoint(with: g.gone) {
        return "a displaced volume lost segments before it was rescued"
      }
    }
    return nil
  }

  func isGoal(_ g: State) -> Bool {
    let state = tree.state(g.log)
    guard state.phase == .live, let i = LogTree.hosts.firstIndex(where: { $0 == state.owner }), i < g.hosts.count else {
      return false
    }
    let h = g.hosts[i]
    return h.place == .up && h.phase == .idle && h.known == g.log && state.mayServe(LogTree.author(state, i, h.incarnation))
      && h.pages >= (g.pages[number(state.volume)] ?? []).count
  }
}
