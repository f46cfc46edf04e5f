import ElideEvents
import ElideIO

/// What somebody wants of a name. `NameState.decide` says whether that is an entry, is so already, or may not be.
package enum NameCommand: Equatable, Sendable {
  case create(NewVolumeFacts)
  /// `slot` is the one that the pin on the source names.
  case fork(NewVolumeFacts, from: ForkSource, slot: UInt64)
  case importStart(volume: ULID, key: [UInt8], source: String)
  case importFinish(cut: Cut, size: UInt64)
  case importAbort

  /// The owner's host after a restart: before any other command of the new incarnation.
  case adopt
  case start
  /// `clients`: how many are connected. Refused while there are any, unless `force`.
  case stop(cut: Cut, clients: Int, force: Bool)
  case resize(size: UInt64)
  case reap(Reap)

  case release(cut: Cut)
  case claim(volume: ULID, key: [UInt8], serve: Bool)
  /// `local`: the cut that this host's copy of the volume stands at, if it stands exactly at one.
  case reclaim(local: Cut?, serve: Bool)
  case force(Force)
  case recover(volume: ULID, basis: Basis, lost: String)

  case pin(cut: Cut, by: String, hold: PinHold)
  case unpin(pin: ULID, because: UnpinReason)
  /// The owner gives a displaced volume up; or its host has rescued what it held.
  case discardDisplaced(volume: ULID)

  case renameReserve(old: String, slot: UInt64)
  case renameCommit(new: String, reserved: UInt64, slot: UInt64)
  case renameFinish(Renamed)
  case renameAbort(SlotFact)

  case purge
  case takePurge
  case finishPurge

  case void(id: ULID)
  case note(text: String)

  package var isVoid: Bool {
    if case .void = self { return true }
    return false
  }
}

/// A force-release.
package struct Force: Equatable, Sendable {
  /// Whom it is meant for; nil: whoever owns the name. Without an epoch: in whatever epoch.
  package var expectOwner: String?
  package var expectEpoch: UInt64?
  package var volume: ULID
  package var key: [UInt8]
  /// This host owns the name itself, and its local volume is lost or contradicts the store.
  package var isSelf: Bool

  package init(expectOwner: String?, expectEpoch: UInt64?, volume: ULID, key: [UInt8], isSelf: Bool = false) {
    self.expectOwner = expectOwner
    self.expectEpoch = expectEpoch
    self.volume = volume
    self.key = key
    self.isSelf = isSelf
  }
}

package enum UnpinReason: Equatable, Sendable {
  case holder
  /// The wall clock, as entries write times.
  case expired(now: String)
  case removed
  /// What was found in the slot where the fork would be.
  case orphan(SlotFact)
  case forkIndependent(epoch: UInt64)
}

/// What stands in a slot of another name's log. Only bytes that were read are a fact: an empty slot proves nothing, and is
/// raced with a `void`.
package enum SlotFact: Equatable, Sendable {
  case empty
  case match
  case other(Digest)
}

package enum NameDecision: Equatable, Sendable {
  case append(NameEvent)
  /// It is so already: the answer is that of the first time.
  case done
}

/// Why a command is not carried out: nothing was appended, and nothing of it will ever take effect.
package struct Refusal: Error, Equatable, Sendable, CustomStringConvertible {
  package enum Kind: Sendable { case notFound, owned, fenced, usage, tryLater, unsafe, store }
  /// What to do in its place.
  package enum Instead: String, Sendable {
    case create, otherName, adopt, start, stop, release, claim, force, forceSelf, recover, fork, follow
    case abortImport, finishRename, takePurge, finishPurge, unpin, discardDisplaced, disconnect, dryRun, acceptLoss
    case newerCut, voidSlot, again, upgrade, restart, largerSize, nothing
  }
  package let kind: Kind
  package let instead: Instead
  /// What the state is, who owns the name, since when, and which command would be right.
  package let description: String

  package init(_ kind: Kind, _ instead: Instead, _ description: String) {
    self.kind = kind
    self.instead = instead
    self.description = description
  }
}

extension Refusal.Instead {
  /// The command, as it would be typed.
  package func advice(_ name: String, _ state: NameState) -> String {
    switch self {
    case .create: "make it with 'elide volume create \(name)'"
    case .otherName: "choose another name"
    case .adopt: "the coordinator of this host adopts it when it starts"
    case .start: "start it with 'elide volume start \(name)'"
    case .stop: "stop it first with 'elide volume stop \(name)'"
    case .release: "release it first with 'elide volume release \(name)'"
    case .claim: "claim it with 'elide volume claim \(name)'"
    case .force: "wait until its owner releases it, or take it with 'elide volume release \(name) --force'"
    case .forceSelf: "if the local volume is lost, go on from its last cut with 'elide volume release \(name) --force --self'"
    case .recover: "finish the recovery with 'elide volume release \(name) --force'"
    case .fork: "make a fork of it with 'elide volume create NEW --from \(name)'"
    case .follow: "use its new name '\(state.renamedTo ?? "")'"
    case .abortImport: "wait for the import, or end it with 'elide volume cancel \(name)'"
    case .finishRename: "finish or undo the rename with 'elide volume rename \(state.reservation?.old ?? "OLD") \(name)'"
    case .takePurge: "if its host is gone, go on with 'elide volume purge \(name)'"
    case .finishPurge: "it is being purged; go on with 'elide volume purge \(name)'"
    case .unpin: "see 'elide pin list \(name)', and remove pins with 'elide pin remove'"
    case .discardDisplaced: "wait until its host has rescued it, or give it up with 'elide volume discard-displaced \(name)'"
    case .disconnect: "disconnect the clients, or use --force"
    case .dryRun: "look again with 'elide volume release \(name) --force --dry-run'"
    case .acceptLoss: "--accept-loss goes back further, down to what can still be opened, and says so in the log"
    case .newerCut: "choose a newer cut, or a snapshot; see 'elide snapshot list \(name)'"
    case .voidSlot: "it is decided by what stands in that slot; a void is put there first"
    case .again: "read the log again and try once more"
    case .upgrade: "use a newer program"
    case .restart: "restart this host's coordinator: another machine has its identity"
    case .largerSize: "volumes only grow"
    case .nothing: "nothing need be done"
    }
  }
}
