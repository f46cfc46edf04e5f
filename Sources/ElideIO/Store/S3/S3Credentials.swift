/// A value that must not be seen: it shows as stars wherever values are printed.
package struct Secret: Equatable, Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  private let text: String
  package init(_ text: String) { self.text = text }
  /// The one place where it comes out.
  package func reveal() -> String { text }
  package var description: String { "***" }
  package var debugDescription: String { "***" }
  package var customMirror: Mirror { Mirror(reflecting: "***") }
}

/// What signs requests.
package struct S3Credentials: Equatable, Sendable {
  package let accessKey: String
  package let secretKey: Secret
  package let sessionToken: Secret?

  package init(accessKey: String, secretKey: Secret, sessionToken: Secret? = nil) {
    self.accessKey = accessKey
    self.secretKey = secretKey
    self.sessionToken = sessionToken
  }
}

/// Where the AWS tools look, in their order: the environment, then the shared credentials file, then the shared
/// configuration file, the last two at the profile of `AWS_PROFILE`.
///
/// Not asked: instance metadata, containers' endpoints, single sign-on, roles to assume, external processes. A profile that
/// names one of these is refused with a sentence that says so.
package struct AWSEnvironment: Sendable {
  private let variable: @Sendable (String) -> String?
  private let files: any Files
  private static let maxFileBytes = 1 << 20

  package init(files: any Files, variable: @escaping @Sendable (String) -> String?) {
    self.files = files
    self.variable = variable
  }

  /// An environment variable that is set to something.
  package func value(_ name: String) -> String? { variable(name).flatMap { $0.isEmpty ? nil : $0 } }

  package var profile: String { value("AWS_PROFILE") ?? value("AWS_DEFAULT_PROFILE") ?? "default" }

  /// A setting of the profile: the credentials file's before the configuration file's.
  package func setting(_ key: String) -> String? {
    profileSections().lazy.compactMap { $0[key] }.first { !$0.isEmpty }
  }

  package func credentials() throws(StoreError) -> S3Credentials {
    if let access = value("AWS_ACCESS_KEY_ID") {
      guard let secret = value("AWS_SECRET_ACCESS_KEY") else {
        throw .refused(key: "", detail: "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")
      }
      return try Self.checked(access, secret, value("AWS_SESSION_TOKEN"))
    }
    let sections = profileSections()
    for section in sections {
      guard let access = section["aws_access_key_id"] else { continue }
      guard let secret = section["aws_secret_access_key"] else {
        throw .refused(key: "", detail: "profile '\(profile)' has aws_access_key_id and no aws_secret_access_key")
      }
      return try Self.checked(access, secret, section["aws_session_token"])
    }
    let other = [
      "role_arn", "sso_session", "sso_start_url", "credential_process", "credential_source", "web_identity_token_file",
    ]
    if let key = other.first(where: { key in sections.contains { $0[key] != nil } }) {
      throw .refused(
        key: "",
        detail: "profile '\(profile)' gets its credentials by \(key), which is not supported: "
          + "run 'aws configure export-credentials --profile \(profile) --format env' and set what it prints")
    }
    throw .refused(
      key: "",
      detail: "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or have a profile '\(profile)' "
        + "in \(credentialsPath ?? "~/.aws/credentials") (AWS_PROFILE chooses another)")
  }

  /// What could break a header or a signature is a mistake in the file.
  private static func checked(_ access: String, _ secret: String, _ token: String?) throws(StoreError) -> S3Credentials {
    func isPlain(_ text: String) -> Bool { !text.isEmpty && text.utf8.allSatisfy { (0x21...0x7E).contains($0) } }
    guard isPlain(access), isPlain(secret), token.map(isPlain) ?? true else {
      throw .refused(key: "", detail: "the credentials have blanks or other odd characters in them: copy them again")
    }
    return S3Credentials(accessKey: access, secretKey: Secret(secret), sessionToken: token.map { Secret($0) })
  }

  private var credentialsPath: String? { value("AWS_SHARED_CREDENTIALS_FILE") ?? value("HOME").map { $0 + "/.aws/credentials" } }
  private var configurationPath: String? { value("AWS_CONFIG_FILE") ?? value("HOME").map { $0 + "/.aws/config" } }

  private func profileSections() -> [[String: String]] {
    let name = profile
    var sections: [[String: String]] = []
    if let section = read(credentialsPath)?[name] { sections.append(section) }
    let configuration = read(configurationPath)
    if let section = configuration?["profile \(name)"] ?? (name == "default" ? configuration?["default"] : nil) {
      sections.append(section)
    }
    return sections
  }

  private func read(_ path: String?) -> [String: [String: String]]? {
    guard let path, let bytes = try? files.readFile(path, limit: Self.maxFileBytes) else { return nil }
    return Self.parse(String(decoding: bytes, as: UTF8.self))
  }

  /// Sections of an INI file as the AWS tools write it: `[name]`, `key = value`, comments by # or ; at the beginning of a
  /// line or after a blank. Indented lines (settings of one service) are left out.
  package static func parse(_ text: String) -> [String: [String: String]] {
    var sections: [String: [String: String]] = [:]
    var current: String?
    for line in text.split(whereSeparator: \.isNewline) {
      guard let first = line.first, first != "#", first != ";", !first.isWhitespace else { continue }
      if first == "[" {
        current = line.firstIndex(of: "]").map { end in
          line[line.index(after: line.startIndex)..<end].split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
        if let current, sections[current] == nil { sections[current] = [:] }
        continue
      }
      guard let current, let equals = line.firstIndex(of: "=") else { continue }
      let key = trim(line[..<equals]).lowercased()
      var value = line[line.index(after: equals)...]
      for mark in [" #", " ;", "\t#", "\t;"] {
        if let comment = value.firstRange(of: mark) { value = value[..<comment.lowerBound] }
      }
      sections[current]?[key] = trim(value)
    }
    return sections
  }

  private static func trim(_ text: Substring) -> String {
    let start = text.drop { $0.isWhitespace }
    let end = start.lastIndex { !$0.isWhitespace }
    return end.map { String(start[...$0]) } ?? ""
  }
}
