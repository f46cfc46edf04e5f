/// A rule is a function of one file, so that the tests of the rules can give it files that break it.
enum Rules {
  static let maximumFile = 400
  static let maximumLine = 130
  static let maximumFunction = 70

  /// Shape: what a reader sees before the meaning.
  static func shape(_ file: SourceTree.File) -> [String] {
    var faults: [String] = []
    let lines = file.lines
    if file.text.isEmpty { return ["\(file): empty"] }
    if !file.text.hasSuffix("\n") || file.text.hasSuffix("\n\n") { faults.append("\(file): ends in one newline") }
    if lines.count - 1 > maximumFile { faults.append("\(file): \(lines.count - 1) lines, over \(maximumFile)") }
    for (i, line) in lines.enumerated() {
      if line.count > maximumLine { faults.append("\(file):\(i + 1): \(line.count) columns, over \(maximumLine)") }
      if line.contains("\t") { faults.append("\(file):\(i + 1): a tab") }
      if line.last == " " || line.last == "\r" { faults.append("\(file):\(i + 1): blanks at the end") }
    }
    return faults
  }

  /// Functions fit a screen, more or less. Relies on the formatter's indentation.
  static func functionLength(_ file: SourceTree.File) -> [String] {
    var faults: [String] = []
    let lines = file.lines
    for (i, line) in lines.enumerated()
    where "{(".contains(line.last ?? " ") && line.contains(/\b(func|init)\b.*[({]\s*$|\b(func|init)\b.*\{$/) {
      let indent = line.prefix { $0 == " " }
      guard !line.dropFirst(indent.count).hasPrefix("//"),
        let end = lines[i...].firstIndex(where: { $0 == indent + "}" })
      else { continue }
      if end - i + 1 > maximumFunction { faults.append("\(file):\(i + 1): a function of \(end - i + 1) lines") }
    }
    return faults
  }

  /// Words that mean unfinished work or a process that stops instead of an error.
  static func bannedWords(_ file: SourceTree.File) -> [String] {
    guard mentions(file, ["TODO", "FIXME", "XXX", "HACK", "try!", "as!", "fatalError(", "unowned(unsafe)"]) else { return [] }
    var faults: [String] = []
    for (i, line) in file.lines.enumerated() {
      if let word = line.firstMatch(of: /\b(TODO|FIXME|XXX|HACK)\b/) { faults.append("\(file):\(i + 1): \(word.0)") }
      if let word = codeOnly(line).firstMatch(of: /\btry!|\bas!|\bfatalError\(|\bunowned\(unsafe\)/) {
        faults.append("\(file):\(i + 1): \(word.0)")
      }
    }
    return faults
  }

  /// `@unchecked Sendable` comes with its reason, on the line or in the comment that ends above it.
  static func uncheckedSendable(_ file: SourceTree.File) -> [String] {
    guard mentions(file, ["@unchecked"]) else { return [] }
    let lines = file.lines
    return lines.indices.compactMap { i in
      guard codeOnly(lines[i]).contains("@unchecked Sendable") else { return nil }
      let reasonAbove = i > 0 && lines[i - 1].contains("//")
      return lines[i].contains("//") || reasonAbove ? nil : "\(file):\(i + 1): @unchecked Sendable without a reason"
    }
  }

  /// Plain threads below the command line: no concurrency runtime decides when an engine step runs.
  static func noAsync(_ file: SourceTree.File) -> [String] {
    guard mentions(file, ["await", "async", "actor", "Dispatch", "Task"]) else { return [] }
    return faults(
      file, /\bawait\b|\basync\b(?!:)|^\s*(?:\w+ )*actor \w|\bimport Dispatch\b|\bDispatchQueue\b|\bTask ?[.{]/,
      "is not for this module")
  }

  /// Names of the outside world in a module that must not know it.
  static func noWorld(_ file: SourceTree.File) -> [String] {
    faults(
      file,
      /\b(Files|HostFiles|FileID|Store|LocalStore|Clock|HostClock|Randomness|HostRandom|World|Executor|LMDBEnvironment|JournalStore)\b/,
      "is of the outside world")
  }

  /// Imports of this project's modules and C libraries that the module may have; others (Glibc, packages) are not judged.
  static func imports(_ file: SourceTree.File, allowed: Set<String>) -> [String] {
    file.lines.enumerated().compactMap { i, line in
      guard line.first != " ",
        let match = line.firstMatch(of: /^(?:@\w+(?:\([^)]*\))? |package |public |private |internal )*import (?:\w+ )?(\w+)/)
      else {
        return nil
      }
      let name = String(match.1)
      let judged = name.hasPrefix("Elide") || projectLibraries.contains(name)
      return judged && !allowed.contains(name) ? "\(file):\(i + 1): import \(name)" : nil
    }
  }
  static let projectLibraries: Set = ["CElide", "CLMDB", "CZstd", "CURing", "CCurl", "COpenSSL", "Dispatch"]

  /// The cheap question first: most files are innocent.
  private static func mentions(_ file: SourceTree.File, _ words: [String]) -> Bool {
    words.contains { file.text.contains($0) }
  }

  private static func faults(_ file: SourceTree.File, _ pattern: some RegexComponent, _ why: String) -> [String] {
    file.lines.enumerated().compactMap { i, line in
      guard let match = codeOnly(line).firstMatch(of: pattern) else { return nil }
      return "\(file):\(i + 1): '\(match.output as? Substring ?? Substring(codeOnly(line)[match.range]))' \(why)"
    }
  }
}
