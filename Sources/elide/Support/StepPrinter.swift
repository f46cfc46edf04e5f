import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

/// Entries of logs, one a line, for people and for programs.
final class StepPrinter {
  private let json: Bool
  /// More than one log is shown: each line says whose it is.
  private let isJoined: Bool
  private var last: UInt64?

  init(json: Bool, isJoined: Bool) {
    self.json = json
    self.isJoined = isJoined
  }

  func print(_ step: Step) throws {
    let now = step.milliseconds
    // Clocks of two hosts may differ: a step back is no latency.
    let latency = now.flatMap { now in last.flatMap { now >= $0 ? now - $0 : nil } }
    if let now { last = now }
    if json { return try Output.json(Line(step, latency), pretty: false) }
    Swift.print(line(step, latency))
  }

  /// One step as JSON, without an end of line.
  func json(_ step: Step) -> [UInt8] {
    let now = step.milliseconds
    let latency = now.flatMap { now in last.flatMap { now >= $0 ? now - $0 : nil } }
    if let now { last = now }
    return CoordinatorWire.encode(Line(step, latency))
  }

  private func line(_ step: Step, _ latency: UInt64?) -> String {
    guard let e = step.envelope else {
      return Self.pad("\(step.seq)", 7) + " not an entry" + Self.mark(step.check)
    }
    var columns: [String] = []
    if isJoined { columns.append(Self.pad(Self.short(e.log), 14)) }
    columns += [
      Self.pad("\(e.seq)", 7), e.at, Self.pad("e\(Self.epoch(step) ?? e.epoch)", 5), String(e.actor.prefix(8)),
      Self.pad(e.kind, 18),
      Self.pad(latency.map(Self.latency) ?? "", 9), Self.pad(Self.word(step.check), 9), Self.detail(step),
    ]
    var line = columns.joined(separator: " ")
    if let reason = e.reason { line += " (\(reason))" }
    while line.last == " " { line.removeLast() }
    return line
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }
  /// "name/db" as it is, "volume/01J…" by its last digits.
  private static func short(_ log: String) -> String {
    log.hasPrefix("volume/") ? "vol …" + log.suffix(8) : String(log.dropFirst(5).prefix(14))
  }
  static func latency(_ milliseconds: UInt64) -> String {
    if milliseconds < 1000 { return "+\(milliseconds)ms" }
    if milliseconds < 100_000 { return "+\(milliseconds / 1000).\(milliseconds % 1000 / 100)s" }
    return milliseconds < 7_200_000 ? "+\(milliseconds / 60_000)min" : "+\(milliseconds / 3_600_000)h"
  }
  static func word(_ check: Step.Check) -> String {
    switch check {
    case .sound: "ok"
    case .local: "unsigned"
    case .unknown: "unknown"
    case .violation: "VIOLATION"
    }
  }
  private static func mark(_ check: Step.Check) -> String {
    if case .violation(let why) = check { return "  VIOLATION \(why)" }
    return ""
  }

  /// The epoch that the name stands at after the entry.
  static func epoch(_ step: Step) -> UInt64? {
    guard case .name(let slot) = step.entry else { return nil }
    return slot.epoch
  }

  static func detail(_ step: Step) -> String {
    if case .violation(let why) = step.check { return "changes nothing: \(why)" }
    switch step.entry {
    case .name(let slot): return slot.entry?.event.map(EntryDetail.name) ?? "(unknown kind)"
    case .volume(let entry, _): return entry.event.map(EntryDetail.volume) ?? "(unknown kind)"
    }
  }

  private struct Line: Encodable {
    let log: String
    let seq: UInt64
    let kind: String?
    let at: String?
    let actor: String?
    let incarnation: String?
    let epoch: UInt64?
    let hash: String
    let page: UInt64?
    let request: String?
    let `operator`: String?
    let reason: String?
    let check: String
    let violation: String?
    let phase: String?
    let nameEpoch: UInt64?
    let latencyMilliseconds: UInt64?
    let toml: String

    init(_ step: Step, _ latency: UInt64?) {
      let e = step.envelope
      log = step.log
      seq = step.seq
      kind = e?.kind
      at = e?.at
      actor = e?.actor
      incarnation = e?.incarnation.description
      epoch = e?.epoch
      hash = step.hash.hex
      request = e?.request
      self.operator = e?.operator
      reason = e?.reason
      check = StepPrinter.word(step.check).lowercased()
      if case .violation(let why) = step.check { violation = why } else { violation = nil }
      switch step.entry {
      case .name(let slot): (page, phase) = (nil, slot.phase?.rawValue)
      case .volume(_, let carrier): (page, phase) = (carrier, nil)
      }
      nameEpoch = StepPrinter.epoch(step)
      latencyMilliseconds = latency
      toml = String(decoding: step.raw, as: UTF8.self)
    }
  }
}

/// What an entry says beyond its kind, in a few words.
enum EntryDetail {
  static func volume(_ event: VolumeEvent) -> String {
    switch event {
    case .created(let g): "\(ByteSize.text(g.size))"
    case .forked(let g, let l), .continued(let g, let l): "\(ByteSize.text(g.size)) from \(l.parent):\(l.seq)"
    case .imported(let g, let source, _): "\(ByteSize.text(g.size)) from \(source)"
    case .opened(let wal, let frame, _, let discarded): "wal \(wal), last frame \(frame), \(discarded) discarded"
    case .walOpened(let wal): "wal \(wal)"
    case .segmentSealed(let s): "segment \(s.segment), \(s.blocks) blocks of its own"
    case .segmentEncoded(let e): "segment \(e.segment), \(e.units) units, \(ByteSize.text(e.length))"
    case .segmentUploaded(let n, let hash): "segment \(n), \(hash.hex.prefix(16))"
    case .snapshotTaken(let id, let label, let after): "\(label) (\(id)), after wal \(after)"
    case .snapshotDeleted(let id): "\(id)"
    case .resized(let size, let after): "\(ByteSize.text(size)), after wal \(after)"
    case .mapRooted(let seq, let root): "entry \(seq): \(root.hex.prefix(16))"
    case .objectPlanned(let key): key
    case .bound(let name, let seq, _): "\(name) by entry \(seq)"
    case .fenced(let seq): "by entry \(seq)"
    default: ""
    }
  }

  static func name(_ event: NameEvent) -> String {
    switch event {
    case .created(let v): "volume \(v.volume), \(ByteSize.text(v.size))"
    case .forked(let v, let from, _): "volume \(v.volume) from \(from.name) at \(from.cut)"
    case .importStarted(let volume, _, let source): "volume \(volume) from \(source)"
    case .importFinished(let cut, let size): "\(cut), \(ByteSize.text(size))"
    case .stopped(let cut), .released(let cut), .reclaimed(let cut, _): "at \(cut), page \(cut.page)"
    case .resized(let size): ByteSize.text(size)
    case .reap(let r): "\(r.count) objects of \(r.volume), floor \(r.floor)"
    case .claimed(let volume, _, let cut, let serve): "volume \(volume) continues \(cut)" + (serve ? ", serves" : "")
    case .fenced(let f): "host \(f.expectOwner.prefix(8))@\(f.expectEpoch) displaced, volume \(f.volume) begun"
    case .recovered(.cut(let cut), let lost): "from \(cut)" + (lost.isEmpty ? "" : ", lost: \(lost)")
    case .recovered(.empty(let volume), _): "from the empty \(volume)"
    case .pinned(let cut, let by, let hold): "\(cut) for \(by)" + pin(hold)
    case .unpinned(let pin, _): "pin \(pin)"
    case .displacedReleased(let volume): "volume \(volume)"
    case .renameReserved(let old, let slot): "for \(old), by its entry \(slot)"
    case .renamedTo(let new, _, _): "now \(new)"
    case .renamedFrom(let r): "was \(r.old)"
    case .void(let id): "in the place of \(id)"
    case .note(let text): text
    case .importAborted(let volume): "volume \(volume)"
    case .adopted, .started, .renameAborted, .purging, .purgeTaken, .purged: ""
    }
  }

  private static func pin(_ hold: PinHold) -> String {
    switch hold {
    case .fork(let slot): ", a fork in its slot \(slot)"
    case .until(let time): time.map { ", until \($0)" } ?? ""
    }
  }
}
