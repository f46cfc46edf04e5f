import ElideEngine
import ElideIO
import ElideProjections

// What must hold of volumes, here and elsewhere.
extension FleetWorld {
  /// Everything that an opened volume shows; nil when it cannot be read, which is a finding unless something was broken.
  func readAll(_ opened: OpenedVolume, _ what: String) -> [[UInt8]]? {
    do throws(SimGuest.Unreadable) {
      return try SimGuest.readAll(
        opened.device,
        pump: {
          self.host.executor.run(.sync, &self.random)
          self.host.executor.run(.fetch, &self.random)
          self.host.executor.run(.ahead, &self.random)
          _ = opened.stepKeeper()
          opened.device.poll()
          self.host.clock.advance(milliseconds: 1)
        })
    } catch {
      if !isDisturbed && !isAway { complain("\(what): \(error)") }
      return nil
    }
  }

  /// What a host that has nothing but the store sees of a volume, at an entry or at its newest cut.
  func contents(_ volume: ULID, at seq: UInt64?, _ what: String) -> [[UInt8]]? { published(volume, at: seq, what)?.contents }

  private func published(_ volume: ULID, at seq: UInt64?, _ what: String) -> (contents: [[UInt8]], point: UInt64)? {
    let other = SimHost(
      seed: seed &+ bucket.version, bucket: bucket.copy(), clock: SimClock(milliseconds: host.clock.milliseconds))
    do throws(ElideError) {
      let copy = try other.process().openPublished(volume, at: seq)
      let found: [[UInt8]]
      do throws(SimGuest.Unreadable) {
        found = try SimGuest.readAll(
          copy.device,
          pump: {
            other.executor.drain()
            _ = copy.stepKeeper()
            copy.device.poll()
            other.clock.advance(milliseconds: 1)
          })
      } catch {
        complain("\(what), elsewhere: \(error): \(EngineWorld.failures(copy.fetcher))")
        return nil
      }
      return (found, copy.point ?? 0)
    } catch {
      complain("\(what), elsewhere: \(error)")
      return nil
    }
  }

  /// One moment of the volume, not before `since`. A copy from before a resize is shorter; nothing was written behind it.
  func checkMoment(_ m: Member, _ found: [[UInt8]], since: UInt64, _ what: String) {
    var hashes = found.map { DeviceModel.hash($0) }
    let model = m.guest.model
    guard hashes.count <= model.blockCount else { return complain("\(what) is longer than the volume ever was") }
    let zero = DeviceModel.hash([UInt8](repeating: 0, count: DeviceModel.blockBytes))
    hashes += [UInt64](repeating: zero, count: model.blockCount - hashes.count)
    if let text = model.faultOfCopy(hashes, since: since) { complain("\(what): \(text)") }
  }

  /// The store oracle for one volume.
  func checkStore(_ m: Member) {
    guard m.reported > 0, let seen = published(m.volume, at: nil, m.name) else { return }
    if seen.point < m.lastPoint { complain("\(m.name): the newest cut fell from entry \(m.lastPoint) to \(seen.point)") }
    m.lastPoint = seen.point
    checkMoment(m, seen.contents, since: m.reported, "\(m.name), another host at entry \(seen.point)")
    count("copies checked")
  }

  /// Snapshots are elsewhere what they were asked to be, and stay so.
  func checkSnapshots(_ m: Member) {
    for i in m.kept.indices {
      let snapshot = m.kept[i]
      let what = "\(m.name)@\(snapshot.label)"
      guard let found = contents(m.volume, at: snapshot.point, what) else { continue }
      let hashes = found.map { DeviceModel.hash($0) }
      if let seen = snapshot.seen, seen != hashes { complain("\(what) changed") }
      m.kept[i].seen = hashes
      checkMoment(m, found, since: snapshot.mark, what)
      count("snapshots opened elsewhere")
    }
  }

  /// All of it, at the end of a run.
  package func checkEverything() {
    for m in members {
      checkStore(m)
      checkSnapshots(m)
    }
  }
}
