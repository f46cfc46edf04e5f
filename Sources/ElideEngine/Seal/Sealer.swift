import CElide
import ElideIO
import ElideProjections

/// A write-ahead file turned into a segment: what `segment_sealed` will say, and what reading and encoding it needs.
package struct SealedWAL: Equatable, Sendable {
  package var number: UInt64
  package var content: SegmentContent
  /// SHA-256 of each block that got an r, in r order.
  package var hashes: [Digest]
  package var places: SealedPlaces
  package var placement: [UInt16] { places.placement }
  package var blocks: UInt32 { UInt32(hashes.count) }
}

/// What a write-ahead file says once every block of it that is still visible was read and found right.
package struct JudgedWAL: Sendable {
  package let number: UInt64
  let scan: WALScan
  let visible: VisibleBlocks
  /// SHA-256 of each visible block; nil for zeros.
  let hashes: [Digest?]
  /// How long it took.
  package var nanoseconds: UInt64 = 0
}

/// Seals write-ahead files, in two parts: `judge` reads and hashes, and `seal` decides what becomes of each block, which must
/// not wait for a disk. Neither waits for the network. What comes out is a function of the file's frames and of the
/// duplicates on offer, so sealing again after a crash says the same.
///
/// Memory: a piece of the file (256 KiB), and 60 bytes a block.
package struct Sealer {
  private let files: any Files
  private let volume: ULID

  /// Counts the time that judging takes, if somebody wants to know.
  private let stages: StageCounters?

  package init(files: any Files, volume: ULID, stages: StageCounters? = nil) {
    self.files = files
    self.volume = volume
    self.stages = stages
  }

  /// Reads the closed and synced file of `scan`. Every block that is still visible is checked against its record's CRC
  /// before it is hashed; a mismatch is `WALError.corrupt`, naming frame and position, and nothing is sealed. On any thread.
  package func judge(_ scan: WALScan, file: FileID) throws(WALError) -> JudgedWAL {
    let visible = VisibleBlocks(scan)
    return JudgedWAL(number: scan.wal, scan: scan, visible: visible, hashes: try hashes(visible.blocks, scan, file))
  }

  /// Decides: zeros become constants, known hashes duplicates, the rest get an r.
  ///
  /// - Parameters:
  ///   - dedup: where a block with this hash lies already, if that may be pointed at.
  ///   - keep: called with each duplicate of an older segment and how to get its plain bytes, so that a block which is not
  ///     local can be kept: data written a minute ago must not become remote (`VolumeSegments.keep`).
  package func seal(
    _ judged: JudgedWAL, file: FileID, dedup: (Digest) -> BlockHandle?,
    keep: (BlockHandle, () throws(WALError) -> [UInt8]) throws(WALError) -> Void
  ) throws(WALError) -> SealedWAL {
    let visible = judged.visible
    var builder = SegmentBuilder(segment: judged.number, capacity: visible.blocks.count)
    var places = SealedPlaces()
    var nextRun = 0
    for (i, block) in visible.blocks.enumerated() {
      while nextRun < visible.runs.count, visible.runs[nextRun].lba < block.lba {
        let run = visible.runs[nextRun]
        builder.addConstant(lba: run.lba, count: run.count, isTrim: run.isTrim)
        nextRun += 1
      }
      switch builder.addBlock(lba: block.lba, hash: judged.hashes[i], dedup: dedup) {
      case .data:
        places.crcs.append(block.crc)
        places.placement.append(UInt16(block.position))
      case .duplicate(let target):
        try keep(target) { () throws(WALError) in try one(block, judged.scan, file) }
      case .zero, .repeated: break
      }
    }
    for run in visible.runs[nextRun...] { builder.addConstant(lba: run.lba, count: run.count, isTrim: run.isTrim) }
    return SealedWAL(number: judged.number, content: builder.content, hashes: builder.hashes, places: places)
  }

  /// Both parts.
  package func seal(
    _ scan: WALScan, file: FileID, dedup: (Digest) -> BlockHandle?, keep: (BlockHandle, UnsafeRawPointer) -> Void
  ) throws(WALError) -> SealedWAL {
    try seal(try judge(scan, file: file), file: file, dedup: dedup) { (target, bytes) throws(WALError) in
      let block = try bytes()
      block.withUnsafeBytes { if let p = $0.baseAddress { keep(target, p) } }
    }
  }

  /// Where the blocks of an already sealed file lie, and their CRCs: what its map says, made again from the frames and
  /// the content that the journal has. For a map that a crash lost or damage spoilt.
  package func places(of content: SegmentContent, _ scan: WALScan, file: FileID) throws(WALError) -> SealedPlaces {
    let visible = VisibleBlocks(scan)
    var places = SealedPlaces()
    var data: [VisibleBlocks.Block] = []
    var next = 0
    for run in content.runs {
      guard case .data = run.kind else { continue }
      for lba in run.lba..<run.lba + run.count {
        while next < visible.blocks.count, visible.blocks[next].lba < lba { next += 1 }
        guard next < visible.blocks.count, visible.blocks[next].lba == lba else {
          throw .wrongFile(volume: volume, wal: scan.wal, detail: "block \(lba), sealed from it, is not in its frames")
        }
        data.append(visible.blocks[next])
        places.crcs.append(visible.blocks[next].crc)
        places.placement.append(UInt16(visible.blocks[next].position))
      }
    }
    _ = try hashes(data, scan, file, hashing: false)
    return places
  }

  private static let piece = 64

  /// Checks every block against its record's CRC, and hashes it: nil for zeros. In the order of the file, a piece at a time,
  /// while the piece is in the processor's cache, and two blocks at once.
  private func hashes(
    _ blocks: [VisibleBlocks.Block], _ scan: WALScan, _ file: FileID, hashing: Bool = true
  ) throws(WALError) -> [Digest?] {
    var out = [Digest?](repeating: nil, count: blocks.count)
    // By position: which block lies there.
    var lying = [Int32](repeating: -1, count: scan.endPosition)
    for (i, block) in blocks.enumerated() where Int(block.position) < lying.count { lying[Int(block.position)] = Int32(i) }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.piece * WALFormat.block, alignment: WALFormat.block)
    defer { buffer.deallocate() }
    let start = stages?.now() ?? 0
    var hashed = 0
    for first in stride(from: 0, to: scan.endPosition, by: Self.piece) {
      let count = min(Self.piece, scan.endPosition - first)
      guard lying[first..<first + count].contains(where: { $0 >= 0 }) else { continue }
      let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count * WALFormat.block)])
      try read(scan, file, piece, at: first)
      var waiting: (index: Int, bytes: UnsafeRawBufferPointer)?
      for p in 0..<count where lying[first + p] >= 0 {
        let i = Int(lying[first + p])
        let bytes = UnsafeRawBufferPointer(rebasing: piece[(p * WALFormat.block)..<((p + 1) * WALFormat.block)])
        if crc32c(bytes) != blocks[i].crc { throw mismatch(blocks[i], scan) }
        guard hashing else { continue }
        if let base = bytes.baseAddress, elide_is_zero(base, WALFormat.block) != 0 { continue }
        hashed += WALFormat.block
        if let other = waiting {
          let (a, b) = Digest.sha256(other.bytes, bytes)
          out[other.index] = a
          out[i] = b
          waiting = nil
        } else {
          waiting = (i, bytes)
        }
      }
      if let last = waiting { out[last.index] = Digest.sha256(last.bytes) }
    }
    if hashing { stages?.add(.hash, bytes: hashed, since: start) }
    return out
  }

  private func mismatch(_ block: VisibleBlocks.Block, _ scan: WALScan) -> WALError {
    .corrupt(
      volume: volume, wal: scan.wal, frame: frame(scan, block.position),
      detail: "block \(block.lba), at position \(block.position), does not match its CRC")
  }

  /// A block's bytes, read again.
  private func one(_ block: VisibleBlocks.Block, _ scan: WALScan, _ file: FileID) throws(WALError) -> [UInt8] {
    let bytes: [UInt8]
    do throws(Errno) {
      bytes = try files.readBytes(file, at: UInt64(block.position) * UInt64(WALFormat.block), count: WALFormat.block)
    } catch { throw .system(volume: volume, wal: scan.wal, operation: "read", error: error) }
    if !bytes.withUnsafeBytes({ crc32c($0) == block.crc }) { throw mismatch(block, scan) }
    return bytes
  }

  private func read(
    _ scan: WALScan, _ file: FileID, _ piece: UnsafeMutableRawBufferPointer, at position: Int
  ) throws(WALError) {
    do throws(Errno) {
      guard try files.read(file, into: piece, at: UInt64(position * WALFormat.block)) == piece.count else { throw Errno.io }
    } catch { throw .system(volume: volume, wal: scan.wal, operation: "read", error: error) }
  }

  /// The frame that holds a position: frames rise in position.
  private func frame(_ scan: WALScan, _ position: UInt32) -> UInt64 {
    scan.frames.last { $0.position <= Int(position) }?.number ?? 0
  }
}
