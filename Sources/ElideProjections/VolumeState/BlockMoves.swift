import ElideIO

/// The moves blob of `compaction_committed`: count, then per move LBA, count, and the raw handles from and to, all varints.
package enum BlockMoves {
  package static func encode(_ moves: [BlockMove]) -> [UInt8] {
    var w = ByteWriter()
    w.varint(UInt64(moves.count))
    for m in moves {
      w.varint(m.lba)
      w.varint(m.count)
      w.varint(m.from.raw)
      w.varint(m.to.raw)
    }
    return w.bytes
  }

  package static func decode(_ bytes: [UInt8]) throws(FormatError) -> [BlockMove] {
    var r = ByteReader(bytes, what: "moves")
    let n = try r.count("moves", limit: bytes.count)
    var out: [BlockMove] = []
    for _ in 0..<n {
      let lba = try r.varint()
      let count = try r.varint()
      guard lba < BlockMap.maxBlocks, count > 0, count <= BlockMap.maxBlocks - lba else {
        throw r.error("a move beyond the device")
      }
      let from = BlockHandle(raw: try r.varint())
      let to = BlockHandle(raw: try r.varint())
      for h in [from, to] where !h.isBlock || UInt64(h.r) + count > 1 << 20 {
        throw r.error("a move of what is no run of blocks")
      }
      out.append(BlockMove(lba: lba, count: count, from: from, to: to))
    }
    try r.end()
    return out
  }
}
