import ElideIO

// The body of each kind of name event as TOML. `NameEventParse` takes what is written here; fields, bounds and meaning are
// in docs/formats/names.md.

extension NameEvent {
  /// The word for this kind in an entry.
  package var kind: String {
    switch self {
    case .created: "created"
    case .forked: "forked"
    case .importStarted: "import_started"
    case .importFinished: "import_finished"
    case .importAborted: "import_aborted"
    case .adopted: "adopted"
    case .started: "started"
    case .stopped: "stopped"
    case .resized: "resized"
    case .reap: "reap"
    case .released: "released"
    case .claimed: "claimed"
    case .reclaimed: "reclaimed"
    case .fenced: "fenced"
    case .recovered: "recovered"
    case .pinned: "pinned"
    case .unpinned: "unpinned"
    case .displacedReleased: "displaced_released"
    case .renameReserved: "rename_reserved"
    case .renamedTo: "renamed_to"
    case .renamedFrom: "renamed_from"
    case .renameAborted: "rename_aborted"
    case .purging: "purging"
    case .purgeTaken: "purge_taken"
    case .purged: "purged"
    case .void: "void"
    case .note: "note"
    }
  }

  func writeBody(_ w: inout TOMLWriter) {
    switch self {
    case .created(let v): v.write(&w)
    case .forked(let v, let from, let slot):
      v.write(&w)
      w.string("source", from.name)
      w.ulid("pin", from.pin)
      from.cut.write("cut", &w)
      w.integer("slot", slot)
    case .importStarted(let volume, let key, let source):
      w.ulid("volume", volume)
      w.publicKey("key", key)
      w.string("source", source)
    case .importFinished(let cut, let size):
      cut.write("cut", &w)
      w.integer("size", size)
    case .importAborted(let volume): w.ulid("volume", volume)
    case .adopted, .started, .purging, .purgeTaken, .purged: break
    case .stopped(let cut), .released(let cut): cut.write("cut", &w)
    case .resized(let size): w.integer("size", size)
    case .reap(let r): r.write(&w)
    case .claimed, .reclaimed, .fenced, .recovered: writeHandOver(&w)
    case .pinned, .unpinned, .displacedReleased: writePins(&w)
    case .renameReserved, .renamedTo, .renamedFrom, .renameAborted: writeRename(&w)
    case .void(let id): w.ulid("id", id)
    case .note(let text): w.string("text", text)
    }
  }

  private func writeHandOver(_ w: inout TOMLWriter) {
    switch self {
    case .claimed(let volume, let key, let cut, let serve):
      w.ulid("volume", volume)
      w.publicKey("key", key)
      cut.write("cut", &w)
      w.boolean("serve", serve)
    case .reclaimed(let cut, let serve):
      cut.write("cut", &w)
      w.boolean("serve", serve)
    case .fenced(let f):
      w.string("expect_owner", f.expectOwner)
      w.integer("expect_epoch", f.expectEpoch)
      w.ulid("volume", f.volume)
      w.publicKey("key", f.key)
      w.ulid("displaced", f.displaced)
    case .recovered(let basis, let lost):
      switch basis {
      case .cut(let cut): cut.write("basis", &w)
      case .empty(let volume): w.ulid("empty", volume)
      }
      w.string("lost", lost)
    default: break
    }
  }

  private func writePins(_ w: inout TOMLWriter) {
    switch self {
    case .pinned(let cut, let by, let hold):
      cut.write("cut", &w)
      w.string("by", by)
      switch hold {
      case .fork(let slot): w.integer("slot", slot)
      case .until(let time): w.string("until", time ?? "")
      }
    case .unpinned(let pin, let ground):
      w.ulid("pin", pin)
      switch ground {
      case .holder: w.string("ground", "holder")
      case .expired: w.string("ground", "expired")
      case .removed: w.string("ground", "removed")
      case .orphan(let found):
        w.string("ground", "orphan")
        w.digest("found", found)
      case .forkIndependent(let epoch):
        w.string("ground", "independent")
        w.integer("fork_epoch", epoch)
      }
    case .displacedReleased(let volume): w.ulid("volume", volume)
    default: break
    }
  }

  private func writeRename(_ w: inout TOMLWriter) {
    switch self {
    case .renameReserved(let old, let slot):
      w.string("old", old)
      w.integer("slot", slot)
    case .renamedTo(let new, let reserved, let slot):
      w.string("new", new)
      w.integer("reserved", reserved)
      w.integer("slot", slot)
    case .renamedFrom(let r):
      w.string("old", r.old)
      w.integer("slot", r.slot)
      w.digest("state_hash", r.stateHash)
      w.string("owner", r.owner)
      w.ulid("owner_incarnation", r.incarnation)
      w.integer("size", r.size)
      if let cut = r.cut { cut.write("cut", &w) }
      r.holdings.write(&w)
    case .renameAborted(let found): w.digest("found", found)
    default: break
    }
  }
}

extension NewVolumeFacts {
  func write(_ w: inout TOMLWriter) {
    w.ulid("volume", volume)
    w.publicKey("key", key)
    w.integer("size", size)
  }
}

extension Cut {
  /// As four fields whose names begin with `prefix`.
  package func write(_ prefix: String, _ w: inout TOMLWriter) {
    w.ulid("\(prefix)_volume", volume)
    w.integer("\(prefix)_seq", seq)
    w.integer("\(prefix)_page", page)
    w.digest("\(prefix)_page_hash", pageHash)
  }

  package init(_ prefix: String, _ f: inout TOMLFields) throws(TOMLError) {
    volume = try f.ulid("\(prefix)_volume")
    seq = try f.integer("\(prefix)_seq")
    page = try f.integer("\(prefix)_page", 0...99_999_999)
    pageHash = try f.digest("\(prefix)_page_hash")
  }
}

extension Reap {
  func write(_ w: inout TOMLWriter) {
    w.ulid("volume", volume)
    cut.write("cut", &w)
    w.integer("floor", floor)
    w.integers("kept", kept)
    w.digest("list", list)
    w.integer("count", count)
  }
}
