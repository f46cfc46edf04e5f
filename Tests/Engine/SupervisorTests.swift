import ElideIO
import Testing

@testable import ElideEngine

/// The supervisor over a world of processes that does what actions say, in every order of events up to a depth.
@Suite struct SupervisorTests {
  static let volume = ULID(high: 1, low: 1)

  /// What the world knows: which processes there are, and which of them were told to end.
  struct World: Hashable {
    var asked = 0
    var alive: Set<Int32> = []
    var told: Set<Int32> = []
    var next: Int32 = 1
  }

  enum Step: CaseIterable {
    case serve, drain, spawned, spawnFails, ready, crash, endsWell, endsBadly, endsForGood, tick, later, stale
  }

  private struct Run {
    var supervisor = Supervisor()
    var world = World()
    var now: UInt64 = 1000
    var path: [Step] = []

    mutating func send(_ event: Supervisor.Event) {
      for action in supervisor.handle(event, for: volume, now: now, draw: 0x5DEE_CE66) {
        switch action {
        case .spawn:
          #expect(world.alive.isEmpty && world.asked == 0, "two processes for one volume after \(path)")
          world.asked += 1
        case .end(_, let pid):
          #expect(world.alive.contains(pid), "\(pid) is told to end and is not there, after \(path)")
          world.told.insert(pid)
        case .tell: break
        }
      }
    }

    /// False when the world cannot take that step.
    mutating func take(_ step: Step) -> Bool {
      path.append(step)
      switch step {
      case .serve: send(.serve(name: "vm"))
      case .drain: send(.drain)
      case .spawned:
        guard world.asked > 0 else { return false }
        world.asked -= 1
        world.alive.insert(world.next)
        world.next += 1
        send(.spawned(pid: world.next - 1))
      case .spawnFails:
        guard world.asked > 0 else { return false }
        world.asked -= 1
        send(.ended(pid: nil, .notStarted("no memory")))
      case .ready:
        guard let pid = world.alive.first else { return false }
        send(.ready(pid: pid))
      case .crash: return end(.signalled(9))
      case .endsWell: return end(.exited(0))
      case .endsBadly: return end(.exited(75))
      case .endsForGood: return end(.exited(12))
      case .tick: send(.tick)
      case .later:
        now += 31_000
        send(.tick)
      case .stale:
        send(.ended(pid: 999, .exited(0)))
        send(.ready(pid: 999))
      }
      return true
    }

    private mutating func end(_ how: Supervisor.End) -> Bool {
      guard let pid = world.alive.first else { return false }
      world.alive.remove(pid)
      send(.ended(pid: pid, how))
      return true
    }

    func check() {
      let charge = supervisor[volume]
      #expect(charge?.pid == world.alive.first, "after \(path)")
      switch charge?.phase {
      case nil, .waiting, .parked: #expect(world.alive.isEmpty && world.asked == 0, "after \(path)")
      case .launching(let pid): #expect((pid == nil) == (world.asked == 1), "after \(path)")
      case .running: #expect(world.asked == 0, "after \(path)")
      case .ending(let pid): #expect(pid.map { world.told.contains($0) } ?? (world.asked == 1), "after \(path)")
      }
      if case .waiting = charge?.phase { #expect(supervisor.deadline != nil, "nobody would wake it, after \(path)") }
    }
  }

  @Test func everyOrderOfEvents() {
    // Breadth first; states that were seen are not gone through again.
    struct Seen: Hashable {
      let supervisor: Supervisor
      let world: World
      let now: UInt64
    }
    var seen: Set<Seen> = []
    var front = [Run()]
    for _ in 0..<9 {
      var next: [Run] = []
      for run in front {
        for step in Step.allCases {
          var run = run
          guard run.take(step) else { continue }
          run.check()
          if seen.insert(Seen(supervisor: run.supervisor, world: run.world, now: run.now)).inserted { next.append(run) }
        }
      }
      front = Array(next.prefix(2000))
    }
    #expect(seen.count > 500)
  }

  @Test func aCrashIsFollowedByGrowingPauses() {
    var s = Supervisor()
    var now: UInt64 = 0
    _ = s.handle(.serve(name: "vm"), for: Self.volume, now: now, draw: 0)
    var pauses: [UInt64] = []
    for pid in Int32(1)...12 {
      _ = s.handle(.spawned(pid: pid), for: Self.volume, now: now, draw: 0)
      _ = s.handle(.ready(pid: pid), for: Self.volume, now: now, draw: 0)
      _ = s.handle(.ended(pid: pid, .signalled(11)), for: Self.volume, now: now, draw: 0)
      guard case .waiting(let until)? = s[Self.volume]?.phase else {
        Issue.record("it does not wait")
        return
      }
      pauses.append(until - now)
      #expect(s.handle(.tick, for: Self.volume, now: until - 1, draw: 0).isEmpty)
      now = until
      #expect(s.handle(.tick, for: Self.volume, now: now, draw: 0) == [.spawn(Self.volume, name: "vm")])
    }
    #expect(pauses == [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000])
    // In service for a minute: the next pause is the first again.
    _ = s.handle(.spawned(pid: 50), for: Self.volume, now: now, draw: 0)
    _ = s.handle(.ready(pid: 50), for: Self.volume, now: now, draw: 0)
    now += 60_000
    _ = s.handle(.ended(pid: 50, .exited(1)), for: Self.volume, now: now, draw: 0)
    #expect(s[Self.volume]?.phase == .waiting(until: now + 250))
  }

  @Test func pausesAreSpread() {
    var seen: Set<UInt64> = []
    for draw in stride(from: UInt64(0), to: 5000, by: 11) {
      var s = Supervisor()
      _ = s.handle(.serve(name: "vm"), for: Self.volume, now: 0, draw: 0)
      _ = s.handle(.ended(pid: nil, .notStarted("x")), for: Self.volume, now: 0, draw: draw)
      guard case .waiting(let until)? = s[Self.volume]?.phase else {
        Issue.record("it does not wait")
        return
      }
      #expect((125...250).contains(until))
      seen.insert(until)
    }
    #expect(seen.count > 100)
  }

  @Test(arguments: [Int32(2), 4, 10, 12, 13])
  func whatWillNotGoAwayIsParked(code: Int32) {
    var s = Supervisor()
    _ = s.handle(.serve(name: "vm"), for: Self.volume, now: 0, draw: 0)
    _ = s.handle(.spawned(pid: 7), for: Self.volume, now: 0, draw: 0)
    _ = s.handle(.ended(pid: 7, .exited(code)), for: Self.volume, now: 5, draw: 0)
    #expect(s[Self.volume]?.phase == .parked)
    #expect(s.deadline == nil)
    #expect(s.handle(.tick, for: Self.volume, now: 1 << 40, draw: 0).isEmpty)
    #expect(s.handle(.serve(name: "vm"), for: Self.volume, now: 1 << 40, draw: 0) == [.spawn(Self.volume, name: "vm")])
  }

  @Test(arguments: [Int32(0), 1, 3, 11, 75, 130])
  func whatMayGoAwayIsTriedAgain(code: Int32) {
    var s = Supervisor()
    _ = s.handle(.serve(name: "vm"), for: Self.volume, now: 0, draw: 0)
    _ = s.handle(.spawned(pid: 7), for: Self.volume, now: 0, draw: 0)
    _ = s.handle(.ended(pid: 7, .exited(code)), for: Self.volume, now: 5, draw: 0)
    #expect(s.handle(.tick, for: Self.volume, now: 255, draw: 0) == [.spawn(Self.volume, name: "vm")])
  }

  @Test func oneThatIsFoundIsNotStartedAgain() {
    var s = Supervisor()
    #expect(s.handle(.found(name: "vm", pid: 42), for: Self.volume, now: 0, draw: 0).isEmpty)
    #expect(s.handle(.serve(name: "vm"), for: Self.volume, now: 0, draw: 0).isEmpty)
    #expect(s[Self.volume]?.isAdopted == true)
    // It dies while we watch: started again, and then it is ours.
    _ = s.handle(.ended(pid: 42, .gone), for: Self.volume, now: 10, draw: 0)
    #expect(s.handle(.tick, for: Self.volume, now: 260, draw: 0) == [.spawn(Self.volume, name: "vm")])
    #expect(s[Self.volume]?.isAdopted == false)
  }

  @Test func whatCouldNotEndInGoodOrderGoesOnAtOnce() {
    var s = Supervisor()
    _ = s.handle(.found(name: "vm", pid: 42), for: Self.volume, now: 0, draw: 0)
    #expect(s.handle(.drain, for: Self.volume, now: 0, draw: 0) == [.end(Self.volume, pid: 42)])
    let actions = s.handle(.ended(pid: 42, .exited(75)), for: Self.volume, now: 10, draw: 0)
    #expect(actions.last == .spawn(Self.volume, name: "vm"))
  }
}
