import ArgumentParser
import ElideEngine
import ElideIO

enum StatusPrinter {
  static func print(_ s: StatusJSON, name: String) {
    var fields = [
      ("volume", "\(name) (\(s.volume))"), ("state", s.state + (s.reason.map { ": \($0)" } ?? "")),
      ("size", ByteSize.text(s.size)), ("journal", "entry \(s.head)"),
      ("published", s.cut.map { "entry \($0), page \(s.page ?? 0)" } ?? "nothing yet"),
      ("not in the store", "\(ByteSize.text(s.unsealedBytes + s.unsentBytes)), for \(duration(s.exposureMilliseconds))"),
      ("segments", "\(s.segments)"), ("snapshots", s.snapshots.isEmpty ? "-" : s.snapshots.map(\.label).joined(separator: ", ")),
    ]
    if s.bytesUploaded > 0 || s.fetches > 0 {
      fields.append(
        (
          "since opened",
          "\(ByteSize.text(s.bytesUploaded)) uploaded, \(s.fetches) fetches, \(s.duplicateBlocks) duplicate blocks"
        ))
    }
    if s.unreachableMilliseconds > 0 {
      fields.append(
        ("store", "no answer for \(duration(s.unreachableMilliseconds)), \(s.waitingFetches) fetches wait for one"))
    }
    if let why = s.writingInWords { fields.append(("writes", why)) }
    if let error = s.lastReadError { fields.append(("failed reads", "\(s.failedReads), the last: \(error)")) }
    if let error = s.lastError { fields.append(("last error", error)) }
    Output.fields(fields)
  }

  static func duration(_ milliseconds: UInt64) -> String {
    milliseconds < 1000
      ? "\(milliseconds) ms" : milliseconds < 120_000 ? "\(milliseconds / 1000) s" : "\(milliseconds / 60_000) min"
  }
}

extension StatusJSON {
  /// nil while guests may write as they like.
  fileprivate var writingInWords: String? {
    switch VolumeStatus.Writing(rawValue: writing) {
    case .slowed: "slowed: much is not in the store yet"
    case .held: "wait: as much as may be is not in the store yet"
    case .refused: "fail with ENOSPC: as much as may be is not in the store, and nothing gets there"
    case .full: "fail with ENOSPC: the disk of this host is full"
    case .free, nil: nil
    }
  }
}

struct VerifyJSON: Encodable {
  struct Fault: Encodable {
    let what: String
    let place: String
    let detail: String
    init(_ f: VerifyReport.Fault) { (what, place, detail) = (f.what, f.place, f.detail) }
  }
  let volume: String
  let entries: UInt64
  let pages: UInt64
  let signatures: UInt64
  let segments: UInt64
  let segmentBytes: UInt64
  let blocks: UInt64
  let cut: UInt64?
  let ended: Bool
  let claims: UInt64
  let witnessedPage: UInt64?
  let anchored: Bool
  let sound: Bool
  let faults: [Fault]
  let faultsLeftOff: UInt64

  init(_ r: VerifyReport) {
    volume = r.volume.description
    entries = r.entries
    pages = r.pages
    signatures = r.signatures
    segments = r.segments
    segmentBytes = r.segmentBytes
    blocks = r.blocks
    cut = r.cut
    ended = r.isEnded
    claims = r.claims
    witnessedPage = r.witnessedPage
    anchored = r.isAnchored
    sound = r.isSound
    faultsLeftOff = r.faultsLeftOff
    faults = r.faults.map(Fault.init)
  }
}

enum ReportPrinter {
  /// Prints what was checked; exits with 4 when something is wrong.
  static func finish(_ r: VerifyReport, json: Bool) throws {
    if json {
      try Output.json(VerifyJSON(r))
    } else {
      text(r)
      print(r.isSound ? "sound" : "NOT SOUND")
    }
    if !r.isSound { throw ExitCode(4) }
  }

  /// What was checked, and what is wrong.
  static func text(_ r: VerifyReport) {
    var checked = ["\(r.entries) entries"]
    if r.pages > 0 { checked.append("\(r.pages) signed pages (\(r.isAnchored ? "anchored" : "unanchored") key)") }
    if r.segments > 0 { checked.append("\(r.segments) segments") }
    if r.segmentBytes > 0 { checked.append("\(ByteSize.text(r.segmentBytes)) of bodies") }
    if r.blocks > 0 { checked.append("\(r.blocks) blocks") }
    print("\(r.volume): checked " + checked.joined(separator: ", "))
    for f in r.faults { print("FAULT \(f.what) at \(f.place): \(f.detail)") }
    if r.faultsLeftOff > 0 { print("and \(r.faultsLeftOff) more") }
  }
}
