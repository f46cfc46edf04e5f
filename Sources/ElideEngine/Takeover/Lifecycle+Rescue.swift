import ElideEvents
import ElideIO
import ElideProjections

/// What became of what a displaced volume held.
package struct RescueReport: Codable, Equatable, Sendable {
  package enum Outcome: String, Codable, Sendable {
    /// It is in the new name, and in the store.
    case rescued
    /// The recovery had everything.
    case nothing
    /// Not yet: the name is still being recovered.
    case waiting
    /// This host has no copy of it.
    case absent
  }
  package var outcome: Outcome
  package var name: String
  package var volume: String
  /// The name under which it is offered.
  package var rescued: String?
  /// Blocks that were written there, zeroes and trims not counted.
  package var blocks: UInt64
}

// What a displaced host had not published when its name was taken is offered under a new name, `<name>-<suffix>`: a fork at the
// cut that the recovery went on from, into which everything beyond that cut is written.
//
//   fork at the basis ─▶ size ─▶ zeros and trims, then data ─▶ snapshot `rescued`, shipped ─▶ `displacedReleased`
//
// The snapshot says that all was written: without it an attempt that was cut short is repeated, in the same fork if nobody has
// used it, else in another one. The displaced volume itself stays where it is.
extension Lifecycle {
  static let rescueLabel = "rescued"

  /// Rescues what this host holds of volumes that were taken from it under `name`. Running it again does what is left.
  @discardableResult
  package func rescue(
    _ name: String, _ context: CommandContext = CommandContext(), progress: ProgressHandler = { _ in true }
  ) throws(ElideError) -> [RescueReport] {
    let log = try names.log(name)
    try log.refresh()
    var out: [RescueReport] = []
    for displaced in log.state.holdings.displaced where displaced.host == me {
      out.append(try rescue(displaced, log, context, progress))
    }
    return out
  }

  /// The names under which something of this host waits to be rescued, as far as it has read.
  package func rescuable() throws(ElideError) -> [String] {
    try names.all().filter { state in state.holdings.displaced.contains { $0.host == me } }.map(\.name)
  }

  private func rescue(
    _ displaced: Displaced, _ log: NameLog, _ context: CommandContext, _ progress: ProgressHandler
  ) throws(ElideError) -> RescueReport {
    let volume = displaced.volume
    var report = RescueReport(outcome: .waiting, name: log.name, volume: volume.description, rescued: nil, blocks: 0)
    let episodes = log.state.holdings.episodes
    guard let i = episodes.firstIndex(where: { $0.volume == volume }), i + 1 < episodes.count else { return report }
    guard engine.world.files.exists(engine.directory.volume(volume).key) else {
      report.outcome = .absent
      return report
    }
    let held = try DisplacedVolume(engine, volume)
    defer { held.close() }
    // Which the recovery recorded: the state of this volume at it, or what this volume itself began with.
    var base: PublishedVolume?
    if let cut = episodes[i + 1].basis {
      let known = episodes.last { $0.volume == cut.volume }
      base = try engine.publishedReader.open(cut, key: known?.key)
    }
    let difference = held.difference(from: base?.tables.map)
    if difference.data.isEmpty && difference.zeros.isEmpty {
      report.outcome = .nothing
    } else {
      let new = try offer(log, volume, episodes[i + 1].basis, size: held.size, context)
      report.rescued = new.name
      report.blocks = difference.data.reduce(0) { $0 + UInt64($1.count) }
      report.outcome = .rescued
      if !new.isComplete { try copy(held, difference, to: new.volume, progress) }
    }
    try require(try log.perform(.discardDisplaced(volume: volume), context: AppendContext(context)))
    return report
  }

  // MARK: The new name

  private func offer(
    _ log: NameLog, _ volume: ULID, _ basis: Cut?, size: UInt64, _ context: CommandContext
  ) throws(ElideError) -> (name: String, volume: ULID, isComplete: Bool) {
    let suffix = volume.description.suffix(8).lowercased()
    for attempt in 0..<16 {
      let tail = attempt == 0 ? "-\(suffix)" : "-\(suffix)-\(attempt)"
      let name = String(log.name.prefix(63 - tail.count)) + tail
      try settle(name)
      let other = try names.log(name)
      try other.refresh()
      if other.state.isFree {
        try make(name, basis, size: size, context)
        try other.refresh()
      }
      guard other.state.owner == me, other.state.phase == .stopped, let made = other.state.volume,
        other.state.holdings.episodes.count == 1, Self.isSame(other.state.holdings.episodes[0].basis, basis),
        let local = try engine.localState(made)
      else { continue }
      if local.snapshots.contains(where: { $0.label == Self.rescueLabel }) {
        // All is copied; perhaps not all of it is in the store.
        try engine.publishClosed(made, milliseconds: 300_000)
        return (name, made, true)
      }
      // Half written, and perhaps served since: then what was written there is not this one's to write over.
      if try wasServed(other) { continue }
      if local.deviceSize < size { _ = try engine.resize(made, to: size) }
      return (name, made, false)
    }
    throw ElideError(.failed, "'\(log.name)': every name for what volume \(volume) holds is taken")
  }

  /// The page may be another one that names the same entry.
  private static func isSame(_ a: Cut?, _ b: Cut?) -> Bool { a?.volume == b?.volume && a?.seq == b?.seq }

  private func make(_ name: String, _ basis: Cut?, size: UInt64, _ context: CommandContext) throws(ElideError) {
    var context = context
    context.request = nil
    let made: LifecycleReport
    if let basis {
      made = try fork(name, VolumeSource(base: .volume(basis.volume), point: .seq(basis.seq)), context)
    } else {
      made = try create(name, size, context)
    }
    if made.outcome == .unknown { throw ElideError(.unknown, made.message) }
  }

  private func wasServed(_ log: NameLog) throws(ElideError) -> Bool {
    guard let episode = log.state.holdings.episodes.last else { return true }
    var seq = episode.granted
    while seq < log.state.nextSeq {
      if let raw = try log.slot(seq), let entry = try? NameEntryCodec.decode(raw, of: log.name, at: seq), entry.event == .started
      {
        return true
      }
      seq += 1
    }
    return false
  }

  // MARK: Copying

  private func copy(
    _ held: DisplacedVolume, _ difference: (data: [Range<UInt64>], zeros: [Range<UInt64>]), to volume: ULID,
    _ progress: ProgressHandler
  ) throws(ElideError) {
    let opened = try engine.openLocal(volume)
    do throws(ElideError) {
      let from = SingleRequests(held.device) { (isDone) throws(ElideError) in try held.pump(isDone) }
      let to = SingleRequests(opened.device) { (isDone) throws(ElideError) in try opened.pump(until: isDone) }
      for range in difference.zeros { try to.run(.trim, range.lowerBound, UInt64(range.count)) }
      let total = difference.data.reduce(0) { $0 + UInt64($1.count) } * 4096
      var done: UInt64 = 0
      let step: UInt64 = 64
      let buffer = UnsafeMutableRawPointer.allocate(byteCount: Int(step) * 4096, alignment: 4096)
      defer { buffer.deallocate() }
      for range in difference.data {
        var lba = range.lowerBound
        while lba < range.upperBound {
          let count = min(step, range.upperBound - lba)
          try from.run(.read, lba, count, buffer)
          try to.run(.write, lba, count, buffer)
          lba += count
          done += count * 4096
          guard progress(WorkProgress(step: .copy, done: done, total: total)) else {
            throw ElideError(.interrupted, "interrupted; run it again to go on")
          }
        }
      }
      try to.run(.flush, 0, 0)
      guard let reply = opened.port?.snapshot(label: Self.rescueLabel, publish: true) else {
        throw ElideError(.failed, "volume \(volume) is read-only")
      }
      try opened.pump(milliseconds: 300_000) { reply.poll() != nil }
      if case .failure(let error) = reply.poll() { throw error }
    } catch {
      try? opened.close(ship: false)
      throw error
    }
    try opened.close(ship: true)
  }
}
