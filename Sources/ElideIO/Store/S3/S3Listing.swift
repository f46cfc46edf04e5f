/// One page of a ListObjectsV2 answer.
package struct S3Listing: Equatable, Sendable {
  package var objects: [StoredObject] = []
  package var isTruncated = false
  package var next: String?

  /// nil for what is no such answer. Keys come with the settings' prefix; what does not begin with it is not believed.
  package init?(_ bytes: [UInt8], prefix: String) {
    var key: String?
    var size: UInt64?
    var objects: [StoredObject] = []
    var truncated: Bool?
    var next: String?
    var isBad = false
    let isWhole = XMLLeaves.walk(bytes) { path, text in
      guard path.first == "ListBucketResult" else { return isBad = true }
      switch path.dropFirst().joined(separator: "/") {
      case "IsTruncated": truncated = text == "true"
      case "NextContinuationToken": next = text
      case "Contents/Key": key = text
      case "Contents/Size": size = UInt64(text)
      case "Contents":
        guard let found = key, let length = size, found.hasPrefix(prefix) else { return isBad = true }
        objects.append(StoredObject(key: String(found.dropFirst(prefix.count)), size: length))
        (key, size) = (nil, nil)
      default: break
      }
    }
    guard isWhole, !isBad, let truncated else { return nil }
    self.objects = objects
    self.isTruncated = truncated
    self.next = next
  }
}
