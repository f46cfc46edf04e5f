import ElideEvents
import ElideIO
import ElideProjections
import Testing

/// The rules behind the table: epochs, floors, pins, bases, displaced volumes, renames, twins.
@Suite struct NameRulesTests {
  private let a = NameFacts.a
  private let b = NameFacts.b
  private let c = NameFacts.c

  private func force(_ v: UInt64, _ expect: String? = nil, _ epoch: UInt64? = nil, isSelf: Bool = false) -> NameCommand {
    .force(
      Force(
        expectOwner: expect, expectEpoch: epoch, volume: NameFacts.volume(v), key: NameFacts.key(UInt8(v)), isSelf: isSelf))
  }
  private func reap(_ cut: UInt64, floor: UInt64, kept: [UInt64] = [], of v: UInt64 = 1, at w: UInt64 = 1) -> Reap {
    Reap(volume: NameFacts.volume(v), cut: NameFacts.cut(w, cut), floor: floor, kept: kept, list: NameFacts.list, count: 1)
  }
  private func refusal(_ book: NameLogBook, _ command: NameCommand, by host: NameHost) -> Refusal.Instead? {
    do throws(Refusal) {
      _ = try book.state.decide(command, by: host.author(book.state))
      return nil
    } catch { return error.instead }
  }

  @Test func theEpochIsThePositionOfTheGrant() throws {
    var book = try NameFacts.book(.stopped)
    #expect(book.state.epoch == 0)  // started and stopped change nothing about who owns it
    let commands: [(NameCommand, NameHost, Bool)] = [
      (.adopt, a.restarted, true), (.start, a.restarted, false), (.resize(size: 1 << 21), a.restarted, false),
      (.note(text: "x"), c, false), (force(2), b, true),
      (.recover(volume: NameFacts.volume(2), basis: .cut(NameFacts.cut(1, 5)), lost: ""), b, false),
      (.release(cut: NameFacts.cut(1, 5)), b, true),
      (.claim(volume: NameFacts.volume(3), key: NameFacts.key(3), serve: true), c, true),
      (.stop(cut: NameFacts.cut(3, 1), clients: 0, force: false), c, false), (.release(cut: NameFacts.cut(3, 1)), c, true),
      (.reclaim(local: NameFacts.cut(3, 1), serve: false), c, true), (.discardDisplaced(volume: NameFacts.volume(1)), c, false),
      (.purge, c, false),
    ]
    for (command, host, grants) in commands {
      let before = book.state.epoch
      try book.run(command, by: host)
      #expect(book.state.epoch == (grants ? book.state.seq : before), "\(command)")
    }
  }

  /// Owner-only entries of all but the present owner occupy a slot and change nothing.
  @Test func onlyTheOwnerInItsEpochCounts() throws {
    let live = try NameFacts.book(.live)
    let events: [NameEvent] = [
      .stopped(cut: NameFacts.cut(1, 5)), .resized(size: 1 << 21), .reap(reap(5, floor: 5)),
    ]
    for event in events {
      for (host, epoch) in [(b, 0), (a.restarted, 0), (a, 7)] as [(NameHost, UInt64)] {
        var book = live
        #expect(try book.force(event, by: host, epoch: epoch) != nil)
        var same = book.state
        (same.seq, same.violations, same.violationCount) = (live.state.seq, [], 0)
        #expect(same == live.state)
        // And the log goes on behind it.
        try book.run(.stop(cut: NameFacts.cut(1, 6), clients: 0, force: false), by: a)
        #expect(book.state.phase == .stopped && book.state.violationCount == 1)
      }
    }
  }

  @Test func aTwinIsFencedByWhoeverAppendsFirst() throws {
    var book = try NameFacts.book(.live)
    let twin = a.restarted
    let old = a.author(book.state)
    try book.run(.adopt, by: twin)
    #expect(!book.state.mayServe(old) && book.state.mayServe(twin.author(book.state)))
    #expect(try book.force(.stopped(cut: NameFacts.cut(1, 5)), by: a, epoch: 0) != nil)
    #expect(refusal(book, .start, by: a) == .adopt)
  }

  @Test func aPinLiesAtOrAboveTheFloorOrIsKept() throws {  // D3
    var book = try NameFacts.book(.stopped)
    try book.run(.pin(cut: NameFacts.cut(1, 2), by: "x", hold: .until(nil)), by: c)
    #expect(try book.force(.reap(reap(5, floor: 5)), by: a) != nil, "a reap under a pin")
    try book.run(.reap(reap(5, floor: 5, kept: [2, 3])), by: a)
    for (seq, legal) in [(1, false), (2, true), (3, true), (4, false), (5, true), (6, true)] as [(UInt64, Bool)] {
      var copy = book
      #expect(
        (try copy.force(.pinned(cut: NameFacts.cut(1, seq), by: "y", hold: .fork(slot: 0)), by: c) == nil) == legal, "\(seq)")
      #expect(refusal(book, .pin(cut: NameFacts.cut(1, seq), by: "y", hold: .fork(slot: 0)), by: c) == (legal ? nil : .newerCut))
    }
    // Floors only rise, and what is gone does not come back.
    for bad in [
      reap(5, floor: 4, kept: [2]), reap(4, floor: 4, kept: [2]), reap(6, floor: 7, kept: [2]), reap(6, floor: 6, kept: [2, 4]),
      reap(6, floor: 6, kept: [3, 2]), reap(6, floor: 6),
    ] {
      var copy = book
      #expect(try copy.force(.reap(bad), by: a) != nil, "\(bad)")
    }
    var copy = book
    #expect(try copy.force(.reap(reap(6, floor: 6, kept: [2, 5])), by: a) == nil)
  }

  @Test func pinsHoldAPurge() throws {
    var book = try NameFacts.book(.stopped)
    try book.run(.pin(cut: NameFacts.cut(1, 5), by: "fork1", hold: .fork(slot: 0)), by: c)
    let pin = try #require(book.state.holdings.pins.first).id
    #expect(refusal(book, .purge, by: a) == .unpin)
    #expect(try book.force(.purging, by: a) != nil)
    // A fork's pin goes when its slot is known to be another's, not because nothing is there, and not by the owner's will.
    #expect(refusal(book, .unpin(pin: pin, because: .orphan(.empty)), by: c) == .voidSlot)  // D4
    #expect(refusal(book, .unpin(pin: pin, because: .orphan(.match)), by: c) == .nothing)
    #expect(refusal(book, .unpin(pin: pin, because: .removed), by: a) == .unpin)
    #expect(refusal(book, .unpin(pin: pin, because: .holder), by: c) == .unpin)
    for ground in [UnpinGround.removed, .expired, .holder] {
      var copy = book
      #expect(try copy.force(.unpinned(pin: pin, ground: ground), by: ground == .holder ? c : a) != nil)
    }
    try book.run(.unpin(pin: pin, because: .orphan(.other(NameFacts.list))), by: b)
    try book.run(.purge, by: a)
  }

  @Test func otherPinsGoByTheirHolderTheirTimeOrTheOwner() throws {
    var book = try NameFacts.book(.stopped)
    let time = "2026-01-31T12:00:00.000Z"
    try book.run(.pin(cut: NameFacts.cut(1, 5), by: "x", hold: .until(time)), by: c)
    let pin = try #require(book.state.holdings.pins.first).id
    #expect(refusal(book, .unpin(pin: pin, because: .holder), by: b) == .unpin)
    #expect(refusal(book, .unpin(pin: pin, because: .expired(now: "2026-01-31T11:59:59.999Z")), by: a) == .unpin)
    #expect(refusal(book, .unpin(pin: pin, because: .expired(now: time)), by: b) == .force)
    #expect(refusal(book, .unpin(pin: pin, because: .removed), by: a.restarted) == .adopt)
    for (reason, host) in [(.holder, c), (.expired(now: time), a), (.removed, a)] as [(UnpinReason, NameHost)] {
      var copy = book
      try copy.run(.unpin(pin: pin, because: reason), by: host)
      #expect(copy.state.holdings.pins.isEmpty)
      #expect(try copy.run(.unpin(pin: pin, because: reason), by: host) == .done)
    }
  }

  @Test func aForceLandsOnWhomItIsMeantForOrNotAtAll() throws {  // situation 2
    var book = try NameFacts.book(.live)
    #expect(refusal(book, force(2, c.id), by: b) == .dryRun)
    #expect(refusal(book, force(2, a.id, 4), by: b) == .dryRun)
    try book.run(.adopt, by: a.restarted)
    #expect(refusal(book, force(2, a.id, 0), by: b) == .dryRun, "the epoch moved on")
    let stale = NameEvent.fenced(
      Fence(expectOwner: a.id, expectEpoch: 0, volume: NameFacts.volume(2), key: NameFacts.key(2), displaced: NameFacts.volume(1))
    )
    var copy = book
    #expect(try copy.force(stale, by: b) != nil)
    try book.run(force(2, a.id), by: b)
    #expect(book.state.phase == .recovering && book.state.volume == NameFacts.volume(1))
    #expect(try book.run(force(2, a.id), by: b) == .done)
  }

  @Test func aRecoveryStartsAtTheNewestGrantedEpisode() throws {  // D2
    var book = try NameFacts.book(.live)
    try book.run(force(2), by: b)
    try book.run(force(3), by: c)  // b never recovered: volume 2 was granted nothing
    func legal(_ basis: Basis, _ lost: String = "") -> Bool {
      var copy = book
      return (try? copy.force(.recovered(basis: basis, lost: lost), by: c)) == .some(nil)
    }
    #expect(legal(.cut(NameFacts.cut(1, 9))) && legal(.empty(NameFacts.volume(1))))
    #expect(!legal(.cut(NameFacts.cut(2, 0))) && !legal(.cut(NameFacts.cut(3, 0))) && !legal(.empty(NameFacts.volume(2))))
    try book.run(.recover(volume: NameFacts.volume(3), basis: .cut(NameFacts.cut(1, 9)), lost: ""), by: c)
    #expect(book.state.cut == NameFacts.cut(1, 9) && book.state.volume == NameFacts.volume(3))
    // Volume 3 has no page yet: another recovery continues what it continued, and nothing else of volume 1.
    try book.run(force(4), by: b)
    #expect(!legal(.cut(NameFacts.cut(1, 9))), "c is not the owner any more")
    for (basis, wanted) in [
      (.cut(NameFacts.cut(1, 9)), true), (.cut(NameFacts.cut(1, 8)), false), (.cut(NameFacts.cut(1, 10)), false),
      (.empty(NameFacts.volume(3)), false), (.cut(NameFacts.cut(3, 0)), true),
    ] as [(Basis, Bool)] {
      var copy = book
      #expect((try copy.force(.recovered(basis: basis, lost: ""), by: b) == nil) == wanted, "\(basis)")
    }
  }

  @Test func aBasisIsNotBehindAReapOrAReport() throws {  // D12
    var book = try NameFacts.book(.stopped)  // cut 5 was reported
    try book.run(.reap(reap(7, floor: 6, kept: [2])), by: a)
    try book.run(force(2), by: b)
    for (seq, plain, accepting) in [
      (1, false, false), (2, false, true), (3, false, false), (5, false, false), (6, false, true), (7, true, true),
      (9, true, true),
    ] as [(UInt64, Bool, Bool)] {
      for (lost, wanted) in [("", plain), ("page 7 cannot be read", accepting)] {
        var copy = book
        #expect(
          (try copy.force(.recovered(basis: .cut(NameFacts.cut(1, seq)), lost: lost), by: b) == nil) == wanted, "\(seq) \(lost)")
      }
    }
    let early = NameCommand.recover(volume: NameFacts.volume(2), basis: .cut(NameFacts.cut(1, 3)), lost: "")
    #expect(refusal(book, early, by: b) == .acceptLoss)
    var reported = try NameFacts.book(.stopped)
    try reported.run(force(2), by: b)
    #expect(try reported.force(.recovered(basis: .cut(NameFacts.cut(1, 4)), lost: ""), by: b) != nil)
    #expect(try reported.force(.recovered(basis: .empty(NameFacts.volume(1)), lost: ""), by: b) != nil)
  }

  @Test func aDisplacedVolumeIsKeptWhole() throws {  // D13
    var book = try NameFacts.book(.live)
    try book.run(force(2), by: b)
    try book.run(.recover(volume: NameFacts.volume(2), basis: .cut(NameFacts.cut(1, 3)), lost: ""), by: b)
    let ended = reap(0, floor: 3, of: 1, at: 2)
    #expect(refusal(book, .reap(ended), by: b) == .discardDisplaced)
    #expect(try book.force(.reap(ended), by: b) != nil)
    #expect(refusal(book, .purge, by: b) == .discardDisplaced)
    #expect(refusal(book, .discardDisplaced(volume: NameFacts.volume(1)), by: c) == .force)
    var rescued = book
    try rescued.run(.discardDisplaced(volume: NameFacts.volume(1)), by: a.restarted)
    try book.run(.discardDisplaced(volume: NameFacts.volume(1)), by: b)
    for var done in [book, rescued] { #expect(try done.force(.reap(ended), by: b) == nil) }
  }

  @Test func onlyTheReleaserAtExactlyTheCutReclaims() throws {
    let book = try NameFacts.book(.released)
    #expect(refusal(book, .reclaim(local: NameFacts.cut(1, 4), serve: true), by: a) == .claim)
    #expect(refusal(book, .reclaim(local: nil, serve: true), by: a) == .claim)
    var other = NameFacts.cut(1, 5)
    other.pageHash = NameFacts.list
    #expect(refusal(book, .reclaim(local: other, serve: true), by: a) == .claim, "another page under the same number")
    for (cut, host) in [(NameFacts.cut(1, 5), b), (NameFacts.cut(1, 4), a), (other, a)] {
      var copy = book
      #expect(try copy.force(.reclaimed(cut: cut, serve: true), by: host) != nil)
    }
    var claimed = book
    #expect(
      try claimed.force(
        .claimed(volume: NameFacts.volume(2), key: NameFacts.key(2), cut: NameFacts.cut(1, 4), serve: true), by: b) != nil)
    var good = book
    try good.run(.reclaim(local: NameFacts.cut(1, 5), serve: true), by: a.restarted)
    #expect(good.state.phase == .live && good.state.volume == NameFacts.volume(1))
  }

  @Test func aRenameCarriesWhatBindsDeletes() throws {  // D5
    var old = try NameFacts.book(.stopped, name: "old")
    try old.run(.pin(cut: NameFacts.cut(1, 2), by: "fork1", hold: .fork(slot: 0)), by: c)
    try old.run(.reap(reap(5, floor: 5, kept: [2])), by: a)
    var new = NameLogBook("new")
    let slot = old.fold.nextSeq
    try new.run(.renameReserve(old: "old", slot: slot), by: a)
    let before = old.state
    try old.run(.renameCommit(new: "new", reserved: 0, slot: slot), by: a)
    let carried = try #require(old.state.carried(before: before, slot: slot))
    #expect(carried.stateHash == Digest.sha256(old.state.encode()))
    try new.run(.renameFinish(carried), by: b)  // anybody may finish it
    #expect(new.state.holdings == before.holdings && new.state.cut == before.cut && new.state.size == before.size)
    #expect(new.state.owner == a.id && new.state.epoch == 1 && new.state.phase == .stopped)
    #expect(refusal(new, .purge, by: a) == .unpin)
    #expect(try new.force(.pinned(cut: NameFacts.cut(1, 4), by: "y", hold: .until(nil)), by: c) != nil, "below the carried floor")
    #expect(refusal(old, .pin(cut: NameFacts.cut(1, 5), by: "y", hold: .until(nil)), by: c) == .follow)
    #expect(try new.run(.renameFinish(carried), by: c) == .done)
    var reserved = try NameFacts.book(.reserved)
    #expect(try reserved.force(.renamedFrom(carried), by: a) != nil, "not the rename that was reserved")
  }

  @Test func forksAndRenamesCountInTheirSlotsAlone() throws {
    let from = ForkSource(name: "image", pin: NameFacts.volume(50), cut: NameFacts.cut(20, 3))
    for (slot, legal) in [(0, true), (1, false)] as [(UInt64, Bool)] {
      var book = NameLogBook()
      #expect((try book.force(.forked(NameFacts.facts(8), from: from, slot: slot), by: c) == nil) == legal)
      #expect(book.state.isFree != legal)
    }
    for (slot, legal) in [(3, true), (4, false)] as [(UInt64, Bool)] {
      var book = try NameFacts.book(.stopped)
      #expect((try book.force(.renamedTo(new: "new", reserved: 0, slot: slot), by: a) == nil) == legal)
      #expect((book.state.phase == .renamed) == legal)
    }
  }

  @Test func anEntryFromTheFutureStopsAppendsAndNothingElse() throws {
    var book = try NameFacts.book(.live)
    let text = String(decoding: try book.entry(.note(text: "x"), by: c).raw, as: UTF8.self)
    for (ignorable, frozen) in [("false", true), ("true", false)] {
      var copy = book
      let body = text.replacing("kind = \"note\"", with: "kind = \"noted\"")
        .replacing("ignorable = false", with: "ignorable = \(ignorable)")
      let raw = Array(body.split(separator: "[seal]")[0].utf8)
      #expect(copy.append(SealedDocument.seal(raw, subject: "name/db") { c.key.sign($0) }) == nil)
      #expect((refusal(copy, .note(text: "y"), by: c) == .upgrade) == frozen)
      #expect(try NameState.decode(copy.state.encode()) == copy.state)
    }
    try book.run(.note(text: "goes on"), by: c)
  }

  /// Random entries of random hosts: whatever is decided is legal; ownership changes only with an epoch that is the entry's
  /// own number; folding again, and folding from any encoded state, gives the same bytes.
  @Test(arguments: 0..<20 as Range<UInt64>) func randomLogsFoldAlike(_ seed: UInt64) throws {
    var random = Mix(seed)
    var book = NameLogBook()
    var hosts = [a, b, c]
    var checkpoint = book.fold
    for step in 0..<120 {
      let i = Int(random.next() % 3)
      if random.next() % 9 == 0 { hosts[i] = hosts[i].restarted }
      let command = pick(book.state, UInt64(step + 10), &random)
      let before = book.state
      if case .append(let event)? = try? before.decide(command, by: hosts[i].author(before)) {
        let violation = book.append(try book.entry(event, by: hosts[i]).raw)
        #expect(violation == nil, "seed \(seed): decided, and illegal: \(event)")
      }
      let after = book.state
      if after.owner != before.owner || after.incarnation != before.incarnation { #expect(after.epoch == after.seq) }
      #expect(after.epoch >= before.epoch && (after.owner == nil) == !NameState.owned.contains(after.phase))
      if step == 60 { checkpoint = book.fold }
    }
    var again = NameFold(name: "db")
    for raw in book.raws { again.next(raw) }
    #expect(again == book.fold && again.state.encode() == book.state.encode())
    if let head = checkpoint.head {
      let kept = try NameState.decode(checkpoint.state.encode())
      var resumed = try #require(NameFold(state: kept, tree: checkpoint.tree, head: head))
      for raw in book.raws[Int(head.seq + 1)...] { resumed.next(raw, areVerified: true) }
      #expect(resumed == book.fold)
    }
  }

  private func pick(_ state: NameState, _ v: UInt64, _ random: inout Mix) -> NameCommand {
    let current = (state.volume ?? NameFacts.volume(1)).low
    let seq = (state.cut?.seq ?? 0) + random.next() % 3
    let next = NameFacts.cut(current, seq)
    switch random.next() % 18 {
    case 0: return .create(NameFacts.facts(v))
    case 1: return .importStart(volume: NameFacts.volume(v), key: NameFacts.key(1), source: "x")
    case 2: return .importFinish(cut: NameFacts.cut(state.pending?.volume.low ?? 1, 0), size: 512)
    case 3, 4: return .adopt
    case 5, 6: return .start
    case 7, 8: return .stop(cut: next, clients: 0, force: false)
    case 9: return .release(cut: state.cut?.volume == state.volume ? next : state.cut ?? next)
    case 10: return .claim(volume: NameFacts.volume(v), key: NameFacts.key(2), serve: random.next() % 2 == 0)
    case 11: return .reclaim(local: state.cut, serve: true)
    case 12:
      return .force(Force(expectOwner: nil, expectEpoch: nil, volume: NameFacts.volume(v), key: NameFacts.key(3), isSelf: true))
    case 13, 14: return .recover(volume: state.pending?.volume ?? NameFacts.volume(v), basis: .cut(next), lost: "")
    case 15:
      return .reap(Reap(volume: NameFacts.volume(current), cut: next, floor: seq, kept: [], list: NameFacts.list, count: 0))
    case 16: return .pin(cut: next, by: "p\(v)", hold: random.next() % 2 == 0 ? .fork(slot: 1) : .until(nil))
    default:
      guard let pin = state.holdings.pins.first else { return random.next() % 8 == 0 ? .purge : .finishPurge }
      return .unpin(pin: pin.id, because: random.next() % 2 == 0 ? .orphan(.other(NameFacts.list)) : .holder)
    }
  }
}

/// splitmix64.
struct Mix {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
