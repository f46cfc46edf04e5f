import ElideIO

/// What an S3 endpoint, or whoever sits there, answers in XML: names and depth stay bounded, and a list that is taken for one
/// says the same when it is written and read again.
enum S3Fuzz {
  static func run(_ bytes: [UInt8]) {
    var visits = 0
    var roots = 0
    var textBytes = 0
    let isDocument = XMLLeaves.walk(bytes) { path, text in
      precondition(!path.isEmpty && path.count <= XMLLeaves.maxDepth, "nested \(path.count) deep")
      precondition(path.allSatisfy { !$0.isEmpty && $0.utf8.count <= 64 }, "a name without bounds")
      visits += 1
      textBytes += text.utf8.count
      if path.count == 1 { roots += 1 }
    }
    precondition(visits <= bytes.count / 3 && textBytes <= bytes.count, "more than was sent")
    precondition(!isDocument || roots == 1, "a document with \(roots) roots")
    for prefix in ["", "p/"] {
      guard let listing = S3Listing(bytes, prefix: prefix) else { continue }
      precondition(isDocument, "a list that is no document")
      precondition(listing.objects.count <= bytes.count / 20, "more objects than were sent")
      precondition(S3Listing(written(listing, prefix), prefix: prefix) == listing, "another list when it is read again")
    }
  }

  private static func written(_ listing: S3Listing, _ prefix: String) -> [UInt8] {
    var text = "<ListBucketResult><IsTruncated>\(listing.isTruncated)</IsTruncated>"
    if let next = listing.next { text += "<NextContinuationToken>\(escaped(next))</NextContinuationToken>" }
    for object in listing.objects {
      text += "<Contents><Key>\(escaped(prefix + object.key))</Key><Size>\(object.size)</Size></Contents>"
    }
    return Array((text + "</ListBucketResult>").utf8)
  }

  /// By scalars: a Character may be a mark and what follows it.
  private static func escaped(_ text: String) -> String {
    var out = String.UnicodeScalarView()
    for c in text.unicodeScalars {
      switch c {
      case "&": out.append(contentsOf: "&amp;".unicodeScalars)
      case "<": out.append(contentsOf: "&lt;".unicodeScalars)
      case ">": out.append(contentsOf: "&gt;".unicodeScalars)
      default: out.append(c)
      }
    }
    return String(out)
  }

  static var seeds: [[UInt8]] {
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    let list =
      head
      + "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><IsTruncated>true</IsTruncated>"
      + "<NextContinuationToken>1/&#x41;&amp;=</NextContinuationToken>"
      + "<Contents><Key>p/a&lt;&#66;&gt;</Key><ETag>&quot;00&quot;</ETag><Size>12</Size></Contents>"
      + "<Contents><Key>p/\u{e9}</Key><Size>18446744073709551615</Size></Contents></ListBucketResult>"
    return [
      list, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
      head + "<Error><Code>SlowDown</Code><Message>Please reduce your rate</Message><Region>eu-1</Region><Resource/></Error>",
      "<html><body>Bad gateway<!-- no --></body></html>",
    ].map { Array($0.utf8) }
  }
}
