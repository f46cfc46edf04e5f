import ElideEvents
import ElideIO
import ElideProjections

extension VolumeKeeper {
  /// Seals blocks that no write-ahead file held: one segment of an import. They go to the block cache first and are
  /// encoded from there, as a sealed file is from `wal/`. False, and nothing done, when the journal's disk is full.
  ///
  /// - Parameter block: the plain bytes of block r of the builder.
  package func sealImported(
    _ builder: SegmentBuilder, duplicates: UInt64, block: (UInt32) -> UnsafeRawPointer
  ) throws(KeeperHalt) -> Bool {
    let content = KeptBlob(builder.content.encode())
    let number = builder.segment
    let event = SealedSegment(segment: number, origin: .import, blocks: UInt64(builder.blockCount), content: content.digest)
    guard try append([.segmentSealed(event)], blobs: [content]) else { return false }
    lastSealedSeq = journal.head?.seq
    waitingBytes += UInt64(content.bytes.count)
    bytesSinceCheckpoint += UInt64(content.bytes.count)
    counters.blocksSealed += UInt64(builder.blockCount)
    counters.duplicateBlocks += duplicates
    guard builder.blockCount > 0, let entry = tables.directory[number] else { return true }
    do throws(Errno) {
      // Its only copy until the upload: no process may evict it.
      let file = try context.cache.openKept(
        entry, seal: CacheFormat.seal(content: content.digest, hashes: builder.hashes))
      segments.attach(number, file)
      for r in 0..<builder.blockCount { try file.store(r, count: 1, block(r)) }
    } catch {
      throw KeeperHalt(error == .noSpace ? .tryLater : .failed, "segment \(number) in the cache: \(error)")
    }
    dedup.insert(segment: number, hashes: builder.hashes)
    addShipment(number, blocks: UInt64(builder.blockCount))
    return true
  }

  /// Where a block with this hash lies already.
  package func duplicate(of hash: Digest) -> BlockHandle? { dedup[hash] }
}
