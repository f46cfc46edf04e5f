import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Glibc
import Synchronization
import Testing

/// Names over what hosts really have: rows in LMDB, a store directory that several share.
@Suite struct NameLogHostTests {
  private let directory = TemporaryDirectory()

  private struct Host {
    let world = World.host()
    let rows: LMDBNameRows
    let store: LocalStore
    let author: NameAuthor

    init(_ root: String, _ n: Int, key: SigningKey? = nil) throws {
      let place = "\(root)/host\(n)"
      try world.files.makeDirectory(place)
      rows = LMDBNameRows(try LMDBEnvironment(path: place))
      store = try LocalStore(root: "\(root)/store", world: world)
      author = NameAuthor(
        key: key ?? SigningKey(random: world.random), incarnation: ULID(clock: world.clock, random: world.random))
    }
    func log(_ name: String = "db") throws -> NameLog {
      try NameLog(name, store: store, rows: rows, author: author, clock: world.clock, random: world.random)
    }
  }

  private func volume(_ n: UInt64) -> ULID { ULID(high: 4, low: n) }
  private let key = [UInt8](repeating: 3, count: 32)

  @Test func aNameOutlivesItsProcesses() throws {
    let key: SigningKey
    do {
      let first = try Host(directory.path, 0)
      key = first.author.key
      let log = try first.log()
      #expect(try log.perform(.create(NewVolumeFacts(volume: volume(1), key: self.key, size: 512)), request: "c").isAt(0))
      #expect(try log.perform(.start, request: "s").isAt(1))
    }
    let second = try Host(directory.path, 0, key: key)
    let log = try second.log()
    #expect(try log.perform(.start, request: "s").isAt(1), "the answer of the first time")
    #expect(log.state.phase == .absent || log.state.phase == .live)
    #expect(try log.perform(.adopt).isAt(2) && log.isOwnFold)
    #expect(try log.check() && log.state.mayServe(log.me))
    // Another host has nothing but the store.
    let other = try Host(directory.path, 1)
    let elsewhere = try other.log()
    try elsewhere.refresh()
    #expect(elsewhere.state == log.state)
    #expect(try NameWitness.heads(other.rows).map(\.head) == [log.head])
  }

  /// Situation 9: of many that claim a name at once one gets it, and the others are told who.
  @Test func manyClaimAtOnce() throws {
    let owner = try Host(directory.path, 0)
    let cut = Cut(volume: volume(1), seq: 4, page: 1, pageHash: Digest.sha256([1]))
    let log = try owner.log()
    let commands: [NameCommand] = [
      .create(NewVolumeFacts(volume: volume(1), key: key, size: 512)), .start, .stop(cut: cut, clients: 0, force: false),
      .release(cut: cut),
    ]
    for (i, command) in commands.enumerated() { #expect(try log.perform(command).isAt(UInt64(i))) }
    let hosts = try (1...4).map { try Host(directory.path, $0) }
    let outcomes = Mutex<[Int: NameOutcome]>([:])
    let key = key
    var threads: [JoinableThread] = []
    for (i, host) in hosts.enumerated() {
      let mine = try host.log()
      let claimed = volume(UInt64(10 + i))
      let box = UncheckedBox(mine)
      threads.append(
        try spawnThread(name: "claim") {
          let outcome = try? box.log.perform(.claim(volume: claimed, key: key, serve: true))
          outcomes.withLock { $0[i] = outcome }
        })
    }
    for thread in threads { thread.join() }
    let all = outcomes.withLock { $0 }
    #expect(all.count == 4 && all.values.filter { $0.isAt(4) }.count == 1)
    for (_, outcome) in all where !outcome.isAt(4) {
      guard case .refused(let refusal) = outcome else {
        Issue.record("\(outcome)")
        continue
      }
      #expect(refusal.kind == .owned && refusal.instead == .force)
    }
    try log.refresh()
    #expect(log.state.phase == .live && log.state.nextSeq == 5 && log.state.violationCount == 0)
  }
}

/// One thread uses the log; the box only takes it there.
private final class UncheckedBox: @unchecked Sendable {  // handed over before the thread starts
  let log: NameLog
  init(_ log: NameLog) { self.log = log }
}
