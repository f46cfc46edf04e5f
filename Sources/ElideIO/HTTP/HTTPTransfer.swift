import CCurl
import Glibc

/// One request on its way, on one easy handle: what libcurl's callbacks read and fill. Owned by the thread that drives the
/// lane; it must live, at the same address, until the handle is removed from its multi handle.
final class HTTPTransfer {
  /// Headers that a server may send in all, and bytes kept of an answer that is no success.
  static let maxHeaderBytes = 64 << 10
  static let maxErrorBytes = 64 << 10

  let handle: UnsafeMutableRawPointer
  private let request: HTTPExchange
  private var headerList: UnsafeMutablePointer<curl_slist>?
  private let errorText: UnsafeMutablePointer<CChar>

  private(set) var body: [UInt8] = []
  private(set) var headers: [String: String] = [:]
  private var headerBytes = 0
  private(set) var overflow: String?
  private(set) var sent = 0
  /// Bytes of both directions: whether anything moves.
  private(set) var moved = 0
  /// Enough of an error's text is here, and the rest was not waited for.
  private var isCutShort = false
  /// All headers are here, up to the blank line: libcurl takes an end in the middle of them for an empty answer.
  private var isHeadWhole = false
  /// A byte of the answer is here.
  private(set) var answered = false
  private var bodyPart = 0
  private var bodyOffset = 0

  init(_ handle: UnsafeMutableRawPointer, _ request: HTTPExchange, caFile: String?, sockets: LaneSockets) {
    self.handle = handle
    self.request = request
    errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
    errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    for (name, value) in request.headers { headerList = curl_slist_append(headerList, "\(name): \(value)") }
    // No round trip before the body; and no type that libcurl would make up.
    headerList = curl_slist_append(headerList, "Expect:")
    configure(caFile)
    sockets.watch(handle)
  }

  deinit {
    curl_easy_reset(handle)  // what it points at goes now
    curl_slist_free_all(headerList)
    errorText.deallocate()
  }

  private func configure(_ caFile: String?) {
    let me = Unmanaged.passUnretained(self).toOpaque()
    _ = elide_curl_set_string(handle, CURLOPT_URL, request.url)
    _ = elide_curl_set_long(handle, CURLOPT_NOSIGNAL, 1)
    _ = elide_curl_set_long(handle, CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
    _ = elide_curl_set_long(handle, CURLOPT_PATH_AS_IS, 1)
    _ = elide_curl_set_long(handle, CURLOPT_TCP_KEEPALIVE, 1)
    _ = elide_curl_set_long(handle, CURLOPT_BUFFERSIZE, 256 << 10)
    _ = elide_curl_set_long(handle, CURLOPT_UPLOAD_BUFFERSIZE, 256 << 10)
    _ = elide_curl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, Int(min(request.timeoutNanoseconds / 1_000_000, 10_000)))
    _ = elide_curl_set_string(handle, CURLOPT_USERAGENT, "elide")
    _ = elide_curl_set_pointer(handle, CURLOPT_HTTPHEADER, headerList)
    _ = elide_curl_set_pointer(handle, CURLOPT_ERRORBUFFER, errorText)
    _ = elide_curl_set_sink(handle, Self.take, me)
    _ = elide_curl_set_headers_sink(handle, Self.takeHeader, me)
    _ = elide_curl_set_gate(handle, Self.gate, me)
    if let caFile { _ = elide_curl_set_string(handle, CURLOPT_CAINFO, caFile) }
    switch request.method {
    case .get: break
    case .delete: _ = elide_curl_set_string(handle, CURLOPT_CUSTOMREQUEST, "DELETE")
    case .put:
      _ = elide_curl_set_long(handle, CURLOPT_UPLOAD, 1)
      _ = elide_curl_set_offset(handle, CURLOPT_INFILESIZE_LARGE, Int64(request.body?.count ?? 0))
      _ = elide_curl_set_source(handle, Self.give, me)
    }
  }

  // MARK: Callbacks

  private static func me(_ context: UnsafeMutableRawPointer) -> HTTPTransfer {
    Unmanaged<HTTPTransfer>.fromOpaque(context).takeUnretainedValue()
  }

  private static let take: elide_curl_sink = { bytes, size, count, context in
    guard let bytes, let context else { return 0 }
    return me(context).keep(UnsafeRawBufferPointer(start: bytes, count: size * count))
  }
  private static let takeHeader: elide_curl_sink = { bytes, size, count, context in
    guard let bytes, let context else { return 0 }
    return me(context).keepHeader(UnsafeRawBufferPointer(start: bytes, count: size * count))
  }
  private static let give: elide_curl_sink = { bytes, size, count, context in
    guard let bytes, let context else { return Int(CURL_READFUNC_ABORT) }
    return me(context).fill(UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
  }
  private static let gate: elide_curl_gate = { context, _, _, _, _ in
    guard let context else { return Int32(CURL_PREREQFUNC_ABORT) }
    return me(context).mayGo() ? Int32(CURL_PREREQFUNC_OK) : Int32(CURL_PREREQFUNC_ABORT)
  }

  /// libcurl sends a request again, by itself, when a kept connection turns out to be dead. Another process may have been
  /// given the first one by then, so a request that must go out once stops here.
  private func mayGo() -> Bool {
    sent += 1
    // Others go on only while none of the body has left: libcurl cannot rewind it.
    return !(request.once && sent > 1)
  }

  private func keep(_ bytes: UnsafeRawBufferPointer) -> Int {
    moved += bytes.count
    answered = true
    guard (200..<300).contains(elide_curl_response_code(handle)) else {
      // Text for people: its beginning is enough, and nobody waits for the rest.
      body.append(contentsOf: bytes.prefix(max(0, Self.maxErrorBytes - body.count)))
      isCutShort = body.count == Self.maxErrorBytes
      return isCutShort ? 0 : bytes.count
    }
    if body.count + bytes.count > request.limit {
      overflow = "the answer is larger than \(request.limit) bytes"
      return 0  // tells libcurl to stop
    }
    if body.isEmpty {
      // What the server says is not believed beyond a size that would be taken anyway.
      let announced = headers["content-length"].flatMap { Int($0) } ?? 0
      body.reserveCapacity(min(max(announced, bytes.count), request.limit, 64 << 20))
    }
    body.append(contentsOf: bytes)
    return bytes.count
  }

  private func keepHeader(_ bytes: UnsafeRawBufferPointer) -> Int {
    moved += bytes.count
    answered = true
    headerBytes += bytes.count
    if headerBytes > Self.maxHeaderBytes {
      overflow = "the answer has more than \(Self.maxHeaderBytes) bytes of headers"
      return 0
    }
    // A status line begins a new answer: after "100 Continue", or a proxy's.
    if bytes.starts(with: "HTTP/".utf8) {
      headers.removeAll()
      isHeadWhole = false
    }
    if bytes.allSatisfy(Self.isBlank) { isHeadWhole = true }
    guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")) else { return bytes.count }
    let name = String(decoding: bytes[..<colon], as: UTF8.self).lowercased()
    let value = bytes[(colon + 1)...].drop { Self.isBlank($0) }
    let end = value.lastIndex { !Self.isBlank($0) }.map { $0 + 1 } ?? value.startIndex
    headers[name] = String(decoding: value[..<end], as: UTF8.self)
    return bytes.count
  }
  private static func isBlank(_ c: UInt8) -> Bool { c == 0x20 || (0x09...0x0D).contains(c) }

  /// The next bytes of the body.
  private func fill(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard let body = request.body else { return 0 }
    var filled = 0
    switch body {
    case .memory(let bytes):
      filled = min(buffer.count, bytes.count - bodyOffset)
      if filled > 0 { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[bodyOffset..<bodyOffset + filled])) }
      bodyOffset += filled
    case .parts(let parts):
      while bodyPart < parts.count, filled < buffer.count {
        let n = min(buffer.count - filled, parts[bodyPart].count - bodyOffset)
        parts[bodyPart].withUnsafeBytes { part in
          UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: part[bodyOffset..<bodyOffset + n]))
        }
        filled += n
        bodyOffset += n
        if bodyOffset == parts[bodyPart].count { (bodyPart, bodyOffset) = (bodyPart + 1, 0) }
      }
    }
    moved += filled
    return filled
  }

  // MARK: The end

  /// What libcurl's code means for the caller.
  func result(_ code: CURLcode, firstByte: UInt64, sent: Int) -> Result<HTTPAnswer, HTTPFault> {
    guard code == CURLE_OK || isCutShort else { return .failure(fault(code)) }
    guard isHeadWhole else { return .failure(.interrupted("the answer ends in its headers")) }
    let answer = HTTPAnswer(
      status: elide_curl_response_code(handle), headers: headers, body: body, firstByteNanoseconds: firstByte, sent: sent)
    return .success(answer)
  }

  private func fault(_ code: CURLcode) -> HTTPFault {
    if let overflow { return .tooLarge(overflow) }
    let own = String(cString: errorText)
    let detail = own.isEmpty ? String(cString: curl_easy_strerror(code)) : own
    switch code {
    case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT: return .unreachable(detail)
    case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR: return .untrusted(detail)
    // Before the request was sent, a connect time-out looks the same: nothing is known either way.
    case CURLE_OPERATION_TIMEDOUT: return sent == 0 ? .unreachable(detail) : .timedOut(detail)
    // It was a kept connection, and the server had closed it: libcurl would send the body again, and cannot, or must not.
    case CURLE_ABORTED_BY_CALLBACK where request.once && sent > 1, CURLE_SEND_FAIL_REWIND:
      return .interrupted("the connection was closed before an answer came")
    default: return .interrupted(detail)
    }
  }
}
