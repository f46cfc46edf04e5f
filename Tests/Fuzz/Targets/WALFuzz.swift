import CElide
import ElideEngine
import ElideIO
import Simulator

/// Recovery of two write-ahead files.
///
/// Input: what to mend, then pieces to paint over two blank files: place (file, block and byte, 3 bytes), length (2), bytes.
/// Mending makes the checksums of file headers, frames and records fit, and lets frames continue from one another, so that
/// the rules behind the checksums are reached. A recovery that succeeds gives the same when it is done again with its own
/// result as the mark.
enum WALFuzz {
  private static let volume = ULID(high: 0x0190_0000_0000_0001, low: 0x5EED)
  private static let blocks = 24
  private static let directory = "/wal"

  static func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let mends = input.byte()
    var images = [UInt8](repeating: 0, count: 2 * blocks * 4096)
    var painted = 0
    while !input.isEmpty && painted < 64 {
      let at = (Int(input.byte()) % (2 * blocks)) * 4096 + input.word() % 4096
      let piece = input.take(min(input.word(), 8192, images.count - at))
      images.replaceSubrange(at..<at + piece.count, with: piece)
      painted += 1
    }
    var chain = WALChain.genesis
    for file in 0..<2 { mend(&images, file: file, mends, &chain) }
    recover(images)
  }

  private static func recover(_ images: [UInt8]) {
    let files = SimFiles(seed: 1, fileCapacity: blocks * 4096)
    do throws(Errno) {
      try files.makeDirectory(directory)
      for n in 0..<2 {
        let image = Array(images[n * blocks * 4096..<(n + 1) * blocks * 4096])
        try files.replaceFile(WALFormat.path(directory: directory, number: UInt64(n)), with: image)
      }
    } catch { preconditionFailure("the simulated disk: \(error)") }
    let recovery = WALRecovery(files: files, directory: directory, volume: volume, blocks: 1 << 20)
    guard let log = try? recovery.recover(wals: [0, 1], start: .genesis, marks: []) else { return }
    for w in log.wals {
      files.close(w.file)
      for r in w.scan.records {
        precondition(r.lba < 1 << 20 && r.count <= 1 << 20 - r.lba, "a record past the end of the volume")
        guard r.kind == .data else { continue }
        precondition(Int(r.position) + Int(r.count) <= blocks, "a record past the end of its file")
        precondition(r.firstCRC + Int(r.count) <= w.scan.blockCRCs.count, "a record without its checksums")
      }
    }
    let again: RecoveredLog
    do throws(WALError) {
      again = try recovery.recover(wals: [0, 1], start: .genesis, marks: [OpenedMark(wal: 1, end: log.end)])
    } catch { preconditionFailure("recovered once, and not again: \(error)") }
    for w in again.wals { files.close(w.file) }
    precondition(again.end == log.end && zip(again.wals, log.wals).allSatisfy { same($0.scan, $1.scan) }, "recovered differently")
    precondition(files.openHandles == 0, "files stay open")
  }

  private static func same(_ a: WALScan, _ b: WALScan) -> Bool {
    a.frames.map(\.crc) == b.frames.map(\.crc) && a.records == b.records && a.blockCRCs == b.blockCRCs
  }

  // MARK: mending

  /// Bit 0: headers of files and frames; 1: records; 2: the chain; 3: block checksums; 4: volume and number.
  private static func mend(_ images: inout [UInt8], file: Int, _ mends: UInt8, _ chain: inout WALChain) {
    let base = file * blocks * 4096
    images.withUnsafeMutableBytes { all in
      guard let p = all.baseAddress.map({ $0 + base }) else { return }
      if mends & 16 != 0 { identify(p, number: file, at: 16, 32) }
      if mends & 1 != 0 {
        let crc = elide_crc32c(0, p, 44)
        store(p, 44, p.loadUnaligned(fromByteOffset: 8, as: UInt32.self) == 1 ? crc : elide_crc32c(crc, p + 48, 16))
      }
      var position = 1
      while position < blocks {
        let header = p + position * 4096
        guard header.loadUnaligned(as: UInt64.self) == 0x4D52_4645_4449_4C45 else {
          position += 1
          continue
        }
        if mends & 16 != 0 { identify(header, number: file, at: 16, 32) }
        if mends & 4 != 0 {
          chain.frame += 1
          store(header, 8, chain.crc)
          header.storeBytes(of: chain.frame.littleEndian, toByteOffset: 40, as: UInt64.self)
        }
        if mends & 1 != 0 { store(header, 76, elide_crc32c(0, header, 76)) }
        position += 1 + mendRecords(header, mends, room: blocks - position - 1, &chain)
      }
    }
  }

  /// Returns how many data blocks the frame has.
  private static func mendRecords(_ header: UnsafeMutableRawPointer, _ mends: UInt8, room: Int, _ chain: inout WALChain) -> Int {
    var seed = header.loadUnaligned(fromByteOffset: 76, as: UInt32.self).littleEndian
    var offset = 80
    var data = 0
    while offset + 20 <= 4096 {
      let word = header.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self).littleEndian
      let kind = word >> 40 & 255
      let count = word & (1 << 40 - 1)
      guard count > 0, (1...3).contains(kind) else { break }
      let n = kind == 1 ? Int(clamping: count) : 0
      guard n <= room - data, offset + 20 + 4 * n <= 4096 else { break }
      if mends & 8 != 0 {
        for i in 0..<n { store(header, offset + 16 + 4 * i, elide_crc32c(0, header + (1 + data + i) * 4096, 4096)) }
      }
      let crc = elide_crc32c(seed, header + offset, 16 + 4 * n)
      if mends & 2 != 0 { store(header, offset + 16 + 4 * n, crc) }
      seed = crc
      chain.crc = crc
      data += n
      offset += 20 + 4 * n
    }
    return data
  }

  private static func store(_ p: UnsafeMutableRawPointer, _ at: Int, _ v: UInt32) {
    p.storeBytes(of: v.littleEndian, toByteOffset: at, as: UInt32.self)
  }
  private static func identify(_ p: UnsafeMutableRawPointer, number: Int, at volumeAt: Int, _ numberAt: Int) {
    p.storeBytes(of: volume.high.bigEndian, toByteOffset: volumeAt, as: UInt64.self)
    p.storeBytes(of: volume.low.bigEndian, toByteOffset: volumeAt + 8, as: UInt64.self)
    p.storeBytes(of: UInt64(number).littleEndian, toByteOffset: numberAt, as: UInt64.self)
  }

  // MARK: seeds

  private static func paint(_ block: Int, _ byte: Int, _ bytes: [UInt8]) -> [UInt8] {
    [UInt8(block), UInt8(byte >> 8), UInt8(byte & 255), UInt8(bytes.count >> 8), UInt8(bytes.count & 255)] + bytes
  }
  private static func fileHeader(_ block: Int) -> [UInt8] {
    paint(block, 0, Array("ELIDEWAL".utf8) + [1, 0, 0, 0, UInt8(blocks), 0, 0, 0])
  }
  private static func frame(_ block: Int, durable: UInt8, _ records: [(lba: UInt8, count: UInt8, kind: UInt8)]) -> [UInt8] {
    var header = Array("ELIDEFRM".utf8) + [UInt8](repeating: 0, count: 72)
    header[48] = 7
    header[64] = durable
    for r in records {
      header += [r.lba, 0, 0, 0, 0, 0, 0, 0, r.count, 0, 0, 0, 0, r.kind, 0, 0]
      header += [UInt8](repeating: 0, count: 4 + (r.kind == 1 ? 4 * Int(r.count) : 0))
    }
    return paint(block, 0, header)
  }
  static var seeds: [[UInt8]] {
    let first = fileHeader(0) + frame(1, durable: 0, [(3, 2, 1), (9, 200, 3)]) + paint(2, 0, [1, 2, 3])
    let second = frame(4, durable: 1, [(3, 1, 2), (4, 1, 1)]) + frame(6, durable: 2, [(40, 3, 1)])
    let other = fileHeader(blocks) + frame(blocks + 1, durable: 2, [(1, 1, 1)])
    return [
      [31] + first, [31] + first + second, [31] + first + second + other, [27] + first + second + other,
      [31] + first + fileHeader(blocks), [0] + first,
    ]
  }
}
