import ElideEngine
import ElideIO
import Simulator

/// A store of which somebody changed bytes, opened and read by a host that has nothing else: it sees an error, or the
/// volume as it was at one of its cuts. Never other bytes.
///
/// Input: changes, each an object (1 byte, in order of keys), what (1 byte), a place (2 bytes) and a value (1 byte).
enum StoreFuzz {
  private struct Sample {
    var bucket: SimBucket
    var volume: ULID
    var keys: [String]
    /// The device as each cut shows it.
    var moments: [[[UInt8]]]
  }
  private static let sample = makeSample()

  private static func makeSample() -> Sample {
    do {
      let bucket = SimBucket()
      let world = try EngineWorld(seed: 42, size: 48 * 4096, bucket: bucket)
      guard try world.open() else { preconditionFailure("the sample does not open") }
      var moments: [[[UInt8]]] = [[[UInt8]](repeating: [UInt8](repeating: 0, count: 4096), count: 48)]
      for round in 0..<3 {
        var write = GuestRequest(.write, offset: round * 7 * 4096, length: 12 * 4096)
        write.content = round == 1 ? .repeated(32) : .unique(UInt64(round) + 1)
        world.submit(write)
        world.submit(GuestRequest(.trim, offset: (20 + round) * 4096, length: 4096))
        world.askForCut()
        guard world.settle(), let opened = world.opened else { preconditionFailure("the sample does not settle") }
        moments.append(try SimGuest.readAll(opened.device, pump: { opened.device.poll() }))
      }
      return Sample(bucket: bucket, volume: world.volume, keys: bucket.keys, moments: moments)
    } catch { preconditionFailure("the sample: \(error)") }
  }

  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let bucket = sample.bucket.copy()
    var changes = 0
    while !input.isEmpty && changes < 32 {
      let key = sample.keys[Int(input.byte()) % sample.keys.count]
      bucket.change(key, what: input.byte(), at: input.word(), value: input.byte())
      changes += 1
    }
    let host = SimHost(seed: 9, bucket: bucket, fileCapacity: 1 << 20)
    guard let engine = try? host.process(), let copy = try? engine.openPublished(sample.volume) else { return }
    let read = try? SimGuest.readAll(
      copy.device,
      pump: {
        host.executor.drain()
        _ = copy.stepKeeper()
        copy.device.poll()
      })
    guard let read else { return }
    precondition(sample.moments.contains(read), "the copy shows what the volume never held")
  }

  static var seeds: [[UInt8]] {
    [[], [0, 0, 0, 20, 1], [3, 1, 0, 90, 0], [5, 2, 0, 0, 0], [1, 3, 0, 40, 57, 2, 3, 0, 60, 49]]
  }
}
