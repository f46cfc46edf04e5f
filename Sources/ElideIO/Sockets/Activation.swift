import Glibc

/// Sockets that whoever started the process listens on already, as systemd hands them over: LISTEN_PID names the process they are
/// meant for, LISTEN_FDS says how many there are, and they are the descriptors from 3 on.
package enum SocketActivation {
  static let firstDescriptor: Int32 = 3
  /// More than anybody has; a number beyond is taken for a mistake.
  static let most: Int32 = 1024

  /// There are sockets meant for this process, or there is a mistake about them.
  package static var isOffered: Bool {
    do throws(ListenError) { return try count() != nil } catch { return true }
  }

  /// The sockets, of which each is a stream that is listened on. They are handed over once: children do not see them, nor does a
  /// second call. Call before there are other threads.
  package static func take() throws(ListenError) -> [ListenAddress] {
    let count = try count() ?? 0
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { unsetenv(name) }
    var addresses: [ListenAddress] = []
    for descriptor in firstDescriptor..<firstDescriptor + count {
      let address = ListenAddress.inherited(descriptor: descriptor)
      _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
      guard let type = option(descriptor, SO_TYPE) else {
        throw ListenError(address: address, detail: Errno.current.description)
      }
      guard type == Int32(SOCK_STREAM.rawValue), option(descriptor, SO_ACCEPTCONN) == 1 else {
        throw ListenError(address: address, detail: "it is no stream socket that is listened on (Accept=no, ListenStream=)")
      }
      addresses.append(address)
    }
    return addresses
  }

  /// nil when nothing is meant for this process.
  private static func count() throws(ListenError) -> Int32? {
    let text = { (name: String) in getenv(name).map { String(cString: $0) } }
    guard let count = count(processID: getpid(), listenPID: text("LISTEN_PID"), listenFDs: text("LISTEN_FDS")) else { return nil }
    guard count > 0 else {
      throw ListenError(
        address: .inherited(descriptor: firstDescriptor),
        detail: "LISTEN_FDS is \(text("LISTEN_FDS") ?? ""), which is no number of sockets")
    }
    return count
  }

  /// How many sockets the two variables hand to a process; nil when they speak of another one, or not at all; 0 when they make
  /// no sense.
  static func count(processID: Int32, listenPID: String?, listenFDs: String?) -> Int32? {
    guard let listenPID, let listenFDs, Int32(listenPID) == processID else { return nil }
    guard let count = Int32(listenFDs), (1...most).contains(count) else { return 0 }
    return count
  }

  private static func option(_ descriptor: Int32, _ name: Int32) -> Int32? {
    var value: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    return getsockopt(descriptor, SOL_SOCKET, name, &value, &length) == 0 ? value : nil
  }
}
