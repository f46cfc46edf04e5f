import CCurl

/// What an answer of S3's means for the request that it answers.
package enum S3Verdict: Equatable, Sendable {
  case done
  /// There is no such object.
  case absent
  /// The condition of the request does not hold: somebody else's object is there.
  case conditionFailed
  /// The range begins behind the object's end.
  case beyondEnd
  /// Not now. It may have happened or not; how long the server asks to wait.
  case again(String, afterNanoseconds: UInt64)
  /// The credentials have run out: there may be newer ones.
  case expired(String)
  /// No, and not later.
  case refused(String)
}

/// Reads answers. Decides nothing but what they say.
package struct S3Answer {
  private let settings: S3Settings
  private let response: HTTPAnswer
  private let code: String
  private let message: String
  private let region: String?
  /// The body is an error of S3's, or there is none: it may be believed that a store speaks.
  private let isS3s: Bool

  package init(_ response: HTTPAnswer, _ settings: S3Settings) {
    self.response = response
    self.settings = settings
    var found: [String: String] = [:]
    var isError = false
    if response.status >= 300, !response.body.isEmpty {
      isError = XMLLeaves.walk(response.body) { path, text in
        if path.count == 2, path[0] == "Error" { found[path[1]] = text }
      }
    }
    code = Self.short(found["Code"] ?? "")
    message = Self.short(found["Message"] ?? "")
    region = (response.headers["x-amz-bucket-region"] ?? found["Region"]).map(Self.short)
    isS3s = response.body.isEmpty || (isError && !code.isEmpty)
  }

  /// Foreign text goes into a line of ours: no control characters, no novel.
  private static func short(_ text: String) -> String {
    String(text.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }.prefix(200).map(Character.init))
  }

  private var said: String {
    let words = [code, message].filter { !$0.isEmpty }.joined(separator: ": ")
    return words.isEmpty ? "status \(response.status)" : "\(words) (status \(response.status))"
  }

  /// `now`: wall clock in milliseconds, for the sentence about clocks.
  package func verdict(now: UInt64) -> S3Verdict {
    switch response.status {
    case 200..<300: return .done
    case 412: return .conditionFailed
    case 416: return .beyondEnd
    case 301, 307, 308, 302: return wrongPlace
    case 404: return missing
    case 408, 409, 425, 429: return again
    case 400, 401, 403: return denied(now)
    case 300..<500: return .refused(isS3s ? said : notS3)
    default: return again
    }
  }

  private var again: S3Verdict {
    let seconds = response.headers["retry-after"].flatMap { UInt64($0) } ?? 0
    return .again(said, afterNanoseconds: min(seconds, 60) * 1_000_000_000)
  }

  private var notS3: String {
    "\(settings.endpoint.text) answers \(response.status), but not as S3 does: is the endpoint right?"
  }

  private var wrongPlace: S3Verdict {
    if let region, region != settings.region { return .refused(wrongRegion(region)) }
    if !isS3s { return .refused(notS3) }
    return .refused("the bucket is at another address (\(said)): is the endpoint right, and path-style?")
  }

  private func wrongRegion(_ region: String) -> String {
    "bucket '\(settings.bucket)' is in region '\(region)', not '\(settings.region)': put region=\(region) into the store's URL"
  }

  private var missing: S3Verdict {
    switch code {
    case "NoSuchKey": return .absent
    case "NoSuchBucket":
      return .refused("there is no bucket '\(settings.bucket)' at \(settings.endpoint.text): make it, or correct the store's URL")
    // Some gateways leave the body out.
    case "": return response.body.isEmpty ? .absent : .refused(notS3)
    default: return .refused(said)
    }
  }

  private func denied(_ now: UInt64) -> S3Verdict {
    switch code {
    case "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
      if let region, region != settings.region { return .refused(wrongRegion(region)) }
      return .refused("\(said): is the region right?")
    case "RequestTimeTooSkewed", "RequestExpired": return .refused(skew(now))
    // The store waited for bytes that did not come, or they were damaged on the way: nothing was stored.
    case "RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch":
      return .again(said, afterNanoseconds: 0)
    case "ExpiredToken", "TokenRefreshRequired":
      return .expired("the session token has expired: get new credentials")
    case "InvalidAccessKeyId":
      return .refused("the store does not know this access key: check AWS_ACCESS_KEY_ID, AWS_PROFILE and the endpoint")
    case "InvalidToken": return .refused("the store does not accept the session token: check AWS_SESSION_TOKEN")
    case "SignatureDoesNotMatch":
      return .refused("the signature does not match: the secret key is wrong, or something on the way changes requests")
    case "AccessDenied", "AllAccessDisabled", "UnauthorizedAccess":
      return .refused("access denied: may this access key do that in bucket '\(settings.bucket)'? (\(said))")
    case "": return .refused(response.body.isEmpty ? "access denied (status \(response.status))" : notS3)
    default: return .refused(said)
    }
  }

  private func skew(_ now: UInt64) -> String {
    let their = response.headers["date"].map { curl_getdate($0, nil) } ?? -1
    guard their >= 0 else { return "the clocks of this host and of the store differ too much: set this host's clock" }
    let apart = Int64(now / 1000) - Int64(their)
    return "this host's clock is \(abs(apart)) s \(apart < 0 ? "behind" : "ahead of") the store's: set it (NTP does)"
  }
}

extension HTTPAnswer {
  /// The ETag where it is an MD5 of the object: neither of parts, nor of something that was encrypted with a key of its own.
  package var etagMD5: String? {
    let encryption = headers["x-amz-server-side-encryption"] ?? ""
    if encryption.hasPrefix("aws:kms") || headers["x-amz-server-side-encryption-customer-algorithm"] != nil { return nil }
    guard var tag = headers["etag"] else { return nil }
    if tag.hasPrefix("\"") && tag.hasSuffix("\"") && tag.count > 1 { tag = String(tag.dropFirst().dropLast()) }
    return tag.utf8.count == 32 && decodeHexadecimal(tag) != nil ? tag : nil
  }
}
