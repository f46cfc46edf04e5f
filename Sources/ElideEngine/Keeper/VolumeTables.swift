import ElideEvents
import ElideIO
import ElideProjections
import Synchronization

/// The projections of one volume as it is kept or read: the fold, the segment table that fetchers use, and where the
/// pages carry each encoding. Entries go through `apply`, so the three never disagree.
///
/// Owned by the keeper's thread (or by whoever replays); the I/O thread reads `map`, fetchers read `directory`.
package final class VolumeTables {
  package let fold: VolumeFold
  package let directory: SegmentDirectory
  /// Where the bodies and encodings of uploaded segments are, as far as pages name them: own and inherited.
  package private(set) var bodies: [UInt64: BodyLocator] = [:]

  /// Over a fold at any seq; what the base's rows and the state know of segments is entered.
  package init(_ fold: VolumeFold, directory: SegmentDirectory = SegmentDirectory()) {
    self.fold = fold
    self.directory = directory
    for row in fold.base.account.ordered { adopt(row) }
    for segment in fold.state.ordered { enter(segment) }
  }

  package var state: VolumeState { fold.state }
  package var map: BlockMap { fold.base.map }
  package var volume: ULID { fold.state.volume }

  /// An inherited segment, or an own one whose encoding a page carries.
  private func adopt(_ row: SegmentTableRow) {
    if let body = row.body { bodies[row.number] = body }
    guard row.blocks > 0 else { return }
    directory.set(
      SegmentEntry(
        number: row.number, volume: row.volume, blocks: row.blocks, hash: row.body?.hash, encoding: row.body?.encoding,
        locator: row.body.map { Self.locator($0, row.volume) } ?? .none, uploaded: row.body != nil))
  }

  /// An own segment of the state that was loaded: what its events would have set.
  private func enter(_ s: OwnSegment) {
    guard s.blocks > 0 else { return }
    let body = bodies[s.number]
    directory.set(
      SegmentEntry(
        number: s.number, volume: volume, blocks: UInt32(s.blocks), hash: s.encoded?.hash, encoding: s.encoded?.encoding,
        locator: body.map { Self.locator($0, volume) } ?? (s.encoded == nil ? .none : .local), uploaded: s.uploadedSeq != nil))
  }

  private static func locator(_ body: BodyLocator, _ volume: ULID) -> EncodingLocator {
    .page(volume: volume, page: body.page, offset: body.offset, length: body.frameLength)
  }

  /// Folds the next entry. An entry that is impossible where it stands changes nothing and comes back as a violation.
  @discardableResult
  package func apply<E: Error>(
    _ committed: Committed<VolumeEvent>, blob: (Digest) throws(E) -> [UInt8]
  ) throws(FoldError<E>) -> Violation? {
    if let violation = try fold.apply(committed, blob: blob) { return violation }
    switch committed.event {
    case .segmentSealed(let s):
      if let segment = state.segments[s.segment] { enter(segment) }
    case .segmentEncoded(let e):
      directory.update(e.segment) {
        $0.hash = e.hash
        $0.encoding = e.encoding
        $0.locator = .local
      }
    case .segmentUploaded(let n, _): directory.update(n) { $0.uploaded = true }
    default: break
    }
    return nil
  }

  /// A page carries the encoding of an own segment: from here on any host can read it. Nothing happens when the segment
  /// was encoded anew since.
  package func publish(_ encoding: PublishedEncoding) {
    guard let e = state.segments[encoding.segment]?.encoded, e.encoding == encoding.digest else { return }
    let body = BodyLocator(
      hash: e.hash, length: e.length, encoding: e.encoding, page: encoding.page, offset: encoding.offset,
      frameLength: encoding.length)
    bodies[encoding.segment] = body
    directory.update(encoding.segment) { $0.locator = Self.locator(body, volume) }
  }

  /// An encoding of a segment sealed at or before this fold's seq that only later pages tell of (they say nothing else to
  /// a reader who stops here).
  package func publishLater(_ e: EncodedSegment, uploaded: Bool, at encoding: PublishedEncoding) {
    let body = BodyLocator(
      hash: e.hash, length: e.length, encoding: e.encoding, page: encoding.page, offset: encoding.offset,
      frameLength: encoding.length)
    bodies[e.segment] = body
    directory.update(e.segment) {
      $0.hash = e.hash
      $0.encoding = e.encoding
      $0.uploaded = uploaded
      $0.locator = Self.locator(body, volume)
    }
  }

  /// The table for a checkpoint: accounts with the bodies' places filled in.
  package var rows: [SegmentTableRow] {
    fold.base.account.ordered.map { row in
      var row = row
      row.body = bodies[row.number]
      return row
    }
  }
}

/// Where a page carries a segment's encoding.
package struct PublishedEncoding: Equatable, Sendable {
  package var segment: UInt64
  package var digest: Digest
  package var page: UInt64
  /// Bytes [offset, offset+length) of the page. Encodings are stored as they are, so these bytes are the blob.
  package var offset: UInt64
  package var length: UInt32

  package init(segment: UInt64, digest: Digest, page: UInt64, offset: UInt64, length: UInt32) {
    self.segment = segment
    self.digest = digest
    self.page = page
    self.offset = offset
    self.length = length
  }

  /// All encodings that a page carries, in the order of its entries.
  package static func all(in page: JournalPage, events: [VolumeEvent]) -> [PublishedEncoding] {
    events.compactMap { event in
      guard case .segmentEncoded(let e) = event, let frame = page.frame(e.encoding), frame.codec == .raw else { return nil }
      return PublishedEncoding(
        segment: e.segment, digest: e.encoding, page: page.page, offset: frame.offset, length: frame.storedLength)
    }
  }
}
