import ElideIO

/// What the journal says of a recovery that was done before (`opened`): in files up to `wal`, nothing exists after `end`.
package struct OpenedMark: Equatable, Sendable {
  package var wal: UInt64
  package var end: WALChain
  package init(wal: UInt64, end: WALChain) {
    self.wal = wal
    self.end = end
  }
}

/// One unsealed file after recovery. `file` is open for reading and belongs to the caller.
package struct RecoveredWAL: Sendable {
  package var number: UInt64
  package var file: FileID
  /// What is kept of it; without frames when all was discarded or nothing was written.
  package var scan: WALScan
}

/// What `WALRecovery.recover` found. Everything in `wals` is durable.
package struct RecoveredLog: Sendable {
  package var wals: [RecoveredWAL] = []
  /// The chain after the last record kept: what `opened` is to record, and where the next file continues.
  package var end: WALChain
  /// Frame headers seen after the break, and thrown away.
  package var discarded: UInt64 = 0
  package init(end: WALChain) { self.end = end }
}

/// Finds out what a volume's unsealed write-ahead files hold after its process ended, in whatever way.
///
/// Nothing is written here, and nothing is decided by what is absent: a frame is given up only when no header and no
/// journal entry says that it was durable. When this returns, all that is kept is on disk; the caller commits
/// `opened{wal: the last number, last_frame, last_header_crc, discarded}` before it serves. A crash before that commit
/// repeats the recovery; one after it repeats it with the mark, and gets the same.
package struct WALRecovery {
  private let files: any Files
  private let directory: String
  private let volume: ULID
  /// Size of the volume in blocks: a record beyond it is corruption.
  private let blocks: UInt64

  package init(files: any Files, directory: String, volume: ULID, blocks: UInt64) {
    self.files = files
    self.directory = directory
    self.volume = volume
    self.blocks = blocks
  }

  /// - Parameters:
  ///   - wals: numbers of all unsealed files of the journal, rising.
  ///   - start: the chain after the last sealed wal; `.genesis` when none was.
  ///   - marks: earlier recoveries, in journal order, at least those whose `wal` is one of `wals`.
  package func recover(wals: [UInt64], start: WALChain, marks: [OpenedMark]) throws(WALError) -> RecoveredLog {
    var opened: [RecoveredWAL] = []
    var blocksOf: [Int] = []
    do {
      for number in wals { try openAndScan(number, &opened, &blocksOf) }
      return try judge(opened, blocksOf, start, marks)
    } catch {
      for w in opened { files.close(w.file) }
      throw error
    }
  }

  private func openAndScan(_ number: UInt64, _ opened: inout [RecoveredWAL], _ blocksOf: inout [Int]) throws(WALError) {
    let (file, size) = try WALFile.open(files, directory: directory, volume: volume, number: number)
    opened.append(RecoveredWAL(number: number, file: file, scan: WALScan(wal: number)))
    blocksOf.append(size)
    // Durable first, then read what the disk holds: what a failed sync left in the page cache is not on disk.
    do {
      try files.sync(file)
    } catch {
      throw .system(volume: volume, wal: number, operation: "fdatasync", error: error)
    }
    files.dropCache(file)
    opened[opened.count - 1].scan = try WALReader.scan(files, file, volume: volume, wal: number, blocks: size)
  }

  /// Walks the chain through the scans, cuts at the first break, or refuses.
  private func judge(
    _ scanned: [RecoveredWAL], _ blocksOf: [Int], _ start: WALChain, _ marks: [OpenedMark]
  ) throws(WALError) -> RecoveredLog {
    var log = RecoveredLog(end: start)
    log.wals = scanned
    var durable = max(start.frame, marks.map(\.end.frame).max() ?? 0)
    for w in scanned { durable = max(durable, w.scan.frames.map(\.durable).max() ?? 0) }

    var broken = try walk(&log, marks)
    // Where the headers end, anything may follow: what is there still proves what was durable.
    let beyond = try searchBeyond(scanned, blocksOf, marks, from: broken, last: log.end)
    durable = max(durable, beyond.durable)
    if beyond.disagrees, log.end.frame > 0, broken.frame == log.end.frame &+ 1 {
      broken.frame = log.end.frame
      broken.detail = "records of it are lost"
    }
    let lost = broken.frame
    if lost <= durable { throw .corrupt(volume: volume, wal: broken.wal, frame: lost, detail: broken.detail) }

    try checkData(&log, above: durable)
    // What followed the break as valid frames, and what the data check threw away.
    let kept = log.wals.reduce(0) { $0 + $1.scan.frames.count }
    let before = scanned.reduce(0) { $0 + $1.scan.frames.count }
    log.discarded = UInt64(before - kept) + beyond.headers
    return log
  }

  /// A place where the chain ends: the first frame that is not whole, in which file, at which index of the list.
  private struct Break {
    var frame: UInt64
    var wal: UInt64
    var index: Int
    var detail: String
  }

  /// Cuts every scan to what continues the chain, and says where it ended. Without damage that is simply after the last
  /// frame there is.
  private func walk(_ log: inout RecoveredLog, _ marks: [OpenedMark]) throws(WALError) -> Break {
    var state = log.end
    var last = Break(
      frame: state.frame &+ 1, wal: log.wals.last?.number ?? 0, index: max(0, log.wals.count - 1), detail: "it is not there")
    for i in log.wals.indices {
      let number = log.wals[i].number
      let mark = marks.first { $0.wal >= number }
      if let mark { limit(&log.wals[i].scan, to: mark) }
      let scan = log.wals[i].scan
      if let first = scan.frames.first {
        let follows = first.number == state.frame &+ 1
        if !follows || first.previousCRC != state.crc {
          // A valid first frame of another state: the frame before lost records, or frames are missing between.
          let lost = follows && state.frame > 0 ? state.frame : state.frame &+ 1
          let detail =
            follows
            ? "frame \(first.number) continues from another state of it"
            : "it is not there; file \(number) begins with frame \(first.number)"
          let at = max(0, i - 1)
          last = Break(frame: lost, wal: log.wals[at].number, index: at, detail: detail)
          for j in i..<log.wals.count { drop(&log.wals[j].scan) }
          break
        }
        state = scan.end ?? state
        if mark == nil, scan.stop == .successorDisagrees {
          last = Break(frame: state.frame, wal: number, index: i, detail: "the frame after it continues from another state of it")
          for j in (i + 1)..<max(i + 1, log.wals.count) { drop(&log.wals[j].scan) }
          break
        }
        last = Break(frame: state.frame &+ 1, wal: number, index: i, detail: "it is not there")
      }
      // The last file that a mark speaks of: here the chain must stand exactly where the mark says.
      if let mark, i + 1 == log.wals.count || log.wals[i + 1].number > mark.wal {
        if state != mark.end && mark.end.frame >= log.end.frame {
          throw .corrupt(
            volume: volume, wal: number, frame: min(mark.end.frame, state.frame &+ 1),
            detail: "the journal says that frame \(mark.end.frame) was the last when the volume was opened")
        }
      }
    }
    log.end = state
    return last
  }

  /// Cuts a scan to what a mark left of it.
  private func limit(_ scan: inout WALScan, to mark: OpenedMark) {
    guard let i = scan.frames.firstIndex(where: { $0.number >= mark.end.frame }) else { return }
    if scan.frames[i].number == mark.end.frame, scan.cut(at: mark.end) { return }
    scan.cut(frame: i, keeping: 0)
  }

  private func drop(_ scan: inout WALScan) {
    if !scan.frames.isEmpty { scan.cut(frame: 0, keeping: 0) }
  }

  /// Durable marks and headers after the break: in the rest of the broken file, and in the files after it (whose own
  /// scans have been looked at; their rests have not). A file that a mark speaks of has no rest: what is behind the mark was
  /// given up, and continues from what the frame before had been until then.
  private func searchBeyond(
    _ scanned: [RecoveredWAL], _ blocksOf: [Int], _ marks: [OpenedMark], from broken: Break, last: WALChain
  ) throws(WALError) -> WALReader.Beyond {
    var all = WALReader.Beyond()
    for i in scanned.indices where i >= broken.index {
      let w = scanned[i]
      if marks.contains(where: { $0.wal >= w.number }) { continue }
      let found = try WALReader.marksBeyond(
        files, w.file, volume: volume, wal: w.number, blocks: blocksOf[i], incarnation: w.scan.incarnation,
        from: w.scan.endPosition, last: last)
      all.durable = max(all.durable, found.durable)
      all.headers += found.headers
      if found.disagrees { all.disagrees = true }
    }
    return all
  }

  /// Checks bounds of every record, and the data of all frames above the durable mark; cuts at the first bad block.
  private func checkData(_ log: inout RecoveredLog, above durable: UInt64) throws(WALError) {
    let reader = DataChecker(files: files)
    for i in log.wals.indices {
      let w = log.wals[i]
      for (f, frame) in w.scan.frames.enumerated() {
        for k in 0..<frame.recordCount {
          let r = w.scan.records[frame.firstRecord + k]
          if r.lba >= blocks || r.count > blocks - r.lba {
            throw .corrupt(
              volume: volume, wal: w.number, frame: frame.number, detail: "a record lies beyond the end of the volume")
          }
          guard frame.number > durable, r.kind == .data else { continue }
          let good: Bool
          do {
            good = try reader.check(w, r)
          } catch {
            throw .system(volume: volume, wal: w.number, operation: "read", error: error)
          }
          if good { continue }
          log.wals[i].scan.cut(frame: f, keeping: k)
          for j in (i + 1)..<max(i + 1, log.wals.count) { drop(&log.wals[j].scan) }
          let kept = log.wals[...i].last { !$0.scan.frames.isEmpty }
          log.end = kept?.scan.end ?? WALChain(frame: frame.number - 1, crc: frame.previousCRC)
          return
        }
      }
    }
  }
}

/// Reads data blocks in large pieces and compares them with their CRCs.
private final class DataChecker {
  private let files: any Files
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * WALFormat.block, alignment: WALFormat.block)
  private var file = FileID.none
  private var first = 0
  private var held = 0

  init(files: any Files) { self.files = files }
  deinit { buffer.deallocate() }

  func check(_ w: RecoveredWAL, _ r: FrameRecord) throws(Errno) -> Bool {
    guard let base = buffer.baseAddress else { return false }
    for i in 0..<Int(r.count) {
      let position = Int(r.position) + i
      if w.file != file || position < first || position >= first + held {
        let want = min(256, w.scan.endPosition - position)
        let part = UnsafeMutableRawBufferPointer(start: base, count: max(1, want) * WALFormat.block)
        let got = try files.read(w.file, into: part, at: UInt64(position) * UInt64(WALFormat.block))
        file = w.file
        first = position
        held = got / WALFormat.block
        if held == 0 { return false }
      }
      let p = UnsafeRawBufferPointer(start: base + (position - first) * WALFormat.block, count: WALFormat.block)
      if crc32c(p) != w.scan.blockCRCs[r.firstCRC + i] { return false }
    }
    return true
  }
}
