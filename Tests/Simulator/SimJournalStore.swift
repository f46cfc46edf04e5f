import ElideEngine
import ElideEvents
import ElideIO

/// What is durable of one volume's journal; outlives processes.
package final class SimJournalDisk: @unchecked Sendable {  // one thread steps a simulated world
  package fileprivate(set) var entries: [[UInt8]] = []
  package fileprivate(set) var blobs: [Digest: [UInt8]] = [:]
  package fileprivate(set) var rows: [String: [UInt8]] = [:]
  /// Take transactions back, the last one last: a disk that lied about them.
  fileprivate var undo: [() -> Void] = []
  package fileprivate(set) var commits: UInt64 = 0

  package init() {}

  /// Loses the last committed transaction, up to 64 of them one by one; false when there is none to lose.
  package func loseLastTransaction() -> Bool {
    guard let last = undo.popLast() else { return false }
    last()
    return true
  }

  /// The same contents on another disk; what could be lost again of this one cannot be there.
  func copy() -> SimJournalDisk {
    let other = SimJournalDisk()
    (other.entries, other.blobs, other.rows, other.commits) = (entries, blobs, rows, commits)
    return other
  }

  /// For tests that must see damage noticed.
  package func flipEntry(_ seq: Int, byte: Int) { entries[seq][byte] ^= 0x01 }
}

/// A `JournalStore` on a `SimJournalDisk`: a crash during a commit leaves it in or out, whole. One thread steps a simulated
/// world, hence unchecked.
package final class SimJournalStore: JournalStore, @unchecked Sendable {
  private let disk: SimJournalDisk
  private let faults: SimFaults
  private let writable: Bool
  private var haltReason: String?
  private let isFull: () -> Bool
  private let commitSite: Int

  package init(_ disk: SimJournalDisk, faults: SimFaults, writable: Bool = true, isFull: @escaping () -> Bool = { false }) {
    self.disk = disk
    self.faults = faults
    self.writable = writable
    self.isFull = isFull
    commitSite = faults.site("commit", "journal", mutates: true)
  }

  package var head: JournalHead? {
    guard let last = disk.entries.last else { return nil }
    return JournalHead(seq: UInt64(disk.entries.count - 1), hash: Digest.sha256(last))
  }

  package func entry(_ seq: UInt64) throws(JournalError) -> [UInt8]? {
    try alive()
    return seq < UInt64(disk.entries.count) ? disk.entries[Int(seq)] : nil
  }
  package func blob(_ digest: Digest) throws(JournalError) -> [UInt8] {
    try alive()
    guard let bytes = disk.blobs[digest] else { throw .missingBlob(digest) }
    return bytes
  }
  package func row(_ key: String) throws(JournalError) -> [UInt8]? {
    try alive()
    return disk.rows[key]
  }

  private func alive() throws(JournalError) {
    if faults.isCrashed { throw .unknown("the host is gone") }
  }

  package func commit(entries: [Entry], blobs: [[UInt8]], rows: [(key: String, value: [UInt8]?)]) throws(JournalError) {
    if let haltReason { throw .halted(haltReason) }
    guard writable else { throw .halted("not open for writing") }
    var next = UInt64(disk.entries.count)
    for e in entries {
      precondition(e.envelope.seq == next, "entries follow the head")
      next += 1
    }
    if isFull() { throw .noSpace("the simulated disk is full") }
    let verdict = faults.enter(commitSite)
    switch verdict {
    case .proceed: apply(entries, blobs, rows)
    case .fail(let error):
      if error == .noSpace { throw .noSpace("journal: \(error)") }
      // Whether it happened is for the one who opens it next to find out: every other one did.
      if error != .crashed, disk.commits % 2 == 0 { apply(entries, blobs, rows) }
      haltReason = "an earlier commit failed: \(error)"
      throw .unknown("journal: \(error)")
    case .crash(let phase):
      // A transaction is never half in: "partly" is out or in, by turns.
      if phase == .after || (phase == .partly && disk.commits % 2 == 0) { apply(entries, blobs, rows) }
      throw .unknown("the host is gone")
    }
  }

  private func apply(_ entries: [Entry], _ blobs: [[UInt8]], _ rows: [(key: String, value: [UInt8]?)]) {
    let disk = disk
    let count = disk.entries.count
    var oldRows: [(String, [UInt8]?)] = []
    for (key, value) in rows {
      oldRows.append((key, disk.rows[key]))
      disk.rows[key] = value
    }
    var newBlobs: [Digest] = []
    for bytes in blobs {
      let digest = Digest.sha256(bytes)
      if disk.blobs[digest] == nil { newBlobs.append(digest) }
      disk.blobs[digest] = bytes
    }
    disk.entries.append(contentsOf: entries.map(\.raw))
    disk.commits += 1
    if disk.undo.count == 64 { disk.undo.removeFirst() }
    disk.undo.append {
      disk.entries.removeSubrange(count...)
      for (key, value) in oldRows.reversed() { disk.rows[key] = value }
      for digest in newBlobs { disk.blobs[digest] = nil }
    }
  }

  package func close() { haltReason = haltReason ?? "closed" }
}

/// All journals of one simulated host, by directory. One thread steps a simulated world, hence unchecked.
package final class SimJournals: JournalStores, @unchecked Sendable {
  private var disks: [String: SimJournalDisk] = [:]
  package let faults: SimFaults
  /// Whether a commit finds no room on the disk.
  package var isFull: () -> Bool = { false }
  package init(faults: SimFaults) { self.faults = faults }

  /// What a copied disk has.
  package func copy(faults: SimFaults) -> SimJournals {
    let other = SimJournals(faults: faults)
    other.disks = disks.mapValues { $0.copy() }
    return other
  }

  package func disk(_ directory: VolumeDirectory) -> SimJournalDisk? { disks[directory.root] }

  package func open(_ directory: VolumeDirectory, write: Bool) throws(JournalError) -> any JournalStore {
    if faults.isCrashed { throw .unknown("the host is gone") }
    if let disk = disks[directory.root] { return SimJournalStore(disk, faults: faults, writable: write, isFull: isFull) }
    guard write else { throw .damaged("\(directory.root): there is no journal") }
    let disk = SimJournalDisk()
    disks[directory.root] = disk
    return SimJournalStore(disk, faults: faults, isFull: isFull)
  }
}
