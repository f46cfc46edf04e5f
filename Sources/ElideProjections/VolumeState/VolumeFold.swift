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

  /// Folds the next entry. An impossible entry changes nothing but the list of violations, and is returned.
  ///
  /// - Parameter blob: a blob that the entry names, checked against its digest by whoever gives it.
  @discardableResult
  package func apply<E: Error>(
    _ committed: Committed<VolumeEvent>, blob: (Digest) throws(E) -> [UInt8]
  ) throws(FoldError<E>) -> Violation? {
    var content: SegmentContent?
    var moves: [BlockMove] = []
    switch committed.event {
    case .segmentSealed(let s) where state.fault(committed.event) == nil:
      content = try Self.decode(s.content, committed.seq, blob) { (b) throws(FormatError) in try SegmentContent.decode(b) }
    case .compactionCommitted(_, let list) where state.fault(committed.event) == nil:
      moves = try Self.decode(list, committed.seq, blob) { (b) throws(FormatError) in try BlockMoves.decode(b) }
    default: break
    }
    if let violation = state.apply(committed) {
      base.skip(to: committed.seq)
      return violation
    }
    base.grow(toBytes: state.size)
    base.fold(committed, content: content, moves: moves)
    return nil
  }

  private static func decode<T, E: Error>(
    _ digest: Digest, _ seq: UInt64, _ blob: (Digest) throws(E) -> [UInt8], _ body: ([UInt8]) throws(FormatError) -> T
  ) throws(FoldError<E>) -> T {
    let bytes: [UInt8]
    do throws(E) { bytes = try blob(digest) } catch { throw .blob(error) }
    do throws(FormatError) { return try body(bytes) } catch { throw .undecodable(seq: seq, error) }
  }
}

package enum FoldError<Underlying: Error>: Error {
  /// The blob that an entry names could not be had.
  case blob(Underlying)
  /// It could, and is no such thing.
  case undecodable(seq: UInt64, FormatError)
}
