import Glibc

// What a loop does for connections with TLS.
extension ServerLoop {
  /// Goes on with the TLS handshake, and with what came behind it.
  func secure(_ connection: UnsafeMutablePointer<Connection>) {
    guard let channel = connection.pointee.tls else { return }
    switch connection.pointee.shakeTLS(channel) {
    case .success(false): break
    case .success(true): log("connection \(connection.pointee.index) secured by \(channel.session.summary)")
    case .failure(let error):
      drop(connection, error.description)
      connection.pointee.phase = .broken
    }
  }

  /// Closes a connection for what it sent.
  func drop(_ connection: UnsafeMutablePointer<Connection>, _ reason: String) {
    counters.add(.connectionsDropped)
    log("connection \(connection.pointee.index) dropped: \(reason)")
    connection.pointee.phase = .leaving
  }

  /// The socket is of no use any more, or what came through it was no TLS.
  func fail(_ connection: UnsafeMutablePointer<Connection>) {
    if let reason = connection.pointee.tls?.failure { drop(connection, reason) }
    connection.pointee.phase = .broken
  }

  /// A session may hold decrypted or undecrypted bytes that its connection had no room for: their socket is silent.
  func noteEager(_ connection: UnsafeMutablePointer<Connection>) {
    guard !connection.pointee.isEager, connection.pointee.canReceive, let channel = connection.pointee.tls, channel.hasPending
    else { return }
    connection.pointee.isEager = true
    eager.append(connection.pointee.index)
  }

  /// Gives each of them one turn.
  func takeEager() {
    // Those that are still so come back by `noteEager`.
    let indices = eager
    eager.removeAll()
    for index in indices {
      guard let connection = connections[index] else { continue }
      connection.pointee.isEager = false
      if connection.pointee.canReceive { ready(connection, .readable) }
    }
  }
}
