/// Where a bucket is, how to talk to it, and with what patience. Resolved once, from the store's URL, then the environment,
/// then the AWS profile.
package struct S3Settings: Sendable {
  package var bucket: String
  /// Before every key, with its "/" at the end; empty for the whole bucket.
  package var prefix: String
  package var endpoint: Endpoint
  package var region: String
  package var pathStyle: Bool
  package var caFile: String?
  /// As people wrote it, for messages.
  package var url: String

  /// Requests in flight at most, and keys asked for by one list request at most. More than a process reads ahead by (16): a
  /// guest's read does not wait for one of those to end.
  package var connections = 32
  package var listPage = 1000
  package var hedging = HedgePolicy.Setting.adaptive
  package var patience = Patience()

  /// `scheme://host[:port][/base]`.
  package struct Endpoint: Equatable, Sendable {
    package let isTLS: Bool
    /// With the port, unless it is the scheme's own: as in the `Host` header.
    package let authority: String
    /// Empty, or with a "/" at its beginning and none at its end.
    package let base: String

    package var text: String { "\(isTLS ? "https" : "http")://\(authority)\(base)" }

    /// nil for what is no address of a service, and for one with a password in it.
    package init?(_ text: String) {
      let scheme: String
      if text.hasPrefix("https://") {
        scheme = "https://"
      } else if text.hasPrefix("http://") {
        scheme = "http://"
      } else {
        return nil
      }
      isTLS = scheme == "https://"
      let rest = text.dropFirst(scheme.count)
      var authority = String(rest.prefix { $0 != "/" }).lowercased()
      var base = String(rest.dropFirst(authority.count))
      while base.hasSuffix("/") { base.removeLast() }
      let ownPort = isTLS ? ":443" : ":80"
      if authority.hasSuffix(ownPort) { authority.removeLast(ownPort.count) }
      guard !authority.isEmpty, !authority.hasPrefix(":"), authority.utf8.allSatisfy(Self.isHostCharacter),
        base.utf8.allSatisfy({ $0 == UInt8(ascii: "/") || ($0 != UInt8(ascii: ":") && Self.isHostCharacter($0)) })
      else { return nil }
      self.authority = authority
      self.base = base
    }

    private static func isHostCharacter(_ c: UInt8) -> Bool {
      switch c {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      case UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "["), UInt8(ascii: "]"): true
      default: false
      }
    }
  }

  /// How long things may take.
  package struct Patience: Sendable {
    /// Of one request: so long, and as much longer as its bytes need at the least rate.
    package var requestNanoseconds: UInt64 = 30_000_000_000
    package var leastBytesPerSecond: UInt64 = 512 << 10
    /// Without a byte in either direction.
    package var stallNanoseconds: UInt64 = 20_000_000_000
    /// Of an operation: after this, an idempotent request is not tried again.
    package var operationNanoseconds: UInt64 = 30_000_000_000
    package var firstPauseNanoseconds: UInt64 = 100_000_000
    package var longestPauseNanoseconds: UInt64 = 5_000_000_000
    /// Tries while nobody answers at all: somebody may be waiting at a terminal, with a typing mistake in the URL.
    package var unreachableTries = 5
    /// Bytes of a whole object that are read.
    package var maxObjectBytes = 1 << 30
    package init() {}

    func request(_ bytes: Int) -> UInt64 { requestNanoseconds + UInt64(bytes) * 1_000_000_000 / max(1, leastBytesPerSecond) }
  }

  package init(
    bucket: String, prefix: String, parameters: [String: String], environment: AWSEnvironment
  ) throws(StoreError) {
    self.bucket = bucket
    let query = parameters.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: "&")
    url = "s3://\(bucket)" + (prefix.isEmpty ? "" : "/\(prefix)") + (query.isEmpty ? "" : "?\(query)")
    var path = prefix
    while path.hasSuffix("/") { path.removeLast() }
    if !path.isEmpty, let fault = StoreKey.fault(path) { throw Self.wrong(url, "the prefix '\(path)' \(fault)") }
    if path.utf8.count > 256 { throw Self.wrong(url, "the prefix is longer than 256 bytes") }
    self.prefix = path.isEmpty ? "" : path + "/"
    guard StoreKey.fault(bucket) == nil else { throw Self.wrong(url, "'\(bucket)' cannot be a bucket's name") }

    region =
      parameters["region"] ?? environment.value("AWS_REGION") ?? environment.value("AWS_DEFAULT_REGION")
      ?? environment.setting("region") ?? "us-east-1"
    guard StoreKey.fault(region) == nil else { throw Self.wrong(url, "'\(region)' cannot be a region") }
    let custom =
      parameters["endpoint"] ?? environment.value("AWS_ENDPOINT_URL_S3") ?? environment.value("AWS_ENDPOINT_URL")
      ?? environment.setting("endpoint_url")
    let china = region.hasPrefix("cn-") ? ".cn" : ""
    guard let endpoint = Endpoint(custom ?? "https://s3.\(region).amazonaws.com\(china)") else {
      throw Self.wrong(
        url, "the endpoint must be http://host or https://host, with a port where it is not the usual one, and without a password"
      )
    }
    self.endpoint = endpoint
    switch parameters["path-style"] {
    case "1", "true": pathStyle = true
    case "0", "false": pathStyle = false
    // A certificate for *.host does not cover a.b.host; and other services than AWS may have no such names.
    case nil: pathStyle = custom != nil || bucket.contains(".")
    default: throw Self.wrong(url, "path-style is 1 or 0")
    }
    caFile = parameters["ca-file"] ?? environment.value("AWS_CA_BUNDLE") ?? environment.setting("ca_bundle")
    guard let hedging = HedgePolicy.Setting(parameters["hedge"] ?? "adaptive") else {
      throw Self.wrong(url, "hedge is 'off', 'adaptive', or a number of milliseconds")
    }
    self.hedging = hedging
  }

  /// Without the parameters: what is wrong with them may be that there is a password in one.
  private static func wrong(_ url: String, _ detail: String) -> StoreError {
    .refused(key: "", detail: "\(url.prefix { $0 != "?" }): \(detail)")
  }

  /// The `Host` header.
  package var host: String { pathStyle ? endpoint.authority : "\(bucket).\(endpoint.authority)" }

  /// The path of a key, or of the bucket for the empty one. Keys need no escaping.
  package func path(_ key: String) -> String {
    pathStyle ? "\(endpoint.base)/\(bucket)\(key.isEmpty ? "" : "/\(key)")" : "\(endpoint.base)/\(key)"
  }
}
