/// Where a store is, as people write it.
package enum StoreURL: Equatable, Sendable {
  /// `file:///absolute/path`
  case directory(String)
  /// `s3://bucket/prefix?endpoint=…&region=…&path-style=1`
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
          guard kv.count == 2, ["endpoint", "region", "path-style"].contains(kv[0]) else {
            throw Malformed(url: text, detail: "unknown parameter '\(pair)': endpoint=, region=, path-style= are known")
          }
          parameters[String(kv[0])] = String(kv[1])
        }
      }
      self = .s3(bucket: String(bucket), prefix: path.count > 1 ? String(path[1]) : "", parameters: parameters)
      return
    }
    throw Malformed(url: text, detail: "neither file:///path nor s3://bucket/prefix")
  }

  /// Opens the store. With `create`, a directory that is not there is made; without, it is refused.
  package func open(world: World, create: Bool = false) throws(StoreError) -> any Store {
    switch self {
    case .directory(let path): return try LocalStore(root: path, world: world, create: create)
    case .s3(let bucket, _, _):
      throw .refused(key: "", detail: "s3://\(bucket): this version has no S3 store yet, only file:///path")
    }
  }
}
