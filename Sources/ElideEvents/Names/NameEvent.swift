import ElideIO

/// Everything that can happen to a name, in the words of its log. Kinds and fields are the log's format:
/// docs/formats/names.md. Who owns a name, and what may be deleted of its volumes, changes by folding these and by nothing
/// else.
package enum NameEvent: Equatable, Sendable {
  // Beginnings: from a name that is free.
  case created(NewVolumeFacts)
  /// Legal at `slot` alone: the one that the pin on the source names.
  case forked(NewVolumeFacts, from: ForkSource, slot: UInt64)
  case importStarted(volume: ULID, key: [UInt8], source: String)
  case importFinished(cut: Cut, size: UInt64)
  case importAborted(volume: ULID)

  // The owner at work.
  case adopted
  case started
  case stopped(cut: Cut)
  case resized(size: UInt64)
  case reap(Reap)

  // Hand-over.
  case released(cut: Cut)
  case claimed(volume: ULID, key: [UInt8], cut: Cut, serve: Bool)
  case reclaimed(cut: Cut, serve: Bool)
  case fenced(Fence)
  /// `lost` says what the basis leaves out that was reported; empty: nothing that is known.
  case recovered(basis: Basis, lost: String)

  // Points that are kept.
  case pinned(cut: Cut, by: String, hold: PinHold)
  case unpinned(pin: ULID, ground: UnpinGround)
  /// The displaced volume is no longer kept whole.
  case displacedReleased(volume: ULID)

  // Two logs.
  case renameReserved(old: String, slot: UInt64)
  /// Legal at `slot` alone. `reserved` is the entry of the new name's log that it answers.
  case renamedTo(new: String, reserved: UInt64, slot: UInt64)
  case renamedFrom(Renamed)
  /// `found` is the SHA-256 of the bytes that stand in the reserved slot of the old name's log.
  case renameAborted(found: Digest)

  // The end.
  case purging
  case purgeTaken
  case purged

  /// Occupies a slot in the place of the attempt `id`, which then never takes effect.
  case void(id: ULID)
  case note(text: String)
}

/// A published cut of a volume: what can be opened from the store alone.
package struct Cut: Hashable, Sendable, CustomStringConvertible {
  package var volume: ULID
  /// The volume's state after this entry of its journal.
  package var seq: UInt64
  /// The page that names the cut, and the SHA-256 of that page.
  package var page: UInt64
  package var pageHash: Digest

  package init(volume: ULID, seq: UInt64, page: UInt64, pageHash: Digest) {
    self.volume = volume
    self.seq = seq
    self.page = page
    self.pageHash = pageHash
  }
  package var description: String { "\(volume):\(seq)" }
}

/// A volume that is being given to a name.
package struct NewVolumeFacts: Equatable, Sendable {
  package var volume: ULID
  /// The volume's Ed25519 public key, 32 bytes: trust in its pages starts here.
  package var key: [UInt8]
  /// Bytes, a multiple of 512, at most 2^50.
  package var size: UInt64

  package init(volume: ULID, key: [UInt8], size: UInt64) {
    self.volume = volume
    self.key = key
    self.size = size
  }
}

/// What a fork begins with: a pinned cut of another name.
package struct ForkSource: Equatable, Sendable {
  package var name: String
  /// The id of the entry `pinned` in the source's log.
  package var pin: ULID
  package var cut: Cut

  package init(name: String, pin: ULID, cut: Cut) {
    self.name = name
    self.pin = pin
    self.cut = cut
  }
}

/// A force: somebody takes the name from its owner, and makes `volume` from the last cut of `displaced`.
package struct Fence: Equatable, Sendable {
  /// Whom it is meant for. It lands on that owner and epoch or not at all.
  package var expectOwner: String
  package var expectEpoch: UInt64
  package var volume: ULID
  package var key: [UInt8]
  package var displaced: ULID

  package init(expectOwner: String, expectEpoch: UInt64, volume: ULID, key: [UInt8], displaced: ULID) {
    self.expectOwner = expectOwner
    self.expectEpoch = expectEpoch
    self.volume = volume
    self.key = key
    self.displaced = displaced
  }
}

/// What a recovered volume continues.
package enum Basis: Equatable, Sendable {
  case cut(Cut)
  /// The volume never had a page: it was empty, of its first size.
  case empty(ULID)

  package var volume: ULID {
    switch self {
    case .cut(let cut): cut.volume
    case .empty(let volume): volume
    }
  }
}

/// Permission to delete: committed before any delete.
package struct Reap: Equatable, Sendable {
  /// Whose objects are deleted: the name's volume, or one of its ended ones.
  package var volume: ULID
  /// The published cut of the name's volume that needs none of them.
  package var cut: Cut
  /// The oldest entry of `volume` that can still be opened, but for those in `kept`. Never falls.
  package var floor: UInt64
  /// Older entries that can be opened all the same (snapshots, pins), rising.
  package var kept: [UInt64]
  /// SHA-256 of the list of what is deleted, `events/<name>/blobs/<hash>`, and how many objects it names.
  package var list: Digest
  package var count: UInt64

  package init(volume: ULID, cut: Cut, floor: UInt64, kept: [UInt64], list: Digest, count: UInt64) {
    self.volume = volume
    self.cut = cut
    self.floor = floor
    self.kept = kept
    self.list = list
    self.count = count
  }
}

/// What keeps a pin.
package enum PinHold: Equatable, Sendable {
  /// A fork: `forked` stands, or will stand, in this slot of the log of the name `by`.
  case fork(slot: UInt64)
  /// A time, as entries write it; nil: until it is removed.
  case until(String?)
}

/// Why a pin goes.
package enum UnpinGround: Equatable, Sendable {
  /// Its holder gives it up.
  case holder
  /// Its time is over.
  case expired
  /// The owner removes it.
  case removed
  /// The slot that it names is occupied by other bytes, of this SHA-256: the fork will never be.
  case orphan(found: Digest)
  /// The fork no longer reads the source; said by its owner of that epoch.
  case forkIndependent(epoch: UInt64)
}

/// What a rename carries to the new name: its reservation, and everything of the old name that binds owners and deletes.
package struct Renamed: Equatable, Sendable {
  package var old: String
  package var slot: UInt64
  /// SHA-256 of the old name's encoded state after `renamed_to`.
  package var stateHash: Digest
  package var owner: String
  package var incarnation: ULID
  package var size: UInt64
  package var cut: Cut?
  package var holdings: Holdings

  package init(
    old: String, slot: UInt64, stateHash: Digest, owner: String, incarnation: ULID, size: UInt64, cut: Cut?, holdings: Holdings
  ) {
    self.old = old
    self.slot = slot
    self.stateHash = stateHash
    self.owner = owner
    self.incarnation = incarnation
    self.size = size
    self.cut = cut
    self.holdings = holdings
  }
}
