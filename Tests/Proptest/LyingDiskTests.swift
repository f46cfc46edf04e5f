import ElideEngine
import ElideIO
import Simulator
import Testing

/// A disk that loses the journal's last transactions after it said that they were there. The volume rolls forward from its
/// page, is not opened, or goes back to a moment of its history; it never shows a mixture.
@Suite struct LyingDiskTests {
  private static func write(_ block: Int, _ count: Int, _ content: GuestContent) -> GuestRequest {
    var r = GuestRequest(.write, offset: block * 4096, length: count * 4096)
    r.content = content
    return r
  }

  @Test(arguments: [1, 2, 3, 5]) func neverMakesAMixture(lost: Int) throws {
    var counts: [String: Int] = [:]
    for seed in 1..<(lost == 1 ? 60 : 40) as Range<UInt64> {
      let world = try EngineWorld(seed: seed, size: 48 * 4096)
      guard try world.open() else { continue }
      var random = SeededRandom(seed: seed)
      for _ in 0..<(40 + random.below(300)) { world.step() }
      world.crash(.powerLoss)
      guard world.loseLastTransactions(lost) else { continue }
      do { _ = try world.openAfterLie() } catch {
        Issue.record("\(error)")
        return
      }
      counts.merge(world.counts) { $0 + $1 }
    }
    #expect(counts["served after a lie", default: 0] > 0)
  }

  /// However many of the last transactions are lost, from the one that settled the page back to before its first entry:
  /// everything that was reported as published is there again, and the volume goes on to publish.
  @Test func rollsForwardFromItsPage() throws {
    var forward = 0
    var lost = 1
    while true {
      let world = try EngineWorld(seed: 4242, size: 48 * 4096)
      try #require(try world.open())
      world.submit(Self.write(0, 12, .unique(1)))
      world.askForCut()
      try #require(world.settle())
      let before = world.entries
      world.submit(Self.write(4, 9, .unique(2)))
      world.submit(Self.write(20, 20, .unique(3)))
      world.askForCut()
      try #require(world.settle())
      world.crash(lost % 2 == 0 ? .powerLoss : .processKill)
      guard world.loseLastTransactions(lost), world.entries >= before else { break }
      guard try world.openAfterLie(published: true) else {
        Issue.record("\(lost) lost: \(world.lastRefusal)")
        return
      }
      forward += world.counts["rolled forward after a lie", default: 0]
      world.submit(Self.write(3, 1, .unique(9)))
      world.askForCut()
      guard world.settle() else {
        Issue.record("\(lost) lost: it does not go on: \(world.fault ?? world.opened?.port?.status.lastError ?? "")")
        return
      }
      world.checkStore()
      world.checkReplay()
      #expect(world.fault == nil, "\(lost) lost")
      lost += 1
    }
    #expect(lost > 4 && forward > 2)
  }
}
