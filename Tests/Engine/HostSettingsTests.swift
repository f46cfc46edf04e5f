import ElideIO
import Testing

@testable import ElideEngine

@Suite struct HostSettingsTests {
  private func settings(_ text: String?) throws -> HostSettings {
    let directory = TemporaryDirectory()
    if let text { try HostFiles().replaceFile(directory.path + "/elide.toml", with: Array(text.utf8)) }
    return try HostSettings(HostFiles(), dataDirectory: directory.path)
  }

  @Test func theBudgetOfTheCache() throws {
    #expect(try settings(nil).cacheBytes == nil)
    #expect(try settings("[other]\nx = 1\n").cacheBytes == nil)
    #expect(try settings("[cache]\nbudget = \"100G\"\n").cacheBytes == 100 << 30)
    #expect(try settings("[cache]\nbudget = \"1.5 MiB\"\n".replacing(" M", with: "M")).cacheBytes == 3 << 19)
  }

  @Test(arguments: ["budget = \"much\"", "budget = \"9999999999T\"", "size = \"1G\"", "budget = 7", "[x"])
  func whatIsWrongIsNamed(_ text: String) {
    #expect { try settings("[cache]\n\(text)\n") } throws: { error in
      guard let error = error as? ElideError else { return false }
      return error.kind == .usage && error.message.contains("/elide.toml")
    }
  }

  @Test func whatIsSetIsTakenAndNothingElse() throws {
    let text = """
      [fetch]
      threads = 2
      ahead = 5
      window = "1M"
      prefetch = "all"
      small = "8M"
      [limits]
      unsent = "1G"
      patience = "10m"
      wals = 8
      beat = "20s"
      """
    var configuration = KeeperConfiguration()
    try settings(text).apply(to: &configuration)
    #expect(configuration.front.readAhead.fetches == 5 && configuration.front.readAhead.window == 256)
    #expect(configuration.prefetch == .all && configuration.smallBytes == 8 << 20)
    #expect(configuration.readPatienceSeconds == 600)
    #expect(configuration.unsentBytes == 1 << 30 && configuration.unsealedWals == 8)
    #expect(try settings(text).fetchThreads == 2 && configuration.ownershipMilliseconds == 20_000)
    var untouched = KeeperConfiguration()
    try settings("[fetch]\n[limits]\n").apply(to: &untouched)
    #expect(untouched == KeeperConfiguration())
  }

  @Test(arguments: [
    "[fetch]\nthreads = 0", "[fetch]\nahead = 65", "[fetch]\nahead = -1", "[fetch]\nprefetch = \"some\"", "[fetch]\nwindow = 7",
    "[fetch]\nwindows = \"1M\"", "[limits]\nunsent = \"1M\"", "[limits]\npatience = \"long\"", "[limits]\nwals = 1",
    "[limits]\nx = 1", "[limits]\nbeat = \"2m\"", "fetch = 3", "[cache]\nbudget = \"12\"",
  ])
  func whatIsOutOfRangeIsNamed(_ text: String) {
    #expect { try settings(text + "\n") } throws: { ($0 as? ElideError)?.kind == .usage }
  }

  @Test func anEngineHasIt() throws {
    let directory = TemporaryDirectory()
    try HostFiles().replaceFile(directory.path + "/elide.toml", with: Array("[cache]\nbudget = \"1G\"\n".utf8))
    #expect(try Engine.onHost(dataDirectory: directory.path).cache.budget == 1 << 30)
  }
}
