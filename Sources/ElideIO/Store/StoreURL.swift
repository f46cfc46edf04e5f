import Glibc

/// Where a store is, as people write it.
package enum StoreURL: Equatable, Sendable {
  /// `file:///absolute/path`
  case directory(String)
  /// `s3://bucket/prefix?endpoint=…&region=…&path-style=1&ca-file=…&hedge=…` (docs/s3.md)
  case s3(bucket: String, prefix: String, parameters: [String: String])

  package struct Malformed: Error, Equatable, Sendable, CustomStringConvertible {
    package let url: String
    package let detail: String
    package var description: String { "store '\(url)': \(detail)" }
  }

  package init(_ text: String) throws(Malformed) {
    if text.hasPrefix("file://") {
      var path = String(text.dropFirst("file://".count))
      guard path.hasPrefix("/") else { throw Malformed(url: text, detail: "the path must be absolute: file:///path") }
      while path.count > 1 && path.hasSuffix("/") { path.removeLast() }
      self = .directory(path)
      return
    }
    if text.hasPrefix("s3://") {
      let halves = text.dropFirst("s3://".count).split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
      let path = halves[0].split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
      guard let bucket = path.first, !bucket.isEmpty else { throw Malformed(url: text, detail: "no bucket: s3://bucket/prefix") }
      var parameters: [String: String] = [:]
      if halves.count > 1 {
        for pair in halves[1].split(separator: "&") {
          let kv = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
          guard kv.count == 2, Self.parameters.contains(String(kv[0])) else {
            // Not the value: people put keys there.
            let known = Self.parameters.map { "\($0)=" }.joined(separator: ", ")
            throw Malformed(url: Self.withoutParameters(text), detail: "unknown parameter '\(kv[0])': \(known) are known")
          }
          parameters[String(kv[0])] = String(kv[1])
        }
      }
      self = .s3(bucket: String(bucket), prefix: path.count > 1 ? String(path[1]) : "", parameters: parameters)
      return
    }
    throw Malformed(url: text, detail: "neither file:///path nor s3://bucket/prefix")
  }

  private static let parameters = ["endpoint", "region", "path-style", "ca-file", "hedge"]

  private static func withoutParameters(_ text: String) -> String { String(text.prefix { $0 != "?" }) }

  /// Opens the store. With `create`, a directory that is not there is made; without, it is refused. A bucket is never made.
  package func open(world: World, create: Bool = false) throws(StoreError) -> any Store {
    switch self {
    case .directory(let path): return try LocalStore(root: path, world: world, create: create)
    case .s3(let bucket, let prefix, let parameters):
      let environment = AWSEnvironment(files: world.files) { name in getenv(name).map { String(cString: $0) } }
      let settings = try S3Settings(bucket: bucket, prefix: prefix, parameters: parameters, environment: environment)
      return try S3Store(settings, environment: environment, world: world)
    }
  }
}
