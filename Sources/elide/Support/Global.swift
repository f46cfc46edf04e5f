import ArgumentParser
import ElideIO
import Glibc

/// Options that every command takes.
struct GlobalOptions: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("Directory with this host's volumes. (ELIDE_DATA_DIR)", valueName: "dir"))
  var dataDir: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Object store, file:///path or s3://bucket/prefix. (ELIDE_STORE; default <data-dir>/store)", valueName: "url"))
  var store: String?

  /// The flag, else ELIDE_DATA_DIR, else /var/lib/elide. Absolute.
  var dataDirectory: String { absolute(dataDir ?? environment("ELIDE_DATA_DIR") ?? "/var/lib/elide") }

  var storeURL: String { store ?? environment("ELIDE_STORE") ?? "file://\(dataDirectory)/store" }

  private func environment(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
  }
}

/// Against the working directory.
func absolute(_ path: String) -> String {
  if path.hasPrefix("/") { return path }
  guard let buffer = getcwd(nil, 0) else { return path }
  defer { free(buffer) }
  return String(cString: buffer) + "/" + path
}

struct JSONOption: ParsableArguments {
  @Flag(name: .long, help: "Print JSON; fields are listed in docs/cli-json.md.")
  var json = false
}
