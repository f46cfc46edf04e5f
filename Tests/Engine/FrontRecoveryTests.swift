import ElideIO
import Testing

@testable import ElideEngine

@Suite struct FrontRecoveryTests {
  /// Four files or so: extended frames, flushes now and then, zeros and trims between.
  private func sample(flushes: Bool = true) throws -> LogWriter {
    let log = LogWriter()
    var dice = Dice(11)
    for i in 0..<40 {
      let lba = UInt64.random(in: 0..<1000, using: &dice)
      switch i % 5 {
      case 0: try log.append([(lba, UInt64(1 + i % 3), .data), (lba + 50, 9, .zero)])
      case 3: try log.append([(lba, 100_000, .trim)])
      default: try log.append([(lba, 2, .data)])
      }
      if flushes && i % 7 == 6 && i < 34 { try log.flush() }
    }
    return log
  }

  /// Frames of a log by number: file, header position, durable mark, records.
  private func frames(_ log: LogWriter) throws -> [(wal: UInt64, frame: ScannedFrame)] {
    try log.recover().wals.flatMap { w in w.scan.frames.map { (w.number, $0) } }
  }

  @Test func anUnbrokenLogIsKeptWhole() throws {
    let log = try sample()
    let found = try log.recover()
    #expect(found.records == log.records)
    #expect(found.end == log.appender.chain)
    #expect(found.discarded == 0)
    #expect(log.wals.count >= 3)
    let again = try log.recover(marks: [OpenedMark(wal: log.wals.last ?? 0, end: found.end)])
    #expect(again.records == log.records)
  }

  /// Every byte class of every frame: at or below the durable mark the volume is refused and the frame named, above it
  /// the frame and all after it are gone.
  @Test func damageIsToldFromATornTail() throws {
    let log = try sample()
    let all = try frames(log)
    var refused = 0
    var cut = 0
    for (wal, f) in all {
      let base = f.position * 4096
      // magic, chain, wal number, frame number, incarnation, durable mark, own CRC
      for offset in [0, 9, 33, 41, 50, 65, 77] {
        let undo = try log.flip(wal, at: base + offset)
        // The damaged header says nothing any more; all others do.
        let durable = all.filter { $0.frame.number != f.number }.map(\.frame.durable).max() ?? 0
        if f.number <= durable {
          refused += 1
          #expect { _ = try log.recover() } throws: { error in
            guard case .corrupt(log.volume, _, f.number, _) = error as? WALError else { return false }
            return true
          }
        } else {
          cut += 1
          let found = try log.recover()
          #expect(found.records == log.records.filter { $0.frame < f.number }, "frame \(f.number), byte \(offset)")
          #expect(found.end.frame == f.number - 1)
        }
        try undo()
      }
    }
    #expect(refused > 30 && cut > 10, "\(refused) refused, \(cut) cut")
    #expect(try log.recover().records == log.records)
  }

  @Test func aDamagedRecordIsABreakAtItsFrame() throws {
    let log = try sample()
    for (wal, f) in try frames(log) where f.recordCount > 1 {
      // The last record of the header: a byte of its LBA.
      var offset = WALFormat.fixedBytes
      let mine = log.records.filter { $0.frame == f.number }
      for r in mine.dropLast() { offset += WALFormat.recordLength(dataBlocks: r.kind == .data ? Int(r.count) : 0) }
      let undo = try log.flip(wal, at: f.position * 4096 + offset + 1)
      if f.number <= log.durable {
        #expect { _ = try log.recover() } throws: { error in
          guard case .corrupt(log.volume, _, let frame, _) = error as? WALError else { return false }
          return frame == f.number || frame == f.number + 1
        }
      } else {
        // What stood before the torn record in the same header is whole, and kept.
        let found = try log.recover()
        #expect(found.records == log.records.filter { $0.frame < f.number } + mine.dropLast())
        // And once that is journaled, the next recovery says the same.
        let mark = OpenedMark(wal: log.wals.last ?? 0, end: found.end)
        #expect(try log.recover(marks: [mark]).records == found.records)
      }
      try undo()
    }
  }

  @Test func aLostExtensionIsABreakAtTheFrameThatLostIt() throws {
    let log = LogWriter()
    try log.append([(1, 1, .data)])
    try log.append([(2, 1, .zero)])  // an extension without data: positions do not move when it is lost
    try log.flush()
    let mark = log.durable
    try log.append([(3, 1, .data)])
    #expect(mark == 1)
    let at = 4096 + WALFormat.fixedBytes + WALFormat.recordLength(dataBlocks: 1)
    _ = try log.damage(1, at: at, [UInt8](repeating: 0, count: WALFormat.recordBytes))
    #expect { _ = try log.recover() } throws: { error in
      guard case .corrupt(_, 1, 1, _) = error as? WALError else { return false }
      return true
    }
  }

  @Test func dataAboveTheMarkIsChecked() throws {
    let log = try sample()
    let durable = log.durable
    let target = try #require(log.records.first { $0.frame > durable && $0.kind == .data && $0.count > 1 })
    let undo = try log.flip(target.wal, at: (target.position + 1) * 4096 + 100)
    let found = try log.recover()
    let index = try #require(log.records.firstIndex(of: target))
    #expect(found.records == Array(log.records[..<index]))
    try undo()
    // Below it, the block is found out when it is read or sealed.
    let old = try #require(log.records.first { $0.frame < durable && $0.kind == .data })
    _ = try log.flip(old.wal, at: old.position * 4096)
    #expect(try log.recover().records == log.records)
  }

  @Test func aLostMiddleFileDiscardsTheLaterOnes() throws {
    let log = try sample(flushes: false)
    let wal = log.wals[1]
    _ = try log.damage(wal, at: 4096, [UInt8](repeating: 0, count: 4096))
    let found = try log.recover()
    #expect(found.records == log.records.filter { $0.wal < wal })
    #expect(found.discarded > 0)
  }

  /// After `opened` is journaled, what was thrown away stays so, whatever the files say, and the chain goes on.
  @Test func marksMakeARecoveryFinal() throws {
    let log = try sample(flushes: false)
    let wal = log.wals[1]
    let undo = try log.damage(wal, at: 4096, [UInt8](repeating: 0, count: 4096))
    let first = try log.recover()
    let kept = first.records
    let mark = OpenedMark(wal: log.wals.last ?? 0, end: first.end)
    try undo()  // the discarded frames are back
    #expect(try log.recover(marks: [mark]).records == kept)

    log.reopened(first.end)
    try log.roll()
    let from = log.records.count
    try log.append([(5, 3, .data)])
    try log.flush()
    try log.append([(9, 1, .data)])
    let second = try log.recover(marks: [mark])
    #expect(second.records == kept + log.records[from...])
    #expect(second.end == log.appender.chain)

    // Without the frame that the mark names, the journal knows better.
    let last = try #require(kept.last)
    _ = try log.damage(last.wal, at: 4096, [UInt8](repeating: 0, count: 4096))
    #expect(throws: WALError.self) { _ = try log.recover(marks: [mark]) }
  }

  @Test func theChainGoesOnFromTheLastSealedFile() throws {
    let log = try sample()
    let whole = try log.recover()
    let first = try #require(whole.wals.first?.scan.end)
    let rest = try log.recover(wals: Array(log.wals.dropFirst()), start: first)
    #expect(rest.records == log.records.filter { $0.wal != log.wals[0] })
    #expect(throws: WALError.self) {
      _ = try log.recover(wals: Array(log.wals.dropFirst()), start: WALChain(frame: first.frame, crc: first.crc ^ 1))
    }
  }

  @Test func filesThatAreNotThereOrNotOursAreNamed() throws {
    let log = try sample()
    let wal = log.wals[1]
    let undo = try log.flip(wal, at: 20)
    #expect { _ = try log.recover() } throws: { error in
      guard case .wrongFile(log.volume, wal, _) = error as? WALError else { return false }
      return true
    }
    try undo()
    try log.files.remove(log.path(wal))
    #expect(throws: WALError.missing(volume: log.volume, wal: wal)) { _ = try log.recover() }
  }

  /// Hostile bytes: no trap, and what is kept is always a prefix of what was written.
  @Test(arguments: 0..<8) func randomDamageNeverYieldsAMixture(seed: UInt64) throws {
    let log = try sample(flushes: seed % 2 == 0)
    var dice = Dice(seed)
    for _ in 0..<60 {
      var undos: [() throws -> Void] = []
      for _ in 0..<Int.random(in: 1...3, using: &dice) {
        let wal = log.wals[Int.random(in: 0..<log.wals.count, using: &dice)]
        let block = Int.random(in: 0..<30, using: &dice)
        let offset =
          block * 4096
          + (Bool.random(using: &dice) ? Int.random(in: 0..<200, using: &dice) : Int.random(in: 0..<4000, using: &dice))
        let bytes = (0..<Int.random(in: 1...96, using: &dice)).map { _ in UInt8.random(in: 0...255, using: &dice) }
        undos.append(try log.damage(wal, at: offset, bytes))
      }
      if let found = try? log.recover() {
        let kept = found.records
        #expect(kept == Array(log.records[..<kept.count]))
        #expect(kept.last.map { $0.frame >= log.durable } ?? (log.durable == 0) || log.durable == 0)
      }
      for undo in undos.reversed() { try undo() }
    }
    #expect(try log.recover().records == log.records)
  }

  /// Valid CRCs around nonsense: lengths and counts that point outside are refused, not followed.
  @Test func recordsBeyondTheFileOrTheVolumeAreRefused() throws {
    var block = [UInt8](repeating: 0, count: 4096)
    block.withUnsafeMutableBytes { b in
      guard let p = b.baseAddress else { return }
      for (lba, count, kind) in [(1 << 38 as UInt64, 1 as UInt64, WALKind.zero), (0, 1 << 39, .zero), (UInt64.max, 1, .trim)] {
        _ = RawRecord.encode(p + 80, lba: lba, count: count, kind: kind, seed: 5)
        #expect(RawRecord.decode(p, at: 80, seed: 5, room: 100) == nil)
      }
      _ = RawRecord.encode(p + 80, lba: 0, count: 200, kind: .data, seed: 5)
      #expect(RawRecord.decode(p, at: 80, seed: 5, room: 100) == nil)
      #expect(RawRecord.decode(p, at: 80, seed: 5, room: 200) != nil)
      #expect(RawRecord.decode(p, at: 4090, seed: 5, room: 200) == nil)
    }
    let log = LogWriter()
    try log.append([(LogWriter.blocks, 1, .data)])
    #expect(throws: WALError.self) { _ = try log.recover() }
  }
}
