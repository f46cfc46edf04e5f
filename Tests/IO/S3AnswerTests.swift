import ElideIO
import Testing

/// What the store says to people, and where it takes its settings from.
@Suite struct S3AnswerTests {
  private func settings(
    _ parameters: [String: String] = [:], _ variables: [String: String] = [:], bucket: String = "bkt", prefix: String = ""
  )
    throws -> S3Settings
  {
    try S3Settings(
      bucket: bucket, prefix: prefix, parameters: parameters, environment: AWSEnvironment(files: HostFiles()) { variables[$0] })
  }

  private func detail(_ reaction: FakeHTTPServer.Reaction, clock: any Clock = HostClock()) throws -> String {
    let bench = try S3Bench(clock: clock) { _, _ in reaction }
    guard case .refused(key: "k", let detail)? = storeError({ () throws(StoreError) in _ = try bench.store.get("k", range: nil) })
    else { return "not refused" }
    #expect(bench.server.requests.count == 1, "what is refused is not tried again")
    return detail
  }

  @Test func errorsSayWhatToDo() throws {
    let moved = "<Region>eu-1</Region>"
    #expect(
      try detail(S3Bench.error(400, "AuthorizationHeaderMalformed", moved)).contains(
        "bucket 'bkt' is in region 'eu-1', not 'us-east-1': put region=eu-1"))
    #expect(
      try detail(S3Bench.error(301, "PermanentRedirect", headers: ["x-amz-bucket-region": "eu-2"])).contains("in region 'eu-2'"))
    #expect(try detail(S3Bench.error(301, "PermanentRedirect")).contains("at another address"))
    #expect(try detail(S3Bench.error(404, "NoSuchBucket")).contains("there is no bucket 'bkt' at http://127.0.0.1:"))
    #expect(try detail(S3Bench.error(403, "AccessDenied")).contains("access denied: may this access key"))
    #expect(try detail(S3Bench.error(403, "SignatureDoesNotMatch")).contains("secret key is wrong"))
    #expect(try detail(S3Bench.error(403, "InvalidAccessKeyId")).contains("AWS_ACCESS_KEY_ID"))
    #expect(try detail(.answer(403)).contains("status 403"))
    #expect(try detail(S3Bench.error(400, "Odd")).contains("Odd: about <it> (status 400)"))
    let clock = StillClock(1_369_353_600_000)
    let skewed = S3Bench.error(403, "RequestTimeTooSkewed", headers: ["Date": "Fri, 24 May 2013 01:00:00 GMT"])
    #expect(try detail(skewed, clock: clock).contains("clock is 3600 s behind the store's"))
  }

  @Test func untrustedCertificatesAreRefused() throws {
    let bench = try S3Bench { _, _ in .close }
    let environment = AWSEnvironment(files: HostFiles()) { S3Bench.variables[$0] }
    let settings = try S3Settings(
      bucket: "b", prefix: "",
      parameters: ["endpoint": bench.server.endpoint.replacing("http:", with: "https:"), "ca-file": "/none"],
      environment: environment)
    let store = try S3Store(settings, environment: environment, world: .host()) { _ in }
    guard case .refused(key: "k", let detail)? = storeError({ () throws(StoreError) in _ = try store.putIfAbsent("k", [1]) })
    else {
      Issue.record("not refused")
      return
    }
    #expect(detail.contains("is not trusted") && detail.contains("AWS_CA_BUNDLE"), "\(detail)")
    // Something that speaks no TLS: not a refusal, since it may come back.
    var plain = settings
    plain.caFile = nil
    let other = try S3Store(plain, environment: environment, world: .host()) { _ in }
    guard case .unknown? = storeError({ () throws(StoreError) in _ = try other.putIfAbsent("k", [1]) }) else {
      Issue.record("not unknown")
      return
    }
  }

  @Test func addresses() throws {
    var s = try settings(["endpoint": "https://S3.example.net:443/base/"], prefix: "a/b/")
    #expect(s.host == "s3.example.net" && s.path("k") == "/base/bkt/k" && s.prefix == "a/b/")
    s = try settings(["endpoint": "http://[::1]:9000", "path-style": "0"])
    #expect(s.host == "bkt.[::1]:9000" && s.path("k") == "/k" && s.path("") == "/")
    s = try settings(["region": "eu-west-1"])
    #expect(s.endpoint.text == "https://s3.eu-west-1.amazonaws.com" && s.host == "bkt.s3.eu-west-1.amazonaws.com")
    s = try settings(["region": "cn-north-1"], bucket: "dotted.name")
    #expect(s.host == "s3.cn-north-1.amazonaws.com.cn" && s.path("k") == "/dotted.name/k")
    s = try settings(
      [:],
      ["AWS_ENDPOINT_URL": "http://h:1", "AWS_ENDPOINT_URL_S3": "http://h:2", "AWS_REGION": "r1", "AWS_DEFAULT_REGION": "r2"])
    #expect(s.endpoint.text == "http://h:2" && s.region == "r1" && s.pathStyle)
  }

  @Test(arguments: [
    ["endpoint": "h:1"], ["endpoint": "https://user:secret@h"], ["endpoint": "http://"], ["endpoint": "http://h/a?b"],
    ["region": "a b"],
    ["path-style": "yes"], ["hedge": "0"], ["hedge": "often"], ["endpoint": "http://:80"],
  ])
  func wrongSettings(parameters: [String: String]) {
    #expect {
      try settings(parameters)
    } throws: {
      $0 is StoreError && !"\($0)".contains("secret")
    }
  }

  @Test func wrongPlaces() {
    #expect(throws: StoreError.self) { try settings(bucket: "a b") }
    #expect(throws: StoreError.self) { try settings(prefix: "a/../b") }
    #expect(throws: StoreError.self) { try settings(prefix: String(repeating: "a/", count: 200)) }
    // A key that landed in the URL does not land in the message.
    #expect {
      try StoreURL("s3://b?secret_key=hush-hush")
    } throws: {
      !"\($0)".contains("hush") && "\($0)".contains("secret_key")
    }
  }

  @Test func credentialsAreFoundAsTheToolsFindThem() throws {
    let directory = try TemporaryDirectory()
    let files = HostFiles()
    let credentials = """
      # comment
      [default]
      aws_access_key_id = D
      aws_secret_access_key=DS # inline
      s3 =
        max_concurrent_requests = 20
      [ work ]
      AWS_ACCESS_KEY_ID= W
      aws_secret_access_key = WS=+/
      aws_session_token = WT
      [half]
      aws_access_key_id = H
      [odd]
      aws_access_key_id = a b
      aws_secret_access_key = c
      """
    let configuration = """
      [default]
      region = eu-1
      [profile work]
      region = eu-2
      endpoint_url = http://w:1
      [profile sso]
      sso_session = x
      """
    try files.replaceFile(directory / "credentials", with: Array(credentials.utf8))
    try files.replaceFile(directory / "config", with: Array(configuration.utf8))
    func environment(_ more: [String: String]) -> AWSEnvironment {
      let all = ["AWS_SHARED_CREDENTIALS_FILE": directory / "credentials", "AWS_CONFIG_FILE": directory / "config"]
        .merging(more) { $1 }
      return AWSEnvironment(files: files) { all[$0] }
    }
    #expect(try environment([:]).credentials() == S3Credentials(accessKey: "D", secretKey: Secret("DS")))
    #expect(environment([:]).setting("region") == "eu-1")
    let work = environment(["AWS_PROFILE": "work"])
    #expect(try work.credentials() == S3Credentials(accessKey: "W", secretKey: Secret("WS=+/"), sessionToken: Secret("WT")))
    #expect(work.setting("region") == "eu-2" && work.setting("endpoint_url") == "http://w:1")
    let both = environment(["AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "E5+E5"])
    #expect(try both.credentials() == S3Credentials(accessKey: "E", secretKey: Secret("E5+E5")))
    for (variables, words) in [
      (["AWS_PROFILE": "half"], "no aws_secret_access_key"), (["AWS_PROFILE": "none"], "profile 'none'"),
      (["AWS_PROFILE": "sso"], "sso_session, which is not supported"),
      (["AWS_ACCESS_KEY_ID": "E"], "AWS_SECRET_ACCESS_KEY is not"),
      (["AWS_PROFILE": "odd"], "odd characters"),
    ] {
      guard case .refused("", let detail)? = storeError({ () throws(StoreError) in _ = try environment(variables).credentials() })
      else {
        Issue.record("\(variables) gave credentials")
        continue
      }
      #expect(detail.contains(words), "\(detail)")
      #expect(!detail.contains("E5+") && !detail.contains("WS="))
    }
  }

  @Test func hedgesAreFewAndLate() {
    var policy = HedgePolicy(.adaptive)
    for _ in 0..<HedgePolicy.enough - 1 { policy.note(10_000_000, hedged: false) }
    #expect(policy.delay() == nil, "too little is known")
    for i in 0..<100 { policy.note(UInt64(i % 20 == 0 ? 90_000_000 : 20_000_000), hedged: false) }
    #expect(policy.delay() == 90_000_000 || policy.delay() == 20_000_000)
    // Each answer allows a tenth of a hedge.
    for _ in 0..<200 { policy.note(20_000_000, hedged: true) }
    #expect(policy.delay() == nil)
    for _ in 0..<10 { policy.note(20_000_000, hedged: false) }
    #expect(policy.delay() == 20_000_000)
    #expect(HedgePolicy(.off).delay() == nil)
    #expect(HedgePolicy(.after(milliseconds: 7)).delay() == 7_000_000)
  }
}
