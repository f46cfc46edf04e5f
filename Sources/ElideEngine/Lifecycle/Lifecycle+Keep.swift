import ElideEvents
import ElideIO
import ElideProjections

// Points that are kept, sizes, and another name for the same volume.

extension Lifecycle {
  // MARK: Snapshots and sizes

  func snapshot(_ name: String, _ label: String, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    if let fault = SnapshotLabel.fault(label) { throw ElideError(.usage, "the label '\(label)' \(fault)") }
    let (log, volume) = try changeable(name, context)
    if context.isDryRun { return report(.planned, log.state, "snapshot '\(label)' of volume \(volume) would be taken") }
    let taken =
      try servant.isServing(volume)
      ? servant.snapshot(volume, label: label) : engine.createSnapshot(volume, label: label)
    var done = report(.done, log.state, "snapshot \(taken.snapshot) at entry \(taken.point.map(String.init) ?? "-")")
    done.size = taken.size
    return done
  }

  /// The volume's journal first, which is what its device goes by, then the name's log.
  func resize(_ name: String, _ size: UInt64, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    let (log, volume) = try changeable(name, context)
    let planned = try plan(.resize(size: size), log, context)
    if context.isDryRun { return planned }
    if try servant.isServing(volume) {
      try servant.resize(volume, to: size)
    } else {
      _ = try engine.resize(volume, to: size)
    }
    return try one(.resize(size: size), log, context, "\(size) bytes")
  }

  /// The log of a name whose volume this host may change.
  private func changeable(_ name: String, _ context: CommandContext) throws(ElideError) -> (NameLog, ULID) {
    let log = try owned(name, context)
    guard log.state.owner == me, [.live, .stopped].contains(log.state.phase), let volume = log.state.volume else {
      do throws(Refusal) {
        _ = try log.state.decide(
          .resize(size: UInt64(1) << 50), by: Author(host: me, incarnation: names.author.incarnation, epoch: log.state.epoch))
      } catch { throw ElideError(error) }
      throw ElideError(.usage, log.state.sentence)
    }
    return (log, volume)
  }

  // MARK: Pins

  func pin(_ name: String, _ point: String, _ until: String?, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    if let until, Timestamp.milliseconds(until) == nil {
      throw ElideError(.usage, "'\(until)' is no time, such as 2026-01-31T12:00:00.000Z")
    }
    let text = UInt64(point) == nil ? "\(name)@\(point)" : "\(name):\(point)"
    let source = try VolumeSource(text)
    let found = try engine.find(source.base, fresh: true)
    let published = try engine.publishedPoint(found, source) { (volume) throws(ElideError) in _ = try servant.cut(volume) }
    let cut = Cut(volume: found.volume, seq: published.point, page: published.page, pageHash: published.pageHash)
    let log = try names.log(name)
    let holder = "host-\(me.prefix(12))"
    return try one(.pin(cut: cut, by: holder, hold: .until(until)), log, context, "cut \(cut) is kept")
  }

  func unpin(_ name: String, _ text: String, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    guard let id = ULID(text) else { throw ElideError(.usage, "'\(text)' is no pin; see 'elide pin list \(name)'") }
    let log = try owned(name, context)
    guard let pin = log.state.holdings.pins.first(where: { $0.id == id }) else {
      // Gone already, unless there never was such a name.
      return try one(.unpin(pin: id, because: .removed), log, context, "there is no pin \(id)")
    }
    if case .fork = pin.hold, !context.isDryRun {
      // A fork that never came to be holds nothing: anyone may see to that.
      _ = try twoLogs.clearOrphans(name)
      try log.refresh()
      if !log.state.holdings.pins.contains(where: { $0.id == id }) {
        return report(.committed, log.state, "the fork '\(pin.by)' never came to be: its pin is gone")
      }
    }
    var reason: UnpinReason = pin.host == me ? .holder : .removed
    if case .fork = pin.hold { reason = .removed }
    return try one(.unpin(pin: id, because: reason), log, context, "pin \(id) is gone")
  }

  func discardDisplaced(_ name: String, _ text: String, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    guard let volume = ULID(text) else { throw ElideError(.usage, "'\(text)' is no volume's ULID") }
    let log = try owned(name, context)
    return try one(.discardDisplaced(volume: volume), log, context, "volume \(volume) is not kept for its host any more")
  }

  // MARK: Renames

  var twoLogs: TwoLogs {
    let names = names
    return TwoLogs { (name) throws(ElideError) in try names.log(name) }
  }

  func rename(_ old: String, _ new: String, _ context: CommandContext) throws(ElideError) -> LifecycleReport {
    if let fault = VolumeName.fault(new) { throw ElideError(.usage, "the name '\(new)' \(fault)") }
    let log = try owned(old, context)
    if context.isDryRun {
      let slot = log.state.nextSeq
      let target = try names.log(new)
      _ = try plan(.renameReserve(old: old, slot: slot), target, context)
      // Whether this host may: in the old name's words.
      return try plan(.renameCommit(new: new, reserved: target.state.nextSeq, slot: slot), log, context)
    }
    try migrate(new)
    let request = context.request ?? "rename-\(ULID(clock: engine.world.clock, random: engine.world.random))"
    let outcome = try twoLogs.rename(old, to: new, request: request, context: AppendContext(context))
    let renamed = try names.log(new)
    // What is committed stays so, whether or not it can be read at once.
    try? renamed.refresh()
    return try report(outcome, renamed, "'\(old)' is now '\(new)'")
  }
}
