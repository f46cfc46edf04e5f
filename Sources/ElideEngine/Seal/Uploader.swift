import ElideIO
import ElideProjections

/// A body with its names: what `segment_encoded` says before the first byte leaves.
package struct NamedBody: Sendable {
  package let body: EncodedBody
  /// The encoding blob, and its digest.
  package let encodingBlob: [UInt8]
  package let encodingDigest: Digest
  /// SHA-256 over the digests of content and encoding.
  package let hash: Digest
  package let key: String

  /// - Parameter content: digest of the segment's content blob.
  package init(_ body: EncodedBody, volume: ULID, segment: UInt64, content: Digest) {
    self.body = body
    encodingBlob = body.encoding.encode()
    encodingDigest = Digest.sha256(encodingBlob)
    hash = SegmentEncoding.segmentHash(content: content, encoding: encodingDigest)
    key = StoreLayout.body(volume: volume, segment: segment, hash: hash)
  }
}

package enum Uploader {
  /// Puts a body under its key; when this returns the store has verified it. The key names the contents, so doing it again, or
  /// twice at once, puts the same bytes. `.unknown` means that it may be there: put it again.
  package static func put(_ named: NamedBody, to store: any Store) throws(StoreError) {
    precondition(named.body.parts.reduce(0) { $0 + UInt64($1.count) } == named.body.length, "a body of another length")
    try store.put(named.key, parts: named.body.parts)
  }
}
