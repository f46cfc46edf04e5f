import ElideIO
import ElideProjections

// A volume in service has two owners of state, each one thread, and two mailboxes between them:
//
//   front  (`VolumeDevice`, the I/O thread): overlay, open write-ahead file, requests in flight
//   keeper (`VolumeKeeper`, its own thread): journal, projections, seals, uploads, pages
//
// The front never waits for the keeper: without a prepared write-ahead file it queues writes; without a block it queues
// the read. Everything either must know of the other is one of these messages.

/// From the keeper to the front.
package enum FrontMessage: Sendable {
  /// Write-ahead file `number` exists, is durable and journaled: the front appends to it after the one before is full.
  case walReady(number: UInt64, file: FileID)
  /// Segment `number` (sealed from the wal of that number) is in the base; its blocks can be read through `source`
  /// (nil when it has none). The front drops the overlay entries that still point into that wal, then says `.dropped`.
  case segmentFolded(number: UInt64, source: SegmentSource?)
  /// Blocks [r, r+count) of a segment are in the cache now, or could not be fetched (`error` an errno). Where the cache's
  /// disk does not take them, `bytes` are all of them, for the reads that wait; empty otherwise.
  case fetched(segment: UInt64, r: UInt32, count: UInt32, error: Int32, bytes: [UInt8])
  /// What came of one `.ahead`.
  case aheadDone(AheadOutcome)
  /// Close the open write-ahead file (if it holds anything), sync it, answer `.barrierReached` with the same token.
  case barrier(token: UInt64)
  /// How much may be written from now on.
  case allowance(WriteAllowance)
  /// The disk has no room for another file: what waits for one fails with this errno, until `.walReady` comes.
  case noFile(error: Int32)
  /// The device grew.
  case resized(size: UInt64)
  /// Fail every write and flush from here on. What is acknowledged stays on disk, and is read as before.
  case halted(reason: String)
  /// The name is another host's now: nothing is answered any more, reads neither, for what they would show may be old.
  case fenced(reason: String)
}

/// From the front to the keeper.
package enum KeeperMessage: Sendable {
  /// The open write-ahead file is half full: prepare the next.
  case walHalfFull(number: UInt64)
  /// The first record is in wal `number`.
  case walBegun(number: UInt64)
  /// No frame will be added to wal `number`, and all of them are durable. `bytes` of data are in it.
  case walClosed(number: UInt64, lastFrame: UInt64, lastHeaderCRC: UInt32, bytes: UInt64)
  /// Nothing in the overlay points into wal `number` any more.
  case dropped(number: UInt64)
  case barrierReached(token: UInt64, after: UInt64)
  /// A read needs blocks [r, r+count) of a segment that the cache lacks.
  case wanted(segment: UInt64, r: UInt32, count: UInt32)
  /// Blocks [r, r+count) of a segment will be read soon; with `count` 0 its encoding is all that is wanted.
  case ahead(segment: UInt64, r: UInt32, count: UInt32)
  /// Writes wait for an allowance: so many bytes were written beyond the last, and one more is wanted.
  case creditWanted(bytes: UInt64)
  /// A write or sync of the write-ahead log failed: nothing of the files from `number` on may be sealed.
  case failed(number: UInt64, error: Int32)
}

/// How to read a segment's blocks from a local file. Plain pointers into a table that a `CachedSegment` keeps alive until
/// the next `quiesce`; copied on the I/O path without reference counting.
///
/// Block r is present when word r is not 0; then its bytes lie at `dataOffset + position * 4096`, where position is
/// `placement[r]` or r itself, and their CRC-32C, seeded (see `blockWord`), equals the word.
package struct SegmentSource: @unchecked Sendable {
  /// Whose segment it is.
  package var volume: ULID
  package var file: FileID
  package var dataOffset: UInt64
  /// r → position in a write-ahead file; nil for a cache file, where they are the same.
  package var placement: UnsafePointer<UInt16>?
  package var words: UnsafeRawPointer
  package var blocks: UInt32
  /// Position 0 in a view of the file (`Files.view`), and how many bytes from there on are in it; nil where there is none.
  package var data: UnsafeRawPointer?
  package var dataLength: UInt64 = 0
  /// The seed of every word of this segment (`segmentSeed`).
  package var seed: UInt32

  package init(
    volume: ULID, file: FileID, dataOffset: UInt64, placement: UnsafePointer<UInt16>?, words: UnsafeRawPointer, blocks: UInt32,
    seed: UInt32
  ) {
    self.volume = volume
    self.file = file
    self.dataOffset = dataOffset
    self.placement = placement
    self.words = words
    self.blocks = blocks
    self.seed = seed
  }
}
