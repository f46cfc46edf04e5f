import CCurl

/// One HTTP/1.1 request by libcurl, blocking, over TCP or a Unix socket. What the command line uses to talk to a serving
/// process. No retries, no redirects, no connection reuse.
///
/// Safe on any thread: each call has a handle of its own.
package enum HTTPClient {
  package struct Response: Equatable, Sendable {
    package let status: Int
    package let body: [UInt8]
  }

  package enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
    /// Nobody listens: no such socket, or connection refused. The request has not been seen by anyone.
    case noServer(String)
    /// Sent, or partly; no complete answer. The server may have acted on it.
    case interrupted(String)
    /// The answer is larger than the caller allowed.
    case tooLarge(limit: Int)

    package var description: String {
      switch self {
      case .noServer(let detail): "nobody answers: \(detail)"
      case .interrupted(let detail): "the request was cut off: \(detail)"
      case .tooLarge(let limit): "the answer is larger than \(limit) bytes"
      }
    }
  }

  private final class Sink {
    var bytes: [UInt8] = []
    let limit: Int
    var overflow = false
    /// Takes the bytes as they come, and they are not kept; false ends the request.
    let take: ((UnsafeRawBufferPointer) -> Bool)?
    init(limit: Int, take: ((UnsafeRawBufferPointer) -> Bool)?) {
      self.limit = limit
      self.take = take
    }
  }

  /// - Parameters:
  ///   - unixSocket: path of the socket to connect to; the URL's host is then only a label.
  ///   - timeoutMilliseconds: for the whole request; 0 for none.
  ///   - limit: bytes of body accepted.
  ///   - take: called with the body's bytes as they come, which are then not kept; false ends the request, `interrupted`.
  package static func send(
    _ method: String, _ url: String, unixSocket: String? = nil, body: [UInt8] = [], headers lines: [String] = [],
    timeoutMilliseconds: Int,
    limit: Int = 16 << 20, take: ((UnsafeRawBufferPointer) -> Bool)? = nil
  ) throws(Failure) -> Response {
    guard let handle = curl_easy_init() else { throw .noServer("libcurl has no handle to give") }
    defer { curl_easy_cleanup(handle) }
    let sink = Sink(limit: limit, take: take)
    var headers = curl_slist_append(nil, "Content-Type: application/json")
    headers = curl_slist_append(headers, "Expect:")
    for line in lines { headers = curl_slist_append(headers, line) }
    defer { curl_slist_free_all(headers) }

    _ = elide_curl_set_string(handle, CURLOPT_URL, url)
    _ = elide_curl_set_string(handle, CURLOPT_CUSTOMREQUEST, method)
    _ = elide_curl_set_long(handle, CURLOPT_NOSIGNAL, 1)
    _ = elide_curl_set_long(handle, CURLOPT_TIMEOUT_MS, timeoutMilliseconds)
    _ = elide_curl_set_string(handle, CURLOPT_PROXY, "")
    _ = elide_curl_set_pointer(handle, CURLOPT_HTTPHEADER, headers)
    if let unixSocket { _ = elide_curl_set_string(handle, CURLOPT_UNIX_SOCKET_PATH, unixSocket) }
    let collect: elide_curl_sink = { bytes, size, count, context in
      guard let bytes, let context else { return 0 }
      let sink = Unmanaged<Sink>.fromOpaque(context).takeUnretainedValue()
      let n = size * count
      if let take = sink.take { return take(UnsafeRawBufferPointer(start: bytes, count: n)) ? n : 0 }
      if sink.bytes.count + n > sink.limit {
        sink.overflow = true
        return 0  // tells libcurl to stop
      }
      sink.bytes.append(contentsOf: UnsafeRawBufferPointer(start: bytes, count: n))
      return n
    }
    _ = elide_curl_set_sink(handle, collect, Unmanaged.passUnretained(sink).toOpaque())

    let code = body.withUnsafeBufferPointer { b -> CURLcode in
      if !body.isEmpty {
        _ = elide_curl_set_long(handle, CURLOPT_POSTFIELDSIZE, body.count)
        _ = elide_curl_set_pointer(handle, CURLOPT_POSTFIELDS, UnsafeMutableRawPointer(mutating: b.baseAddress))
      }
      return withExtendedLifetime(sink) { curl_easy_perform(handle) }
    }
    if code == CURLE_OK {
      return Response(status: Int(elide_curl_response_code(handle)), body: sink.bytes)
    }
    if sink.overflow { throw .tooLarge(limit: limit) }
    let detail = String(cString: curl_easy_strerror(code))
    switch code {
    case CURLE_COULDNT_CONNECT, CURLE_COULDNT_RESOLVE_HOST: throw .noServer(detail)
    default: throw .interrupted(detail)
    }
  }
}
