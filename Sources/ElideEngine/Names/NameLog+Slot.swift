import ElideEvents
import ElideIO
import ElideProjections

// One slot: putting frozen bytes, and believing only what stands there.

extension NameLog {
  enum Settled {
    case committed
    /// The void of the attempt stands there.
    case cancelled
    /// Other bytes stand there.
    case lost
    /// No request of this attempt was ever taken by the store, and it says that none will be.
    case refused(String)
    case unknown(String)
  }

  /// Puts the intent's bytes (those of its void, when it is being cancelled) and reads the slot until it is known to be
  /// occupied. `isFirst`: nothing of it was sent before.
  func settle(_ intent: NameIntent, isFirst: Bool) -> Settled {
    let key = StoreLayout.nameEntry(name, intent.seq)
    var wasSent = !isFirst
    var detail = "not tried"
    for attempt in 0..<max(1, patience) {
      if attempt > 0 { pause(attempt - 1) }
      do throws(StoreError) {
        if try store.putIfAbsent(key, intent.void ?? intent.raw) == .created {
          return intent.void == nil ? .committed : .cancelled
        }
        wasSent = true
      } catch {
        if case .refused = error, !wasSent {
          // Another process of this data directory may have put the same bytes, having found them in the rows.
          guard let found = try? store.get(key, range: 0..<UInt64(Entry.maxBytes + 1)) else { return .refused(error.description) }
          if found == intent.raw { return .committed }
          return found == intent.void ? .cancelled : .lost
        }
        detail = error.description
        if case .refused = error {} else { wasSent = true }
      }
      do throws(StoreError) {
        let found = try store.get(key, range: 0..<UInt64(Entry.maxBytes + 1))
        if found == intent.raw { return .committed }
        return found == intent.void ? .cancelled : .lost
      } catch {
        // A slot that looks free proves nothing: the same bytes again.
        if case .notFound = error { continue }
        detail = error.description
      }
    }
    return .unknown(detail)
  }

  /// Ends an intent in the rows, with its answer and what its slot says when that is known. The outcome holds whether or not
  /// the rows take it: an intent that stays is found out again.
  func close(_ intent: NameIntent, _ answer: NameAnswer, _ raw: [UInt8]?) -> NameOutcome {
    var changes = [NameRowChange(.intents, NameRowKey.attempt(name, intent.id), nil)]
    var outcome: NameOutcome
    switch answer {
    case .committed(let seq, let id): outcome = .committed(seq: seq, id: id)
    case .done: outcome = .done
    case .cancelled(let id): outcome = .cancelled(id: id)
    }
    // A lost attempt is not the request's answer: the request may be decided again.
    if let request = intent.request, raw != nil || intent.void != nil { changes.append(requestRow(request, answer)) }
    if let raw, isLoaded, record.fold.nextSeq == intent.seq {
      let (_, violation) = advance(raw, areVerified: true, &changes)
      changes.append(foldRow())
      if let violation {
        // Decided here, and illegal: this program contradicts itself. The slot is taken and nothing is changed by it.
        alarm("entry \(intent.seq) of '\(name)', appended by this host, is a violation: \(violation.detail)", &changes)
        outcome = .refused(Refusal(.unsafe, .again, "'\(name)': \(violation.detail)"))
      }
    }
    do throws(ElideError) { try rows.commit(changes) } catch { isLoaded = false }
    if raw != nil { maintain() }
    return outcome
  }

  /// Folds the next slot, and adds what the rows are to say of it, but for the fold itself.
  func advance(_ raw: [UInt8], areVerified: Bool = false, _ changes: inout [NameRowChange]) -> (NameStep, Violation?) {
    let seq = record.fold.nextSeq
    let out = record.fold.step(raw, areVerified: areVerified)
    changes.append(NameRowChange(.entries, NameRowKey.entry(name, seq), raw))
    if NameCheckpoint.isDue(after: seq) {
      record.checkpoint = NameCheckpoint.encode(record.fold, isWhole: record.isOwn, at: now, key: author.key)
      record.checkpointSeq = seq
    }
    return out
  }

  func foldRow() -> NameRowChange { NameRowChange(.folds, NameRowKey.name(name), record.encode()) }

  // MARK: Rows

  func openIntents() throws(ElideError) -> [NameIntent] {
    var out: [NameIntent] = []
    for row in try rows.scan(.intents, prefix: NameRowKey.prefix(name)) {
      do throws(FormatError) { out.append(try NameIntent.decode(row.value, name: name)) } catch {
        throw ElideError(.fault, "\(error)")
      }
    }
    return out
  }

  func answer(_ request: String) throws(ElideError) -> NameOutcome? {
    guard let bytes = try rows.get(.requests, NameRowKey.request(name, request)) else { return nil }
    do throws(FormatError) {
      switch try NameAnswer.decode(bytes) {
      case .committed(let seq, let id): return .committed(seq: seq, id: id)
      case .done: return .done
      case .cancelled(let id): return .cancelled(id: id)
      }
    } catch { throw ElideError(.fault, "\(error)") }
  }

  func intentRow(_ intent: NameIntent) -> NameRowChange {
    NameRowChange(.intents, NameRowKey.attempt(name, intent.id), intent.encode())
  }
  func requestRow(_ request: String, _ answer: NameAnswer) -> NameRowChange {
    NameRowChange(.requests, NameRowKey.request(name, request), answer.encode())
  }

  func alarm(_ text: String, _ changes: inout [NameRowChange]) {
    let key = Array(ULID(clock: clock, random: random).description.utf8)
    changes.append(NameRowChange(.alarms, key, Array(text.utf8)))
  }

  /// Kept, and thrown: nothing is appended to a log that contradicts what this host has seen.
  func alarmed(_ kind: ElideError.Kind, _ text: String) -> ElideError {
    var changes: [NameRowChange] = []
    alarm(text, &changes)
    try? rows.commit(changes)
    return ElideError(kind, text)
  }
}
