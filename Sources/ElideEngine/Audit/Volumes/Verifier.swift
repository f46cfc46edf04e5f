import ElideEvents
import ElideIO
import ElideProjections

extension Auditor {
  /// Checks a volume's log and, when `deep`, every body it speaks of, and says what was checked. Goes on after a fault
  /// where that makes sense; an entry that breaks the chain ends the reading.
  package func verify(_ volume: ULID, from source: HistorySource, deep: Bool = false) throws(ElideError) -> VerifyReport {
    if source == .store {
      let anchor = try key(of: volume)
      var pages = PageVerifier(store: store, volume: volume, key: anchor.key)
      pages.isAnchored = anchor.isAnchored
      pages.deep = deep
      return try pages.verify()
    }
    return try verifyJournal(volume, deep: deep)
  }

  private func verifyJournal(_ volume: ULID, deep: Bool) throws(ElideError) -> VerifyReport {
    var report = VerifyReport(volume: volume)
    let anchor = try? key(of: volume)
    report.isAnchored = anchor?.isAnchored ?? false
    let history = try history(of: volume, from: .local)
    defer { history.close() }
    var replay = JournalReplay(log: "volume/\(volume)")
    var state = VolumeState(volume: volume)
    do throws(ReplayError) {
      while let (raw, _) = try history.next() {
        report.entries += 1
        guard let committed = try replay.next(raw) else { continue }
        if let violation = state.apply(committed) {
          report.add(.init("legality", at: "entry \(violation.seq)", violation.detail))
        }
      }
    } catch {
      report.add(.init("chain", at: error.seq.map { "entry \($0)" } ?? "the log", error.description))
    }
    if let error = state.checkInvariants() { report.add(.init("legality", at: "the state", error)) }
    for segment in state.ordered { try check(segment, history, deep: deep, &report) }
    return report
  }

  private func check(
    _ segment: OwnSegment, _ history: any History, deep: Bool, _ report: inout VerifyReport
  ) throws(ElideError) {
    let place = "segment \(segment.number)"
    let encoding: SegmentEncoding
    do {
      // Also of a segment without blocks of its own: zeros and duplicates are told there.
      _ = try SegmentContent.decode(try history.blob(segment.content))
      guard let e = segment.encoded, segment.uploadedSeq != nil else { return }
      report.segments += 1
      encoding = try SegmentEncoding.decode(try history.blob(e.encoding))
    } catch {
      report.add(.init("blob", at: place, "\(error)"))
      return
    }
    guard deep, let e = segment.encoded else { return }
    let key = StoreLayout.body(volume: report.volume, segment: segment.number, hash: e.hash)
    let body: [UInt8]
    do throws(StoreError) { body = try store.get(key, range: nil) } catch {
      report.add(.init("segment", at: place, "\(ElideError(error).message)"))
      return
    }
    report.segmentBytes += UInt64(body.count)
    guard UInt64(body.count) == e.length else {
      report.add(.init("segment", at: place, "\(key) has \(body.count) bytes, not \(e.length)"))
      return
    }
    if let fault = BodyChecker.fault(body, encoding, key) { report.add(.init("segment", at: place, fault)) }
  }
}

/// A whole body against its encoding: units, blocks, and the table of their hashes.
enum BodyChecker {
  static func fault(_ body: [UInt8], _ encoding: SegmentEncoding, _ key: String) -> String? {
    guard let codec = ZstdCodec() else { return "out of memory" }
    var hashes: [UInt8] = []
    for unit in encoding.units {
      let end = Int(unit.offset) + Int(unit.length)
      guard end <= body.count else { return "\(key): the unit at byte \(unit.offset) ends beyond it" }
      let plain: [UInt8]
      do throws(SegmentError) {
        plain = try BodyDecoder.decode(unit, stored: body[Int(unit.offset)..<end], object: key, codec: codec)
      } catch { return error.description }
      for i in 0..<Int(unit.blocks) { hashes += plain[i * 4096..<i * 4096 + 4096].withUnsafeBytes { Digest.sha256($0).bytes } }
    }
    guard Int(encoding.hashesOffset) + hashes.count == body.count, Array(body[Int(encoding.hashesOffset)...]) == hashes,
      Digest.sha256(hashes) == encoding.hashesDigest
    else { return "\(key): its table of hashes is not that of its blocks" }
    return nil
  }
}
