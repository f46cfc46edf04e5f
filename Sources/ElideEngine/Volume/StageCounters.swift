import CElide
import ElideIO

/// The stages that a guest's bytes pass on their way to the store, as far as they cost time worth knowing of.
package enum Stage: Int, CaseIterable, Sendable {
  /// Writing gathered blocks into the write-ahead file, on the I/O thread.
  case append
  /// CRC-32C of the blocks and their records, on the I/O thread. Every sixteenth call is measured, and counted alone.
  case crc
  /// From the start of a flush's round to its end; bytes are those that it made durable.
  case sync
  /// Reading a closed file, judging every block and writing down where it lies; `hash` is a part of it.
  case seal
  /// Checking and SHA-256 of the blocks while sealing.
  case hash
  /// Making the body: reading, checking, compressing, digests.
  case encode
  /// Putting the body into the store; bytes are those stored.
  case put
}

/// How often, how many bytes, how long.
package struct StageTally: Equatable, Sendable {
  package var count: UInt64 = 0
  package var bytes: UInt64 = 0
  package var nanoseconds: UInt64 = 0
  package init() {}
}

/// Time and bytes of each stage of one volume since it was opened. Any thread adds, any thread reads; a reading may catch a
/// call half counted. Adding costs two looks at the clock and three additions, so it is done per batch, never per block.
package final class StageCounters: @unchecked Sendable {  // words accessed by atomic operations only
  private let words: UnsafeMutablePointer<UInt64>
  private let clock: any Clock

  package init(clock: any Clock = HostClock()) {
    self.clock = clock
    words = .allocate(capacity: 3 * Stage.allCases.count)
    words.initialize(repeating: 0, count: 3 * Stage.allCases.count)
  }
  deinit { words.deallocate() }

  package func now() -> UInt64 { clock.monotonicNanoseconds() }

  /// Counts a call that began at `start` and has just ended.
  package func add(_ stage: Stage, bytes: Int, since start: UInt64) {
    add(stage, bytes: bytes, nanoseconds: now() &- start)
  }

  package func add(_ stage: Stage, bytes: Int, nanoseconds: UInt64) {
    let at = words + 3 * stage.rawValue
    elide_add_u64(at, 1)
    elide_add_u64(at + 1, UInt64(bytes))
    elide_add_u64(at + 2, nanoseconds)
  }

  package subscript(stage: Stage) -> StageTally {
    let at = words + 3 * stage.rawValue
    var tally = StageTally()
    tally.count = elide_load_acquire_u64(at)
    tally.bytes = elide_load_acquire_u64(at + 1)
    tally.nanoseconds = elide_load_acquire_u64(at + 2)
    return tally
  }

  /// In the order of `Stage.allCases`.
  package var all: [StageTally] { Stage.allCases.map { self[$0] } }
}
