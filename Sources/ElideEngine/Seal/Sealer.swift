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

/// Seals write-ahead files. Waits for the disk only, never for the network. What comes out is a function of the file's
/// frames and of the duplicates on offer, so sealing again after a crash says the same.
///
/// Memory: the file's blocks (32 MiB by default), read in one go.
package struct Sealer {
  private let files: any Files
  private let volume: ULID

  /// Counts the time that hashing takes, if somebody wants to know.
  private let stages: StageCounters?

  package init(files: any Files, volume: ULID, stages: StageCounters? = nil) {
    self.files = files
    self.volume = volume
    self.stages = stages
  }

  /// Reads the closed and synced file of `scan` and seals it. Every block that is still visible is checked against its
  /// record's CRC before it is hashed; a mismatch is `WALError.corrupt`, naming frame and position, and nothing is sealed.
  ///
  /// - Parameters:
  ///   - dedup: where a block with this hash lies already, if that may be pointed at.
  ///   - keep: called with each duplicate of an older segment and its plain bytes, so that a block which is not local can be
  ///     kept: data written a minute ago must not become remote (`VolumeSegments.keep`).
  package func seal(
    _ scan: WALScan, file: FileID, dedup: (Digest) -> BlockHandle?, keep: (BlockHandle, UnsafeRawPointer) -> Void
  ) throws(WALError) -> SealedWAL {
    let visible = VisibleBlocks(scan)
    let buffer = try read(scan, file)
    defer { buffer.deallocate() }
    var builder = SegmentBuilder(segment: scan.wal, capacity: visible.blocks.count)
    var places = SealedPlaces()
    var nextRun = 0
    let hashes = try hashes(visible.blocks, scan, buffer)
    for (i, block) in visible.blocks.enumerated() {
      while nextRun < visible.runs.count, visible.runs[nextRun].lba < block.lba {
        let run = visible.runs[nextRun]
        builder.addConstant(lba: run.lba, count: run.count, isTrim: run.isTrim)
        nextRun += 1
      }
      switch builder.addBlock(lba: block.lba, hash: hashes[i], dedup: dedup) {
      case .data:
        places.crcs.append(block.crc)
        places.placement.append(UInt16(block.position))
      case .duplicate(let target): keep(target, try checked(block, scan, buffer))
      case .zero, .repeated: break
      }
    }
    for run in visible.runs[nextRun...] { builder.addConstant(lba: run.lba, count: run.count, isTrim: run.isTrim) }
    return SealedWAL(number: scan.wal, content: builder.content, hashes: builder.hashes, places: places)
  }

  /// Where the blocks of an already sealed file lie, and their CRCs: what its map says, made again from the frames and
  /// the content that the journal has. For a map that a crash lost or damage spoilt.
  package func places(of content: SegmentContent, _ scan: WALScan, file: FileID) throws(WALError) -> SealedPlaces {
    let visible = VisibleBlocks(scan)
    let buffer = try read(scan, file)
    defer { buffer.deallocate() }
    var places = SealedPlaces()
    var next = 0
    for run in content.runs {
      guard case .data = run.kind else { continue }
      for lba in run.lba..<run.lba + run.count {
        while next < visible.blocks.count, visible.blocks[next].lba < lba { next += 1 }
        guard next < visible.blocks.count, visible.blocks[next].lba == lba else {
          throw .wrongFile(volume: volume, wal: scan.wal, detail: "block \(lba), sealed from it, is not in its frames")
        }
        _ = try checked(visible.blocks[next], scan, buffer)
        places.crcs.append(visible.blocks[next].crc)
        places.placement.append(UInt16(visible.blocks[next].position))
      }
    }
    return places
  }

  /// Checks every block against its record's CRC, and hashes it: nil for zeros. Two at a time, while they are in the cache.
  private func hashes(
    _ blocks: [VisibleBlocks.Block], _ scan: WALScan, _ buffer: UnsafeMutableRawBufferPointer
  ) throws(WALError) -> [Digest?] {
    var out = [Digest?](repeating: nil, count: blocks.count)
    var waiting: (index: Int, bytes: UnsafeRawBufferPointer)?
    let start = stages?.now() ?? 0
    var hashed = 0
    for (i, block) in blocks.enumerated() {
      let p = try checked(block, scan, buffer)
      if elide_is_zero(p, WALFormat.block) != 0 { continue }
      hashed += WALFormat.block
      let bytes = UnsafeRawBufferPointer(start: p, count: WALFormat.block)
      if let first = waiting {
        let (a, b) = Digest.sha256(first.bytes, bytes)
        out[first.index] = a
        out[i] = b
        waiting = nil
      } else {
        waiting = (i, bytes)
      }
    }
    if let last = waiting { out[last.index] = Digest.sha256(last.bytes) }
    stages?.add(.hash, bytes: hashed, since: start)
    return out
  }

  /// The bytes of a block, which are what its record says.
  private func checked(
    _ block: VisibleBlocks.Block, _ scan: WALScan, _ buffer: UnsafeMutableRawBufferPointer
  ) throws(WALError) -> UnsafeRawPointer {
    let offset = Int(block.position) * WALFormat.block
    guard let base = buffer.baseAddress, offset + WALFormat.block <= buffer.count,
      elide_crc32c(0, base + offset, WALFormat.block) == block.crc
    else {
      throw .corrupt(
        volume: volume, wal: scan.wal, frame: frame(scan, block.position),
        detail: "block \(block.lba), at position \(block.position), does not match its CRC")
    }
    return UnsafeRawPointer(base + offset)
  }

  /// Everything up to the end of the last frame. The caller deallocates.
  private func read(_ scan: WALScan, _ file: FileID) throws(WALError) -> UnsafeMutableRawBufferPointer {
    let length = scan.endPosition * WALFormat.block
    // Aligned to a huge page: thousands of page faults less where the system gives them.
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 2 << 20)
    if let base = buffer.baseAddress { elide_want_huge_pages(base, length) }
    do throws(Errno) {
      guard try files.read(file, into: buffer, at: 0) == length else { throw Errno.io }
    } catch {
      buffer.deallocate()
      throw .system(volume: volume, wal: scan.wal, operation: "read", error: error)
    }
    return buffer
  }

  /// The frame that holds a position: frames rise in position.
  private func frame(_ scan: WALScan, _ position: UInt32) -> UInt64 {
    scan.frames.last { $0.position <= Int(position) }?.number ?? 0
  }
}
