import ElideIO
import ElideProjections

extension VolumeDevice {
  package func status(_ context: StatusContext, offset: UInt64, length: UInt64, limit: Int, into extents: inout [BlockExtent]) {
    var at = offset
    let end = offset &+ length
    while at < end {
      let lba = at >> 12
      let (flags, blocks) = state(context, lba, (end &+ 4095) >> 12 &- lba)
      let stop = min(end, (lba &+ blocks) << 12)
      if let last = extents.last, last.flags == flags {
        extents[extents.count - 1].length &+= stop &- at
      } else {
        if extents.count >= limit { return }
        extents.append(BlockExtent(length: stop &- at, flags: flags))
      }
      at = stop
    }
  }

  /// The flags of block `lba`, and for how many blocks from it on they hold.
  private func state(_ context: StatusContext, _ lba: UInt64, _ limit: UInt64) -> (UInt32, UInt64) {
    let over = overlay.run(lba, limit: limit)
    let isAllocation = context == .allocation
    if let kind = over.kind {
      return (isAllocation && kind != .data ? 3 : 0, over.count)
    }
    let (handle, n) = map.run(at: lba, limit: over.count)
    if !handle.isBlock { return (isAllocation ? 3 : 0, max(1, n)) }
    if isAllocation { return (0, n) }
    // Residency, block by block where a file is open; nothing is open that holds nothing.
    let first = isLocal(handle, 1)
    var same: UInt64 = 1
    while same < n, isLocal(handle.advanced(by: same), 1) == first { same &+= 1 }
    return (first ? 0 : 1, same)
  }

  /// Requests by what they wait for; for messages.
  package var held: String {
    "\(stalled.count) stalled, \(gated.count) gated, \(missing.count) reads, credit \(credit.bytes) \(credit.allowance), "
      + "file \(appender.isOpen), \(ready.count) ready"
  }

  /// The structure's own rules, for tests.
  package func checkInvariants() {
    overlay.checkInvariants()
    var last: UInt64 = 0
    for i in 0..<wals.count {
      let wal = wals[i].pointee
      precondition(wal.number > last && wal.synced <= max(wal.end.frame, wal.synced), "write-ahead files out of order")
      precondition(!wal.announced || (wal.closed && !wal.isDirty), "announced before it was durable")
      last = wal.number
    }
    for list in [stalled, gated] {
      var (last, i) = (UInt64(0), list.head)
      while i >= 0 {
        precondition(slab[i].pointee.serial > last, "writes that wait are out of order")
        (last, i) = (slab[i].pointee.serial, slab[i].pointee.next)
      }
    }
    let held = [gatheredRequests, stalled, gated, missing, unsyncedWaiters, roundWaiters, finished].reduce(0) { $0 + $1.count }
    precondition(held == slab.used, "a request is in no list")
  }
}
