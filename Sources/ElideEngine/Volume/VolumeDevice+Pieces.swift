import CElide
import ElideIO
import ElideProjections

// A read over many places, all of which are found first: copied at once, or sent by the transport from where they lie.
extension VolumeDevice {
  /// Copies blocks from `lba` on, at most `limit`, that lie in files which can be viewed: their places first, then all of them at
  /// once, so that memory is asked for the next piece while one is copied. How many are right; what stops it, whatever it is,
  /// is for the paths below to deal with.
  func copyPieces(_ lba: UInt64, limit: UInt64, into buffer: UnsafeMutableRawPointer) -> UInt64 {
    var count = 0
    var blocks: UInt64 = 0
    while blocks < limit && count < Self.pieceCapacity {
      guard let place = place(lba &+ blocks, limit: limit &- blocks) else { break }
      pieces[count] = place.piece
      count &+= 1
      blocks &+= UInt64(place.piece.count)
    }
    return count == 0 ? 0 : UInt64(elide_copy_pieces(buffer, pieces, count))
  }

  /// Neighbouring blocks in a file that can be viewed.
  private struct Place {
    var piece: elide_piece
    var file: FileID
    /// Bytes from the file's beginning.
    var offset: UInt64
    /// The write-ahead file, if it is one: only these are ever written again.
    var wal: UInt64?
    /// Of this volume's.
    var isOwn = true
  }

  @inline(__always)
  private func place(_ lba: UInt64, limit: UInt64) -> Place? {
    let run = overlay.run(lba, limit: limit)
    if run.kind == .data {
      guard let wal = wals.find(run.wal), let data = wal.pointee.data, run.position &+ Int(run.count) <= wal.pointee.blocks
      else { return nil }
      let piece = elide_piece(
        from: data + run.position << 12, words: wal.pointee.crcs + run.position, count: UInt32(run.count), seed: 0, r: 0,
        are_crcs: 1)
      return Place(piece: piece, file: wal.pointee.file, offset: UInt64(run.position) << 12, wal: run.wal)
    }
    guard run.kind == nil else { return nil }
    let (handle, n) = map.run(at: lba, limit: run.count)
    guard handle.isBlock, n > 0, let source = sources.source(for: handle.segment), handle.r < source.blocks,
      let data = source.data
    else { return nil }
    let (position, count) = stretch(source, handle.r, limit: UInt32(truncatingIfNeeded: n))
    let from = UInt64(position) << 12
    guard count > 0, from &+ UInt64(count) << 12 <= source.dataLength else { return nil }
    let piece = elide_piece(
      from: data + Int(from), words: source.words + 4 &* Int(handle.r), count: count, seed: source.seed, r: handle.r, are_crcs: 0)
    return Place(
      piece: piece, file: source.file, offset: source.dataOffset &+ from, wal: source.placement == nil ? nil : handle.segment,
      isOwn: source.volume == volume)
  }

  package func extents(
    offset: UInt64, length: UInt64, into extents: UnsafeMutablePointer<FileExtent>, limit: Int
  ) -> Int {
    guard !isFenced, (offset | length) & 4095 == 0, length > 0, offset <= size, length <= size &- offset else { return 0 }
    let limit = min(limit, Self.pieceCapacity)
    let wanted = length >> 12
    var blocks: UInt64 = 0
    var count = 0
    while blocks < wanted {
      guard count < limit, let place = place(offset >> 12 &+ blocks, limit: wanted &- blocks) else { return 0 }
      let extent = FileExtent(
        descriptor: place.file.raw, offset: place.offset, length: Int(place.piece.count) << 12, address: place.piece.from)
      if let wal = place.wal, extent.isShared {
        // Another volume's are for its own process to write again, which does not hear of this.
        guard place.isOwn else { return 0 }
        sources.noteSent(wal)
      }
      pieces[count] = place.piece
      extents[count] = extent
      count &+= 1
      blocks &+= UInt64(place.piece.count)
    }
    // Wrong or unreadable: the paths that copy know what to do.
    guard elide_check_pieces(pieces, count) == Int64(wanted) else { return 0 }
    counters.reads &+= 1
    counters.bytesRead &+= length
    noteRead(offset, length, missed: false)
    return count
  }
}
