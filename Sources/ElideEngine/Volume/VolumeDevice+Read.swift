import CElide
import ElideIO
import ElideProjections
import Glibc

extension VolumeDevice {
  /// How far a read got.
  enum ReadStep: Equatable {
    case done
    /// Block `lba` is in no local file: so many blocks from `handle` on are wanted.
    case missing(lba: UInt64, handle: BlockHandle, count: UInt32)
    case failed(Int32)
  }

  func submitRead(_ request: BlockRequest) -> Submission {
    counters.reads &+= 1
    counters.bytesRead &+= request.length
    guard let buffer = request.buffer, request.length > 0 else { return .done(0) }
    var done: UInt64 = 0
    switch read(request.offset, request.length, into: buffer, from: &done) {
    case .done:
      noteRead(request.offset, request.length, missed: false)
      return .done(0)
    case .failed(let error): return .done(error)
    case .missing(let lba, let handle, let count):
      let i = slab.take(PendingRequest(request))
      park(i, done, lba, handle, count)
      slab.append(i, to: &missing)
      noteRead(request.offset, request.length, missed: true)
      return .queued
    }
  }

  /// Notes what a request waits for, and asks for it.
  func park(_ i: Int32, _ done: UInt64, _ lba: UInt64, _ handle: BlockHandle, _ count: UInt32) {
    let item = slab[i]
    item.pointee.done = done
    item.pointee.isMissing = true
    item.pointee.missing = handle
    item.pointee.missingLBA = lba
    item.pointee.answered = false
    counters.fetchesWanted &+= 1
    item.pointee.fetchError = 0
    item.pointee.unsent = !ask(handle, count)
  }

  /// Asks for blocks of a segment. False when too much is asked for already: whoever wants them waits for an answer to
  /// something else, and tries again.
  func ask(_ handle: BlockHandle, _ count: UInt32) -> Bool {
    guard mayAsk(count) else { return false }
    guard toKeeper.send(.wanted(segment: handle.segment, r: handle.r, count: count)) else {
      // The box is full: try again at the next poll, which nobody else may cause.
      wake.signal()
      return false
    }
    fetchesUnderWay &+= 1
    blocksUnderWay &+= count
    return true
  }

  /// One is always allowed, however large.
  func mayAsk(_ count: UInt32) -> Bool {
    fetchesUnderWay == 0
      || fetchesUnderWay < limits.fetches && count <= limits.fetchBlocks &- min(blocksUnderWay, limits.fetchBlocks)
  }

  /// Whether a request that waits for a block has something to try.
  func mayGoOn(_ i: Int32) -> Bool { slab[i].pointee.answered || slab[i].pointee.unsent && mayAsk(1) }

  /// Reads [offset+done, offset+length) into the buffer, as far as it is local; `done` says how far.
  func read(_ offset: UInt64, _ length: UInt64, into buffer: UnsafeMutableRawPointer, from done: inout UInt64) -> ReadStep {
    while done < length {
      let at = offset &+ done
      let lba = at >> 12
      let inBlock = Int(at & 4095)
      let left = Int(length &- done)
      let step: ReadStep
      var blocks: UInt64 = 1
      let to = buffer + Int(done)
      if inBlock == 0 && left >= 8192 {
        let copied = copyPieces(lba, limit: UInt64(left) >> 12, into: to)
        done &+= copied << 12
        if copied > 0 { continue }
      }
      if inBlock == 0 && left >= 4096 {
        step = readRun(lba, limit: UInt64(left) >> 12, into: to, count: &blocks)
        done &+= step == .done ? blocks << 12 : 0
      } else {
        step = readRun(lba, limit: 1, into: scratch, count: &blocks)
        if step == .done {
          let n = min(4096 &- inBlock, left)
          memcpy(to, scratch + inBlock, n)
          done &+= UInt64(n)
        }
      }
      if step != .done {
        // Ask for the rest of the request's run at once.
        if case .missing(let l, let h, _) = step {
          let wanted = (offset &+ length &+ 4095) >> 12 &- l
          let run = map.run(at: l, limit: min(wanted, 1024))
          return .missing(lba: l, handle: h, count: UInt32(max(1, run.handle == h ? run.count : 1)))
        }
        return step
      }
    }
    return .done
  }

  /// Reads whole blocks from `lba` on that one place tells, at most `limit`; `count` says how many. On `.missing` the
  /// first of them is missing.
  private func readRun(_ lba: UInt64, limit: UInt64, into buffer: UnsafeMutableRawPointer, count: inout UInt64) -> ReadStep {
    let run = overlay.run(lba, limit: limit)
    count = run.count
    switch run.kind {
    case .data: return readWAL(run, into: buffer)
    case .zero, .trim:
      memset(buffer, 0, Int(run.count) << 12)
      return .done
    case nil:
      let (handle, n) = map.run(at: lba, limit: run.count)
      count = max(1, n)
      guard handle.isBlock, n > 0 else {
        memset(buffer, 0, Int(count) << 12)
        return .done
      }
      return readSegment(lba, handle, limit: UInt32(truncatingIfNeeded: n), into: buffer, count: &count)
    }
  }

  /// How many blocks from r on are present and lie side by side in the segment's file, and where.
  @inline(__always)
  func stretch(_ source: SegmentSource, _ r: UInt32, limit: UInt32) -> (position: UInt32, count: UInt32) {
    let most = min(limit, source.blocks &- r)
    let position = source.placement.map { UInt32($0[Int(r)]) } ?? r
    var n: UInt32 = 0
    while n < most, elide_load_acquire_u32(source.words + 4 &* Int(r &+ n)) != 0,
      source.placement.map({ UInt32($0[Int(r &+ n)]) == position &+ n }) ?? true
    { n &+= 1 }
    return (position, n)
  }

  /// Blocks of an unsealed write-ahead file, each checked against its record's CRC.
  private func readWAL(_ run: Overlay.Run, into buffer: UnsafeMutableRawPointer) -> ReadStep {
    guard let wal = wals.find(run.wal) else { return .failed(EIO) }
    let n = Int(run.count)
    let crcs = wal.pointee.crcs + run.position
    if let data = wal.pointee.data, run.position &+ n <= wal.pointee.blocks,
      elide_copy_matching_crcs(buffer, data + run.position << 12, n, crcs) == n
    {
      return .done
    }
    // No view, or a disk that failed under it, or damage: what a call says decides.
    let bytes = UnsafeMutableRawBufferPointer(start: buffer, count: n << 12)
    do throws(Errno) {
      guard try files.read(wal.pointee.file, into: bytes, at: UInt64(run.position) << 12) == bytes.count else { throw Errno.io }
    } catch { return .failed(EIO) }
    if elide_crc32c_matching(buffer, n, crcs) == n { return .done }
    counters.walMismatches &+= 1
    return .failed(EIO)
  }

  /// Blocks of a segment from its local file, each checked against its word.
  private func readSegment(
    _ lba: UInt64, _ handle: BlockHandle, limit: UInt32, into buffer: UnsafeMutableRawPointer, count: inout UInt64
  ) -> ReadStep {
    let r = handle.r
    guard let source = sources.source(for: handle.segment), r < source.blocks else {
      return readLent(lba, handle, limit: limit, into: buffer, count: &count)
    }
    let (position, n) = stretch(source, r, limit: limit)
    if n == 0 { return readLent(lba, handle, limit: limit, into: buffer, count: &count) }
    let right = copy(source, r, position, Int(n), into: buffer)
    if right < Int(n) {
      // Not what was stored, or not readable: the fetcher looks again, and knows whether the block may be forgotten. Blocks
      // before it are good.
      counters.cacheMismatches &+= 1
      if right == 0 { return readLent(lba, handle, limit: limit, into: buffer, count: &count) }
    }
    count = UInt64(right)
    return .done
  }

  /// Copies `n` neighbouring blocks out of a segment's file; how many of them are right, up to the first that is not.
  private func copy(
    _ source: SegmentSource, _ r: UInt32, _ position: UInt32, _ n: Int, into buffer: UnsafeMutableRawPointer
  ) -> Int {
    let words = source.words + 4 &* Int(r)
    let from = UInt64(position) << 12
    if let data = source.data, from &+ UInt64(n << 12) <= source.dataLength {
      let right = elide_copy_matching(buffer, data + Int(from), n, source.seed, r, words)
      if right >= 0 { return Int(right) }
    }
    let bytes = UnsafeMutableRawBufferPointer(start: buffer, count: n << 12)
    let got = (try? files.read(source.file, into: bytes, at: source.dataOffset &+ from)) ?? -1
    return got == bytes.count ? elide_words_matching(source.seed, r, buffer, n, words) : 0
  }

  /// Blocks that are in no file, and perhaps in memory: a fetch brought them, and the disk is full.
  private func readLent(
    _ lba: UInt64, _ handle: BlockHandle, limit: UInt32, into buffer: UnsafeMutableRawPointer, count: inout UInt64
  ) -> ReadStep {
    for blocks in lent where blocks.segment == handle.segment && blocks.r <= handle.r && handle.r &- blocks.r < blocks.count {
      let skipped = handle.r &- blocks.r
      let n = min(limit, blocks.count &- skipped)
      blocks.bytes.withUnsafeBytes { b in
        if let from = b.baseAddress { memcpy(buffer, from + Int(skipped) << 12, Int(n) << 12) }
      }
      count = UInt64(n)
      return .done
    }
    return .missing(lba: lba, handle: handle, count: limit)
  }

  /// Goes on with parked reads whose fetch was answered.
  func retryMissing() {
    var waiting = missing
    missing = RequestList()
    while let i = slab.popFirst(&waiting) {
      let item = slab[i]
      guard mayGoOn(i) else {
        slab.append(i, to: &missing)
        continue
      }
      guard let buffer = item.pointee.request.buffer else {
        complete(i, EIO)
        continue
      }
      var done = item.pointee.done
      switch read(item.pointee.request.offset, item.pointee.request.length, into: buffer, from: &done) {
      case .done: complete(i, 0)
      case .failed(let error): complete(i, error)
      case .missing(let lba, let handle, let count):
        if givesUp(i, lba, handle) {
          complete(i, EIO)
        } else {
          park(i, done, lba, handle, count)
          slab.append(i, to: &missing)
        }
      }
    }
  }

  /// A fetch that failed is an error only if the block still is where it was when the fetch was asked for.
  func givesUp(_ i: Int32, _ lba: UInt64, _ handle: BlockHandle) -> Bool {
    let item = slab[i]
    guard item.pointee.missingLBA == lba, item.pointee.missing == handle else {
      item.pointee.retries = 0
      return false
    }
    if item.pointee.unsent {
      item.pointee.unsent = false
      return false
    }
    item.pointee.retries &+= 1
    return item.pointee.fetchError != 0 || item.pointee.retries > 8
  }

  func prefetch(_ request: BlockRequest) {
    var lba = request.offset >> 12
    let end = (request.offset &+ request.length &+ 4095) >> 12
    while lba < end {
      let over = overlay.run(lba, limit: end &- lba)
      if over.kind != nil {
        lba &+= over.count
        continue
      }
      let (handle, n) = map.run(at: lba, limit: min(over.count, 1024))
      if n == 0 { break }
      if handle.isBlock, !isLocal(handle, UInt32(n)) {
        // A hint: what is read is asked for first, and this is not asked for twice.
        guard fetchesUnderWay < max(1, limits.fetches / 2), ask(handle, UInt32(n)) else { return }
      }
      lba &+= n
    }
  }

  func isLocal(_ handle: BlockHandle, _ count: UInt32) -> Bool {
    guard let source = sources.source(for: handle.segment), UInt64(handle.r) + UInt64(count) <= UInt64(source.blocks) else {
      return false
    }
    for r in handle.r..<handle.r + count where elide_load_acquire_u32(source.words + 4 &* Int(r)) == 0 { return false }
    return true
  }
}
