import ElideIO
import Glibc

// Writes of data go on while there is credit, each to its end: so one is either not begun or beyond the question. Who finds
// none waits among the stalled, in order, and what comes after it too. Trims and zeros bring no data and need none.

/// What the keeper lets guests write.
struct WriteCredit {
  var allowance = WriteAllowance.free
  /// Bytes left of it; below zero what the last write took beyond.
  var bytes: Int64 = 0
  /// The keeper was asked, and has not answered.
  var isAsked = false
  /// Why no file comes, 0 when one may: an errno, and what would wait for one fails with it.
  var noFile: Int32 = 0

  var isSlowed: Bool { if case .slowed = allowance { true } else { false } }
}

extension VolumeDevice {
  /// Whether a write may go on now. Once it may it always may.
  func admits(_ i: Int32) -> Bool {
    let item = slab[i]
    if item.pointee.isAdmitted { return true }
    if credit.isSlowed, item.pointee.request.operation == .write {
      if credit.bytes <= 0 { return false }
      credit.bytes &-= Int64(item.pointee.request.length)
    }
    item.pointee.isAdmitted = true
    return true
  }

  /// A write that has found no file, and nothing of which is in the log, asks again when there is one: much may wait so.
  func unadmit(_ i: Int32) {
    let item = slab[i]
    guard item.pointee.done == 0, item.pointee.isAdmitted else { return }
    item.pointee.isAdmitted = false
    if credit.isSlowed, item.pointee.request.operation == .write { credit.bytes &+= Int64(item.pointee.request.length) }
  }

  /// Whether the first of the stalled is in the log in part, or has later ones behind it among the gated: those must wait. Of
  /// the others all that are gated came before them.
  var waitsForFile: Bool { stalled.head >= 0 && slab[stalled.head].pointee.isAdmitted }

  /// Asks for credit if somebody waits for it.
  func askForCredit() {
    guard credit.isSlowed, credit.bytes <= 0, !credit.isAsked, !stalled.isEmpty, !waitsForFile else { return }
    credit.isAsked = toKeeper.send(.creditWanted(bytes: UInt64(-credit.bytes) &+ 1))
    // The box is full: again at the next poll, which nobody else may cause.
    if !credit.isAsked { wake.signal() }
  }

  func take(_ allowance: WriteAllowance) {
    if case .slowed(let bytes) = allowance {
      if !credit.isSlowed { credit.bytes = 0 }
      credit.bytes &+= Int64(bytes)
    } else {
      credit.bytes = 0
    }
    credit.allowance = allowance
    credit.isAsked = false
    if allowance == .refused { refuseWaiting(ENOSPC) { $0.request.operation == .write && !$0.isAdmitted } }
  }

  /// No file comes for now.
  func takeNoFile(_ error: Int32) {
    credit.noFile = error
    // One may be on its way to us, behind this message or before it.
    if !appender.isOpen && ready.isEmpty { refuseWaiting(error) { _ in true } }
  }

  private func refuseWaiting(_ error: Int32, _ which: (PendingRequest) -> Bool) {
    var waiting = stalled
    stalled = RequestList()
    while let i = slab.popFirst(&waiting) {
      if which(slab[i].pointee) { refuse(i, error) } else { slab.append(i, to: &stalled) }
    }
  }

  /// Ends a write that may be there in part, as far as it came.
  func refuse(_ i: Int32, _ error: Int32) {
    counters.refusals &+= 1
    complete(i, error)
  }
}
