import Testing

/// Every state that three hosts can come to within bounds, with the real `decide` and `apply` behind every entry, over append,
/// void, fence, reap, fork and rename; the invariants hold in each, and from each some way leads on. Runs in which one rule
/// is left out show that the worlds can notice.
@Suite struct NameExhaustiveTests {
  private func clean<W: World>(_ name: String, _ world: W, must: [String] = []) {
    let out = explore(world)
    let steps = out.met.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    print("\(name): \(out.states) states, \(out.edges) steps; \(steps)")
    #expect(out.isComplete)
    for (fault, way) in out.faults { Issue.record("\(name): \(fault): \(way.joined(separator: " / "))") }
    if let stuck = out.stuck { Issue.record("\(name): no way on: \(stuck.joined(separator: " / "))") }
    for word in must { #expect(out.met[word] ?? 0 > 0, "\(name): never met: \(word)") }
  }

  private func noticed<W: World>(_ name: String, _ world: W, _ wanted: String) {
    let out = explore(world)
    print("\(name), a rule left out: \(out.states) states; \(out.faults.keys.sorted()), stuck \(out.stuck != nil)")
    #expect(out.faults.keys.contains { $0.contains(wanted) } || (wanted == "stuck" && out.stuck != nil), "\(name): not noticed")
  }

  @Test func append() {
    clean("append", AppendWorld(), must: ["void", "committed", "lost", "decide", "crash", "clone"])
    noticed("append", AppendWorld(.giveUp), "I4: reported failed")
    noticed("append", AppendWorld(.voidElsewhere), "I4: reported failed")
    noticed("append", AppendWorld(.decideAgain), "I4: one command twice")
  }

  @Test func fork() {
    clean("fork", ForkWorld(), must: ["pin", "fork", "reap", "purge", "void", "unpin", "die", "delete"])
    noticed("fork", ForkWorld(clearsOnAbsence: true), "I3")
  }

  @Test func rename() {
    clean("rename", RenameWorld(), must: ["reserve", "commit", "finish", "abort", "void", "contend", "die"])
    noticed("rename", RenameWorld(abortsOnAbsence: true), "I2")
  }

  // MARK: Episodes

  private func rules(_ hosts: Int, _ budget: FenceWorld.Budget, _ change: (inout FenceWorld.Rules) -> Void = { _ in })
    -> FenceWorld
  {
    var rules = FenceWorld.Rules()
    rules.hosts = hosts
    rules.budget = budget
    change(&rules)
    return FenceWorld(rules)
  }

  @Test func fenceByThreeHosts() {
    clean(
      "three hosts, two forces", rules(3, FenceWorld.Budget(fences: 2, pages: 2, reaps: 1)),
      must: ["put", "report", "end", "fenced", "delete", "choose"])
  }

  @Test func fenceAcrossCrashes() {
    #if DEBUG
      let budget = FenceWorld.Budget(crashes: 1, fences: 1, pages: 2, reaps: 1)
    #else
      let budget = FenceWorld.Budget(crashes: 1, fences: 2, pages: 2, reaps: 1)
    #endif
    clean("two hosts, crashes", rules(2, budget), must: ["restart", "crash", "committed", "lost"])
  }

  @Test func fenceWhenTheOwnerDies() {
    clean(
      "the owner dies", rules(2, FenceWorld.Budget(crashes: 2, fences: 1, pages: 1, reaps: 0, deaths: 1)),
      must: ["die", "restart"])
  }

  @Test func reapsOfDisplacedVolumes() {
    clean(
      "discard, then reap of the ended volume", rules(2, FenceWorld.Budget(fences: 1, pages: 3, reaps: 2, discards: 1)),
      must: ["append", "delete"])
  }

  @Test func unreadablePages() {
    clean("accepted loss", rules(2, FenceWorld.Budget(fences: 1, pages: 3, reaps: 1)) { $0.losesPages = true }, must: ["choose"])
  }

  @Test func rulesThatAreNeeded() {
    let small = FenceWorld.Budget(fences: 1, pages: 2, reaps: 0)
    noticed(
      "page log left open",
      rules(2, small) {
        $0.endsPageLogs = false
        $0.checksAfterPut = false
      }, "I6")
    noticed(
      "pages built anew after a crash",
      rules(2, FenceWorld.Budget(crashes: 1, fences: 0, pages: 3, reaps: 0)) { $0.freezesPages = false }, "stuck")
  }
}
