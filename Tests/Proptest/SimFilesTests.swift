import ElideIO
import Glibc
import Simulator
import Testing

/// The simulated world is only as good as its cruelty: these tests see that it loses what it may lose, and keeps what it
/// must keep.
@Suite struct SimFilesTests {
  private func bytes(_ n: Int, _ value: UInt8) -> [UInt8] { [UInt8](repeating: value, count: n) }

  private func write(_ files: SimFiles, _ file: FileID, _ data: [UInt8], at offset: UInt64) throws {
    try data.withUnsafeBytes { try files.write(file, $0, at: offset) }
  }

  private func made(_ files: SimFiles, _ path: String) throws -> FileID {
    try files.makeDirectory("/d")
    try files.syncDirectory("/")
    let file = try files.open(path, .create)
    try files.syncDirectory("/d")
    return file
  }

  @Test func syncedBytesSurviveEveryCrash() throws {
    for seed in 0..<50 as Range<UInt64> {
      let files = SimFiles(seed: seed)
      let file = try made(files, "/d/f")
      try write(files, file, bytes(8192, 7), at: 0)
      try files.sync(file)
      files.restart(.powerLoss)
      #expect(try files.readFile("/d/f") == bytes(8192, 7))
    }
  }

  @Test func unsyncedBytesAreKeptLostAndTorn() throws {
    var kept = 0
    var lost = 0
    var torn = 0
    for seed in 0..<200 as Range<UInt64> {
      let files = SimFiles(seed: seed)
      let file = try made(files, "/d/f")
      try write(files, file, bytes(4096, 1), at: 0)
      try files.sync(file)
      try write(files, file, bytes(4096, 2), at: 0)
      files.restart(.powerLoss)
      let now = try files.readFile("/d/f")
      #expect(now.count == 4096)
      for s in stride(from: 0, to: 4096, by: 512) { #expect(Set(now[s..<s + 512]).count == 1) }  // torn between sectors only
      switch Set(now) {
      case [1]: lost += 1
      case [2]: kept += 1
      default: torn += 1
      }
    }
    #expect(kept > 10 && lost > 10 && torn > 10)
  }

  @Test func anEarlierVersionOfASectorMayBeWhatTheDiskHas() throws {
    var seen: Set<UInt8> = []
    for seed in 0..<300 as Range<UInt64> {
      let files = SimFiles(seed: seed)
      let file = try made(files, "/d/f")
      for v in 1...3 as ClosedRange<UInt8> { try write(files, file, bytes(512, v), at: 0) }
      files.restart(.powerLoss)
      seen.insert(try files.readFile("/d/f").first ?? 0)
    }
    #expect(seen == [0, 1, 2, 3])
  }

  @Test func aKilledProcessLosesNothingAndItsWritesStayUnsynced() throws {
    var lost = 0
    for seed in 0..<60 as Range<UInt64> {
      let files = SimFiles(seed: seed)
      let file = try made(files, "/d/f")
      try write(files, file, bytes(1024, 9), at: 0)
      files.restart(.processKill)
      #expect(try files.readFile("/d/f") == bytes(1024, 9))
      files.restart(.powerLoss)
      if try files.readFile("/d/f") != bytes(1024, 9) { lost += 1 }
    }
    #expect(lost > 10)
  }

  @Test func namesNeedTheirDirectorySynced() throws {
    var missing = 0
    var oldName = 0
    var newName = 0
    for seed in 0..<100 as Range<UInt64> {
      let files = SimFiles(seed: seed)
      let file = try made(files, "/d/a")
      try write(files, file, bytes(512, 1), at: 0)
      try files.sync(file)
      _ = try files.open("/d/fresh", .createNew)
      try files.rename("/d/a", to: "/d/b")
      files.restart(.powerLoss)
      if !files.exists("/d/fresh") { missing += 1 }
      #expect(files.exists("/d/a") != files.exists("/d/b"))  // a rename is one step
      if files.exists("/d/a") { oldName += 1 } else { newName += 1 }
    }
    #expect(missing > 10 && oldName > 10 && newName > 10)
  }

  @Test func syncedNamesSurviveAndReplaceFileIsAtomic() throws {
    for seed in 0..<100 as Range<UInt64> {
      let files = SimFiles(seed: seed)
      _ = try made(files, "/d/x")
      try files.replaceFile("/d/f", with: bytes(700, 1))
      // Cut the second replacement at each of its changes.
      files.faults.armCrash(after: 1 + seed % 7, .allCases[Int(seed / 7) % 3])
      try? files.replaceFile("/d/f", with: bytes(900, 2))
      let done = !files.faults.isCrashed
      files.restart(.powerLoss)
      let now = try files.readFile("/d/f")
      #expect(now == bytes(900, 2) || (!done && now == bytes(700, 1)))
    }
  }

  @Test func crossDirectoryRenameNeverLosesTheFile() throws {
    for seed in 0..<100 as Range<UInt64> {
      let files = SimFiles(seed: seed)
      let file = try made(files, "/d/a")
      try files.sync(file)
      try files.makeDirectory("/e")
      try files.syncDirectory("/")
      try files.rename("/d/a", to: "/e/a")
      if seed % 2 == 0 { try files.syncDirectory("/d") }
      files.restart(.powerLoss)
      #expect(files.exists("/d/a") || files.exists("/e/a"))
      if seed % 2 == 0 { #expect(!files.exists("/d/a")) }
    }
  }

  @Test func afterAFailedSyncReadersSeeWhatTheDiskDoesNotHave() throws {
    var deceived = 0
    for seed in 0..<60 as Range<UInt64> {
      let files = SimFiles(seed: seed)
      let file = try made(files, "/d/f")
      try write(files, file, bytes(2048, 1), at: 0)
      try files.sync(file)
      try write(files, file, bytes(2048, 2), at: 0)
      files.faults.armFailure(site: "sync d", .io)
      #expect(throws: Errno.io) { try files.sync(file) }
      #expect(try files.readBytes(file, at: 0, count: 2048) == bytes(2048, 2))
      try files.sync(file)  // succeeds, and means nothing
      files.dropCache(file)
      let now = try files.readBytes(file, at: 0, count: 2048)
      if now != bytes(2048, 2) { deceived += 1 }
      files.restart(.powerLoss)
      #expect(try files.readFile("/d/f") == now)
    }
    #expect(deceived > 10)
  }

  @Test func aNameThatIsGoneIsNoticedThroughTheFile() throws {
    let files = SimFiles(seed: 1)
    let file = try made(files, "/d/f")
    #expect(try files.isLinked(file))
    try files.rename("/d/f", to: "/d/g")
    #expect(try files.isLinked(file))
    files.close(try made(files, "/d/f"))
    try files.rename("/d/f", to: "/d/g")
    #expect(try !files.isLinked(file))
  }

  @Test func aFullDiskSaysSoAndRemovingMakesRoom() throws {
    let files = SimFiles(seed: 1)
    let file = try made(files, "/d/f")
    files.spaceLimit = 3 * 4096
    try files.allocate(file, size: 2 * 4096)
    #expect(throws: Errno.noSpace) { try files.allocate(file, size: 5 * 4096) }
    #expect(throws: Errno.noSpace) { try write(files, file, bytes(8192, 1), at: 2 * 4096) }
    files.close(file)
    try files.remove("/d/f")
    try files.syncDirectory("/d")
    let other = try files.open("/d/g", .create)
    try files.allocate(other, size: 3 * 4096)
  }

  @Test func locksEndWithTheirProcess() throws {
    let files = SimFiles(seed: 1)
    _ = try made(files, "/d/f")
    let first = try #require(try files.lock("/d/lock"))
    #expect(try files.lock("/d/lock") == nil)
    files.close(first)
    #expect(try files.lock("/d/lock") != nil)
    files.restart(.processKill)
    #expect(try files.lock("/d/lock") != nil)
  }

  @Test func nothingWorksBetweenACrashAndTheRestart() throws {
    for phase in CrashPhase.allCases {
      let files = SimFiles(seed: 3)
      let file = try made(files, "/d/f")
      files.faults.armCrash(after: 1, phase)
      #expect(throws: Errno.crashed) { try write(files, file, bytes(4096, 1), at: 0) }
      #expect(throws: Errno.crashed) { try files.sync(file) }
      #expect(throws: Errno.crashed) { _ = try files.open("/d/f", .read) }
      #expect(throws: Errno.crashed) { try files.syncDirectory("/d") }
      files.restart(.processKill)
      #expect(throws: Errno(EBADF)) { try files.sync(file) }
      let n = try files.readFile("/d/f").count
      #expect(phase == .before ? n == 0 : phase == .after ? n == 4096 : n % 512 == 0)
    }
  }

  @Test func theNthCallFailsOnceOrForGood() throws {
    let files = SimFiles(seed: 4)
    let file = try made(files, "/d/f")
    files.faults.armFailure(after: 2, .io)
    try write(files, file, bytes(512, 1), at: 0)
    #expect(throws: Errno.io) { try write(files, file, bytes(512, 1), at: 0) }
    try write(files, file, bytes(512, 1), at: 0)
    files.faults.armFailure(after: 1, .noSpace, forGood: true)
    for _ in 0..<3 { #expect(throws: Errno.noSpace) { try write(files, file, bytes(512, 1), at: 0) } }
    #expect(files.faults.lastSite == "write d")
  }
}
