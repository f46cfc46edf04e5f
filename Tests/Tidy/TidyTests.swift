import Testing

/// The house rules that a machine can check, over the sources as they are.
@Suite struct TidyTests {
  private let sources = SourceTree.files("Sources", ["swift"])
  private let foreign = SourceTree.files("Sources", ["c", "h", "modulemap"])
  private let tests = SourceTree.files("Tests", ["swift"])

  private func module(_ name: String) -> [SourceTree.File] { sources.filter { $0.path.hasPrefix("Sources/\(name)/") } }

  @Test func theTreeIsFound() {
    #expect(sources.count > 50)
    #expect(tests.count > 20)
  }

  @Test func shape() {
    #expect(sources.flatMap(Rules.shape) + foreign.flatMap(Rules.shape) == [])
    #expect(sources.flatMap(Rules.functionLength) == [])
  }

  @Test func words() {
    #expect(sources.flatMap(Rules.bannedWords) == [])
    #expect(sources.flatMap(Rules.uncheckedSendable) == [])
  }

  /// elide → ElideEngine → ElideProjections → ElideEvents → ElideIO, and the C libraries only at the bottom.
  @Test(arguments: [
    ("ElideIO", ["CElide", "CLMDB", "CZstd", "CURing", "CCurl", "COpenSSL"]),
    ("ElideEvents", ["CElide", "ElideIO"]),
    ("ElideProjections", ["CElide", "ElideIO", "ElideEvents"]),
    ("ElideEngine", ["CElide", "ElideIO", "ElideEvents", "ElideProjections"]),
    ("elide", ["CElide", "ElideIO", "ElideEvents", "ElideProjections", "ElideEngine", "Dispatch"]),
  ])
  func dependenciesPointOneWay(name: String, allowed: [String]) {
    #expect(!module(name).isEmpty)
    #expect(module(name).flatMap { Rules.imports($0, allowed: Set(allowed)) } == [])
  }

  @Test(arguments: ["ElideIO", "ElideEvents", "ElideProjections", "ElideEngine"])
  func plainThreads(name: String) { #expect(module(name).flatMap(Rules.noAsync) == []) }

  /// Projections use the codecs of ElideIO (digests, byte readers) and nothing else of it: they are pure.
  @Test func projectionsKnowNoWorld() { #expect(module("ElideProjections").flatMap(Rules.noWorld) == []) }

  /// Only the journal and its replay make a `Committed`: the function is ElideEvents' own, and stays that.
  @Test func onlyEventsCommit() throws {
    let makers = sources.flatMap { file in
      file.lines.filter { $0.contains(/\bstatic func commit\(seq:/) }.map { (file.path, $0) }
    }
    #expect(makers.count == 1)
    let maker = try #require(makers.first)
    #expect(maker.0.hasPrefix("Sources/ElideEvents/"))
    #expect(maker.1.firstMatch(of: /\b(package|public|open)\b/) == nil)
    let initialisers = sources.filter { $0.text.contains("struct Committed<") }
    #expect(initialisers.count == 1)
    #expect(
      (sources + tests).filter { $0.text.contains(/^@testable import ElideEvents/.anchorsMatchLineEndings()) }.map(\.path) == [])
  }

  @Test func noDeadFiles() {
    #expect(sources.filter { !$0.lines.contains { !codeOnly($0).allSatisfy(\.isWhitespace) } }.map(\.path) == [])
    let folders = Dictionary(grouping: SourceTree.paths("Tests").filter { $0.hasSuffix(".swift") }) {
      $0.split(separator: "/").dropLast().joined(separator: "/")
    }
    for (folder, files) in folders where files.count > 1 {
      #expect(!files.contains(folder + "/Placeholder.swift"), "\(folder) has real tests by now")
    }
  }

  @Test func scriptsRun() throws {
    for path in SourceTree.paths("scripts") + SourceTree.paths("Tests") + [".ci/run"] {
      guard let file = SourceTree.file(path), file.text.hasPrefix("#!") else {
        #expect(!path.hasSuffix(".sh"), "\(path) does not say what runs it")
        continue
      }
      #expect(SourceTree.isExecutable(path), "\(path) is not executable")
      if file.lines[0].contains("bash") { #expect(file.text.contains("set -eu"), "\(path) goes on after a failure") }
    }
  }

  /// Pages that are planned and linked, and whose subject is still being built.
  private static let pending: Set<String> = []

  @Test func namedPagesExist() throws {
    let texts = sources + tests + SourceTree.files("docs", ["md"]) + [try #require(SourceTree.file("README.md"))]
    var missing: Set<String> = []
    for file in texts {
      for match in file.text.matches(of: /\bdocs\/[A-Za-z0-9\/_-]+\.md/) where !SourceTree.exists(String(match.0)) {
        missing.insert(String(match.0))
      }
      let folder = file.path.split(separator: "/").dropLast().joined(separator: "/")
      guard file.path.hasSuffix(".md") else { continue }
      for match in file.text.matches(of: /\]\(([A-Za-z0-9\/._-]+)\)/) {
        let target = folder.isEmpty ? String(match.1) : folder + "/" + match.1
        if !SourceTree.exists(target) { missing.insert(target) }
      }
    }
    #expect(missing.subtracting(Self.pending) == [])
  }

  @Test func theLicenceIsThere() throws {
    let licence = try #require(SourceTree.file("LICENSE"))
    #expect(licence.text.contains("Apache License") && licence.text.contains("END OF TERMS AND CONDITIONS"))
  }
}

/// The rules notice what they are for.
@Suite struct RuleTests {
  private func file(_ text: String) -> SourceTree.File { SourceTree.File(path: "x.swift", text: text) }

  @Test func shape() {
    #expect(Rules.shape(file("let a = 1\n")) == [])
    for bad in ["", "let a", "a\n\n", "\ta\n", "a \n", "a\r\n", String(repeating: "a", count: 131) + "\n"] {
      #expect(!Rules.shape(file(bad)).isEmpty, "\(bad.debugDescription)")
    }
    #expect(Rules.shape(file(String(repeating: "a\n", count: 400))) == [])
    #expect(Rules.shape(file(String(repeating: "a\n", count: 401))).count == 1)
    let long = "  func f() {\n" + String(repeating: "    a()\n", count: 69) + "  }\n"
    #expect(Rules.functionLength(file(long)).count == 1)
    let wrapped = "  package init(\n    a: Int\n  ) {\n" + String(repeating: "    a()\n", count: 67) + "  }\n"
    #expect(Rules.functionLength(file(wrapped)).count == 1)
    #expect(Rules.functionLength(file("  func f() {\n    a()\n  }\n" + String(repeating: "\n", count: 99) + "  }\n")) == [])
  }

  @Test func words() {
    for bad in ["// TODO later", "let a = try! f()", "x as! Y", "fatalError(\"no\")"] {
      #expect(!Rules.bannedWords(file(bad)).isEmpty, "\(bad)")
    }
    #expect(Rules.bannedWords(file("let a = \"try! this\"  // as! it says")) == [])
    #expect(Rules.uncheckedSendable(file("final class A: @unchecked Sendable {}")).count == 1)
    #expect(Rules.uncheckedSendable(file("final class A: @unchecked Sendable {}  // under a lock")) == [])
    #expect(Rules.uncheckedSendable(file("// Unchecked: set once.\nfinal class A: @unchecked Sendable {}")) == [])
  }

  @Test func modules() {
    for bad in ["import ElideEngine", "@testable import ElideEngine", "import struct CZstd.X", "package import Dispatch"] {
      #expect(Rules.imports(file(bad), allowed: ["ElideIO"]).count == 1, "\(bad)")
    }
    #expect(Rules.imports(file("import ElideIO\nimport Glibc"), allowed: ["ElideIO"]) == [])
    for bad in ["func f() async {", "  await f()", "package actor A {", "Task { f() }", "Task.detached { }"] {
      #expect(Rules.noAsync(file(bad)).count == 1, "\(bad)")
    }
    #expect(Rules.noAsync(file("init(actor: String) { self.actor = actor }  // no async")) == [])
    #expect(Rules.noWorld(file("let f: any Files")).count == 1)
    #expect(Rules.noWorld(file("/// The Store keeps it.\nlet restored = storeFiles")) == [])
  }
}
