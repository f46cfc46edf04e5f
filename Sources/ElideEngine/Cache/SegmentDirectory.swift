import ElideIO
import ElideProjections
import Synchronization

/// Where a segment's encoding blob is to be had.
package enum EncodingLocator: Equatable, Sendable {
  /// Not encoded yet, or without blocks: there is nothing to fetch.
  case none
  /// A blob of this host's journal of the owning volume.
  case local
  /// A frame of a journal page: bytes [offset, offset+length) of it, verified by the encoding's digest.
  case page(volume: ULID, page: UInt64, offset: UInt64, length: UInt32)
}

/// What reading needs to know of one segment of a volume's table.
package struct SegmentEntry: Equatable, Sendable {
  package var number: UInt64
  /// The volume under whose prefix the body lies.
  package var volume: ULID
  package var blocks: UInt32
  /// Hash in the body's key; nil until encoded.
  package var hash: Digest?
  package var encoding: Digest?
  package var locator: EncodingLocator
  package var uploaded: Bool
  /// Bytes of the body object, to check the encoding against; 0 while unknown.
  package var bodyLength: UInt64

  package init(
    number: UInt64, volume: ULID, blocks: UInt32, hash: Digest? = nil, encoding: Digest? = nil,
    locator: EncodingLocator = .none, uploaded: Bool = false, bodyLength: UInt64 = 0
  ) {
    self.number = number
    self.volume = volume
    self.blocks = blocks
    self.hash = hash
    self.encoding = encoding
    self.locator = locator
    self.uploaded = uploaded
    self.bodyLength = bodyLength
  }

  /// `volumes/<vol>/segments/<n:16>-<hash>`; nil until encoded.
  package var bodyKey: String? { hash.map { StoreLayout.body(volume: volume, segment: number, hash: $0) } }
}

/// A volume's table of segments, its own and inherited. The keeper writes it as it folds the journal; fetchers, the
/// sealer and `status` read it from their threads. Holds nothing that the journal does not: a crash loses nothing.
package final class SegmentDirectory: Sendable {
  private let entries = Mutex<[UInt64: SegmentEntry]>([:])

  package init() {}

  package subscript(_ number: UInt64) -> SegmentEntry? { entries.withLock { $0[number] } }
  package func set(_ entry: SegmentEntry) { entries.withLock { $0[entry.number] = entry } }
  package func update(_ number: UInt64, _ change: (inout SegmentEntry) -> Void) {
    entries.withLock { table in
      guard var entry = table[number] else { return }
      change(&entry)
      table[number] = entry
    }
  }
  /// All entries in the order of their numbers.
  package var all: [SegmentEntry] { entries.withLock { $0.values.sorted { $0.number < $1.number } } }
}
