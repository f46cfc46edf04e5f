import ElideEvents
import ElideIO
import ElideProjections

// What makes reading cheaper, and lying harder: checkpoints, hints, heads. Nothing here decides anything, and none of it may
// fail a command.

extension NameLog {
  /// Puts the checkpoint that is due, and the hint when the log has grown.
  func maintain() {
    putCheckpoint()
    putHint()
  }

  private func putCheckpoint() {
    guard let bytes = record.checkpoint, let seq = record.checkpointSeq, record.checkpointed <= seq else { return }
    let key = StoreLayout.nameCheckpoint(name, seq)
    do throws(StoreError) {
      if try store.putIfAbsent(key, bytes) == .exists { try compare(bytes, key) }
    } catch { return }
    record.checkpointed = seq + 1
    try? rows.commit([foldRow()])
  }

  /// Another host's checkpoint of the same slot must say the same.
  private func compare(_ mine: [UInt8], _ key: String) throws(StoreError) {
    let found = try store.get(key, range: nil)
    let ours = try? NameCheckpoint.decode(mine, of: name)
    let theirs = try? NameCheckpoint.decode(found, of: name)
    if ours?.fold == theirs?.fold { return }
    _ = alarmed(.fault, "\(key) does not say what its entries say, or is no checkpoint")
  }

  private func putHint() {
    guard let head, hinted.map({ head.seq >= $0 + hintInterval }) ?? true else { return }
    let base = record.checkpointSeq.map { $0 + 1 } ?? 0
    guard head.seq + 1 - base <= 4 * NameCheckpoint.interval else { return }
    var entries: [[UInt8]] = []
    for seq in base..<max(base, head.seq + 1) {
      guard let raw = try? rows.get(.entries, NameRowKey.entry(name, seq)) else { return }
      entries.append(raw)
    }
    let hint = NameHint(name: name, seq: head.seq, hash: head.hash, checkpoint: record.checkpoint, entries: entries)
    guard let bytes = hint.encode() else { return }
    if (try? store.put(StoreLayout.nameHint(name), parts: [bytes])) != nil { hinted = head.seq }
  }
}

/// What a host has seen of all names, and what it must tell people.
package enum NameWitness {
  /// The highest slot of each name in the rows.
  package static func heads(_ rows: any NameRows) throws(ElideError) -> [HostHeads.Head] {
    var out: [HostHeads.Head] = []
    for row in try rows.scan(.folds, prefix: []) {
      let name = String(decoding: row.key, as: UTF8.self)
      if let record = try? NameRecord.decode(row.value, name: name), let head = record.fold.head {
        out.append(HostHeads.Head(name: name, head: head))
      }
    }
    return out
  }

  /// Publishes the signed heads of today, once a day. Returns the object's key.
  package static func publish(
    _ rows: any NameRows, to store: any Store, author: NameAuthor, clock: any Clock
  ) throws(ElideError) -> String {
    let at = Timestamp.text(milliseconds: clock.wallMilliseconds())
    let document = HostHeads(key: author.key.publicKey, at: at, heads: try heads(rows))
    let key = StoreLayout.heads(author.id, date: document.date)
    do throws(StoreError) { try store.occupy(key, document.encode { author.key.sign($0) }) } catch { throw ElideError(error) }
    return key
  }

  /// Texts of what went wrong, oldest first.
  package static func alarms(_ rows: any NameRows) throws(ElideError) -> [String] {
    try rows.scan(.alarms, prefix: []).map { String(decoding: $0.value, as: UTF8.self) }
  }
}
