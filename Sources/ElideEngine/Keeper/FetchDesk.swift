import ElideIO
import Glibc
import Synchronization

//   want ─▶ fetch lane ─ here now, or wrong for good ─▶ front
//    ▲          └─ the store does not answer ─▶ parked ─┐
//    └── its pause is over, or the store answers again ─┘     after `patience`: EIO

/// Brings blocks that reads wait for into the cache, and does not give up while the store is silent: such a fetch is parked
/// and tried again. How many are under way is the front's to limit: it alone asks for them.
///
/// Owned by the thread that steps a volume's machine; jobs on the fetch lane give back what they found through a box.
/// While the store is silent a few fetches at a time find out whether it still is, and the others wait for them: the lane is
/// everybody's, and each try may take as long as the store's own patience. A crash loses nothing but requests in flight.
final class FetchDesk {
  /// How long a fetch may wait for a silent store before the read is an error, and the pauses between its tries.
  struct Patience: Equatable, Sendable {
    var nanoseconds: UInt64
    var first: UInt64
    var longest: UInt64

    init(_ configuration: KeeperConfiguration) {
      nanoseconds = configuration.readPatienceSeconds * 1_000_000_000
      first = configuration.retryMilliseconds * 1_000_000
      longest = configuration.retryLimitMilliseconds * 1_000_000
    }
  }

  private struct Fetch {
    var segment: UInt64
    var r: UInt32
    var count: UInt32
    /// When the read asked, and when this try began.
    var since: UInt64
    var begun: UInt64 = 0
    var tries = 0
    var notBefore: UInt64 = 0
    var isProbe = false
    /// The store answered others when it did not answer this one.
    var isOdd = false
  }
  private enum Returned: Sendable {
    case done(wasProbe: Bool)
    case silent(Fetch)
  }

  /// Tries at once while the store is silent, of the threads of the lane.
  private static let mostProbes = 2

  let faults = ReadFaults()
  private let fetcher: Fetcher
  private let store: WatchedStore
  private let executor: any Executor
  private let front: Mailbox<FrontMessage>
  private let clock: any Clock
  private let patience: Patience
  private let returned: Mailbox<Returned>
  private var parked: [Fetch] = []
  private var probes = 0
  private var wasSilent = false

  init(
    fetcher: Fetcher, store: WatchedStore, executor: any Executor, front: Mailbox<FrontMessage>, clock: any Clock,
    patience: Patience, wake: @escaping @Sendable () -> Void
  ) {
    self.fetcher = fetcher
    self.store = store
    self.executor = executor
    self.front = front
    self.clock = clock
    self.patience = patience
    returned = Mailbox(capacity: 1024, wake: wake)
  }

  /// Fetches that wait for the store to answer.
  var waiting: Int { parked.count + probes }

  func want(_ segment: UInt64, _ r: UInt32, _ count: UInt32) {
    let now = clock.monotonicNanoseconds()
    let fetch = Fetch(segment: segment, r: r, count: count, since: now)
    if store.silentSince == nil { start(fetch) } else { parked.append(fetch) }
  }

  /// Brings blocks that will be read soon, or an encoding, on the lane for what nobody waits for; nothing while the store is
  /// silent. How many are under way is the front's to limit, too.
  func ahead(_ segment: UInt64, _ r: UInt32, _ count: UInt32) {
    if store.silentSince != nil {
      _ = front.send(.aheadDone(.failed))
      return
    }
    executor.submit(.ahead) { [fetcher, front] in
      _ = front.send(.aheadDone(fetcher.ahead(segment: segment, r: r, count: count)))
    }
  }

  /// Does one piece of work; false when there is none before the next message or `deadline`.
  func step() -> Bool {
    if let result = returned.receive() {
      take(result)
      return true
    }
    if parked.isEmpty { return false }
    let now = clock.monotonicNanoseconds()
    let isSilent = store.silentSince != nil
    if wasSilent && !isSilent { for i in parked.indices where !parked[i].isOdd { parked[i].notBefore = 0 } }
    wasSilent = isSilent
    if let i = parked.firstIndex(where: { now &- $0.since >= patience.nanoseconds }) { return giveUp(i) }
    if isSilent && probes >= Self.mostProbes { return false }
    // The least tried first: one object that nobody gets does not hold up the others.
    var next: Int?
    for i in parked.indices where parked[i].notBefore <= now {
      if next.map({ parked[i].tries < parked[$0].tries }) ?? true { next = i }
    }
    guard let next else { return false }
    var fetch = parked.remove(at: next)
    fetch.isProbe = isSilent
    if isSilent { probes += 1 }
    start(fetch)
    return true
  }

  /// Nanoseconds of the monotonic clock.
  var deadline: UInt64 {
    var next = UInt64.max
    for fetch in parked { next = min(next, min(max(fetch.notBefore, 1), fetch.since &+ patience.nanoseconds)) }
    return next
  }

  private func take(_ result: Returned) {
    switch result {
    case .done(let wasProbe): if wasProbe { probes -= 1 }
    case .silent(var fetch):
      let now = clock.monotonicNanoseconds()
      if fetch.isProbe { probes -= 1 }
      fetch.isProbe = false
      fetch.isOdd = store.answered(since: fetch.begun)
      fetch.notBefore = now &+ min(patience.longest, patience.first << UInt64(min(fetch.tries, 20)))
      fetch.tries += 1
      parked.append(fetch)
      wasSilent = true
    }
  }

  private func giveUp(_ i: Int) -> Bool {
    let fetch = parked[i]
    let answer = FrontMessage.fetched(segment: fetch.segment, r: fetch.r, count: fetch.count, error: EIO, bytes: [])
    guard front.send(answer) else { return false }
    parked.remove(at: i)
    faults.note("segment \(fetch.segment): the store gave no answer for \(patience.nanoseconds / 1_000_000_000) s")
    return true
  }

  private func start(_ fetch: Fetch) {
    var fetch = fetch
    fetch.begun = clock.monotonicNanoseconds()
    executor.submit(.fetch) { [fetch, fetcher, front, returned, faults] in
      var code: Int32 = 0
      var bytes: [UInt8] = []
      do throws(SegmentError) {
        // Bytes instead of a cached block: the disk took none, and the read is answered from memory.
        if let lent = try fetcher.fetch(segment: fetch.segment, r: fetch.r, count: fetch.count) { bytes = lent }
      } catch {
        if case .store(.unknown) = error, returned.send(.silent(fetch)) { return }
        code = EIO
        faults.note("segment \(fetch.segment): \(error)")
      }
      if fetch.isProbe { _ = returned.send(.done(wasProbe: true)) }
      // The box has room for more than a front has fetches under way.
      _ = front.send(.fetched(segment: fetch.segment, r: fetch.r, count: fetch.count, error: code, bytes: bytes))
    }
  }
}

/// Reads that failed for good, as any thread may ask.
package final class ReadFaults: Sendable {
  private struct Noted {
    var count: UInt64 = 0
    var last: String?
  }
  private let noted = Mutex(Noted())
  package init() {}
  package var count: UInt64 { noted.withLock { $0.count } }
  /// What the newest was, and of which object.
  package var last: String? { noted.withLock { $0.last } }
  func note(_ text: String) {
    noted.withLock {
      $0.count += 1
      $0.last = text
    }
  }
}
