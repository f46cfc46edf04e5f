import ElideIO
import ElideProjections
import Glibc

extension VolumeDevice {
  /// How far a write got.
  enum WriteStep: Equatable {
    /// All of it is gathered: the append completes it.
    case gathered
    /// The log takes nothing before the next file is ready.
    case stalled
    /// A block that it covers partly is not local.
    case missing(lba: UInt64, handle: BlockHandle)
    case failed(Int32)
  }

  func submitWrite(_ request: BlockRequest) -> Submission {
    if credit.allowance == .refused && request.operation == .write {
      counters.refusals &+= 1
      counters.errors &+= 1
      return .done(ENOSPC)
    }
    let i = slab.take(PendingRequest(request))
    lastSerial &+= 1
    slab[i].pointee.serial = lastSerial
    if !stalled.isEmpty || !admits(i) {
      slab.append(i, to: &stalled)
      askForCredit()
    } else if !gated.isEmpty && overlapsGated(i) {
      slab.append(i, to: &gated)
    } else {
      place(i, advance(i), isFirst: true)
    }
    return .queued
  }

  /// Puts a request where it goes on from after `advance`. `isFirst`: no other that waits came after it.
  private func place(_ i: Int32, _ step: WriteStep, isFirst: Bool = false) {
    switch step {
    case .gathered: slab.append(i, to: &gatheredRequests)
    case .stalled:
      counters.stalls &+= 1
      if credit.noFile != 0 { return refuse(i, credit.noFile) }
      if isFirst { unadmit(i) }
      slab.insert(i, into: &stalled)
    case .missing(let lba, let handle):
      park(i, slab[i].pointee.done, lba, handle, 1)
      slab.insert(i, into: &gated)
    case .failed(let error):
      // After a failed append it was in no list that `fail` could end.
      complete(i, error)
    }
  }

  /// Whether an earlier write that waits for a block touches what this one touches. Later ones do not count: one that was
  /// gated, went on and stalled is still before those that were gated behind it, and stays so when it is gated again.
  private func overlapsGated(_ i: Int32) -> Bool {
    let (first, end) = (slab[i].pointee.firstBlock, slab[i].pointee.endBlock)
    var j = gated.head
    while j >= 0 {
      if slab[j].pointee.serial < slab[i].pointee.serial, slab[j].pointee.firstBlock < end && first < slab[j].pointee.endBlock {
        return true
      }
      j = slab[j].pointee.next
    }
    return false
  }

  /// Gathers the rest of a request: whole blocks as they are, partly covered ones merged with what is there.
  private func advance(_ i: Int32) -> WriteStep {
    let request = slab[i].pointee.request
    var done = slab[i].pointee.done
    defer { slab[i].pointee.done = done }
    while done < request.length {
      let at = request.offset &+ done
      let left = request.length &- done
      let inBlock = at & 4095
      // Up to the device's end the last block counts as whole: what lies behind it is zeros.
      let isWhole = inBlock == 0 && (left >= 4096 || at &+ left == size && request.operation != .write)
      if isWhole {
        let blocks = max(1, left >> 12)
        switch gather(request, done, lba: at >> 12, blocks: blocks) {
        case .took(let n): done = min(request.length, done &+ n << 12)
        case .frameFull: if !appendGathered() { return .failed(EIO) }
        case .fileFull: if let step = roll() { return step }
        }
        continue
      }
      if let step = merge(request, at, left, &done) { return step }
    }
    return .gathered
  }

  private func gather(_ request: BlockRequest, _ done: UInt64, lba: UInt64, blocks: UInt64) -> Appender.Step {
    switch request.operation {
    case .write:
      let bytes = request.buffer.map { UnsafeRawPointer($0 + Int(done)) }
      if counters.writes & 15 != 0 { return appender.add(lba: lba, count: blocks, kind: .data, bytes: bytes, durable: durable) }
      let start = stages.now()
      let step = appender.add(lba: lba, count: blocks, kind: .data, bytes: bytes, durable: durable)
      if case .took(let n) = step { stages.add(.crc, bytes: Int(n) << 12, since: start) }
      return step
    case .trim: return appender.add(lba: lba, count: blocks, kind: .trim, bytes: nil, durable: durable)
    default: return appender.add(lba: lba, count: blocks, kind: .zero, bytes: nil, durable: durable)
    }
  }

  /// Merges the part of one block that the request covers; nil when that was gathered, or must be tried again.
  private func merge(_ request: BlockRequest, _ at: UInt64, _ left: UInt64, _ done: inout UInt64) -> WriteStep? {
    let lba = at >> 12
    // A write to this block that is gathered and not appended would be overwritten with what was there before it.
    if mergedCount == Self.mergedLimit || appender.gathers(lba) {
      return appendGathered() ? nil : .failed(EIO)
    }
    let block = merged + mergedCount << 12
    var read: UInt64 = 0
    switch self.read(lba << 12, 4096, into: block, from: &read) {
    case .done: break
    case .missing(let l, let handle, _): return .missing(lba: l, handle: handle)
    case .failed(let error): return .failed(error)
    }
    let inBlock = Int(at & 4095)
    let n = min(4096 &- inBlock, Int(left))
    if request.operation == .write, let buffer = request.buffer {
      memcpy(block + inBlock, buffer + Int(done), n)
    } else {
      memset(block + inBlock, 0, n)
    }
    switch appender.add(lba: lba, count: 1, kind: .data, bytes: block, durable: durable) {
    case .took:
      mergedCount &+= 1
      counters.merges &+= 1
      done &+= UInt64(n)
      return nil
    case .frameFull: return appendGathered() ? nil : .failed(EIO)
    case .fileFull: return roll()
    }
  }

  /// Ends the open file and begins the next prepared one; `.stalled` when there is none, nil to go on.
  private func roll() -> WriteStep? {
    guard appendGathered() else { return .failed(EIO) }
    closeFile()
    return openNext() ? nil : .stalled
  }

  /// No frame is added to the open file any more.
  func closeFile() {
    guard appender.isOpen, let wal = wals.last else { return }
    appender.closeFile()
    wal.pointee.closed = true
    if !wal.pointee.halfSaid {
      wal.pointee.halfSaid = true
      askForNext(wal.pointee.number)
    }
  }

  private func askForNext(_ number: UInt64) {
    // A full box: `settle` asks again.
    if !toKeeper.send(.walHalfFull(number: number)) { wals.find(number)?.pointee.halfSaid = false }
  }

  /// Begins to append to a prepared file, if there is one.
  func openNext() -> Bool {
    if appender.isOpen { return true }
    guard failure == 0, !ready.isEmpty else { return false }
    let (number, file) = ready.removeFirst()
    let geometry = appender.geometry
    overlay.reserve(geometry.dataBlocks + 1024)
    appender.open(wal: number, file: file)
    wals.append(
      FrontWAL(
        number: number, file: file, blocks: geometry.fileBlocks, records: WALFormat.maxRecords, chain: appender.chain,
        files: files))
    unstarted = 0
    writebackFrom = 0
    return true
  }

  /// Appends what is gathered, makes it visible, and completes the requests whose last byte it was. False when the disk
  /// did not take it: then writing has ended.
  @discardableResult
  func appendGathered() -> Bool {
    if failure != 0 { return false }
    guard appender.gatheredCount > 0, let wal = wals.last else {
      completeGathered()
      return true
    }
    let written: Appender.Written
    let start = stages.now()
    do throws(Errno) { written = try appender.write(files) } catch {
      fail(error.code, wal: wal.pointee.number)
      return false
    }
    stages.add(.append, bytes: written.bytes, since: start)
    counters.appends &+= 1
    counters.frames &+= written.newFrame ? 1 : 0
    counters.bytesAppended &+= UInt64(written.bytes)
    reserveOverlay()
    var bytes: UInt64 = 0
    for k in 0..<written.records {
      let g = appender.gathered[k]
      overlay.insert(
        lba: g.lba, count: g.count, kind: g.kind, position: g.position,
        order: Overlay.order(wal: wal.pointee.number, ordinal: g.ordinal))
      wal.pointee.note(lba: g.lba, count: g.count, kind: g.kind)
      if g.kind == .data {
        memcpy(wal.pointee.crcs + g.position, g.crcs, Int(g.count) << 2)
        bytes &+= g.count << 12
      }
    }
    wal.pointee.bytes &+= bytes
    openBytes.add(bytes)
    sayBegun(wal)
    wal.pointee.end = appender.chain
    appender.forget()
    mergedCount = 0
    unstarted += written.bytes
    if unstarted >= 2 << 20 {
      files.startWriteback(wal.pointee.file, offset: writebackFrom, length: UInt64(unstarted))
      writebackFrom += UInt64(unstarted)
      unstarted = 0
    }
    if !wal.pointee.halfSaid && appender.isHalfFull {
      wal.pointee.halfSaid = true
      askForNext(wal.pointee.number)
    }
    completeGathered()
    return true
  }

  /// Once a file: from now on its bytes are the volume's exposure. A full box: `settle` says it.
  func sayBegun(_ wal: UnsafeMutablePointer<FrontWAL>) {
    if wal.pointee.begunSaid || wal.pointee.rangeCount == 0 && !wal.pointee.hasLongRuns { return }
    wal.pointee.begunSaid = toKeeper.send(.walBegun(number: wal.pointee.number))
  }

  /// Short zero runs take an entry a block: rarely, a file holds more of them than `openNext` made room for.
  private func reserveOverlay() {
    var need = 0
    for k in 0..<appender.gatheredCount {
      let g = appender.gathered[k]
      need += g.kind != .data && g.count > Overlay.longRun ? 0 : Int(g.count)
    }
    if (overlay.entries + need) * 8 / 5 + 16 > overlay.capacity { overlay.reserve(need * 16) }
  }

  private func completeGathered() {
    while let i = slab.popFirst(&gatheredRequests) {
      if slab[i].pointee.request.forceUnitAccess {
        slab.append(i, to: &unsyncedWaiters)
      } else {
        complete(i, 0)
      }
    }
  }

  /// Goes on with what waits for a file or for blocks.
  func retryWrites() {
    guard failure == 0 else { return }
    if !stalled.isEmpty, openNext() {
      var waiting = stalled
      stalled = RequestList()
      while let i = slab.popFirst(&waiting) {
        guard admits(i) else {
          slab.append(i, to: &stalled)
          break
        }
        if !gated.isEmpty && overlapsGated(i) { slab.insert(i, into: &gated) } else { place(i, advance(i), isFirst: true) }
        if failure != 0 { completeAll(&waiting, EIO) }
        if !stalled.isEmpty { break }
      }
      slab.join(waiting, behind: &stalled)
    }
    if !gated.isEmpty { retryGated() }
    askForCredit()
  }

  /// In the order of serials, so that who is behind another finds it in `gated` already, and goes on in the same pass once
  /// that one does.
  private func retryGated() {
    var waiting = gated
    gated = RequestList()
    while let i = slab.popFirst(&waiting) {
      let item = slab[i]
      let behind = overlapsGated(i)
      let waits = item.pointee.isMissing && !mayGoOn(i)
      if behind || waits || waitsForFile {
        // What the fetch brought may be in memory until the end of this poll only: asking again is no failure.
        if item.pointee.isMissing, item.pointee.answered, item.pointee.fetchError == 0 { item.pointee.unsent = true }
        slab.append(i, to: &gated)
        continue
      }
      let step = advance(i)
      if case .missing(let lba, let handle) = step, item.pointee.isMissing, givesUp(i, lba, handle) {
        complete(i, EIO)
      } else {
        if case .stalled = step { item.pointee.isMissing = false }
        place(i, step)
      }
      if failure != 0 { completeAll(&waiting, EIO) }
    }
  }
}
