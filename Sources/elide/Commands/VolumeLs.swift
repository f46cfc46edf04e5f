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
  @Argument(help: "Name or ULID, whosever it is, as of its newest published cut; or with @label as of a snapshot.")
  var volume: String
  @Argument(help: "A directory on it.") var path = "/"

  func run() async throws {
    guard !path.contains("\""), !path.contains("\n") else { throw ElideError(.usage, "'\(path)' is no path that debugfs takes") }
    // Parsed, so that options which are not named here have their defaults.
    var serve = try ServeCommand.parse(["--read-only", "--run", Self.script(path: path, name: volume), "--", volume])
    serve.options = options
    serve.isQuiet = true
    try await serve.run()
  }

  /// The file that nbdfuse shows is the whole device: debugfs opens it as any image. It says what went wrong on standard error,
  /// and ends with 0 all the same.
  private static func script(path: String, name: String) -> String {
    """
    for tool in nbdfuse debugfs; do
      command -v "$tool" >/dev/null || { echo "elide: volume ls needs $tool, which is not installed" >&2; exit 1; }
    done
    path=\(quoted(path)) name=\(quoted(name))
    d=$(mktemp -d) || exit 1
    trap 'fusermount3 -u "$d" 2>/dev/null || true; rmdir "$d" 2>/dev/null || true; rm -f "$d.pid" "$d.err"' EXIT
    nbdfuse -r -P "$d.pid" "$d" "$uri" 2>"$d.err" & fuse=$!
    for i in $(seq 400); do [ -s "$d.pid" ] && break; kill -0 "$fuse" 2>/dev/null || break; sleep 0.05; done
    [ -s "$d.pid" ] || { echo "elide: the volume cannot be shown as a file: $(cat "$d.err")" >&2; exit 1; }
    debugfs -R "ls -l \\"$path\\"" "$d/nbd" 2>"$d.err"
    errors=$(grep -v '^debugfs [0-9]' "$d.err")
    case $errors in
    '') ;;
    *'not found by ext2_lookup'*) echo "elide: there is no '$path' on $name" >&2; exit 10 ;;
    *'ot a directory'*) echo "elide: '$path' on $name is no directory" >&2; exit 2 ;;
    *'Bad magic'*) echo "elide: $name holds no ext4 file system" >&2; exit 1 ;;
    *) printf 'elide: %s\n' "$errors" >&2; exit 1 ;;
    esac
    """
  }

  /// One word of a shell.
  private static func quoted(_ text: String) -> String { "'" + text.replacingOccurrences(of: "'", with: "'\\''") + "'" }
}
