// nbd-memory: serves devices in memory, for tests of the NBD server by other people's clients.
//
//   nbd-memory unix:PATH|tcp:HOST:PORT SIZE [immediate|committed|shuffled] [SPIN-MICROSECONDS]
//
// In the environment: NBD_MEMORY_CERTIFICATES, NBD_MEMORY_PSK and NBD_MEMORY_VERIFY for TLS, which is required unless NBD_MEMORY_ALLOW
// is set; NBD_MEMORY_LOG for a line per connection.
//
// Exports "disk" and, read-only, "frozen". Prints the addresses when clients may come, and the counters at the end.
import ElideIO
import Glibc
import MemoryDevice

@Sendable func tell(_ line: String, on descriptor: Int32 = 2) {
  let bytes = Array((line + "\n").utf8)
  _ = write(descriptor, bytes, bytes.count)
}
let arguments = CommandLine.arguments
guard arguments.count >= 3, let address = ListenAddress(arguments[1]), let size = UInt64(arguments[2]),
  let manner = MemoryDevice.Manner(rawValue: arguments.count > 3 ? arguments[3] : "immediate")
else {
  tell("usage: nbd-memory unix:PATH|tcp:HOST:PORT SIZE [immediate|committed|shuffled] [SPIN]")
  exit(2)
}

var signals = sigset_t()
sigemptyset(&signals)
sigaddset(&signals, SIGTERM)
sigaddset(&signals, SIGINT)
pthread_sigmask(SIG_BLOCK, &signals, nil)

do {
  var configuration = NBDServerConfiguration()
  if arguments.count > 4, let spin = Int(arguments[4]) { configuration.spin = spin == 0 ? .off : .fixed(spin) }
  let text = { (name: String) in getenv(name).map { String(cString: $0) } }
  if text("NBD_MEMORY_CERTIFICATES") != nil || text("NBD_MEMORY_PSK") != nil {
    configuration.tls = try TLSContext(
      certificates: text("NBD_MEMORY_CERTIFICATES"), preSharedKeys: text("NBD_MEMORY_PSK"),
      verifyPeer: getenv("NBD_MEMORY_VERIFY") != nil)
    configuration.requiresTLS = getenv("NBD_MEMORY_ALLOW") == nil
  }
  if getenv("NBD_MEMORY_LOG") != nil { configuration.log = { tell($0) } }
  let exports = MemoryExports([
    ("disk", ExportInfo(device: try MemoryDevice(size: size, manner: manner), description: "a disk in memory")),
    ("frozen", ExportInfo(device: try MemoryDevice(size: size, isReadOnly: true, manner: manner))),
  ])
  let server = try NBDServer(listening: [address], exports: exports, configuration: configuration)
  let thread = try server.start()
  tell(server.addresses.map(\.description).joined(separator: " "), on: 1)
  var signal: Int32 = 0
  sigwait(&signals, &signal)
  server.stop()
  thread.join()
  tell("\(server.statistics)", on: 1)
  exit(server.wasClean ? 0 : 1)
} catch {
  tell("nbd-memory: \(error)")
  exit(1)
}
