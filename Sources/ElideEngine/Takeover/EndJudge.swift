import ElideEvents
import ElideIO
import ElideProjections

/// Says whether a terminal page is the end of a volume's page log. Anybody who can write to the bucket can sign one; it
/// counts only when the log of the name that it names has, in the slot that it names, a legal `fenced` or `claimed`, appended
/// by the very host that signed the page, and this volume was the name's before that entry (or before an earlier one: it is
/// over all the more).
package struct EndJudge: Sendable {
  package enum Verdict: Equatable, Sendable {
    case genuine
    /// As far as the name's log can be read now.
    case forged(String)
  }

  /// Opens the log of a name as this process reads it.
  private let log: @Sendable (String) throws(ElideError) -> NameLog

  package init(_ log: @escaping @Sendable (String) throws(ElideError) -> NameLog) { self.log = log }

  /// Blocks: reads the log's end, and folds it up to the entry. Throws when the store does not answer.
  package func judge(_ page: JournalPage, of volume: ULID) throws(ElideError) -> Verdict {
    guard let end = page.header.end, page.header.volume == volume else { return .forged("it is no terminal page of this volume") }
    // Signed by the key that it names itself: whose key that is, the entry says.
    do throws(PageError) { try page.verify(key: end.by) } catch { return .forged(error.description) }
    if VolumeName.fault(end.name) != nil { return .forged("'\(end.name)' is no name") }
    let log = try log(end.name)
    try log.refresh()
    guard end.seq < log.state.nextSeq, let raw = try log.slot(end.seq) else {
      return .forged("the log of '\(end.name)' has no entry \(end.seq)")
    }
    var fold = try log.fold(before: end.seq)
    let episodes = fold.state.holdings.episodes
    guard case (.event(let entry), nil) = fold.step(raw) else {
      return .forged("entry \(end.seq) of '\(end.name)' does not count")
    }
    guard entry.event.takesOver, episodes.contains(where: { $0.volume == volume }) else {
      return .forged("entry \(end.seq) of '\(end.name)' (\(entry.event.kind)) takes nothing from volume \(volume)")
    }
    guard entry.envelope.actor == Digest.sha256(end.by).hex else {
      return .forged("another host than the one of entry \(end.seq) of '\(end.name)' signed it")
    }
    return .genuine
  }
}

extension NameEvent {
  /// Whether this entry takes its name from the volume that was granted last, for a new one.
  package var takesOver: Bool {
    switch self {
    case .fenced, .claimed: true
    default: false
    }
  }
}
