import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// What one machine's guest did to one volume, and what was reported of it: what any other host may find in the bucket is held
/// against this. Outlives the processes that served the volume.
package final class VolumeHistory {
  package let volume: ULID
  package let guest: SimGuest
  /// The cut that was published when the guest came; of earlier ones nothing is said.
  package let first: UInt64
  /// Cuts that were reported, with the moment of the guest that each covers; both rise.
  package private(set) var reports: [(seq: UInt64, mark: UInt64)] = []
  /// Only the process ended, in good order or killed: what was acknowledged is still there.
  package var keepsAcknowledged = false

  init(_ volume: ULID, _ guest: SimGuest, first: UInt64) {
    self.volume = volume
    self.guest = guest
    self.first = first
  }

  package func report(_ seq: UInt64, _ mark: UInt64) {
    if let last = reports.last, last.seq >= seq {
      // The same cut, asked for again after a write-less moment, covers that too.
      if last.seq == seq { reports[reports.count - 1].mark = max(last.mark, mark) }
      return
    }
    reports.append((seq, mark))
  }

  /// What a cut at entry `seq` must hold at least.
  func mark(at seq: UInt64) -> UInt64 { reports.last { $0.seq <= seq }?.mark ?? 0 }

  /// nil when `found` is one moment of this history, as a cut at `seq` may be; else what is wrong.
  func fault(_ found: [[UInt8]], at seq: UInt64) -> String? { fault(found, since: mark(at: seq)) }

  func fault(_ found: [[UInt8]], since: UInt64) -> String? {
    var hashes = found.map { DeviceModel.hash($0) }
    let model = guest.model
    if hashes.count > model.blockCount {
      // What the device grew by was never written.
      let zero = [UInt8](repeating: 0, count: DeviceModel.blockBytes)
      if found[model.blockCount...].contains(where: { $0 != zero }) { return "it is longer than the volume ever was" }
      hashes.removeLast(hashes.count - model.blockCount)
    }
    let zero = DeviceModel.hash([UInt8](repeating: 0, count: DeviceModel.blockBytes))
    hashes += [UInt64](repeating: zero, count: model.blockCount - hashes.count)
    return model.faultOfCopy(hashes, since: since)
  }
}
