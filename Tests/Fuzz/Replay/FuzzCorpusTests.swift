import FuzzTargets
import Glibc
import Testing

/// Every input that the fuzzers begin with, and every one that once stopped a target, is survived.
@Suite struct FuzzCorpusTests {
  private static let fixtures = #filePath.split(separator: "/").dropLast(4).reduce("") { $0 + "/" + $1 } + "/fixtures"

  private static func files(_ folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if !name.hasPrefix(".") { names.append("\(folder)/\(name)") }
    }
    return names.sorted()
  }

  private static func read(_ path: String) -> [UInt8]? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    let n = bytes.withUnsafeMutableBytes { fread($0.baseAddress, 1, $0.count, file) }
    return Array(bytes[..<n])
  }

  /// What is there stays as it is.
  private static func write(_ seed: [UInt8], _ folder: String, _ i: Int) {
    mkdir(folder, 0o755)
    guard access("\(folder)/seed-\(i)", F_OK) != 0, let file = fopen("\(folder)/seed-\(i)", "w") else { return }
    fwrite(seed, 1, seed.count, file)
    fclose(file)
  }

  @Test(arguments: FuzzTarget.allCases) func corpus(_ target: FuzzTarget) throws {
    let folders = ["fuzz/\(target.rawValue)"] + target.otherSeeds
    let paths = folders.flatMap { Self.files("\(Self.fixtures)/\($0)") }
    #expect(!paths.isEmpty, "no seeds for \(target.rawValue)")
    for path in paths { target.run(try #require(Self.read(path))) }
  }

  /// The seeds in `fixtures` are those that the targets make, so that a changed format changes them too.
  @Test(arguments: FuzzTarget.allCases) func seedsAreInTheFixtures(_ target: FuzzTarget) throws {
    for (i, seed) in target.seeds.enumerated() {
      if getenv("ELIDE_WRITE_FIXTURES") != nil { Self.write(seed, "\(Self.fixtures)/fuzz/\(target.rawValue)", i) }
      #expect(Self.read("\(Self.fixtures)/fuzz/\(target.rawValue)/seed-\(i)") == seed, "\(target.rawValue) seed-\(i)")
    }
  }
}
