import ElideEvents
import ElideIO
import ElideProjections
import Glibc

/// Requests to a device, one after the other, on this thread.
final class SingleRequests: CompletionSink {
  private let device: VolumeDevice
  /// Moves things along until the closure says so.
  private let pump: (() -> Bool) throws(ElideError) -> Void
  private var token: UInt64 = 0
  private var ended: Int32?

  init(_ device: VolumeDevice, pump: @escaping (() -> Bool) throws(ElideError) -> Void) {
    self.device = device
    self.pump = pump
    device.sink = self
  }

  func complete(token: UInt64, error: Int32) { if token == self.token { ended = error } }

  /// `first` and `count` in blocks; past the device's end nothing is done.
  func run(
    _ operation: BlockRequest.Operation, _ first: UInt64, _ count: UInt64, _ buffer: UnsafeMutableRawPointer? = nil
  ) throws(ElideError) {
    let start = first * 4096
    let end = min((first + count) * 4096, device.size)
    guard operation == .flush || start < end else { return }
    token += 1
    ended = nil
    var error: Int32
    let request = BlockRequest(
      operation: operation, offset: operation == .flush ? 0 : start, length: operation == .flush ? 0 : end - start,
      buffer: buffer, token: token)
    switch device.submit(request) {
    case .done(let e): error = e
    case .queued:
      device.commit()
      try pump { self.ended != nil }
      error = ended ?? 0
    }
    if error != 0 {
      throw ElideError(
        error == ENOSPC ? .tryLater : .failed, "volume \(device.volume): \(operation) at block \(first): \(Errno(error))")
    }
  }
}

/// A volume of this host that was taken from it, as it was when its last process ended: everything that was acknowledged, also
/// what never left this host. Only read: nothing is sealed, uploaded, published or appended to its journal.
///
/// Owned by one thread; holds the volume's lock until `close`.
final class DisplacedVolume {
  let volume: ULID
  let device: VolumeDevice
  private let opening: LocalOpening
  private let desk: ReadDesk
  private let engine: Engine
  private let wake: WakeEvent

  init(_ engine: Engine, _ volume: ULID) throws(ElideError) {
    opening = try LocalOpening.open(engine, volume)
    self.engine = engine
    self.volume = volume
    wake = try engine.waiter.makeWake()
    let signal = wake
    let front = Mailbox<FrontMessage>(capacity: 4096) { signal.signal() }
    let fetcher = Fetcher(
      store: engine.store, segments: opening.segments, encodings: opening.encodings, retry: engine.retry.once)
    desk = ReadDesk(
      fetcher: fetcher, store: engine.store, segments: opening.segments, executor: engine.executor, front: front,
      clock: engine.world.clock, configuration: engine.configuration
    ) { signal.signal() }
    let parts = VolumeDevice.Parts(
      volume: volume, size: opening.tables.state.deviceSize, map: opening.tables.map, sources: opening.segments,
      files: engine.world.files, executor: engine.executor, fromKeeper: front, toKeeper: desk.inbox, wake: wake,
      limits: engine.configuration.front)
    device = VolumeDevice(
      parts,
      log: VolumeDevice.Log(
        incarnation: opening.context.identity.incarnation, geometry: engine.configuration.geometry, recovered: opening.log))
  }

  /// Bytes.
  var size: UInt64 { device.size }

  func close() {
    opening.closeFiles()
    opening.close()
  }

  func pump(_ isDone: () -> Bool) throws(ElideError) {
    let begin = engine.world.clock.monotonicNanoseconds()
    while true {
      wake.clear()
      for _ in 0..<64 where desk.step() {}
      device.poll()
      if isDone() { return }
      let now = engine.world.clock.monotonicNanoseconds()
      if now - begin > 60_000_000_000 {
        throw ElideError(.tryLater, "volume \(volume): the store does not answer; try again")
      }
      engine.waiter.wait(wake, untilNanoseconds: min(now + 2_000_000, desk.deadline), clock: engine.world.clock)
    }
  }

  /// Where it may differ from `base`, which it continued: blocks to be read, and blocks of which nothing but zeros is known. A
  /// block of the second kind that holds data after all is of the first kind too.
  func difference(from base: BlockMap?) -> (data: [Range<UInt64>], zeros: [Range<UInt64>]) {
    var data: [Range<UInt64>] = []
    var zeros: [Range<UInt64>] = []
    let map = opening.tables.map
    let blocks = (device.size + 4095) / 4096
    var lba: UInt64 = 0
    while lba < blocks {
      let (mine, n) = map.run(at: lba, limit: blocks - lba)
      var count = max(1, n)
      var differs = mine.isBlock
      if let base {
        let (theirs, m) = base.run(at: lba, limit: count)
        count = max(1, min(count, m))
        differs = mine != theirs && (mine.isBlock || theirs.isBlock)
      }
      if differs { if mine.isBlock { data.append(lba..<lba + count) } else { zeros.append(lba..<lba + count) } }
      lba += count
    }
    // What no segment has yet.
    for wal in opening.log.wals {
      for r in wal.scan.records where r.count > 0 {
        if r.kind == .data { data.append(r.lba..<r.lba + r.count) } else { zeros.append(r.lba..<r.lba + r.count) }
      }
    }
    return (Self.merged(data), Self.merged(zeros))
  }

  private static func merged(_ ranges: [Range<UInt64>]) -> [Range<UInt64>] {
    var out: [Range<UInt64>] = []
    for r in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = out.last, r.lowerBound <= last.upperBound {
        out[out.count - 1] = last.lowerBound..<max(last.upperBound, r.upperBound)
      } else {
        out.append(r)
      }
    }
    return out
  }
}
