import ArgumentParser
import ElideEngine
import ElideIO
import Foundation

struct VolumeLs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ls", abstract: "List a directory of the ext4 file system on a volume.",
    discussion: """
      Example:
        elide volume ls debian /etc

      Reads through the volume's map and fetches what it needs; the volume is not written. Uses debugfs and nbdfuse.
      """)
  @OptionGroup var options: GlobalOptions
  @Argument(help: "Name or ULID, with @label for a snapshot. Must not be served at the moment, unless it is a snapshot.")
  var volume: String
  @Argument(help: "A directory on it.") var path = "/"

  func run() async throws {
    guard !path.contains("\""), !path.contains("\n") else { throw ElideError(.usage, "'\(path)' is no path that debugfs takes") }
    var serve = ServeCommand()
    serve.options = options
    serve.targets = [volume]
    serve.nbd = []
    serve.readOnly = true
    serve.spin = 0
    serve.isQuiet = true
    // The file that nbdfuse shows is the whole device: debugfs opens it as any image.
    serve.run = """
      set -e
      d=$(mktemp -d)
      trap 'fusermount3 -u "$d" 2>/dev/null || true; rmdir "$d" 2>/dev/null || true' EXIT
      nbdfuse -r -P "$d.pid" "$d" "$uri" &
      for i in $(seq 200); do [ -s "$d.pid" ] && break; sleep 0.05; done
      rm -f "$d.pid"
      debugfs -R 'ls -l "\(path)"' "$d/nbd" 2>&1 | grep -v '^debugfs '
      """
    try await serve.run()
  }
}
