import ElideEvents
import ElideIO
import ElideProjections
import Testing

/// Every state with every command, for the owner, for the owner's host after a restart, and for another host: to be read
/// beside the table of docs/formats/names.md. A cell says what happens:
///
///     +   the entry is appended
///     =   done: it is so already
///     otherwise the command is refused, and the letter says what would be right in its place:
@Suite struct NameTableTests {
  static let letters: [Character: Refusal.Instead] = [
    "c": .create, "N": .otherName, "A": .adopt, "s": .start, "S": .stop, "C": .claim, "F": .force, "f": .forceSelf,
    "V": .recover, "K": .fork, "W": .follow, "I": .abortImport, "R": .finishRename, "T": .takePurge, "P": .finishPurge,
    "D": .disconnect, "v": .voidSlot,
  ]

  struct Row: Sendable {
    let name: String
    let command: NameCommand
    /// The kind of the entry where it is appended.
    let kind: String
    let owner: String
    let restarted: String
    let stranger: String
    init(_ name: String, _ command: NameCommand, _ kind: String, _ owner: String, _ restarted: String, _ stranger: String) {
      (self.name, self.command, self.kind) = (name, command, kind)
      (self.owner, self.restarted, self.stranger) = (owner, restarted, stranger)
    }
  }

  // Columns: absent reserved importing live stopped released readonly recovering renamed purging purged;
  // for the owner (of the state, or the last one), for its host after a restart, for another host.
  static let rows: [Row] = [
    Row(
      "create", .create(NameFacts.facts(8)),
      "created", "+ R N N N N N N N N +", "+ R N N N N N N N N +", "+ R N N N N N N N N +"),
    Row(
      "import", .importStart(volume: NameFacts.volume(8), key: NameFacts.key(8), source: "raw:y"),
      "import_started", "+ R N N N N N N N N +", "+ R N N N N N N N N +", "+ R N N N N N N N N +"),
    Row(
      "import finish", .importFinish(cut: NameFacts.cut(1, 6), size: 512),
      "import_finished", "c R + S s C K V W P c", "c R A S s C K V W P c", "c R I F F C K F W T c"),
    Row(
      "import abort", .importAbort,
      "import_aborted", "c R + S s C K V W P =", "c R + S s C K V W P =", "c R + F F C K F W T ="),
    Row(
      "adopt", .adopt,
      "adopted", "c R = = = C K = W = c", "c R + + + C K + W + c", "c R I F F C K F W T c"),
    Row(
      "start", .start,
      "started", "c R I = + C K V W P c", "c R I A A C K V W P c", "c R I F F C K F W T c"),
    Row(
      "stop", .stop(cut: NameFacts.cut(1, 6), clients: 0, force: false),
      "stopped", "c R I + = C K V W P c", "c R I A A C K V W P c", "c R I F F C K F W T c"),
    Row(
      "stop, clients", .stop(cut: NameFacts.cut(1, 6), clients: 2, force: false),
      "", "c R I D = C K V W P c", "c R I A A C K V W P c", "c R I F F C K F W T c"),
    Row(
      "resize", .resize(size: 1 << 21),
      "resized", "c R I + + C K V W P c", "c R I A A C K V W P c", "c R I F F C K F W T c"),
    Row(
      "reap",
      .reap(Reap(volume: NameFacts.volume(1), cut: NameFacts.cut(1, 6), floor: 6, kept: [], list: NameFacts.list, count: 1)),
      "reap", "c R I + + C K V W P c", "c R I A A C K V W P c", "c R I F F C K F W T c"),
    Row(
      "release", .release(cut: NameFacts.cut(1, 5)),
      "released", "c R I S + = K V W P c", "c R I S A = K V W P c", "c R I F F C K F W T c"),
    Row(
      "claim", .claim(volume: NameFacts.volume(8), key: NameFacts.key(8), serve: false),
      "claimed", "c R I S s + K V W P c", "c R I S s + K V W P c", "c R I F F + K F W T c"),
    Row(
      "reclaim", .reclaim(local: NameFacts.cut(1, 5), serve: true),
      "reclaimed", "c R I = = + K V W P c", "c R I S s + K V W P c", "c R I F F C K F W T c"),
    Row(
      "reclaim, other cut", .reclaim(local: NameFacts.cut(1, 4), serve: true),
      "", "c R I = = C K V W P c", "c R I S s C K V W P c", "c R I F F C K F W T c"),
    Row(
      "force", .force(Force(expectOwner: nil, expectEpoch: nil, volume: NameFacts.volume(8), key: NameFacts.key(8))),
      "fenced", "c R I f f C K V W P c", "c R I f f C K V W P c", "c R I + + C K + W T c"),
    Row(
      "force --self",
      .force(Force(expectOwner: nil, expectEpoch: nil, volume: NameFacts.volume(8), key: NameFacts.key(8), isSelf: true)),
      "fenced", "c R I + + C K + W P c", "c R I + + C K + W P c", "c R I + + C K + W T c"),
    Row(
      "recover", .recover(volume: NameFacts.volume(3), basis: .cut(NameFacts.cut(1, 7)), lost: ""),
      "recovered", "c R I S s C K + W P c", "c R I S s C K A W P c", "c R I F F C K F W T c"),
    Row(
      "pin", .pin(cut: NameFacts.cut(1, 5), by: "x", hold: .until(nil)),
      "pinned", "c R I + + + + + W P c", "c R I + + + + + W P c", "c R I + + + + + W T c"),
    Row(
      "unpin", .unpin(pin: NameFacts.volume(99), because: .holder),
      "", "c R I = = = = = W P c", "c R I = = = = = W P c", "c R I = = = = = W T c"),
    Row(
      "discard-displaced", .discardDisplaced(volume: NameFacts.volume(1)),
      "displaced_released", "c R I = = = = + W P c", "c R I = = = = + W P c", "c R I = = = = F W T c"),
    Row(
      "rename, reserve", .renameReserve(old: "old", slot: 3),
      "rename_reserved", "+ = N N N N N N N N +", "+ = N N N N N N N N +", "+ = N N N N N N N N +"),
    Row(
      "rename, commit", .renameCommit(new: "new", reserved: 0, slot: 3),
      "renamed_to", "c R I S + C K V = P c", "c R I S A C K V = P c", "c R I F F C K F = T c"),
    Row(
      "rename, finish", .renameFinish(renamed),
      "renamed_from", "c + I S s C K V W P c", "c + I S s C K V W P c", "c + I F F C K F W T c"),
    Row(
      "rename, abort", .renameAbort(.other(NameFacts.list)),
      "rename_aborted", "= + I S s C K V W P =", "= + I S s C K V W P =", "= + I F F C K F W T ="),
    Row(
      "rename, abort on empty", .renameAbort(.empty),
      "", "= v I S s C K V W P =", "= v I S s C K V W P =", "= v I F F C K F W T ="),
    Row(
      "purge", .purge,
      "purging", "c R I S + C + V W = =", "c R I S A C + V W A =", "c R I F F C + F W T ="),
    Row(
      "take purge", .takePurge,
      "purge_taken", "c R I S s C K V W = =", "c R I S s C K V W A =", "c R I F F C K F W + ="),
    Row(
      "finish purge", .finishPurge,
      "purged", "c R I S s C K V W + =", "c R I S s C K V W A =", "c R I F F C K F W T ="),
    Row(
      "void", .void(id: NameFacts.volume(98)),
      "void", "+ + + + + + + + + + +", "+ + + + + + + + + + +", "+ + + + + + + + + + +"),
    Row(
      "note", .note(text: "n"),
      "note", "c + + + + + + + + + c", "c + + + + + + + + + c", "c + + + + + + + + + c"),
  ]

  private static let renamed: Renamed = {
    var h = Holdings()
    h.episodes = [Episode(volume: NameFacts.volume(4), key: NameFacts.key(4), granted: 0, basis: nil)]
    return Renamed(
      old: "old", slot: 3, stateHash: NameFacts.list, owner: NameFacts.a.id, incarnation: NameFacts.a.incarnation, size: 512,
      cut: NameFacts.cut(4, 1), holdings: h)
  }()

  /// What happens, in the words of the table; also that the entry is legal, keeps the state's bytes, and that a second time
  /// is done or refused, never another entry with another meaning.
  private func answer(_ row: Row, _ phase: NameState.Phase, _ host: NameHost) throws -> String {
    var book = try NameFacts.book(phase)
    let before = book.state
    let decision: NameDecision
    do throws(Refusal) { decision = try before.decide(row.command, by: host.author(before)) } catch {
      // A refusal says what the state is, whose it is, and what to do.
      #expect(error.description.contains("'db'") && error.description.contains("; "), "\(error)")
      if let owner = before.owner { #expect(error.description.contains(owner.prefix(12)), "\(error)") }
      return Self.letters.first { $0.value == error.instead }.map { String($0.key) } ?? error.instead.rawValue
    }
    guard case .append(let event) = decision else { return "=" }
    #expect(event.kind == row.kind)
    let violation = book.append(try book.entry(event, by: host).raw)
    #expect(violation == nil, "decided, and illegal")
    #expect(try NameState.decode(book.state.encode()) == book.state)
    return "+"
  }

  @Test func everyStateWithEveryCommand() throws {
    let phases = NameState.Phase.allCases
    for row in Self.rows {
      for (host, who, cells) in [
        (NameFacts.a, "owner", row.owner), (NameFacts.a.restarted, "restarted", row.restarted),
        (NameFacts.c, "stranger", row.stranger),
      ] {
        let cells = cells.split(separator: " ")
        #expect(cells.count == phases.count, "\(row.name)")
        for (phase, cell) in zip(phases, cells) {
          #expect(try answer(row, phase, host) == cell, "\(row.name), \(phase), \(who)")
        }
      }
    }
  }

  /// A fork is legal in one slot alone, so that it cannot be in the common table.
  @Test func aForkIsLegalInItsSlotAlone() throws {
    let from = ForkSource(name: "image", pin: NameFacts.volume(50), cut: NameFacts.cut(20, 3))
    for phase in NameState.Phase.allCases {
      let book = try NameFacts.book(phase)
      let c = NameFacts.c
      let free = book.state.isFree
      for slot in [book.fold.nextSeq, book.fold.nextSeq + 1] {
        do throws(Refusal) {
          let decision = try book.state.decide(.fork(NameFacts.facts(8), from: from, slot: slot), by: c.author(book.state))
          #expect(decision == .append(.forked(NameFacts.facts(8), from: from, slot: slot)))
          #expect(free && slot == book.fold.nextSeq)
        } catch {
          #expect(!(free && slot == book.fold.nextSeq), "\(error)")
          let right: Refusal.Instead = free ? .again : phase == .reserved ? .finishRename : .otherName
          #expect(error.instead == right)
        }
      }
    }
  }

  /// Whoever is dead, some command leads on: by hosts that the state does not name, or by the owner's host alone.
  @Test func everyStateHasAnExit() throws {
    for phase in NameState.Phase.allCases where phase != .renamed {
      for host in [NameFacts.a.restarted, NameFacts.c] {
        let state = try NameFacts.book(phase).state
        let leads = Self.rows.contains { row in
          if ["void", "note", "pin", "discard-displaced"].contains(row.name) { return false }
          if case .append? = try? state.decide(row.command, by: host.author(state)) { return true }
          return false
        }
        #expect(leads, "\(phase) has no way on for \(host.id.prefix(4))")
      }
    }
  }
}
