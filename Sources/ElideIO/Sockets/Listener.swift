import Glibc

/// Where a server listens.
package enum ListenAddress: Equatable, Sendable, CustomStringConvertible {
  /// A socket in the file system. A socket file that nobody listens on any more is replaced.
  case unix(path: String)
  /// Port 0 lets the system choose.
  case tcp(host: String, port: UInt16)
  /// A listening socket handed over by whoever started the process.
  case inherited(descriptor: Int32)

  /// Reads `unix:PATH` and `tcp:HOST:PORT` (an IPv6 address in brackets); nil for anything else.
  package init?(_ text: String) {
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      if path.isEmpty { return nil }
      self = .unix(path: path)
    } else if text.hasPrefix("tcp:"), let colon = text.lastIndex(of: ":") {
      guard colon > text.index(text.startIndex, offsetBy: 3), let port = UInt16(text[text.index(after: colon)...])
      else { return nil }
      var host = text[text.index(text.startIndex, offsetBy: 4)..<colon]
      if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
      if host.isEmpty { return nil }
      self = .tcp(host: String(host), port: port)
    } else {
      return nil
    }
  }

  package var description: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let host, let port): host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
    case .inherited(let descriptor): "descriptor \(descriptor)"
    }
  }
}

/// Why nobody can listen there.
package struct ListenError: Error, Equatable, CustomStringConvertible, Sendable {
  package let address: ListenAddress
  package let detail: String
  package var description: String { "cannot listen on \(address): \(detail)" }
}

/// A listening socket. It ends with the object at the latest; a socket file goes with it.
final class Listener {
  private(set) var descriptor: Int32
  /// With the port that the system chose.
  private(set) var address: ListenAddress
  private(set) var isTCP = false

  init(_ address: ListenAddress, backlog: Int32 = 128) throws(ListenError) {
    self.address = address
    switch address {
    case .unix(let path): descriptor = try Self.bindUnix(path, address)
    case .tcp(let host, let port): descriptor = try Self.bindTCP(host, port, address)
    case .inherited(let given): descriptor = given
    }
    isTCP = Self.family(descriptor) != sa_family_t(AF_UNIX)
    let flags = fcntl(descriptor, F_GETFL)
    _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    guard listen(descriptor, backlog) == 0 else {
      let error = Errno.current
      close(descriptor)
      throw ListenError(address: address, detail: error.description)
    }
    if case .tcp(let host, 0) = address { self.address = .tcp(host: host, port: Self.boundPort(descriptor)) }
  }

  deinit { end() }

  /// Stops listening, and takes the socket file away.
  func end() {
    if descriptor < 0 { return }
    close(descriptor)
    descriptor = -1
    if case .unix(let path) = address { unlink(path) }
  }

  private static func bindUnix(_ path: String, _ listenAddress: ListenAddress) throws(ListenError) -> Int32 {
    guard var address = sockaddr_un(path: path) else {
      throw ListenError(address: listenAddress, detail: "the path is too long for a socket")
    }
    let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    if fd < 0 { throw ListenError(address: listenAddress, detail: Errno.current.description) }
    var failed = address.withAddress { bind(fd, $0, $1) } != 0
    if failed && errno == EADDRINUSE && isAbandoned(path) {
      unlink(path)
      failed = address.withAddress { bind(fd, $0, $1) } != 0
    }
    if failed {
      let error = Errno.current
      close(fd)
      throw ListenError(address: listenAddress, detail: error.description)
    }
    return fd
  }

  /// A socket file whose listener is gone refuses connections; anything else is left alone.
  private static func isAbandoned(_ path: String) -> Bool {
    guard var address = sockaddr_un(path: path) else { return false }
    let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    if fd < 0 { return false }
    defer { close(fd) }
    return address.withAddress { connect(fd, $0, $1) } != 0 && errno == ECONNREFUSED
  }

  private static func bindTCP(_ host: String, _ port: UInt16, _ address: ListenAddress) throws(ListenError) -> Int32 {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_PASSIVE
    var found: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &found)
    guard code == 0, let info = found else {
      throw ListenError(address: address, detail: String(cString: gai_strerror(code)))
    }
    defer { freeaddrinfo(found) }
    let fd = socket(info.pointee.ai_family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    if fd < 0 { throw ListenError(address: address, detail: Errno.current.description) }
    setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    if bind(fd, info.pointee.ai_addr, info.pointee.ai_addrlen) != 0 {
      let error = Errno.current
      close(fd)
      throw ListenError(address: address, detail: error.description)
    }
    return fd
  }

  private static func family(_ fd: Int32) -> sa_family_t {
    var address = sockaddr()
    var length = socklen_t(MemoryLayout<sockaddr>.size)
    return getsockname(fd, &address, &length) == 0 ? address.sa_family : sa_family_t(AF_UNSPEC)
  }

  private static func boundPort(_ fd: Int32) -> UInt16 {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { raw in
      raw.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(fd, $0, &length) }
      // The port stands at the same place for IPv4 and IPv6.
      return raw.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
    }
  }
}

func setOption(_ fd: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
  var value = value
  _ = setsockopt(fd, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
}

extension sockaddr_un {
  /// nil when the path does not fit.
  init?(path: String) {
    self.init()
    sun_family = sa_family_t(AF_UNIX)
    let fits = withUnsafeMutableBytes(of: &sun_path) { target -> Bool in
      guard path.utf8.count < target.count else { return false }
      target.copyBytes(from: path.utf8)
      return true
    }
    if !fits { return nil }
  }

  mutating func withAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    withUnsafePointer(to: &self) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
  }
}
