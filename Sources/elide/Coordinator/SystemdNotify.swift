import ElideIO
import Glibc

/// What systemd is told of this process (sd_notify(3)), over the datagram socket that it names in NOTIFY_SOCKET. Without one
/// nothing is told.
struct SystemdNotify: Sendable {
  private let path: String?

  /// Takes the socket's name out of the environment, so that children do not speak for this process. Call before there are other
  /// threads.
  static func take() -> SystemdNotify {
    let path = getenv("NOTIFY_SOCKET").map { String(cString: $0) }
    unsetenv("NOTIFY_SOCKET")
    unsetenv("WATCHDOG_USEC")
    unsetenv("WATCHDOG_PID")
    return SystemdNotify(path: path)
  }

  init(path: String?) { self.path = path }

  /// Lines such as `READY=1` and `STATUS=…`. That nobody hears it is no error.
  func tell(_ lines: String...) {
    guard let path, !path.isEmpty else { return }
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    let bytes = Array(path.utf8)
    guard bytes.count < room else { return }
    withUnsafeMutableBytes(of: &address.sun_path) { target in
      target.copyBytes(from: bytes)
      // An abstract name.
      if bytes.first == UInt8(ascii: "@") { target[0] = 0 }
    }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    let text = Array(lines.joined(separator: "\n").utf8)
    withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = sendto(descriptor, text, text.count, Int32(MSG_NOSIGNAL), $0, length)
      }
    }
  }
}
