import ElideEvents
import ElideIO
import ElideProjections

/// Who appends: a host's identity in one run of its process.
package struct NameAuthor: Sendable {
  package let key: SigningKey
  /// Host id: hexadecimal of the SHA-256 of the public key.
  package let id: String
  /// Minted when the process starts. After a restart, and in a copy of the directory, it is another one.
  package let incarnation: ULID

  package init(key: SigningKey, incarnation: ULID) {
    self.key = key
    id = Digest.sha256(key.publicKey).hex
    self.incarnation = incarnation
  }
}

/// What became of a command.
package enum NameOutcome: Equatable, Sendable {
  /// It is in the log, once, in this slot.
  case committed(seq: UInt64, id: ULID)
  /// It was so already: nothing was appended.
  case done
  /// Nothing of it is in the log, and nothing of it ever will be.
  case refused(Refusal)
  /// It was cancelled: nothing of it ever will be in the log.
  case cancelled(id: ULID)
  /// Not known yet. `NameLog.resolve` finds out, in this process or a later one; until then the name takes no other command.
  case unknown(id: ULID, detail: String)

  /// What was asked for is in the log, by this attempt or before it.
  package var isInLog: Bool {
    switch self {
    case .committed, .done: true
    case .refused, .cancelled, .unknown: false
    }
  }
}

/// One name's log, as one process reads and appends to it: put-if-absent at the next slot and nothing else.
///
/// An attempt's bytes are frozen and durable before a request leaves; the slot decides, whatever a response says. Entries are
/// folded when they are known to stand in their slots, and the fold is kept with the raw entries in the host's rows.
///
/// Owned by one thread at a time. Its calls block for store requests. A call that throws has sent nothing for its command;
/// after a crash the rows have all that is needed to go on (`resolve`).
package final class NameLog {
  /// Bytes of the longest request id.
  package static let maxRequest = 255
  /// Lost races after which a command gives up, refused.
  static let maxRaces = 32

  package let name: String
  let store: any Store
  let rows: any NameRows
  package let author: NameAuthor
  let clock: any Clock
  let random: any Randomness
  /// How often a slot is tried before the outcome is called unknown.
  package var patience = 4
  /// Waits before the k-th try again of a slot, from 0.
  package var pause: (Int) -> Void = { _ in }
  /// The hint is put after so many new entries.
  package var hintInterval: UInt64 = 1

  var record: NameRecord
  var isLoaded = false
  /// Nothing lies behind the end, or this host has followed the log there. Before it appends for the first time to a log that it
  /// took over as it found it, it looks: an entry that the store lost looks like the end.
  var isEndProven = false
  /// The slot up to which the hint in the store is known to reach.
  var hinted: UInt64?

  package init(
    _ name: String, store: any Store, rows: any NameRows, author: NameAuthor, clock: any Clock, random: any Randomness
  ) throws(ElideError) {
    if let fault = VolumeName.fault(name) { throw ElideError(.usage, "the name '\(name)' \(fault)") }
    self.name = name
    self.store = store
    self.rows = rows
    self.author = author
    self.clock = clock
    self.random = random
    record = NameRecord(fold: NameFold(name: name), isOwn: true, checkpoint: nil, checkpointSeq: nil, checkpointed: 0)
  }

  /// The state as far as this process has read the log.
  package var state: NameState { record.fold.state }
  package var head: JournalHead? { record.fold.head }
  /// Whether the state was folded by this host from slot 0.
  package var isOwnFold: Bool { record.isOwn }
  /// Who this process is in the state it has read.
  package var me: Author {
    let mine = state.owner == author.id && state.incarnation == author.incarnation
    return Author(host: author.id, incarnation: author.incarnation, epoch: mine ? state.epoch : 0)
  }

  var now: String { Timestamp.text(milliseconds: clock.wallMilliseconds()) }

  // MARK: Commands

  /// Reads the log's end, decides, and appends if there is something to append.
  ///
  /// `request`: the client's id. The same id gets the same answer, also in a later process, and is in the log once.
  /// `at`: in this slot or not at all.
  package func perform(
    _ command: NameCommand, request: String? = nil, at slot: UInt64? = nil, context: AppendContext = AppendContext()
  ) throws(ElideError) -> NameOutcome {
    if let request {
      guard !request.isEmpty, request.utf8.count <= Self.maxRequest else {
        throw ElideError(.usage, "a request id has 1 to \(Self.maxRequest) bytes")
      }
      if let known = try answer(request) { return known }
    }
    if let earlier = try settleEarlier(request) { return earlier }
    for _ in 0..<Self.maxRaces {
      try refresh()
      if let slot, state.nextSeq != slot {
        return .refused(Refusal(.tryLater, .again, "slot \(slot) of '\(name)' is taken by another entry"))
      }
      if command.deletes { try requireOwnFold() }
      do throws(ElideError) { try requireNoTwin(adopting: command == .adopt) } catch {
        // What another process holds is not this one's to throw over: its command is answered.
        guard command == .adopt, error.kind == .fenced else { throw error }
        return .refused(Refusal(.fenced, .forceSelf, error.message))
      }
      let event: NameEvent
      do throws(Refusal) {
        switch try state.decide(command, by: me) {
        case .append(let decided): event = decided
        case .done:
          if let request { try? rows.commit([requestRow(request, .done)]) }
          return .done
        }
      } catch { return .refused(error) }
      if !isEndProven || command.deletes {
        guard try isAtEnd() else { continue }
      }
      let intent: NameIntent
      do throws(EntryError) { intent = try freeze(event, request, context) } catch {
        return .refused(Refusal(.usage, .nothing, "'\(name)': \(error.detail)"))
      }
      do throws(ElideError) {
        let proven = isEndProven ? [] : [NameRowChange(.unproven, NameRowKey.name(name), nil)]
        try rows.commit([intentRow(intent), NameRowChange(.own, NameRowKey.attempt(name, intent.id), [])] + proven)
        isEndProven = true
      } catch {
        // Whether the rows have it is open: if they do, it will be put.
        isLoaded = false
        return .unknown(id: intent.id, detail: error.message)
      }
      switch settle(intent, isFirst: true) {
      case .committed: return close(intent, .committed(seq: intent.seq, id: intent.id), intent.raw)
      case .cancelled, .lost: _ = close(intent, .cancelled(id: intent.id), nil)
      case .refused(let detail):
        _ = close(intent, .cancelled(id: intent.id), nil)
        return .refused(Refusal(.store, .again, "'\(name)': \(detail)"))
      case .unknown(let detail): return .unknown(id: intent.id, detail: detail)
      }
    }
    return .refused(Refusal(.tryLater, .again, "'\(name)': other hosts were faster \(Self.maxRaces) times; try again"))
  }

  /// What is open is found out before anything else is tried; nil when the way is free. The attempts of this very request are
  /// its answer, unless this process made them and lost: then it may decide again.
  private func settleEarlier(_ request: String?) throws(ElideError) -> NameOutcome? {
    for intent in try openIntents() {
      let outcome = resolve(intent)
      if case .unknown = outcome { return outcome }
      guard let request, intent.request == request else { continue }
      if case .refused = outcome, intent.incarnation == author.incarnation { continue }
      return outcome
    }
    return nil
  }

  /// What a request was answered, or is found out now to have come to; nil when nothing of it is in the log or on its way.
  package func answered(_ request: String) throws(ElideError) -> NameOutcome? {
    if let known = try answer(request) { return known }
    for intent in try openIntents() where intent.request == request {
      let outcome = resolve(intent)
      if case .refused = outcome { continue }
      return outcome
    }
    return nil
  }

  /// Finds out what became of every open attempt of this name. Attempts of earlier processes are reported, never decided
  /// again.
  package func resolve() throws(ElideError) -> [(id: ULID, request: String?, outcome: NameOutcome)] {
    var out: [(id: ULID, request: String?, outcome: NameOutcome)] = []
    for intent in try openIntents() { out.append((intent.id, intent.request, resolve(intent))) }
    return out
  }

  /// Attempts of this name whose outcome is not known yet.
  package func open() throws(ElideError) -> [NameIntent] { try openIntents() }

  func resolve(_ intent: NameIntent) -> NameOutcome {
    switch settle(intent, isFirst: false) {
    case .committed: return close(intent, .committed(seq: intent.seq, id: intent.id), intent.raw)
    case .cancelled: return close(intent, .cancelled(id: intent.id), nil)
    case .lost:
      _ = close(intent, .cancelled(id: intent.id), nil)
      if intent.void != nil { return .cancelled(id: intent.id) }
      return .refused(
        Refusal(
          .tryLater, .again, "'\(name)': another entry has taken slot \(intent.seq), this one never takes effect; ask again"))
    case .refused(let detail), .unknown(let detail): return .unknown(id: intent.id, detail: detail)
    }
  }

  /// Gives an attempt up: a `void` is put in its own slot, and whichever bytes occupy it decide. Only the process that made
  /// the attempt may.
  package func cancel(_ id: ULID) throws(ElideError) -> NameOutcome {
    guard var intent = try openIntents().first(where: { $0.id == id }) else {
      throw ElideError(.notFound, "'\(name)' has no open attempt \(id)")
    }
    guard intent.incarnation == author.incarnation else {
      throw ElideError(.usage, "attempt \(id) is an earlier process's: it is found out, not cancelled")
    }
    if intent.void == nil {
      let voided: NameEntry
      do throws(EntryError) {
        let attempt = try NameEntryCodec.decode(intent.raw, of: name, at: intent.seq)
        var e = attempt.envelope
        e.id = ULID(clock: clock, random: random)
        e.kind = NameEvent.void(id: id).kind
        e.at = now
        voided = try NameEntryCodec.encode(e, .void(id: id), key: author.key)
      } catch { throw ElideError(.failed, "\(error)") }
      intent.void = voided.raw
      // Recorded before it is sent: a later process goes on cancelling.
      do throws(ElideError) {
        try rows.commit([intentRow(intent), NameRowChange(.own, NameRowKey.attempt(name, voided.envelope.id), [])])
      } catch { return .unknown(id: id, detail: error.message) }
    }
    return resolve(intent)
  }

  /// The entry that the command would append now, as text; nothing is sent or kept. Reads the log's end first. What an earlier
  /// process of this host owns is taken for this one's: it would be adopted first.
  package func plan(_ command: NameCommand, context: AppendContext = AppendContext()) throws(ElideError) -> NamePlan {
    try refresh()
    do throws(Refusal) {
      var owner = me
      if state.owner == author.id, let incarnation = state.incarnation {
        owner = Author(host: author.id, incarnation: incarnation, epoch: state.epoch)
      }
      guard case .append(let event) = try state.decide(command, by: owner) else { return .done }
      return try preview(event, context)
    } catch { return .refused(error) }
  }

  private func preview(_ event: NameEvent, _ context: AppendContext) throws(Refusal) -> NamePlan {
    do throws(EntryError) {
      let intent = try freeze(event, nil, context)
      return .append(event, String(decoding: intent.raw, as: UTF8.self))
    } catch { throw Refusal(.usage, .nothing, "'\(name)': \(error.detail)") }
  }

  private func freeze(_ event: NameEvent, _ request: String?, _ context: AppendContext) throws(EntryError) -> NameIntent {
    let seq = state.nextSeq
    var e = Envelope(
      log: NameEntryCodec.log(name), seq: seq, prev: head?.hash, id: ULID(clock: clock, random: random), kind: event.kind,
      at: now,
      actor: author.id, incarnation: author.incarnation)
    e.epoch = me.epoch
    e.request = request ?? context.request
    e.operator = context.operator
    e.reason = context.reason
    let entry = try NameEntryCodec.encode(e, event, key: author.key)
    return NameIntent(
      name: name, id: e.id, seq: seq, raw: entry.raw, kind: event.kind, request: request, incarnation: author.incarnation)
  }
}

/// What a command would do.
package enum NamePlan: Equatable, Sendable {
  case append(NameEvent, String)
  case done
  case refused(Refusal)
}

extension NameCommand {
  /// After it something may be deleted: it stands on a fold of one's own, never on another host's checkpoint.
  package var deletes: Bool {
    switch self {
    case .reap, .purge, .takePurge, .finishPurge, .unpin, .discardDisplaced: true
    default: false
    }
  }
}
