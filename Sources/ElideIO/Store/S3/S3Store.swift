import Glibc
import Synchronization

// What a crash or a lost answer means here: an object is in the bucket whole or not at all. A put whose answer did not come
// may be there now, later, or never; `putIfAbsent` says `.unknown` then and leaves asking to its caller.

/// An object store in a bucket that speaks S3 (docs/s3.md). Safe on any thread; calls block.
///
/// - Conditional puts are one request, with `If-None-Match: *`, sent once; never multipart, whose condition some servers
///   ignore. All other requests are idempotent and are tried again, with pauses, until the operation's time is over.
/// - What is put carries its MD5 and SHA-256, and the ETag of the answer is compared; whole objects are compared with their
///   ETag when read. Ranges cannot be; who reads them has checksums of its own.
/// - Memory: a put needs none but a send buffer; a get holds the bytes asked for.
package final class S3Store: Store {
  package let url: String
  package let settings: S3Settings
  let world: World
  let transport: HTTPTransport
  private let environment: AWSEnvironment
  private let sleep: @Sendable (UInt64) -> Void
  private let tallies = Mutex(StoreCounters())
  private let hedging: Mutex<HedgePolicy>
  private let credentials: Mutex<S3Credentials>

  /// Nothing is sent yet: whether the bucket is there shows at the first request. Throws when there are no credentials.
  package init(
    _ settings: S3Settings, environment: AWSEnvironment, world: World,
    sleep: @escaping @Sendable (UInt64) -> Void = S3Store.sleep
  ) throws(StoreError) {
    self.settings = settings
    self.environment = environment
    self.world = world
    self.sleep = sleep
    url = settings.url
    credentials = Mutex(try environment.credentials())
    hedging = Mutex(HedgePolicy(settings.hedging))
    transport = HTTPTransport(clock: world.clock, caFile: settings.caFile, connections: settings.connections)
  }

  /// Waits in production.
  package static let sleep: @Sendable (UInt64) -> Void = { nanoseconds in
    var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    nanosleep(&time, nil)
  }

  package var counters: StoreCounters { tallies.withLock { $0 } }

  // MARK: Requests

  /// A request to sign and send.
  struct Call {
    var method: HTTPExchange.Method
    /// With the prefix; empty for the bucket itself.
    var key: String
    var query: [(name: String, value: String)] = []
    var headers: [(name: String, value: String)] = []
    var body: BodyBytes?
    /// Of the body.
    var md5: [UInt8]?
    /// What is signed instead of the body's SHA-256; only to see whether the store notices.
    var payloadHash: String?
    var limit = 1 << 20
    var once = false
    var mayHedge = false
  }

  /// One exchange. `once` and retries are the callers' business.
  func exchange(_ call: Call) throws(HTTPFault) -> HTTPAnswer {
    let date = SigV4.date(milliseconds: world.clock.wallMilliseconds())
    let keys = credentials.withLock { $0 }
    let payload = call.payloadHash ?? Self.payloadHash(call.body)
    var signed: [(name: String, value: String)] = [
      ("host", settings.host), ("x-amz-content-sha256", payload), ("x-amz-date", date),
    ]
    if let token = keys.sessionToken { signed.append(("x-amz-security-token", token.reveal())) }
    signed += call.headers
    let path = settings.path(call.key)
    let signer = SigV4(credentials: keys, region: settings.region)
    let authorization = signer.authorization(
      method: call.method.rawValue, path: path, query: call.query, headers: signed, payload: payload, date: date)
    let query = call.query.isEmpty ? "" : "?" + SigV4.canonicalQuery(call.query)
    let base = "\(settings.endpoint.isTLS ? "https" : "http")://\(settings.host)\(path)\(query)"
    let bytes = (call.body?.count ?? 0) + (call.method == .get ? min(call.limit, settings.patience.maxObjectBytes) : 0)
    var request = HTTPExchange(
      call.method, base, timeoutNanoseconds: settings.patience.request(bytes),
      stallNanoseconds: settings.patience.stallNanoseconds, limit: call.limit)
    request.headers = signed.dropFirst() + [("authorization", authorization)]
    request.body = call.body
    request.once = call.once
    if call.mayHedge { request.hedgeNanoseconds = hedging.withLock { $0.delay() } }
    do throws(HTTPFault) {
      let response = try transport.send(request)
      count(call, sent: response.sent, read: response.body.count)
      if call.mayHedge && response.status < 300 {
        hedging.withLock { $0.note(response.firstByteNanoseconds, hedged: response.sent > 1) }
      }
      return response
    } catch {
      count(call, sent: 1, read: 0)
      throw error
    }
  }

  /// Hexadecimal SHA-256 of what is sent.
  private static func payloadHash(_ body: BodyBytes?) -> String {
    guard let body, let stream = SHA256Stream() else { return body == nil ? Digest.sha256([]).hex : "UNSIGNED-PAYLOAD" }
    body.forEach { stream.update($0) }
    return stream.finish().hex
  }

  private func count(_ call: Call, sent: Int, read: Int) {
    tallies.withLock {
      switch call.method {
      case .put: $0.puts += UInt64(sent)
      case .delete: $0.deletes += UInt64(sent)
      case .get: if call.key.isEmpty { $0.lists += UInt64(sent) } else { $0.gets += UInt64(sent) }
      }
      $0.bytesWritten += UInt64((call.body?.count ?? 0) * sent)
      $0.bytesRead += UInt64(read)
    }
  }

  // MARK: Tries

  /// Why one try did not do.
  enum Trouble: Error {
    case again(String, reached: Bool, afterNanoseconds: UInt64)
    case final(StoreError)
  }

  /// Tries an idempotent operation until it is done, refused, or out of time.
  func trying<T>(_ key: String, _ attempt: () throws(Trouble) -> T) throws(StoreError) -> T {
    var backoff = Backoff(settings.patience, now: world.clock.monotonicNanoseconds())
    while true {
      do throws(Trouble) { return try attempt() } catch {
        switch error {
        case .final(let error): throw error
        case .again(let detail, let reached, let after):
          let pause = backoff.pause(
            now: world.clock.monotonicNanoseconds(), random: world.random, reached: reached, atLeast: after)
          guard let pause else {
            throw .unknown(key: key, detail: backoff.tries > 1 ? "\(detail); tried \(backoff.tries) times" : detail)
          }
          sleep(pause)
        }
      }
    }
  }

  /// Sends one try of an idempotent call and sorts its answer: the response for `.done`, `.absent` and `.beyondEnd`.
  func attempt(_ key: String, _ call: Call) throws(Trouble) -> (S3Verdict, HTTPAnswer) {
    let response: HTTPAnswer
    do throws(HTTPFault) { response = try exchange(call) } catch { throw trouble(key, error) }
    let verdict = S3Answer(response, settings).verdict(now: world.clock.wallMilliseconds())
    switch verdict {
    case .done, .absent, .beyondEnd: return (verdict, response)
    case .again(let detail, let after): throw .again(detail, reached: true, afterNanoseconds: after)
    case .conditionFailed: throw .final(.refused(key: key, detail: "status 412 for a request without a condition"))
    case .refused(let detail): throw .final(.refused(key: key, detail: detail))
    case .expired(let detail):
      guard renewCredentials() else { throw .final(.refused(key: key, detail: detail)) }
      throw .again(detail, reached: true, afterNanoseconds: 0)
    }
  }

  private func trouble(_ key: String, _ fault: HTTPFault) -> Trouble {
    switch fault {
    case .untrusted: .final(.refused(key: key, detail: describe(fault)))
    case .tooLarge: .final(.corrupt(key: key, detail: describe(fault)))
    case .unreachable: .again(describe(fault), reached: false, afterNanoseconds: 0)
    case .interrupted, .timedOut: .again(describe(fault), reached: true, afterNanoseconds: 0)
    }
  }

  /// With the endpoint and what to do about it.
  func describe(_ fault: HTTPFault) -> String {
    let endpoint = "\(settings.endpoint.isTLS ? "https" : "http")://\(settings.host)"
    return switch fault {
    case .unreachable(let detail): "cannot reach \(endpoint): \(detail)"
    case .untrusted(let detail):
      "\(endpoint) is not trusted: \(detail) (certificates to trust are named by ca-file= in the store's URL or AWS_CA_BUNDLE)"
    case .interrupted(let detail): "\(endpoint) broke off: \(detail)"
    case .timedOut(let detail): "\(endpoint): \(detail)"
    case .tooLarge(let detail): "\(endpoint): \(detail)"
    }
  }

  /// Looks for other credentials than those that have expired; false when there are none.
  func renewCredentials() -> Bool {
    guard let found = try? environment.credentials() else { return false }
    return credentials.withLock { current in
      defer { current = found }
      return found != current
    }
  }
}
