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

  @Test func anEngineHasIt() throws {
    let directory = TemporaryDirectory()
    try HostFiles().replaceFile(directory.path + "/elide.toml", with: Array("[cache]\nbudget = \"1G\"\n".utf8))
    #expect(try Engine.onHost(dataDirectory: directory.path).cache.budget == 1 << 30)
  }
}
