import ElideIO

extension NameEvent {
  /// The event of a body of `kind`, in the schema of today; nil when the kind is not known. Every field must be there, of
  /// its type and within its bounds, and no other.
  static func parse(kind: String, _ body: TOMLFields) throws(TOMLError) -> NameEvent? {
    var f = body
    var event = try parseBeginning(kind, &f)
    if event == nil { event = try parseOwner(kind, &f) }
    if event == nil { event = try parseHandOver(kind, &f) }
    if event == nil { event = try parsePins(kind, &f) }
    if event == nil { event = try parseRename(kind, &f) }
    if event != nil { try f.end() }
    return event
  }

  private static func parseBeginning(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> NameEvent? {
    switch kind {
    case "created": return .created(try NewVolumeFacts(&f))
    case "forked":
      let facts = try NewVolumeFacts(&f)
      let source = ForkSource(name: try f.volumeName("source"), pin: try f.ulid("pin"), cut: try Cut("cut", &f))
      return .forked(facts, from: source, slot: try f.integer("slot"))
    case "import_started":
      return .importStarted(
        volume: try f.ulid("volume"), key: try f.publicKey("key"), source: try f.string("source", limit: EventLimits.text))
    case "import_finished": return .importFinished(cut: try Cut("cut", &f), size: try f.deviceSize())
    case "import_aborted": return .importAborted(volume: try f.ulid("volume"))
    default: return nil
    }
  }

  private static func parseOwner(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> NameEvent? {
    switch kind {
    case "adopted": .adopted
    case "started": .started
    case "stopped": .stopped(cut: try Cut("cut", &f))
    case "resized": .resized(size: try f.deviceSize())
    case "reap":
      .reap(
        Reap(
          volume: try f.ulid("volume"), cut: try Cut("cut", &f), floor: try f.integer("floor"),
          kept: try f.integers("kept", EventLimits.integer), list: try f.digest("list"), count: try f.integer("count")))
    case "purging": .purging
    case "purge_taken": .purgeTaken
    case "purged": .purged
    case "void": .void(id: try f.ulid("id"))
    case "note": .note(text: try f.string("text", limit: EventLimits.text))
    default: nil
    }
  }

  private static func parseHandOver(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> NameEvent? {
    switch kind {
    case "released": return .released(cut: try Cut("cut", &f))
    case "claimed":
      return .claimed(
        volume: try f.ulid("volume"), key: try f.publicKey("key"), cut: try Cut("cut", &f), serve: try f.boolean("serve"))
    case "reclaimed": return .reclaimed(cut: try Cut("cut", &f), serve: try f.boolean("serve"))
    case "fenced":
      return .fenced(
        Fence(
          expectOwner: try f.host("expect_owner"), expectEpoch: try f.integer("expect_epoch"), volume: try f.ulid("volume"),
          key: try f.publicKey("key"), displaced: try f.ulid("displaced")))
    case "recovered":
      let basis: Basis = f.contains("empty") ? .empty(try f.ulid("empty")) : .cut(try Cut("basis", &f))
      return .recovered(basis: basis, lost: try f.string("lost", limit: EventLimits.text))
    default: return nil
    }
  }

  private static func parsePins(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> NameEvent? {
    switch kind {
    case "pinned":
      let (cut, by) = (try Cut("cut", &f), try f.volumeName("by"))
      if f.contains("slot") { return .pinned(cut: cut, by: by, hold: .fork(slot: try f.integer("slot"))) }
      let until = try f.string("until", limit: 24)
      guard until.isEmpty || Timestamp.milliseconds(until) != nil else { throw TOMLError("body.until is not a time") }
      return .pinned(cut: cut, by: by, hold: .until(until.isEmpty ? nil : until))
    case "unpinned":
      let pin = try f.ulid("pin")
      switch try f.string("ground", limit: 16) {
      case "holder": return .unpinned(pin: pin, ground: .holder)
      case "expired": return .unpinned(pin: pin, ground: .expired)
      case "removed": return .unpinned(pin: pin, ground: .removed)
      case "orphan": return .unpinned(pin: pin, ground: .orphan(found: try f.digest("found")))
      case "independent": return .unpinned(pin: pin, ground: .forkIndependent(epoch: try f.integer("fork_epoch")))
      case let other: throw TOMLError("body.ground is \"\(other)\"")
      }
    case "displaced_released": return .displacedReleased(volume: try f.ulid("volume"))
    default: return nil
    }
  }

  private static func parseRename(_ kind: String, _ f: inout TOMLFields) throws(TOMLError) -> NameEvent? {
    switch kind {
    case "rename_reserved": return .renameReserved(old: try f.volumeName("old"), slot: try f.integer("slot"))
    case "renamed_to":
      return .renamedTo(new: try f.volumeName("new"), reserved: try f.integer("reserved"), slot: try f.integer("slot"))
    case "renamed_from":
      var r = Renamed(
        old: try f.volumeName("old"), slot: try f.integer("slot"), stateHash: try f.digest("state_hash"),
        owner: try f.host("owner"), incarnation: try f.ulid("owner_incarnation"), size: try f.deviceSize(), cut: nil,
        holdings: Holdings())
      if f.contains("cut_volume") { r.cut = try Cut("cut", &f) }
      r.holdings = try Holdings(&f)
      return .renamedFrom(r)
    case "rename_aborted": return .renameAborted(found: try f.digest("found"))
    default: return nil
    }
  }
}

extension NewVolumeFacts {
  init(_ f: inout TOMLFields) throws(TOMLError) {
    volume = try f.ulid("volume")
    key = try f.publicKey("key")
    size = try f.deviceSize()
  }
}

extension TOMLFields {
  package mutating func volumeName(_ key: String) throws(TOMLError) -> String {
    let name = try string(key, limit: VolumeName.maxBytes)
    if let fault = VolumeName.fault(name) { throw TOMLError("\(key) '\(name)' \(fault)") }
    return name
  }

  /// A host's id: 64 hexadecimal digits.
  package mutating func host(_ key: String) throws(TOMLError) -> String {
    let text = try string(key, limit: 64)
    guard Digest(hex: text) != nil else { throw TOMLError("\(key) is not a host id") }
    return text
  }

  mutating func deviceSize() throws(TOMLError) -> UInt64 {
    let size = try integer("size", EventLimits.size)
    guard size % 512 == 0 else { throw TOMLError("size \(size) is not a multiple of 512") }
    return size
  }
}
