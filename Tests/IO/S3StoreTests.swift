import ElideIO
import Synchronization
import Testing

/// What goes over the wire, and what the store makes of decent answers.
@Suite struct S3StoreTests {
  private static let now: UInt64 = 1_369_353_600_000

  @Test func aConditionalPutIsOneSignedRequest() throws {
    let bench = try S3Bench(prefix: "some/where/", clock: StillClock(Self.now)) { _, request in
      .answer(200, ["ETag": S3Bench.tag(request.body)])
    }
    #expect(try bench.store.putIfAbsent("a/b", [1, 2, 3]) == .created)
    let request = try #require(bench.server.requests.first)
    #expect(bench.server.requests.count == 1)
    #expect(request.method == "PUT" && request.target == "/bkt/some/where/a/b" && request.body == [1, 2, 3])
    #expect(request.headers["if-none-match"] == "*")
    #expect(request.headers["content-md5"] == MD5.digest(of: .parts([[1, 2, 3]])).map(base64))
    #expect(request.headers["x-amz-content-sha256"] == Digest.sha256([1, 2, 3]).hex)
    #expect(request.headers["x-amz-date"] == "20130524T000000Z")
    #expect(request.headers["expect"] == nil && request.headers["transfer-encoding"] == nil)
    let authorization = try #require(request.headers["authorization"])
    #expect(authorization.contains("SignedHeaders=content-md5;host;if-none-match;x-amz-content-sha256;x-amz-date,"))
    #expect(bench.store.url == "s3://bkt/some/where/?endpoint=\(bench.server.endpoint)&hedge=off")
  }

  @Test(arguments: [
    (412, "PreconditionFailed", "exists"), (409, "ConditionalRequestConflict", "unknown"), (500, "InternalError", "unknown"),
    (503, "SlowDown", "unknown"), (304, "NotModified", "refused"), (403, "AccessDenied", "refused"),
    (404, "NoSuchBucket", "refused"), (404, "NoSuchKey", "unknown"), (400, "BadDigest", "unknown"),
    (501, "NotImplemented", "unknown"),
  ])
  func aConditionalPutHasThreeOutcomes(status: Int, code: String, outcome: String) throws {
    let bench = try S3Bench { _, _ in S3Bench.error(status, code) }
    var told = ""
    do throws(StoreError) {
      told = try bench.store.putIfAbsent("slot", [1]) == .created ? "created" : "exists"
    } catch {
      switch error {
      case .unknown(key: "slot", _): told = "unknown"
      case .refused(key: "slot", _): told = "refused"
      default: told = "\(error)"
      }
    }
    #expect(told == outcome)
    #expect(bench.server.requests.count == 1, "sent once")
    #expect(bench.pauses == [])
  }

  /// libcurl would send a request again when a kept connection breaks before the answer: by then the slot may be taken by the
  /// first. For everything else that is welcome.
  @Test func aConditionalPutIsNotSentAgainOnABrokenConnection() throws {
    let bench = try S3Bench { index, request in
      index == 0 || request.connection > 0 ? .answer(200, ["ETag": S3Bench.tag(request.body)], []) : .close
    }
    #expect(try bench.store.putIfAbsent("first", []) == .created)
    let error = storeError { () throws(StoreError) in _ = try bench.store.putIfAbsent("second", []) }
    guard case .unknown(key: "second", _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    let requests = bench.server.requests
    #expect(requests.map(\.target) == ["/bkt/first", "/bkt/second"])
    #expect(requests.map(\.connection) == [0, 0], "the connection was kept, so it could break")
    #expect(try bench.store.putIfAbsent("second", []) == .created)
    #expect(bench.server.requests.count == 3)
  }

  @Test func idempotentRequestsAreTriedAgainWithPauses() throws {
    let bench = try S3Bench { index, request in
      switch index {
      case 0: S3Bench.error(500, "InternalError")
      case 1: S3Bench.error(503, "SlowDown", headers: ["Retry-After": "3"])
      case 2: .close
      case 3: .raw(Array("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".utf8))
      case 4: S3Bench.error(400, "RequestTimeout")
      default: .answer(200, ["ETag": S3Bench.tag(request.body)])
      }
    }
    try bench.store.put("k", parts: [[1], [2, 3]])
    #expect(bench.server.requests.count == 6)
    #expect(bench.server.requests.allSatisfy { $0.body == [1, 2, 3] })
    // Doubling from 100 ms, half of each by chance; the second as long as the server asked for.
    let pauses = bench.pauses.map { $0 / 1_000_000 }
    try #require(pauses.count == 5)
    #expect((50...100).contains(pauses[0]))
    #expect(pauses[1] == 3000)
    #expect((200...400).contains(pauses[2]))
    #expect((400...800).contains(pauses[3]))
    #expect((800...1600).contains(pauses[4]))
    #expect(bench.store.counters.puts == 6)
  }

  /// The clock says when to stop trying; nothing waits for it here.
  @Test func tryingEndsWhenTheTimeIsOver() throws {
    let clock = StillClock(Self.now)
    let bench = try S3Bench(clock: clock) { _, _ in
      clock.milliseconds.withLock { $0 += 4000 }
      return S3Bench.error(500, "InternalError")
    }
    let error = storeError { () throws(StoreError) in _ = try bench.store.get("k", range: nil) }
    guard case .unknown(key: "k", let detail)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(detail.contains("InternalError") && detail.contains("tried \(bench.server.requests.count) times"), "\(detail)")
    #expect((5...7).contains(bench.server.requests.count))
  }

  @Test func nobodyThereIsToldSoon() throws {
    let bench = try S3Bench { _, _ in .close }
    bench.server.stop()
    let error = storeError { () throws(StoreError) in try bench.store.delete("k") }
    guard case .unknown(key: "k", let detail)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(detail.contains("cannot reach \(bench.server.endpoint)") && detail.contains("tried 5 times"), "\(detail)")
  }

  @Test func connectionsAreKept() throws {
    let bench = try S3Bench { _, request in
      request.method == "GET" ? .answer(200, ["ETag": S3Bench.tag([7])], [7]) : .answer(200, ["ETag": S3Bench.tag(request.body)])
    }
    for i in 0..<20 {
      try bench.store.put("k\(i)", parts: [[UInt8(i)]])
      _ = try bench.store.get("k\(i)", range: nil)
    }
    #expect(bench.server.connections == 1)
    #expect(bench.server.requests.count == 40)
  }

  @Test func aReadThatDawdlesIsAskedForAgain() throws {
    let bench = try S3Bench(hedge: "30") { index, _ in
      index == 0 ? .hang() : .answer(206, ["Content-Range": "bytes 0-1/2"], [4, 2])
    }
    #expect(try bench.store.get("k", range: 0..<2) == [4, 2])
    #expect(bench.server.requests.count == 2)
    #expect(bench.server.requests.map(\.target) == ["/bkt/k", "/bkt/k"])
    #expect(bench.pauses == [], "no try failed")
    #expect(bench.store.counters.gets == 2)
  }

  /// Of two answers the good one counts, whichever comes first.
  @Test func aHedgeMayFail() throws {
    let slow = Condition()
    let bench = try S3Bench(hedge: "30") { index, _ in
      if index == 1 {
        defer { slow.broadcast() }
        return S3Bench.error(500, "InternalError")
      }
      let seen: UInt64 = 0
      slow.wait(after: seen)
      return .answer(206, ["Content-Range": "bytes 0-1/2"], [4, 2])
    }
    #expect(try bench.store.get("k", range: 0..<2) == [4, 2])
    #expect(bench.server.requests.count == 2)
  }

  @Test func writesAreNeverHedged() throws {
    let bench = try S3Bench(hedge: "1", waitMilliseconds: 200) { _, _ in .hang() }
    let error = storeError { () throws(StoreError) in _ = try bench.store.putIfAbsent("k", [1]) }
    guard case .unknown(key: "k", _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(bench.server.requests.count == 1)
  }

  @Test func bytesThatAreOthersAreNoticed() throws {
    let bench = try S3Bench { _, request in
      request.method == "PUT"
        ? .answer(200, ["ETag": S3Bench.tag([6, 6, 6])]) : .answer(200, ["ETag": S3Bench.tag([1, 2, 3])], [1, 2, 4])
    }
    let errors = [
      storeError { () throws(StoreError) in try bench.store.put("k", parts: [[1, 2, 3]]) },
      storeError { () throws(StoreError) in _ = try bench.store.putIfAbsent("k", [1, 2, 3]) },
      storeError { () throws(StoreError) in _ = try bench.store.get("k", range: nil) },
    ]
    for error in errors {
      guard case .corrupt(key: "k", _)? = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
  }

  /// ETags that are no MD5 of the object.
  @Test(arguments: [
    ["ETag": "\"00000000000000000000000000000000-2\""], ["ETag": "opaque"], [:],
    ["ETag": "\"00000000000000000000000000000000\"", "x-amz-server-side-encryption": "aws:kms"],
    ["ETag": "\"00000000000000000000000000000000\"", "x-amz-server-side-encryption-customer-algorithm": "AES256"],
  ])
  func otherTagsAreNotCompared(headers: [String: String]) throws {
    let bench = try S3Bench { _, request in .answer(200, headers, request.method == "PUT" ? [] : [1, 2, 3]) }
    try bench.store.put("k", parts: [[1, 2, 3]])
    #expect(try bench.store.get("k", range: nil) == [1, 2, 3])
  }

  @Test func sessionTokensAreSignedAndRenewed() throws {
    let directory = try TemporaryDirectory()
    let files = HostFiles()
    func write(_ token: String) throws {
      try files.replaceFile(
        directory / "credentials",
        with: Array("[default]\naws_access_key_id = A\naws_secret_access_key = S\naws_session_token = \(token)\n".utf8))
    }
    try write("old")
    let bench = try S3Bench(variables: ["AWS_SHARED_CREDENTIALS_FILE": directory / "credentials"]) { _, request in
      request.headers["x-amz-security-token"] == "new"
        ? .answer(200, ["ETag": S3Bench.tag([5])], [5]) : S3Bench.error(400, "ExpiredToken")
    }
    guard case .refused(key: "k", let detail)? = storeError({ () throws(StoreError) in _ = try bench.store.get("k", range: nil) })
    else {
      Issue.record("an expired token worked")
      return
    }
    #expect(detail.contains("expired"))
    #expect(bench.server.requests.count == 1)
    try write("new")
    #expect(try bench.store.get("k", range: nil) == [5])
    let authorization = try #require(bench.server.requests.last?.headers["authorization"])
    #expect(authorization.contains("x-amz-security-token"))
  }
}
