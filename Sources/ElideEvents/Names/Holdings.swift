import ElideIO

/// An ownership episode that was granted: a volume that served, or could have, under the name.
package struct Episode: Equatable, Sendable {
  package var volume: ULID
  package var key: [UInt8]
  /// The entry that granted it, in the log of the name that it was granted under.
  package var granted: UInt64
  /// What the volume continues; nil: it began empty, or as an import.
  package var basis: Cut?

  package init(volume: ULID, key: [UInt8], granted: UInt64, basis: Cut?) {
    self.volume = volume
    self.key = key
    self.granted = granted
    self.basis = basis
  }
}

/// A point that is kept for somebody.
package struct Pin: Equatable, Sendable {
  /// The id of the entry that made it.
  package var id: ULID
  /// The host that made it.
  package var host: String
  package var cut: Cut
  /// The new name of a fork; else a word of the holder's.
  package var by: String
  package var hold: PinHold

  package init(id: ULID, host: String, cut: Cut, by: String, hold: PinHold) {
    self.id = id
    self.host = host
    self.cut = cut
    self.by = by
    self.hold = hold
  }
}

/// What the newest reap of a volume left: entries from `floor` on, and those in `kept`.
package struct Floor: Equatable, Sendable {
  package var volume: ULID
  package var floor: UInt64
  package var kept: [UInt64]
  /// The highest cut of this volume that a reap, of whatever volume, has named: no basis may be older.
  package var cut: UInt64

  package init(volume: ULID, floor: UInt64, kept: [UInt64], cut: UInt64) {
    self.volume = volume
    self.floor = floor
    self.kept = kept
    self.cut = cut
  }

  package func keeps(_ seq: UInt64) -> Bool { seq >= floor || kept.contains(seq) }
}

/// A volume that was taken from its host: kept whole until the host has rescued what it had not published.
package struct Displaced: Equatable, Sendable {
  package var volume: ULID
  package var host: String
  package var fenced: UInt64

  package init(volume: ULID, host: String, fenced: UInt64) {
    self.volume = volume
    self.host = host
    self.fenced = fenced
  }
}

/// Everything of a name that binds what may be deleted. The newest episode is the last.
package struct Holdings: Equatable, Sendable {
  package var episodes: [Episode] = []
  package var pins: [Pin] = []
  package var floors: [Floor] = []
  package var displaced: [Displaced] = []
  package init() {}

  /// Bounds on what a name may hold, so that a state is never larger than a few megabytes.
  package static let maxPins = 4096
  package static let maxKept = 2048
}

// As TOML: arrays of lines, whose fields are words with one blank between.

extension Cut {
  var words: String { "\(volume) \(seq) \(page) \(pageHash)" }
}

/// Takes the words of a line in order.
struct Words {
  private var rest: ArraySlice<Substring>
  private let what: String

  init(_ line: String, _ what: String) {
    rest = line.split(separator: " ", omittingEmptySubsequences: false)[...]
    self.what = what
  }
  var isEmpty: Bool { rest.isEmpty }
  mutating func word() throws(TOMLError) -> String {
    guard let word = rest.popFirst(), !word.isEmpty else { throw TOMLError("a line of \(what) ends early") }
    return String(word)
  }
  mutating func number() throws(TOMLError) -> UInt64 {
    let text = try word()
    // One spelling per value.
    guard let n = UInt64(text), n <= UInt64(Int64.max), String(n) == text else {
      throw TOMLError("\(what): '\(text)' is not a number")
    }
    return n
  }
  mutating func ulid() throws(TOMLError) -> ULID {
    let text = try word()
    guard let id = ULID(text) else { throw TOMLError("\(what): '\(text)' is not a ULID") }
    return id
  }
  mutating func digest() throws(TOMLError) -> Digest {
    let text = try word()
    guard let digest = Digest(hex: text) else { throw TOMLError("\(what): '\(text)' is not a digest") }
    return digest
  }
  mutating func key() throws(TOMLError) -> [UInt8] {
    let text = try word()
    guard let key = decodeHexadecimal(text), key.count == 32 else { throw TOMLError("\(what): '\(text)' is not a key") }
    return key
  }
  mutating func host() throws(TOMLError) -> String { try digest().hex }
  mutating func name() throws(TOMLError) -> String {
    let text = try word()
    if let fault = VolumeName.fault(text) { throw TOMLError("\(what): '\(text)' \(fault)") }
    return text
  }
  mutating func cut() throws(TOMLError) -> Cut {
    Cut(volume: try ulid(), seq: try number(), page: try number(), pageHash: try digest())
  }
  func end() throws(TOMLError) {
    if let extra = rest.first { throw TOMLError("\(what): '\(extra)' is too much") }
  }
}

extension Holdings {
  package func write(_ w: inout TOMLWriter) {
    w.strings(
      "episodes",
      episodes.map { e in
        "\(e.volume) \(hexadecimal(e.key)) \(e.granted)" + (e.basis.map { " \($0.words)" } ?? "")
      })
    w.strings(
      "pins",
      pins.map { p in
        let hold =
          switch p.hold {
          case .fork(let slot): "fork \(slot)"
          case .until(let time): "until \(time ?? "-")"
          }
        return "\(p.id) \(p.host) \(p.cut.words) \(p.by) \(hold)"
      })
    w.strings("floors", floors.map { f in f.kept.reduce("\(f.volume) \(f.floor) \(f.cut)") { $0 + " \($1)" } })
    w.strings("displaced", displaced.map { "\($0.volume) \($0.host) \($0.fenced)" })
  }

  package init(_ f: inout TOMLFields) throws(TOMLError) {
    for line in try f.strings("episodes") {
      var w = Words(line, "episodes")
      var episode = Episode(volume: try w.ulid(), key: try w.key(), granted: try w.number(), basis: nil)
      if !w.isEmpty { episode.basis = try w.cut() }
      try w.end()
      episodes.append(episode)
    }
    for line in try f.strings("pins") {
      var w = Words(line, "pins")
      let (id, host, cut, by) = (try w.ulid(), try w.host(), try w.cut(), try w.name())
      pins.append(Pin(id: id, host: host, cut: cut, by: by, hold: try PinHold(&w)))
      try w.end()
    }
    for line in try f.strings("floors") {
      var w = Words(line, "floors")
      var floor = Floor(volume: try w.ulid(), floor: try w.number(), kept: [], cut: try w.number())
      while !w.isEmpty { floor.kept.append(try w.number()) }
      floors.append(floor)
    }
    for line in try f.strings("displaced") {
      var w = Words(line, "displaced")
      displaced.append(Displaced(volume: try w.ulid(), host: try w.host(), fenced: try w.number()))
      try w.end()
    }
  }
}

extension PinHold {
  init(_ w: inout Words) throws(TOMLError) {
    switch try w.word() {
    case "fork": self = .fork(slot: try w.number())
    case "until":
      let time = try w.word()
      guard time == "-" || Timestamp.milliseconds(time) != nil else { throw TOMLError("pins: '\(time)' is not a time") }
      self = .until(time == "-" ? nil : time)
    case let other: throw TOMLError("pins: '\(other)' is no hold")
    }
  }
}
