import CCurl

/// The questions that only make sense for S3: single requests, some of them wrong on purpose, and what the answer's status
/// is. Part of `StoreProbe`.
struct S3Probe {
  private let store: S3Store
  private let folder: String
  /// Signatures are refused beyond a quarter of an hour; worth a word long before.
  static let clockLimitMilliseconds: Int64 = 60_000

  init(_ store: S3Store, folder: String) {
    self.store = store
    self.folder = folder
  }

  /// This host's clock less the store's, to about a second: that is how exact its answers are.
  func clockAhead() -> Int64? {
    let begun = store.world.clock.wallMilliseconds()
    let call = S3Store.Call(method: .get, key: store.settings.prefix + folder + "/clock")
    guard let answer = try? store.exchange(call), let date = answer.headers["date"] else { return nil }
    let ended = store.world.clock.wallMilliseconds()
    let their = curl_getdate(date, nil)
    guard their >= 0 else { return nil }
    // The middle of the exchange, against the middle of their second.
    return Int64(begun + (max(begun, ended) - begun) / 2) - (Int64(their) * 1000 + 500)
  }

  func run(clockAhead: Int64?) -> [ProbeFinding] {
    var findings: [ProbeFinding] = []
    func note(_ question: ProbeQuestion, _ result: ProbeFinding.Result, _ detail: String = "") {
      findings.append(ProbeFinding(question: question, result: result, detail: detail))
    }
    if let clockAhead {
      let seconds = abs(clockAhead) / 1000
      let words = seconds < 2 ? "" : "this host's is \(seconds) s \(clockAhead < 0 ? "behind" : "ahead")"
      note(.clock, abs(clockAhead) <= Self.clockLimitMilliseconds ? .yes : .no, words)
    } else {
      note(.clock, .unclear, "the store does not say what time it is")
    }
    findings += [checksums(), payload(), additional(), ifMatch(), policy()]
    return findings
  }

  /// A put of "probe" with headers of one's own; its status, or nil when nothing came back.
  private func put(_ name: String, _ headers: [(name: String, value: String)], under place: String? = nil) -> HTTPAnswer? {
    var call = S3Store.Call(method: .put, key: store.settings.prefix + (place ?? folder) + "/" + name)
    call.body = .parts([Array("probe".utf8)])
    call.headers = headers
    return try? store.exchange(call)
  }

  private func finding(_ question: ProbeQuestion, _ status: Int?, wanted: Range<Int>, otherwise: String) -> ProbeFinding {
    guard let status, status < 500 || status == 501 else {
      return ProbeFinding(question: question, result: .unclear, detail: "no definite answer")
    }
    let isYes = wanted.contains(status)
    return ProbeFinding(question: question, result: isYes ? .yes : .no, detail: isYes ? "" : "\(otherwise) (status \(status))")
  }

  private func checksums() -> ProbeFinding {
    let wrong = base64([UInt8](repeating: 0x5A, count: 16))
    return finding(.md5, put("md5", [("content-md5", wrong)])?.status, wanted: 400..<500, otherwise: "a wrong one was accepted")
  }

  private func payload() -> ProbeFinding {
    var call = S3Store.Call(method: .put, key: store.settings.prefix + folder + "/payload")
    call.body = .parts([Array("probe".utf8)])
    call.payloadHash = Digest.sha256(Array("other".utf8)).hex
    let status = (try? store.exchange(call))?.status
    return finding(.payload, status, wanted: 400..<500, otherwise: "other bytes than the signed ones were accepted")
  }

  private func additional() -> ProbeFinding {
    let wrong = base64(Digest.sha256(Array("other".utf8)).bytes)
    let status = put("checksum", [("x-amz-checksum-sha256", wrong)])?.status
    return finding(.checksum, status, wanted: 400..<500, otherwise: "a wrong one was accepted")
  }

  private func ifMatch() -> ProbeFinding {
    guard let tag = put("match", [])?.headers["etag"] else {
      return ProbeFinding(question: .ifMatch, result: .unclear, detail: "puts have no ETag")
    }
    let right = put("match", [("if-match", tag)])?.status
    guard let right, (200..<300).contains(right) else {
      return ProbeFinding(
        question: .ifMatch, result: .no, detail: "the right ETag was not accepted (status \(right.map(String.init) ?? "none"))")
    }
    let wrong = put("match", [("if-match", "\"00000000000000000000000000000000\"")])?.status
    return finding(.ifMatch, wrong, wanted: 412..<413, otherwise: "a wrong ETag was accepted")
  }

  /// An unconditional put where entries of names go: the shipped policy denies it.
  private func policy() -> ProbeFinding {
    let name = String(folder.split(separator: "/").last ?? "probe")
    let status = put(name, [], under: "events/probe")?.status
    if let status, status < 300 { try? store.delete("events/probe/\(name)") }
    return finding(.policy, status, wanted: 403..<404, otherwise: "an entry could be overwritten")
  }
}
