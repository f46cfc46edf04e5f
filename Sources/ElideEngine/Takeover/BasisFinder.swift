import ElideEvents
import ElideIO
import ElideProjections

/// What a recovery continues, read and checked.
package struct FoundBasis {
  package var basis: Basis
  /// What of the old volume is left out that may have been reported; empty: nothing that is known.
  package var lost: String
  /// The old volume at the cut; nil for one that never had a page.
  package var published: PublishedVolume?
}

/// Finds what a recovery continues: the last cut of the newest granted volume, whose page log has its end; when it had no page,
/// what its own entry named. Never pages behind a recorded basis, never below a committed reap.
package struct BasisFinder {
  private let reader: PublishedReader
  private let state: NameState

  /// `state`: the name's, in which a recovery is under way or planned.
  package init(_ state: NameState, reader: PublishedReader) {
    self.state = state
    self.reader = reader
  }

  /// - Parameter acceptsLoss: when the newest page cannot be read, or lies behind what was reported or deleted, goes back to an
  ///   older one that can still be opened. Without it that is refused.
  package func find(_ newest: EndedPageLog.Newest, acceptsLoss: Bool) throws(ElideError) -> FoundBasis {
    guard let episode = state.holdings.episodes.last else { throw ElideError(.failed, "\(state.sentence): it has no volume") }
    switch newest {
    case .none: return try inherited(episode, "no page of volume \(episode.volume) is there", acceptsLoss)
    case .page(let page): return try at(page, episode, acceptsLoss)
    case .unreadable(let slot, let why, let readable):
      let text = "page \(slot) of volume \(episode.volume) cannot be read (\(why))"
      guard acceptsLoss else { throw refused(text) }
      return try older(readable, episode, text)
    }
  }

  /// The cut of a page as the log of a name calls it.
  package static func cut(_ page: JournalPage) -> Cut {
    Cut(volume: page.header.volume, seq: page.header.cut, page: page.page, pageHash: page.hash)
  }

  /// What a basis leaves out that was chosen before a crash: as far as it is not simply the newest page's.
  package static func lost(by basis: Basis, _ newest: EndedPageLog.Newest, _ state: NameState) -> String {
    let isBehind = state.basisFault(basis, acceptsLoss: false)
    switch (newest, basis) {
    case (.none, _): return isBehind ?? ""
    case (.page(let page), .cut(let cut)) where cut == Self.cut(page): return isBehind ?? ""
    case (.page(let page), _): return "it goes on from \(text(basis)), page \(page.page) is left out"
    case (.unreadable(let slot, let why, _), _): return "it goes on from \(text(basis)); page \(slot) cannot be read (\(why))"
    }
  }

  private static func text(_ basis: Basis) -> String {
    if case .cut(let cut) = basis { return "cut \(cut)" }
    return "an empty volume"
  }

  private func at(_ page: JournalPage, _ episode: Episode, _ acceptsLoss: Bool) throws(ElideError) -> FoundBasis {
    let basis = Basis.cut(Self.cut(page))
    var why = state.basisFault(basis, acceptsLoss: false)
    if why == nil {
      do throws(ElideError) { return FoundBasis(basis: basis, lost: "", published: try open(Self.cut(page), episode)) } catch {
        // Only what is there and damaged, or gone, is a loss. A store that does not answer is asked again.
        guard error.kind == .fault || error.kind == .notFound else { throw error }
        why = error.message
      }
    }
    let text = "page \(page.page) of volume \(episode.volume) cannot be continued (\(why ?? ""))"
    guard acceptsLoss else { throw refused(text) }
    return try older(page, episode, text)
  }

  /// The newest page from `top` down whose cut may be continued and can be opened.
  private func older(_ top: JournalPage?, _ episode: Episode, _ why: String) throws(ElideError) -> FoundBasis {
    var n: UInt64 = 0
    if let top { n = top.page + 1 }
    while n > 0 {
      n -= 1
      guard let page = try page(n, episode) else { continue }
      let basis = Basis.cut(Self.cut(page))
      if state.basisFault(basis, acceptsLoss: true) != nil { continue }
      do throws(ElideError) {
        let published = try open(Self.cut(page), episode)
        return FoundBasis(
          basis: basis, lost: lost("\(why); volume \(episode.volume) is continued from page \(n), entry \(page.header.cut)"),
          published: published)
      } catch {
        guard error.kind == .fault || error.kind == .notFound else { throw error }
      }
    }
    return try inherited(episode, why, true)
  }

  private func page(_ n: UInt64, _ episode: Episode) throws(ElideError) -> JournalPage? {
    do throws(ElideError) {
      guard let found = try reader.pages(of: episode.volume).fetch(n) else { return nil }
      return (try? found.page.verify(key: episode.key)) != nil && !found.page.header.isTerminal ? found.page : nil
    } catch {
      if error.kind == .fault { return nil }
      throw error
    }
  }

  /// What the volume began with.
  private func inherited(_ episode: Episode, _ why: String, _ acceptsLoss: Bool) throws(ElideError) -> FoundBasis {
    var basis = Basis.empty(episode.volume)
    if let cut = episode.basis { basis = .cut(cut) }
    var text = ""
    if let fault = state.basisFault(basis, acceptsLoss: false) {
      if let fatal = state.basisFault(basis, acceptsLoss: true) { throw refused("\(why); \(fatal)") }
      guard acceptsLoss else { throw refused("\(why); \(fault)") }
      text = "\(why); \(fault)"
    } else if acceptsLoss {
      text = why
    }
    guard let cut = episode.basis else { return FoundBasis(basis: basis, lost: lost(text), published: nil) }
    return FoundBasis(basis: basis, lost: lost(text), published: try open(cut, episode))
  }

  /// A cut by its page, which the name's log names by its hash.
  private func open(_ cut: Cut, _ episode: Episode) throws(ElideError) -> PublishedVolume {
    let known = state.holdings.episodes.last { $0.volume == cut.volume }
    return try reader.open(cut, key: known?.key)
  }

  private func lost(_ text: String) -> String { String(text.prefix(512)) }

  private func refused(_ why: String) -> ElideError {
    ElideError(.failed, "\(state.sentence): \(why); \(Refusal.Instead.acceptLoss.advice(state.name, state))")
  }
}
