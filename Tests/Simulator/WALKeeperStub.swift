import ElideEngine
import ElideIO

/// What is durable beside the write-ahead files in a world without a keeper: the journal's entries about them.
package struct WALLedger: Sendable {
  package var wals: [UInt64] = []
  package var marks: [OpenedMark] = []
  package init() {}
  package var next: UInt64 { (wals.last ?? 0) + 1 }
}

/// The part of a keeper that a device cannot do without: it prepares write-ahead files when asked and answers nothing
/// else, so that a test of the write path runs without journal, seals and store. Nothing is ever sealed.
package final class WALKeeperStub {
  package let inbox: Mailbox<KeeperMessage>
  package let front: Mailbox<FrontMessage>
  package private(set) var closed: [UInt64] = []
  package private(set) var failure: Int32 = 0
  private let files: SimFiles
  private let directory: String
  private let volume: ULID
  private let geometry: WALGeometry
  private let journalSite: Int
  private let incarnation: ULID
  /// Files are made of others that hold what older ones held.
  private let reuses: Bool
  private var wanted = true

  package init(
    files: SimFiles, directory: String, volume: ULID, geometry: WALGeometry, incarnation: ULID, reuses: Bool = false
  ) {
    self.incarnation = incarnation
    self.reuses = reuses
    self.files = files
    self.directory = directory
    self.volume = volume
    self.geometry = geometry
    journalSite = files.faults.site("commit", "journal", mutates: true)
    inbox = Mailbox(capacity: 4096)
    front = Mailbox(capacity: 4096)
  }

  /// One thing to do; false when there is nothing.
  package func step(_ ledger: inout WALLedger) -> Bool {
    if let message = inbox.receive() {
      switch message {
      case .walHalfFull: wanted = true
      case .walClosed(let number, _, _, _): closed.append(number)
      case .failed(_, let error): failure = error
      default: break
      }
      return true
    }
    guard wanted, failure == 0 else { return false }
    wanted = false
    do throws(Errno) {
      let number = ledger.next
      let file = try make(number, ledger)
      try Self.journal(files.faults, journalSite) { ledger.wals.append(number) }
      _ = front.send(.walReady(number: number, file: file))
    } catch {
      // As the keeper: it tries again, unless the host is gone.
      wanted = error != .crashed
    }
    return true
  }

  private func make(_ number: UInt64, _ ledger: WALLedger) throws(Errno) -> FileID {
    guard reuses, !ledger.wals.isEmpty else {
      return try WALFile.create(
        files, directory: directory, volume: volume, number: number, geometry: geometry, incarnation: incarnation)
    }
    // As the cache would give it up: every place written and durable, with an older file's frames in it.
    let old = ledger.wals[Int(number) % ledger.wals.count]
    let bytes = try files.readFile(WALFormat.path(directory: directory, number: old))
    let path = WALFormat.path(directory: directory, number: number)
    try files.replaceFile(path, with: bytes)
    let file = try files.open(path, .readWrite)
    try WALFile.reuse(
      files, file, directory: directory, volume: volume, number: number, geometry: geometry, incarnation: incarnation)
    return file
  }

  /// A commit of the stub's journal: in or out at a crash.
  package static func journal(_ faults: SimFaults, _ site: Int, _ apply: () -> Void) throws(Errno) {
    switch faults.enter(site) {
    case .proceed: apply()
    case .fail(let error): throw error
    case .crash(let phase):
      if phase == .after { apply() }
      throw .crashed
    }
  }
}
