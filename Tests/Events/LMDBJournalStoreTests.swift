import ElideEvents
import ElideIO
import Glibc
import Testing

/// A directory that goes away with the test.
final class ScratchDirectory {
  let path: String
  init() throws {
    var template = Array("/tmp/elide-events-XXXXXX".utf8CString)
    path = try #require(template.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!).map { String(cString: $0) } })
  }
  deinit { Self.remove(path, HostFiles()) }
  private static func remove(_ path: String, _ files: HostFiles) {
    if let names = try? files.list(path) {
      for name in names { remove(path + "/" + name, files) }
      rmdir(path)
    } else {
      unlink(path)
    }
  }
}

@Suite(.serialized) struct LMDBJournalStoreTests {
  private let scratch: ScratchDirectory
  private let files = HostFiles()
  private var volume: String { scratch.path + "/volume" }

  init() throws { scratch = try ScratchDirectory() }

  private func open(_ mode: LMDBJournalStore.Mode = .write, _ files: (any Files)? = nil) throws -> LMDBJournalStore {
    try LMDBJournalStore(volumeDirectory: volume, files: files ?? self.files, mode: mode)
  }
  private func journal(_ store: LMDBJournalStore) -> Journal {
    Journal(store: store, log: Samples.log, identity: Samples.identity, clock: FixedClock(), random: SeededRandom(9))
  }
  private func sealed(_ n: UInt64, _ blob: [UInt8]) -> VolumeEvent {
    .segmentSealed(SealedSegment(segment: n, origin: .wal, blocks: 1, content: Digest.sha256(blob)))
  }

  @Test func whatIsCommittedIsThereAfterReopening() throws {
    let blobs: [[UInt8]] = [[1, 2, 3], [], [UInt8](repeating: 7, count: 100_000)]
    var store = try open()
    #expect(store.head == nil)
    let committed =
      try journal(store).append([.created(Samples.genesis)])
      + journal(store).append(blobs.enumerated().map { sealed(UInt64($0), $1) }, blobs: blobs, rows: [("a", [1]), ("b", [])])
    _ = try journal(store).append([], rows: [("a", nil), ("c", [UInt8](repeating: 3, count: 10_000))])
    store.close()
    #expect(throws: JournalError.self) { try store.entry(0) }
    store = try open()
    #expect(store.head == JournalHead(seq: 3, hash: committed[3].hash))
    for blob in blobs { #expect(try store.blob(Digest.sha256(blob)) == blob) }
    #expect(try store.row("a") == nil && store.row("b") == [] && store.row("c")?.count == 10_000)
    #expect(try store.entry(4) == nil)
    var replay = StoreReplay(store, log: Samples.log)
    for c in committed { #expect(try replay.next()?.hash == c.hash) }
    #expect(try replay.next() == nil)
  }

  @Test func bytesThatNoRowNamesAreWrittenOver() throws {
    var store = try open()
    _ = try journal(store).append([.created(Samples.genesis), sealed(0, [1, 2, 3])], blobs: [[1, 2, 3]])
    store.close()
    // A crash after blobs were written and before their transaction: a longer file.
    let path = volume + "/blobs/00000000"
    let file = try files.open(path, .readWrite)
    let torn = [UInt8](repeating: 0xEE, count: 5000)
    try torn.withUnsafeBytes { try files.write(file, $0, at: 3) }
    files.close(file)
    store = try open()
    let next = [UInt8](repeating: 5, count: 4000)
    _ = try journal(store).append([sealed(1, next)], blobs: [next])
    #expect(try store.blob(Digest.sha256([1, 2, 3])) == [1, 2, 3])
    #expect(try store.blob(Digest.sha256(next)) == next)
    #expect(Array(try files.readFile(path)[3..<4003]) == next)
  }

  @Test func damagedAndMissingBlobsAreNamed() throws {
    let store = try open()
    let blob = [UInt8](repeating: 5, count: 4000)
    _ = try journal(store).append([.created(Samples.genesis), sealed(1, blob)], blobs: [blob])
    #expect(throws: JournalError.missingBlob(Samples.digest(1))) { try store.blob(Samples.digest(1)) }
    let file = try files.open(volume + "/blobs/00000000", .readWrite)
    try [UInt8(6)].withUnsafeBytes { try files.write(file, $0, at: 2000) }
    let damaged = #expect(throws: JournalError.self) { try store.blob(Digest.sha256(blob)) }
    guard case .damaged(let text) = damaged else { Issue.record("damaged"); return }
    #expect(text.contains(Digest.sha256(blob).hex))
    try files.truncate(file, size: 100)
    files.close(file)
    #expect(throws: JournalError.self) { try store.blob(Digest.sha256(blob)) }
  }

  @Test func oneBlobIsStoredOnce() throws {
    let store = try open()
    let blob = [UInt8](repeating: 5, count: 4000)
    _ = try journal(store).append([.created(Samples.genesis), sealed(1, blob), sealed(2, blob)], blobs: [blob, blob])
    _ = try journal(store).append([sealed(3, blob)], blobs: [blob])
    #expect(try files.readFile(volume + "/blobs/00000000").count == 4000)
  }

  /// Blobs reach the disk before the transaction that names them: a failed sync leaves no entry.
  @Test(arguments: [EIO, ENOSPC]) func aFailedBlobSyncAppendsNothing(_ code: Int32) throws {
    let failing = FailingFiles()
    var store = try open(.write, failing)
    let journal = journal(store)
    _ = try journal.append([.created(Samples.genesis), sealed(0, [1])], blobs: [[1]])
    failing.syncError = Errno(code)
    #expect(throws: JournalError.self) { try journal.append([sealed(1, [2, 2])], blobs: [[2, 2]]) }
    failing.syncError = nil
    #expect(journal.isHalted == (code == EIO))
    if code == ENOSPC {
      _ = try journal.append([sealed(1, [2, 2])], blobs: [[2, 2]])
      #expect(try files.exists(volume + "/blobs/00000001") && store.blob(Digest.sha256([2, 2])) == [2, 2])
    } else {
      #expect(throws: JournalError.self) { try journal.append([.closed]) }
      #expect(throws: JournalError.self) { try store.commit(entries: [], blobs: [], rows: [("x", [1])]) }
    }
    store.close()
    store = try open()
    #expect(store.head?.seq == (code == EIO ? 1 : 2))
    #expect(try store.blob(Digest.sha256([1])) == [1])
  }

  @Test func blobsAreSyncedBeforeTheCommit() throws {
    let counting = FailingFiles()
    let store = try open(.write, counting)
    let before = counting.syncs
    _ = try journal(store).append([.created(Samples.genesis), sealed(0, [1])], blobs: [[1]])
    #expect(counting.syncs == before + 1)
    _ = try journal(store).append([.closed])
    #expect(counting.syncs == before + 1)
  }

  /// On a small file system of its own (ELIDE_SMALL_DIRECTORY, a few MiB, empty): a full disk is `noSpace`, or, where the
  /// database meets it in the middle of a write and cannot tell, unknown. Either way nothing of that append is there, and
  /// the journal goes on when there is room again, in the second case after reopening.
  @Test(.enabled(if: getenv("ELIDE_SMALL_DIRECTORY") != nil), arguments: [true, false])
  func aFullDiskAppendsNothing(_ inRows: Bool) throws {
    let root = String(cString: try #require(getenv("ELIDE_SMALL_DIRECTORY")))
    let small = root + (inRows ? "/rows" : "/blobs")
    let ballast = root + "/ballast"
    try files.replaceFile(ballast, with: [UInt8](repeating: 1, count: 1 << 20))
    var store = try LMDBJournalStore(volumeDirectory: small, files: files)
    let journal = journal(store)
    _ = try journal.append([.created(Samples.genesis)])
    var appended: UInt64 = 0
    var refusal: JournalError?
    while refusal == nil && appended < 4096 {
      let bytes = SeededRandom(appended + 1).bytes(100_000)
      do throws(JournalError) {
        if inRows {
          _ = try journal.append([.closed], rows: [("row \(appended)", bytes)])
        } else {
          _ = try journal.append([sealed(appended, bytes)], blobs: [bytes])
        }
        appended += 1
      } catch { refusal = error }
    }
    try files.remove(ballast)
    switch refusal {
    case .noSpace:
      #expect(!journal.isHalted && store.head?.seq == appended)
    case .unknown:
      #expect(journal.isHalted)
      store.close()
      store = try LMDBJournalStore(volumeDirectory: small, files: files)
    default: Issue.record("\(String(describing: refusal))")
    }
    #expect(store.head?.seq == appended)
    let goes = self.journal(store)
    #expect(try goes.append([.closed])[0].seq == appended + 1)
    var replay = StoreReplay(store, log: Samples.log)
    while let committed = try replay.next() { for blob in committed.event.blobs { _ = try store.blob(blob) } }
    #expect(replay.position == store.head)
    store.close()
    for name in try files.list(small + "/blobs") { try files.remove(small + "/blobs/" + name) }
    for name in try files.list(small + "/journal") { try files.remove(small + "/journal/" + name) }
  }

  @Test func aReaderSeesWhatIsCommittedAndMayNotWrite() throws {
    let writer = try open()
    _ = try journal(writer).append([.created(Samples.genesis)])
    writer.close()
    let reader = try open(.read)
    #expect(reader.head?.seq == 0)
    #expect(throws: JournalError.self) { try reader.commit(entries: [], blobs: [], rows: [("x", [1])]) }
    #expect(throws: JournalError.self) {
      try LMDBJournalStore(volumeDirectory: scratch.path + "/none", files: files, mode: .read)
    }
  }

  @Test func aDamagedDatabaseIsNamed() throws {
    let store = try open()
    _ = try journal(store).append([.created(Samples.genesis)])
    store.close()
    let file = try files.open(volume + "/journal/data.mdb", .readWrite)
    try [UInt8](repeating: 0xFF, count: 8192).withUnsafeBytes { try files.write(file, $0, at: 0) }
    files.close(file)
    let error = #expect(throws: JournalError.self) { try open() }
    guard case .damaged(let text) = error else { Issue.record("damaged"); return }
    #expect(text.contains(volume))
  }

  @Test func rowKeysAreBounded() throws {
    let store = try open()
    for key in ["", String(repeating: "k", count: 512)] {
      #expect(throws: JournalError.self) { try store.commit(entries: [], blobs: [], rows: [(key, [1])]) }
      #expect(try store.row(key) == nil)
    }
    try store.commit(entries: [], blobs: [], rows: [(String(repeating: "k", count: 511), [1])])
  }

  /// The map grows by itself: far more than its first 64 MiB, in one transaction and over many.
  @Test func theMapGrows() throws {
    let store = try open()
    _ = try journal(store).append([.created(Samples.genesis)])
    let row = [UInt8](repeating: 1, count: 1 << 20)
    try store.commit(entries: [], blobs: [], rows: (0..<80).map { ("row \($0)", row) })
    #expect(try store.row("row 79") == row && store.head?.seq == 0)
    #expect(try journal(store).append([.closed])[0].seq == 1)
  }
}

/// The host's files with a sync that can be made to fail, and is counted.
final class FailingFiles: Files, @unchecked Sendable {  // used by one thread of one test
  private let files = HostFiles()
  var syncError: Errno?
  var syncs = 0
  func sync(_ file: FileID) throws(Errno) {
    if let syncError { throw syncError }
    syncs += 1
    try files.sync(file)
  }
  func open(_ path: String, _ mode: OpenMode) throws(Errno) -> FileID { try files.open(path, mode) }
  func close(_ file: FileID) { files.close(file) }
  func read(_ file: FileID, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
    try files.read(file, into: buffer, at: offset)
  }
  func write(_ file: FileID, _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64) throws(Errno) {
    try files.write(file, vectors, at: offset)
  }
  func size(_ file: FileID) throws(Errno) -> UInt64 { try files.size(file) }
  func allocate(_ file: FileID, size: UInt64) throws(Errno) { try files.allocate(file, size: size) }
  func truncate(_ file: FileID, size: UInt64) throws(Errno) { try files.truncate(file, size: size) }
  func startWriteback(_ file: FileID, offset: UInt64, length: UInt64) {}
  func dropCache(_ file: FileID) {}
  func isLinked(_ file: FileID) throws(Errno) -> Bool { try files.isLinked(file) }
  func makeDirectory(_ path: String) throws(Errno) { try files.makeDirectory(path) }
  func syncDirectory(_ path: String) throws(Errno) { try files.syncDirectory(path) }
  func rename(_ from: String, to: String) throws(Errno) { try files.rename(from, to: to) }
  func link(_ from: String, to: String) throws(Errno) { try files.link(from, to: to) }
  func remove(_ path: String) throws(Errno) { try files.remove(path) }
  func list(_ path: String) throws(Errno) -> [String] { try files.list(path) }
  func exists(_ path: String) -> Bool { files.exists(path) }
  func lock(_ path: String) throws(Errno) -> FileID? { try files.lock(path) }
}
