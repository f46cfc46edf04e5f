import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// Of a name: of its newest volume.
struct OfVolumeOption: ParsableArguments {
  @Flag(name: .long, help: "Of a name: of its newest volume instead.") var volume = false
}

struct EventsAt: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "at", abstract: "The state as of an entry, or of a time.",
    discussion: """
      Example:
        elide events at vm1 --time 2026-01-31T12:00:00.000Z
        elide events at 01J… --seq 42

      A time is compared with the clocks of those who wrote the entries.
      """)
  @OptionGroup var audit: AuditOptions
  @OptionGroup var of: OfVolumeOption
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "The last entry to fold; the newest when left out.") var seq: UInt64?
  @Option(name: .long, help: "Of a name: the newest entry not later than this.") var time: String?

  func run() throws {
    var place = try audit.place()
    guard case .name(let name) = place.target, !of.volume else {
      if time != nil { throw ElideError(.usage, "--time is for names; of a volume give --seq") }
      return try volume(place.volume(), place)
    }
    let history = try place.history(name)
    let document = NameStateJSON(try history.state(at: history.point(seq, time)))
    if json.json { return try Output.json(document) }
    document.print()
  }

  private struct Document: Encodable {
    let volume: String
    let seq: UInt64
    let size: UInt64
    let root: String
    let openFiles: [UInt64]
    let segments: Int
    let uploaded: Int
    let snapshots: [String]
  }

  private func volume(_ volume: ULID, _ place: AuditPlace) throws {
    let fold = try place.auditor.fold(volume, from: place.source(volume), through: seq)
    let s = fold.state
    let document = Document(
      volume: s.volume.description, seq: s.seq ?? 0, size: s.size, root: fold.base.map.root().hex, openFiles: s.openWALs,
      segments: s.segments.count, uploaded: s.segments.values.filter { $0.uploadedSeq != nil }.count,
      snapshots: s.snapshots.map(\.label))
    if json.json { return try Output.json(document) }
    Output.fields([
      ("volume", document.volume), ("entry", "\(document.seq)"), ("size", ByteSize.text(s.size)), ("map root", document.root),
      ("write-ahead files", document.openFiles.map(String.init).joined(separator: ", ")),
      ("segments", "\(document.segments), \(document.uploaded) uploaded"),
      ("snapshots", document.snapshots.joined(separator: ", ")),
    ])
  }
}

extension NameHistory {
  /// The entry that options mean; the newest when they mean none.
  fileprivate func point(_ seq: UInt64?, _ time: String?) throws -> UInt64 {
    if let seq {
      if time != nil { throw ElideError(.usage, "give an entry or a time, not both") }
      return seq
    }
    guard let time else { return slots.last?.seq ?? 0 }
    guard let ms = Timestamp.milliseconds(time) else {
      throw ElideError(.usage, "'\(time)' is not a time: YYYY-MM-DDThh:mm:ss.mmmZ is expected")
    }
    guard let slot = last(at: ms) else { throw ElideError(.notFound, "'\(name)' has no entry as early as \(time)") }
    return slot.seq
  }
}

/// A name's state, printed.
struct NameStateJSON: Encodable {
  struct CutJSON: Encodable {
    let volume: String
    let seq: UInt64
    let page: UInt64
    let pageHash: String
    init(_ c: Cut) { (volume, seq, page, pageHash) = (c.volume.description, c.seq, c.page, c.pageHash.hex) }
  }
  struct PinJSON: Encodable {
    let pin: String
    let host: String
    let by: String
    let cut: CutJSON
  }
  let name: String
  let seq: UInt64?
  let phase: String
  let since: UInt64
  let sinceAt: String
  let owner: String?
  let incarnation: String?
  let epoch: UInt64
  let releasedBy: String?
  let volume: String?
  let volumes: [String]
  let size: UInt64
  let cut: CutJSON?
  let pins: [PinJSON]
  let displaced: [String]
  let violations: UInt64
  let stateHash: String

  init(_ s: NameState) {
    name = s.name
    seq = s.seq
    phase = s.phase.rawValue
    since = s.since
    sinceAt = s.sinceAt
    owner = s.owner
    incarnation = s.incarnation?.description
    epoch = s.epoch
    releasedBy = s.releasedBy
    volume = s.volume?.description
    volumes = s.holdings.episodes.map(\.volume.description)
    size = s.size
    cut = s.cut.map(CutJSON.init)
    pins = s.holdings.pins.map { PinJSON(pin: $0.id.description, host: $0.host, by: $0.by, cut: CutJSON($0.cut)) }
    displaced = s.holdings.displaced.map(\.volume.description)
    violations = s.violationCount
    stateHash = Digest.sha256(s.encode()).hex
  }

  func print() {
    var fields: [(String, String)] = [("name", name)]
    fields.append(("entry", seq.map(String.init) ?? "-"))
    fields.append(("state", "\(phase), since entry \(since), \(sinceAt)"))
    fields.append(("owner", owner.map { "\($0), epoch \(epoch)" } ?? "nobody"))
    fields.append(("volume", volume ?? "-"))
    fields.append(("size", ByteSize.text(size)))
    fields.append(("cut", cut.map { "\($0.volume):\($0.seq), page \($0.page)" } ?? "-"))
    if let releasedBy { fields.append(("released by", releasedBy)) }
    if !pins.isEmpty {
      fields.append(("pins", pins.map { "\($0.by) at \($0.cut.volume):\($0.cut.seq)" }.joined(separator: ", ")))
    }
    if !displaced.isEmpty { fields.append(("displaced", displaced.joined(separator: ", "))) }
    if violations > 0 { fields.append(("violations", "\(violations)")) }
    fields.append(("state hash", stateHash))
    Output.fields(fields)
  }
}

struct EventsDiff: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff", abstract: "What two entries' states do not share: fields of a name, blocks of a volume.",
    discussion: "Example:\n  elide events diff vm1 --from-seq 3 --to-seq 9\n  elide events diff vm1 --volume --from-seq 10")
  @OptionGroup var audit: AuditOptions
  @OptionGroup var of: OfVolumeOption
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "The earlier entry.") var fromSeq: UInt64?
  @Option(name: .long, help: "The later entry; the newest when left out.") var toSeq: UInt64?
  @Option(name: .long, help: "Of a name: the earlier time.") var fromTime: String?
  @Option(name: .long, help: "Of a name: the later time.") var toTime: String?

  private struct Run: Encodable {
    let lba: UInt64
    let count: UInt64
    let kind: String
  }
  private struct Document: Encodable { let runs: [Run] }
  private struct Field: Encodable {
    let field: String
    let from: String?
    let to: String?
  }
  private struct NameDocument: Encodable {
    let name: String
    let fromSeq: UInt64
    let toSeq: UInt64
    let fields: [Field]
  }

  func run() throws {
    var place = try audit.place()
    guard fromSeq != nil || fromTime != nil else { throw ElideError(.usage, "say from where: --from-seq, or --from-time") }
    guard case .name(let name) = place.target, !of.volume else {
      guard let fromSeq, toTime == nil else { throw ElideError(.usage, "times are for names; of a volume give --from-seq") }
      return try blocks(place.volume(), fromSeq, place)
    }
    let history = try place.history(name)
    let (from, to) = (try history.point(fromSeq, fromTime), try history.point(toSeq, toTime))
    let fields = try history.diff(from, to).map { Field(field: $0.field, from: $0.from, to: $0.to) }
    if json.json { return try Output.json(NameDocument(name: name, fromSeq: from, toSeq: to, fields: fields)) }
    Output.table(["FIELD", "ENTRY \(from)", "ENTRY \(to)"], fields.map { [$0.field, $0.from ?? "-", $0.to ?? "-"] })
  }

  private func blocks(_ volume: ULID, _ from: UInt64, _ place: AuditPlace) throws {
    let a = try place.auditor.fold(volume, from: place.source(volume), through: from)
    let b = try place.auditor.fold(volume, from: place.source(volume), through: toSeq)
    let runs = place.auditor.diff(a, b)
    if json.json {
      return try Output.json(Document(runs: runs.map { Run(lba: $0.lba, count: $0.count, kind: $0.kind.rawValue) }))
    }
    Output.table(
      ["FIRST BLOCK", "BLOCKS", "NOW"], runs.map { ["\($0.lba)", "\($0.count)", $0.kind.rawValue] })
    print("\(ByteSize.text(runs.map { $0.count * 4096 }.reduce(0, +))) differ")
  }
}

struct EventsBlame: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "blame", abstract: "Which entry, and which host, set a block last.",
    discussion: "Example:\n  elide events blame vm1 --lba 4711\n\nLooks through the volume's ancestors too.")
  @OptionGroup var audit: AuditOptions
  @OptionGroup var json: JSONOption
  @Option(name: .long, help: "The block, of 4096 bytes.") var lba: UInt64
  @Option(name: .long, help: "As of this entry of the volume; the newest when left out.") var seq: UInt64?

  private struct Document: Encodable {
    let lba: UInt64
    let kind: String
    let volume: String?
    let seq: UInt64?
    let at: String?
    let actor: String?
    let incarnation: String?
    let epoch: UInt64?
    let hash: String?
    let page: UInt64?
    let segment: UInt64?
    let origin: String?
    let duplicate: Bool?
  }

  func run() throws {
    var place = try audit.place()
    let volume = try place.volume()
    let found = try place.auditor.blame(volume, lba: lba, from: place.source(volume), through: seq)
    let document = Document(
      lba: lba, kind: found?.kind.rawValue ?? "unwritten", volume: found?.volume.description, seq: found?.envelope.seq,
      at: found?.envelope.at, actor: found?.envelope.actor, incarnation: found?.envelope.incarnation.description,
      epoch: found?.envelope.epoch, hash: found?.hash.hex, page: found?.page, segment: found?.segment,
      origin: found?.origin.rawValue, duplicate: found?.isDuplicate)
    if json.json { return try Output.json(document) }
    guard let found else { return print("block \(lba) was never written") }
    let what = found.kind == .data ? (found.isDuplicate ? "the bytes of an older block" : "data") : found.kind.rawValue
    Output.fields([
      ("block", "\(lba), \(what)"), ("entry", "\(found.envelope.seq) of volume \(found.volume)"),
      ("segment", "\(found.segment), of a \(found.origin.rawValue)"),
      ("at", found.envelope.at), ("host", found.envelope.actor),
      ("process", "\(found.envelope.incarnation), epoch \(found.envelope.epoch)"),
      ("in the store", found.page.map { "page \($0)" } ?? "not yet, or read from this host's journal"),
    ])
  }
}
