import ElideEvents
import ElideIO
import ElideProjections

/// What one host can do next in a `FenceWorld`.
struct FenceHost {
  typealias State = FenceWorld.State
  let world: FenceWorld
  let g: State
  let index: Int
  private var h: FenceWorld.Host { g.hosts[index] }
  private var tree: LogTree { world.tree }
  private var state: NameState { tree.state(h.known) }
  private var author: Author { LogTree.author(state, index, h.incarnation) }
  private var isMine: Bool { state.isOwned(by: author) }

  private func step(_ label: String, _ change: (inout FenceWorld.Host, inout State) -> Void) -> (String, State) {
    var next = g
    var host = h
    change(&host, &next)
    next.hosts[index] = host
    return ("\(label) by \(index)", world.tidied(next))
  }

  func steps() -> [(String, State)] {
    switch h.place {
    case .gone: return []
    case .down:
      return [
        step("restart") { h, _ in
          h.place = .up
          h.incarnation += 1
          h.known = world.root
          if case .nothing = h.want { h.phase = .boot } else { h.phase = .appending }
        }
      ]
    case .up: return ends() + work()
    }
  }

  private func ends() -> [(String, State)] {
    var out: [(String, State)] = []
    if g.budget.crashes > 0 {
      out.append(
        step("crash") { h, g in
          g.budget.crashes -= 1
          h.place = .down
          if h.phase == .appending, case .entry(let entry, _) = h.want {
            h.want = .entry(entry, then: .boot)
          } else {
            h.want = .nothing
          }
          if !world.rules.freezesPages { h.frozen = nil }
          h.phase = .off
        })
    }
    if g.budget.deaths > 0, index == 0 {
      out.append(
        step("die") { h, g in
          g.budget.deaths -= 1
          h = FenceWorld.Host(place: .gone, known: world.root, phase: .off)
        })
    }
    return out
  }

  private func work() -> [(String, State)] {
    if h.known != g.log, [.idle, .boot, .halted].contains(h.phase) { return [step("read") { h, g in h.known = g.log }] }
    switch h.phase {
    case .appending: return appending()
    case .boot: return boot()
    case .deleting: return [delete()]
    case .putting: return putting()
    case .building: return building()
    case .idle: return idle()
    case .halted:
      if !isMine { return [step("halted and displaced") { h, _ in (h.phase, h.volume) = (.idle, 0) }] }
      return force()
    case .off: return []
    }
  }

  /// Decides and sends; nothing when the command is refused or done.
  private func append(
    _ command: NameCommand, then phase: FenceWorld.Phase,
    _ also: (Int32, inout FenceWorld.Host, inout State) -> Void = { _, _, _ in }
  ) -> [(String, State)] {
    guard let entry = tree.decide(command, h.known, index, h.incarnation) else { return [] }
    let kind = tree.nodes[Int(entry)].event?.kind ?? ""
    return [
      step("append \(kind)") { h, g in
        h.phase = .appending
        h.want = .entry(entry, then: phase)
        g.entries.insert(entry)
        also(entry, &h, &g)
      }
    ]
  }

  private func appending() -> [(String, State)] {
    guard case .entry(let entry, let then) = h.want else { return [] }
    guard tree.depth(g.log) >= tree.depth(entry) else {
      return g.entries.contains(entry) ? [] : [step("again") { _, g in g.entries.insert(entry) }]
    }
    let found = tree.ancestor(g.log, tree.depth(entry))
    if found == entry { return [step("committed") { h, _ in (h.known, h.phase, h.want) = (entry, then, .nothing) }] }
    return [
      step("lost") { h, g in
        h.known = found
        h.want = .nothing
        h.phase = state.owner == LogTree.hosts[index] || then == .boot ? .boot : .idle
        // The budget counts forces that were committed.
        if case .fenced? = tree.nodes[Int(entry)].event { g.budget.fences += 1 }
      }
    ]
  }

  private func boot() -> [(String, State)] {
    if isMine { return [step("go on") { h, _ in h.phase = .idle }] }
    let adopt = append(.adopt, then: .boot) { _, h, _ in h.volume = world.number(state.volume) }
    return adopt.isEmpty ? [step("displaced") { h, _ in (h.phase, h.volume) = (.idle, 0) }] : adopt
  }

  private func idle() -> [(String, State)] {
    var out = force()
    guard isMine else { return out }
    switch state.phase {
    case .live: out += publish() + reap()
    case .stopped: out += append(.start, then: .idle) { _, h, _ in h.volume = world.number(state.volume) }
    case .recovering: out += recover()
    default: break
    }
    return out
  }

  // MARK: The owner

  private func publish() -> [(String, State)] {
    if let frozen = h.frozen, frozen.volume == h.volume, frozen.page == h.pages {
      return [
        step("put frozen page") { h, g in
          h.phase = .putting
          h.want = .page(frozen)
          g.puts.insert(frozen)
        }
      ]
    }
    guard g.budget.pages > 0 else { return [] }
    let reads = world.reads(g, state, h.volume, h.pages)
    var out: [(String, State)] = []
    for compacts in [false, true] where !compacts || !reads.isEmpty {
      let segment = (h.volume * 64 + h.pages) * 64 + h.incarnation * 2 + (compacts ? 1 : 0)
      let live = (compacts ? [] : reads).union([segment])
      let put = FenceWorld.PagePut(
        volume: h.volume, page: h.pages, content: .page(host: index, incarnation: h.incarnation, live: live, basis: nil))
      out.append(
        step("put \(compacts ? "compacted " : "")page") { h, g in
          g.budget.pages -= 1
          h.phase = .putting
          h.want = .page(put)
          h.frozen = put
          g.puts.insert(put)
        })
    }
    return out
  }

  private func reap() -> [(String, State)] {
    guard h.pages > 0 else { return [] }
    var out: [(String, State)] = []
    let keep = world.reads(g, state, h.volume, h.pages)
    if g.budget.reaps > 0 {
      for volume in state.holdings.episodes.map({ world.number($0.volume) }) {
        let pages = (g.pages[volume] ?? []).enumerated().filter { volume != h.volume || $0.offset < h.pages }
        // A list names objects of its volume only, not what the volume inherits.
        let all = pages.reduce(into: Set<Int>()) { $0.formUnion($1.element.live) }.filter { $0 / 4096 == volume }
        let garbage = all.subtracting(keep).subtracting(g.gone)
        if garbage.isEmpty { continue }
        let floor = volume == h.volume ? h.pages - 1 : world.basis(state, of: h.volume)?.page ?? 0
        let digest = Digest.sha256(garbage.sorted().flatMap { [UInt8($0 >> 16 & 255), UInt8($0 >> 8 & 255), UInt8($0 & 255)] })
        let reap = Reap(
          volume: WorldFacts.volume(volume), cut: WorldFacts.cut(h.volume, h.pages - 1), floor: UInt64(max(0, floor)), kept: [],
          list: digest, count: UInt64(garbage.count))
        out += append(.reap(reap), then: .deleting) { entry, _, g in
          g.budget.reaps -= 1
          world.remember(entry, garbage)
        }
      }
    }
    if g.budget.discards > 0, let displaced = state.holdings.displaced.first {
      out += append(.discardDisplaced(volume: displaced.volume), then: .idle) { _, _, g in g.budget.discards -= 1 }
    }
    return out
  }

  private func delete() -> (String, State) {
    let log = tree.entries(h.known)
    let depth = (log.lastIndex { node in if case .reap? = node.event { node.host == index } else { false } } ?? 0) + 1
    let list = world.list(tree.ancestor(h.known, depth))
    return step("delete") { h, g in
      h.phase = .idle
      g.deletes.formUnion(list.subtracting(g.gone))
    }
  }

  private func putting() -> [(String, State)] {
    guard case .page(let put) = h.want else { return [] }
    let pages = g.pages[put.volume] ?? []
    guard put.page < pages.count else {
      return g.puts.contains(put) ? [] : [step("put again") { _, g in g.puts.insert(put) }]
    }
    if pages[put.page] != put.content { return [step("foreign page: halt") { h, _ in (h.phase, h.want) = (.halted, .nothing) }] }
    let tail = tree.state(g.log)
    if world.rules.checksAfterPut, !tail.isOwned(by: LogTree.author(tail, index, h.incarnation)) {
      return [
        step("fenced: not reported") { h, g in (h.phase, h.want, h.known, h.pages) = (.idle, .nothing, g.log, put.page + 1) }
      ]
    }
    return [
      step("report") { h, g in
        if world.rules.checksAfterPut { h.known = g.log }
        (h.phase, h.want, h.pages, h.frozen) = (.idle, .nothing, put.page + 1, nil)
        g.reported.insert(FenceWorld.Point(volume: put.volume, page: put.page))
      }
    ]
  }

  // MARK: Force

  private func force() -> [(String, State)] {
    guard g.budget.fences > 0, let owner = state.owner else { return [] }
    let isOwn = owner == LogTree.hosts[index]
    if isOwn, h.phase != .halted { return [] }
    let volume = 16 + index * 16 + tree.depth(h.known)
    let force = Force(
      expectOwner: owner, expectEpoch: nil, volume: WorldFacts.volume(volume), key: WorldFacts.key(volume), isSelf: isOwn)
    return append(.force(force), then: .idle) { _, h, g in
      h.volume = 0
      g.budget.fences -= 1
    }
  }

  private func recover() -> [(String, State)] {
    guard let episode = state.holdings.episodes.last else { return [] }
    let source = world.number(episode.volume)
    if world.rules.endsPageLogs, !world.isEnded(g, source) {
      let end = FenceWorld.PagePut(volume: source, page: (g.pages[source] ?? []).count, content: .end(by: index))
      return g.puts.contains(end) ? [] : [step("end page log") { _, g in g.puts.insert(end) }]
    }
    let newest = world.newest(g, source)
    var bases = [
      newest >= 0
        ? FenceWorld.Point(volume: source, page: newest)
        : world.basis(state, of: source)
          ?? FenceWorld.Point(volume: source, page: -1)
    ]
    if world.rules.losesPages, newest >= 1 { bases.append(FenceWorld.Point(volume: source, page: newest - 1)) }
    // A basis that would be refused is not begun: its genesis page would stand for ever.
    bases = bases.filter { basis in
      let loses = basis.volume == source && basis.page < newest
      return state.basisFault(real(basis), acceptsLoss: loses) == nil
    }
    return bases.map { basis in
      step("choose basis \(basis.page)") { h, _ in
        (h.phase, h.want, h.volume, h.pages) = (.building, .basis(basis), world.number(state.pending?.volume), 0)
      }
    }
  }

  private func building() -> [(String, State)] {
    guard case .basis(let basis) = h.want else { return [] }
    let genesis = FenceWorld.PagePut(
      volume: h.volume, page: 0,
      content: .page(
        host: index, incarnation: world.rules.freezesPages ? 0 : h.incarnation, live: world.live(g, basis), basis: basis))
    guard let first = g.pages[h.volume]?.first else {
      return g.puts.contains(genesis) ? [] : [step("put genesis page") { _, g in g.puts.insert(genesis) }]
    }
    // Frozen like any page: what was put before a crash decides.
    guard case .page(index, _, _, let told?) = first, world.rules.freezesPages || first == genesis.content else {
      return [step("foreign genesis: halt") { h, _ in (h.phase, h.want) = (.halted, .nothing) }]
    }
    if h.known != g.log { return [step("read") { h, g in (h.known, h.phase, h.want) = (g.log, .idle, .nothing) }] }
    let newest = world.number(state.holdings.episodes.last?.volume)
    let loses = world.rules.losesPages && told.volume == newest && told.page < world.newest(g, newest)
    let recover = NameCommand.recover(
      volume: WorldFacts.volume(h.volume), basis: real(told), lost: loses ? "a page cannot be read" : "")
    return append(recover, then: .idle) { _, h, _ in h.pages = 1 }
  }

  private func real(_ p: FenceWorld.Point) -> Basis {
    p.page < 0 ? .empty(WorldFacts.volume(p.volume)) : .cut(WorldFacts.cut(p.volume, p.page))
  }
}
