import CElide
import ElideIO
import ElideProjections

/// A write-ahead file turned into a segment: what `segment_sealed` will say, and what reading and encoding it needs.
package struct SealedWAL: Sendable {
  package var number: UInt64
  package var content: SegmentContent
  package var hashes: [Digest]
  /// r → position of the block in the write-ahead file, and its word.
  package var placement: [UInt16]
  package var words: [UInt32]
  package var blocks: UInt32 { UInt32(hashes.count) }
}

/// Seals write-ahead files. Waits for the disk only, never for the network. What comes out is a function of the file's
/// frames and of the duplicates on offer, so sealing again after a crash says the same.
package struct Sealer {
  private let files: any Files
  private let volume: ULID

  package init(files: any Files, volume: ULID) {
    self.files = files
    self.volume = volume
  }

  /// Reads the closed and synced file of `scan` and seals it. Every block is checked against its record's CRC before it is
  /// hashed; a mismatch is `WALError.corrupt` and nothing is sealed.
  ///
  /// - Parameters:
  ///   - dedup: where a block with this hash lies already, if that may be pointed at.
  ///   - keep: called with each duplicate of an older segment and its plain bytes, so that a block which is not local can be
  ///     kept: data written a minute ago must not become remote.
  package func seal(
    _ scan: WALScan, file: FileID, dedup: (Digest) -> BlockHandle?, keep: (BlockHandle, UnsafeRawPointer) -> Void
  ) throws(WALError) -> SealedWAL {
    let visible = VisibleBlocks(scan)
    let length = scan.endPosition * WALFormat.block
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(length, WALFormat.block), alignment: 4096)
    defer { buffer.deallocate() }
    try read(scan, file, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<length]))
    guard let base = buffer.baseAddress else {
      return SealedWAL(number: scan.wal, content: SegmentContent(runs: []), hashes: [], placement: [], words: [])
    }

    var builder = SegmentBuilder(segment: scan.wal)
    var placement: [UInt16] = []
    var words: [UInt32] = []
    let seed = segmentSeed(volume: volume, segment: scan.wal)
    var nextRun = 0
    for block in visible.blocks {
      while nextRun < visible.runs.count, visible.runs[nextRun].lba < block.lba {
        let run = visible.runs[nextRun]
        builder.addConstant(lba: run.lba, count: run.count, isTrim: run.isTrim)
        nextRun += 1
      }
      let bytes = base + Int(block.position) * WALFormat.block
      guard elide_crc32c(0, bytes, WALFormat.block) == block.crc else {
        throw .corrupt(
          volume: volume, wal: scan.wal, frame: frame(scan, block.position),
          detail: "the block at position \(block.position) does not match its CRC")
      }
      let known = builder.duplicates.count
      if builder.addBlock(lba: block.lba, bytes, dedup: dedup) {
        placement.append(UInt16(block.position))
        words.append(blockWord(seed: seed, r: UInt32(words.count), bytes))
      } else if builder.duplicates.count > known, let duplicate = builder.duplicates.last {
        keep(duplicate.target, bytes)
      }
    }
    for run in visible.runs[nextRun...] { builder.addConstant(lba: run.lba, count: run.count, isTrim: run.isTrim) }
    return SealedWAL(number: scan.wal, content: builder.content, hashes: builder.hashes, placement: placement, words: words)
  }

  private func read(_ scan: WALScan, _ file: FileID, into buffer: UnsafeMutableRawBufferPointer) throws(WALError) {
    do throws(Errno) {
      let n = try files.read(file, into: buffer, at: 0)
      guard n == buffer.count else { throw Errno.io }
    } catch {
      throw .system(volume: volume, wal: scan.wal, operation: "read", error: error)
    }
  }

  private func frame(_ scan: WALScan, _ position: UInt32) -> UInt64 {
    scan.frames.last { $0.position <= Int(position) }?.number ?? 0
  }
}
