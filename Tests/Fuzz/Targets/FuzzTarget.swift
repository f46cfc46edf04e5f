import ElideIO

/// What hostile bytes are fed to: everything that crosses a boundary.
///
/// A target takes bytes and returns. It stops the process (a precondition) when a promise of the parser is broken: a trap,
/// memory beyond its bounds, or an answer that does not survive being written and read again. An error is a good answer.
/// One name is one folder of seeds in `fixtures/fuzz`.
package enum FuzzTarget: String, CaseIterable, Sendable {
  /// What an NBD client sends: handshake and requests.
  case nbd
  /// A journal entry.
  case entry
  /// An entry of a name's log.
  case nameEntry
  /// The TOML documents of a store: head, volume, host, store.
  case document
  /// A signed checkpoint, and a proof that ends with one.
  case proof
  /// A journal page.
  case page
  /// A segment's content, and its list and moves.
  case content
  /// A segment's encoding.
  case encoding
  /// A segment's body, of a segment whose encoding comes from the input too.
  case body
  /// A map checkpoint.
  case checkpoint
  /// The folded state inside a checkpoint.
  case state
  /// Two write-ahead files, recovered.
  case wal
  /// A whole store of which bytes were changed, opened and read by another host.
  case store
  /// What an S3 endpoint answers in XML.
  case s3

  /// Seeds of other kinds that fit too, as folders of `fixtures`.
  package var otherSeeds: [String] {
    switch self {
    case .entry: ["journal/schema-1"]
    case .nameEntry: ["names/schema-1"]
    case .page: ["pages/version-1"]
    default: []
    }
  }

  package func run(_ bytes: [UInt8]) {
    switch self {
    case .nbd: NBDFuzz.run(bytes)
    case .entry: EventFuzz.entry(bytes)
    case .nameEntry: NameFuzz.entry(bytes)
    case .document: EventFuzz.document(bytes)
    case .proof: NameFuzz.proof(bytes)
    case .page: EventFuzz.page(bytes)
    case .content: SegmentFuzz.content(bytes)
    case .encoding: SegmentFuzz.encoding(bytes)
    case .body: SegmentFuzz.body(bytes)
    case .checkpoint: CheckpointFuzz.run(bytes)
    case .state: CheckpointFuzz.state(bytes)
    case .wal: WALFuzz.run(bytes)
    case .store: StoreFuzz.run(bytes)
    case .s3: S3Fuzz.run(bytes)
    }
  }

  /// What the search begins with: one sound input of each shape.
  package var seeds: [[UInt8]] {
    switch self {
    case .nbd: NBDFuzz.seeds
    case .entry, .nameEntry: []
    case .document: EventFuzz.documents
    case .proof: NameFuzz.proofs
    case .page: []
    case .content: SegmentFuzz.contents
    case .encoding: SegmentFuzz.encodings
    case .body: SegmentFuzz.bodies
    case .checkpoint: CheckpointFuzz.seeds
    case .state: CheckpointFuzz.states
    case .wal: WALFuzz.seeds
    case .store: StoreFuzz.seeds
    case .s3: S3Fuzz.seeds
    }
  }
}

/// Takes an input apart: a byte, a number, the rest. Past its end there are zeros.
struct FuzzInput {
  private let bytes: [UInt8]
  private var at = 0
  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var isEmpty: Bool { at >= bytes.count }
  mutating func byte() -> UInt8 {
    guard at < bytes.count else { return 0 }
    at += 1
    return bytes[at - 1]
  }
  mutating func word() -> Int { Int(byte()) << 8 | Int(byte()) }
  mutating func take(_ count: Int) -> [UInt8] {
    let end = min(bytes.count, at + count)
    defer { at = end }
    return Array(bytes[at..<end])
  }
  mutating func rest() -> [UInt8] { take(bytes.count - at) }
}
