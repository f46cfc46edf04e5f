import CElide
import ElideIO
import ElideProjections

/// Finds again where the blocks of a sealed write-ahead file lie, from its frames and what was sealed: the `.map` beside
/// the cache is not synced, so a power cut may take it.
package enum SealedPlaces {
  /// Words and positions in r order. `scan` ends where the sealed file ended; `content` is what `segment_sealed` says.
  package static func find(
    _ scan: WALScan, content: SegmentContent, entry: SegmentEntry, file: FileID, files: any Files
  ) throws(ElideError) -> (words: [UInt32], placement: [UInt16]) {
    let visible = VisibleBlocks(scan).blocks
    let seed = segmentSeed(volume: entry.volume, segment: entry.number)
    var words: [UInt32] = []
    var placement: [UInt16] = []
    var next = 0
    var block = [UInt8](repeating: 0, count: 4096)
    for run in content.runs {
      guard case .data(let r) = run.kind else { continue }
      for i in 0..<run.count {
        while next < visible.count, visible[next].lba < run.lba + i { next += 1 }
        guard next < visible.count, visible[next].lba == run.lba + i, UInt64(words.count) == UInt64(r) + i else {
          throw damaged(entry, "block \(run.lba + i) was sealed, but its file does not hold it")
        }
        let found = visible[next]
        do throws(Errno) { block = try files.readBytes(file, at: UInt64(found.position) * 4096, count: 4096) } catch {
          throw ElideError(error, doing: "read write-ahead file \(entry.number) of volume \(entry.volume)")
        }
        let word = block.withUnsafeBytes { b in b.baseAddress.map { (elide_crc32c(0, $0, 4096), blockWord(seed: seed, r: r + UInt32(i), $0)) } }
        guard let word, word.0 == found.crc else { throw damaged(entry, "the block at position \(found.position) is damaged") }
        words.append(word.1)
        placement.append(UInt16(found.position))
      }
    }
    guard words.count == Int(entry.blocks) else { throw damaged(entry, "\(words.count) blocks found, \(entry.blocks) were sealed") }
    return (words, placement)
  }

  private static func damaged(_ entry: SegmentEntry, _ detail: String) -> ElideError {
    ElideError(.fault, "write-ahead file \(entry.number) of volume \(entry.volume), sealed but not in the store: \(detail)")
  }
}
