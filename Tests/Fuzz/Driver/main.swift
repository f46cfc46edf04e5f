import FuzzTargets
import Glibc

// elide-fuzz TARGET [libFuzzer's arguments]: searches for inputs that stop the target.
// elide-fuzz seeds DIRECTORY: writes what the search begins with, a folder for each target.
// elide-fuzz targets: lists them.

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ argc: UnsafeMutablePointer<CInt>, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
  _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

nonisolated(unsafe) private var target = FuzzTarget.nbd

private func fail(_ text: String) -> Never {
  let line = text + "\n"
  _ = Glibc.write(2, line, line.utf8.count)
  exit(64)
}

private func write(_ bytes: [UInt8], to path: String) {
  guard let file = fopen(path, "w") else { fail("\(path): cannot be written") }
  _ = bytes.withUnsafeBytes { fwrite($0.baseAddress, 1, $0.count, file) }
  fclose(file)
}

private let arguments = CommandLine.arguments
guard arguments.count > 1 else { fail("usage: elide-fuzz TARGET [ARGUMENT...] | seeds DIRECTORY | targets") }
if arguments[1] == "targets" {
  for t in FuzzTarget.allCases { print(t.rawValue, t.otherSeeds.joined(separator: " ")) }
  exit(0)
}
if arguments[1] == "seeds", arguments.count == 3 {
  for t in FuzzTarget.allCases {
    mkdir("\(arguments[2])/\(t.rawValue)", 0o755)
    for (i, seed) in t.seeds.enumerated() { write(seed, to: "\(arguments[2])/\(t.rawValue)/seed-\(i)") }
  }
  exit(0)
}
guard let chosen = FuzzTarget(rawValue: arguments[1]) else { fail("\(arguments[1]): no such target") }
target = chosen
private var list = ([arguments[0]] + arguments[2...]).map { strdup($0) } + [nil]
private var argc = CInt(list.count - 1)
list.withUnsafeMutableBufferPointer { p in
  var argv = p.baseAddress
  let code = withUnsafeMutablePointer(to: &argv) { v in
    runDriver(&argc, UnsafeMutableRawPointer(v).assumingMemoryBound(to: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?.self))
    {
      bytes, count in
      target.run([UInt8](UnsafeBufferPointer(start: bytes, count: count)))
      return 0
    }
  }
  exit(code)
}
