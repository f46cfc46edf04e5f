import Foundation

/// The files of this repository as they lie on disk, found from where this file was compiled.
struct SourceTree {
  struct File: CustomStringConvertible {
    /// Relative to the root, with "/" between parts.
    let path: String
    let text: String
    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    var description: String { path }
  }

  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  /// Paths below `folder` of regular files, sorted; nothing hidden.
  static func paths(_ folder: String) -> [String] {
    let found = FileManager.default.enumerator(atPath: root + "/" + folder)?.compactMap { $0 as? String } ?? []
    return found.filter { path in
      var directory: ObjCBool = false
      return !path.split(separator: "/").contains { $0.hasPrefix(".") || $0 == "__pycache__" }
        && FileManager.default.fileExists(atPath: "\(root)/\(folder)/\(path)", isDirectory: &directory)
        && !directory.boolValue
    }.map { folder + "/" + $0 }.sorted()
  }

  /// Files below `folder` whose names end in one of `extensions`.
  static func files(_ folder: String, _ extensions: [String]) -> [File] {
    paths(folder).filter { path in extensions.contains { path.hasSuffix("." + $0) } }.compactMap(file)
  }

  static func file(_ path: String) -> File? {
    guard let data = FileManager.default.contents(atPath: root + "/" + path) else { return nil }
    return File(path: path, text: String(decoding: data, as: UTF8.self))
  }

  static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: root + "/" + path) }
  static func isExecutable(_ path: String) -> Bool { FileManager.default.isExecutableFile(atPath: root + "/" + path) }
}

/// A line without its `//` comment and without what stands in simple string literals.
func codeOnly(_ line: some StringProtocol) -> String {
  let utf8 = line.utf8
  guard utf8.contains(UInt8(ascii: "\"")) || utf8.contains(UInt8(ascii: "/")) else { return String(line) }
  let withoutStrings = String(line).replacing(/"(?:[^"\\]|\\.)*"/, with: "\"\"")
  guard let comment = withoutStrings.range(of: "//") else { return withoutStrings }
  return String(withoutStrings[..<comment.lowerBound])
}
