import ElideEvents
import ElideIO

/// A volume's projections at one seq: state, block map, space account. The running volume and every replay fold through
/// here, so that they cannot differ by how they fold.
///
/// Owned by one thread; `base.map` may have one reader beside it.
package final class VolumeFold {
  package private(set) var state: VolumeState
  package let base: BaseState

  /// Projections before entry 0 of a volume that begins empty, or over the base that its parent had at the cut.
  package convenience init(volume: ULID, inherited: BaseState? = nil) {
    let map = inherited?.map ?? BlockMap(blocks: 0)
    let rows = inherited?.account.ordered ?? []
    self.init(
      state: VolumeState(volume: volume),
      base: BaseState(map: map, account: SpaceAccount(volume: volume, rows: rows), seq: nil))
  }

  /// Projections loaded from a row and a checkpoint that stand at the same seq.
  package init(state: VolumeState, base: BaseState) {
    self.state = state
    self.base = base
  }

  /// Folds the next entry. An impossible entry changes nothing but the list of violations, and is returned; one whose blob
  /// means nothing, or not what the entry says, is impossible too. Throws only when a blob cannot be had.
  ///
  /// - Parameter blob: a blob that the entry names, checked against its digest by whoever gives it.
  @discardableResult
  package func apply<E: Error>(
    _ committed: Committed<VolumeEvent>, blob: (Digest) throws(E) -> [UInt8]
  ) throws(FoldError<E>) -> Violation? {
    var meaning = FoldBlob.none
    if state.fault(committed.event) == nil, let digest = FoldBlob.needed(by: committed.event) {
      let bytes: [UInt8]
      do throws(E) { bytes = try blob(digest) } catch { throw .blob(error) }
      meaning = FoldBlob.decode(bytes, for: committed.event)
      if case .content(let content) = meaning, let fault = strangers(content, committed.event) {
        meaning = .meaningless(FormatError("segment content", offset: 0, fault))
      }
    }
    let plans = state.compactions
    if let violation = state.apply(committed, meaning) {
      base.skip(to: committed.seq)
      return violation
    }
    base.grow(toBytes: state.size)
    var content: SegmentContent?
    var moves: [BlockMove] = []
    if case .content(let c) = meaning { content = c }
    if case .moves(let m) = meaning { moves = m }
    let ended = plans.filter { plan in !state.compactions.contains(plan) }
    base.fold(committed, content: content, moves: moves, outputs: ended.flatMap(\.outputs))
    return nil
  }
}

extension VolumeFold {
  /// Targets that no table knows: the state knows own segments only, the account also inherited ones.
  private func strangers(_ content: SegmentContent, _ event: VolumeEvent) -> String? {
    guard case .segmentSealed(let s) = event else { return nil }
    for run in content.runs {
      guard case .duplicate(let target) = run.kind, target.segment != s.segment else { continue }
      guard let row = base.account[target.segment] else { return "names segment \(target.segment), which is in no table" }
      if UInt64(target.r) + run.count > UInt64(row.blocks) {
        return "names block \(UInt64(target.r) + run.count - 1) of segment \(target.segment)"
      }
    }
    return nil
  }
}

/// The blob beside an entry, decoded: what folding needs and the entry only names.
package enum FoldBlob: Equatable, Sendable {
  case none
  case content(SegmentContent)
  case moves([BlockMove])
  case segments(SegmentList)
  /// Its bytes are those that the entry names, and mean nothing.
  case meaningless(FormatError)

  /// Digest of the blob that folding `event` needs; nil when it needs none.
  package static func needed(by event: VolumeEvent) -> Digest? {
    switch event {
    case .segmentSealed(let s): s.content
    case .compactionCommitted(_, let moves): moves
    case .segmentsRetired(let list, _), .segmentsDeleted(let list, _, _): list
    default: nil
    }
  }

  /// Decodes that blob.
  package static func decode(_ bytes: [UInt8], for event: VolumeEvent, _ zstd: ZstdCodec? = nil) -> FoldBlob {
    do throws(FormatError) {
      switch event {
      case .segmentSealed: return .content(try SegmentContent.decode(bytes, zstd))
      case .compactionCommitted: return .moves(try BlockMoves.decode(bytes))
      case .segmentsRetired, .segmentsDeleted: return .segments(try SegmentList.decode(bytes, zstd))
      default: return .none
      }
    } catch {
      return .meaningless(error)
    }
  }
}

package enum FoldError<Underlying: Error>: Error {
  /// The blob that an entry names could not be had.
  case blob(Underlying)
}
