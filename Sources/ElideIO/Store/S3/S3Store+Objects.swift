extension S3Store {
  /// Of one put in one request; S3 takes no more.
  package static let maxPutBytes = 5 << 30

  // MARK: Writing

  package func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    var call = try put(key, .memory(bytes))
    call.headers.append(("if-none-match", "*"))
    call.once = true
    let response: HTTPAnswer
    do throws(HTTPFault) { response = try exchange(call) } catch {
      // Nobody can be told from here whether the request went through.
      if case .untrusted = error { throw .refused(key: key, detail: describe(error)) }
      throw .unknown(key: key, detail: describe(error))
    }
    switch S3Answer(response, settings).verdict(now: world.clock.wallMilliseconds()) {
    case .done:
      try compare(key, response, call.md5)
      return .created
    case .conditionFailed: return .exists
    case .again(let detail, _): throw .unknown(key: key, detail: detail)
    case .refused(let detail): throw .refused(key: key, detail: detail)
    case .absent, .beyondEnd: throw .unknown(key: key, detail: "status \(response.status) for a put")
    case .expired(let detail):
      // It was not even looked at. With newer credentials the next try may be.
      if renewCredentials() { throw .unknown(key: key, detail: detail) }
      throw .refused(key: key, detail: detail)
    }
  }

  package func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    let call = try put(key, .parts(parts))
    try trying(key) { () throws(Trouble) in
      let (verdict, response) = try attempt(key, call)
      guard case .done = verdict else {
        throw .again("status \(response.status) for a put", reached: true, afterNanoseconds: 0)
      }
      do throws(StoreError) { try compare(key, response, call.md5) } catch { throw .final(error) }
    }
  }

  private func put(_ key: String, _ body: BodyBytes) throws(StoreError) -> Call {
    let size = body.count
    guard size <= Self.maxPutBytes else {
      throw .refused(key: key, detail: "\(size) bytes, and one request takes \(Self.maxPutBytes)")
    }
    var call = Call(method: .put, key: try fullKey(key))
    call.body = body
    call.md5 = MD5.digest(of: body)
    if let md5 = call.md5 { call.headers.append(("content-md5", base64(md5))) }
    return call
  }

  /// The ETag of what was stored against the MD5 of what was sent, where the two can be compared.
  private func compare(_ key: String, _ response: HTTPAnswer, _ md5: [UInt8]?) throws(StoreError) {
    guard let tag = response.etagMD5, let md5 else { return }
    if tag != hexadecimal(md5) { throw .corrupt(key: key, detail: "the store has taken other bytes: its ETag is \(tag)") }
  }

  package func delete(_ key: String) throws(StoreError) {
    let call = Call(method: .delete, key: try fullKey(key))
    _ = try trying(key) { () throws(Trouble) in try attempt(key, call) }
  }

  // MARK: Reading

  package func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    var call = Call(method: .get, key: try fullKey(key))
    call.mayHedge = true
    call.limit = settings.patience.maxObjectBytes
    if let range {
      // Nothing of an object is still a question whether there is one.
      let last = range.isEmpty ? range.lowerBound : range.upperBound - 1
      call.headers.append(("range", "bytes=\(range.lowerBound)-" + (last > UInt64(Int64.max) ? "" : "\(last)")))
      call.limit = Int(min(UInt64(call.limit), last - range.lowerBound + 1))
    }
    return try trying(key) { () throws(Trouble) in
      let (verdict, response) = try attempt(key, call)
      switch verdict {
      case .absent: throw .final(.notFound(key: key))
      case .beyondEnd where range != nil: return []
      case .done: break
      default: throw .again("status \(response.status) for a read", reached: true, afterNanoseconds: 0)
      }
      guard let range else { return try whole(key, response) }
      let bytes = try part(key, range, response)
      return range.isEmpty ? [] : bytes
    }
  }

  private func whole(_ key: String, _ response: HTTPAnswer) throws(Trouble) -> [UInt8] {
    if let tag = response.etagMD5, let md5 = MD5.digest(of: .parts([response.body])) {
      if tag == hexadecimal(md5) { return response.body }
      throw .final(.corrupt(key: key, detail: "the bytes do not have the MD5 of the ETag, \(tag)"))
    }
    // The end of a chunked answer is told; libcurl waits for it. But a length that it cannot read it leaves out.
    if response.headers["transfer-encoding"] == nil,
      response.headers["content-length"].flatMap({ Int($0) }) != response.body.count
    {
      throw .again("an answer without its length", reached: true, afterNanoseconds: 0)
    }
    return response.body
  }

  /// What was asked for is what came: neither another range nor the whole object under the name of a part.
  private func part(_ key: String, _ range: Range<UInt64>, _ response: HTTPAnswer) throws(Trouble) -> [UInt8] {
    guard response.status == 206, let came = ContentRange(response.headers["content-range"] ?? "") else {
      throw .final(
        .refused(key: key, detail: "the store answers a ranged read with status \(response.status): it knows no ranges"))
    }
    let end = range.isEmpty ? range.lowerBound + 1 : range.upperBound
    guard came.first == range.lowerBound, came.end == min(end, came.total), response.body.count == Int(came.end - came.first)
    else {
      throw .final(
        .corrupt(
          key: key,
          detail: "asked for bytes \(range.lowerBound)..<\(end), got \(response.body.count) bytes called "
            + "\(came.first)..<\(came.end) of \(came.total)"))
    }
    return response.body
  }

  package func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    var found: [StoredObject] = []
    var start = after
    while found.count < limit {
      let (page, isLast) = try listPage(prefix, after: start, limit: min(settings.listPage, limit - found.count))
      // What cannot be a key is not ours.
      found += page.filter { StoreKey.fault($0.key) == nil }
      if isLast { break }
      start = page.last?.key
    }
    return found
  }

  /// One request: objects in order, and whether they are the last.
  private func listPage(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> ([StoredObject], Bool) {
    var call = Call(method: .get, key: "")
    call.limit = 8 << 20
    call.query = [("list-type", "2"), ("max-keys", "\(limit)"), ("prefix", settings.prefix + prefix)]
    // By key, not by token: a list that is cut short by a failure goes on where it was.
    if let after { call.query.append(("start-after", settings.prefix + after)) }
    return try trying(prefix) { () throws(Trouble) in
      let (verdict, response) = try attempt(prefix, call)
      guard case .done = verdict else {
        throw .final(.refused(key: prefix, detail: "the store answers a list with status \(response.status)"))
      }
      guard let listing = S3Listing(response.body, prefix: settings.prefix) else {
        throw .final(.corrupt(key: prefix, detail: "the answer to a list is not one"))
      }
      var previous = after ?? ""
      for object in listing.objects {
        guard previous.utf8.lexicographicallyPrecedes(object.key.utf8), object.key.hasPrefix(prefix) else {
          throw .final(
            .corrupt(key: prefix, detail: "the store lists '\(object.key)' after '\(previous)': keys must be in order"))
        }
        previous = object.key
      }
      if listing.isTruncated && listing.objects.isEmpty {
        throw .final(.corrupt(key: prefix, detail: "a list that is to go on and has nothing in it"))
      }
      return (listing.objects, !listing.isTruncated)
    }
  }

  /// The key in the bucket.
  private func fullKey(_ key: String) throws(StoreError) -> String {
    if let fault = StoreKey.fault(key) { throw .refused(key: key, detail: "the key \(fault)") }
    return settings.prefix + key
  }
}

/// `bytes first-last/total`.
struct ContentRange: Equatable {
  let first: UInt64
  let end: UInt64
  let total: UInt64

  init?(_ text: String) {
    guard text.hasPrefix("bytes ") else { return nil }
    let parts = text.dropFirst(6).split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let total = UInt64(parts[1]) else { return nil }
    let ends = parts[0].split(separator: "-", omittingEmptySubsequences: false)
    guard ends.count == 2, let first = UInt64(ends[0]), let last = UInt64(ends[1]), first <= last, last < total else {
      return nil
    }
    (self.first, end, self.total) = (first, last + 1, total)
  }
}
