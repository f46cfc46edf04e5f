import ArgumentParser
import ElideEngine
import ElideIO

/// The options of `serve` that are about clients and their connections.
struct TransportOptions: ParsableArguments {
  enum TLSMode: String, ExpressibleByArgument, CaseIterable { case off, allow, require }

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Offer TLS with server-cert.pem, server-key.pem (and ca-cert.pem) of this directory.", valueName: "directory"))
  var tlsCertificates: String?
  @Option(name: .long, help: ArgumentHelp("Offer TLS with the keys of this file of lines USER:HEX.", valueName: "file"))
  var tlsPsk: String?
  @Option(
    name: .long,
    help: ArgumentHelp("Whether clients may (allow) or must (require) use TLS.", valueName: "off|allow|require"))
  var tls: TLSMode?
  @Flag(name: .long, help: "Refuse clients that show no certificate of the authority in ca-cert.pem.") var tlsVerifyPeer = false

  @Option(name: .long, help: ArgumentHelp("Clients at once, over all exports.", valueName: "number"))
  var maxConnections = NBDServerConfiguration().maximumConnections
  @Option(name: .long, help: ArgumentHelp("Clients at once on one export.", valueName: "number"))
  var maxConnectionsPerExport: Int?
  @Option(name: .long, help: ArgumentHelp("Drop clients that have entered no export by then.", valueName: "seconds"))
  var handshakeTimeout = NBDServerConfiguration().handshakeTimeout / 1000
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Disconnect clients that ask for nothing this long, or up to twice that; 0 for never.", valueName: "seconds"))
  var idleTimeout = 0

  func validate() throws {
    guard (1...0xFFFF).contains(maxConnections), (1...0xFFFF).contains(maxConnectionsPerExport ?? 1) else {
      throw ValidationError("There must be a client at least, and at most 65535 at once.")
    }
    guard (1...86_400).contains(handshakeTimeout), (0...31_536_000).contains(idleTimeout) else {
      throw ValidationError("--handshake-timeout is 1 to 86400 seconds, --idle-timeout at most 31536000.")
    }
    let isOffered = tlsCertificates != nil || tlsPsk != nil
    if let tls, tls != .off, !isOffered {
      throw ValidationError("--tls \(tls.rawValue) needs --tls-certificates or --tls-psk.")
    }
    if tlsVerifyPeer && tlsCertificates == nil { throw ValidationError("--tls-verify-peer needs --tls-certificates.") }
  }

  /// Where to listen. Without a word about it, at the sockets that systemd hands over. Those are taken once, early.
  static func addresses(_ texts: [String], orInherited: Bool) throws(ElideError) -> [ListenAddress] {
    var addresses: [ListenAddress] = []
    if texts.contains(inherited) || texts.isEmpty && orInherited {
      do throws(ListenError) { addresses = try SocketActivation.take() } catch { throw ElideError(.failed, error.description) }
      if addresses.isEmpty {
        throw ElideError(.failed, "no sockets were handed over: LISTEN_PID and LISTEN_FDS say nothing of this process")
      }
    }
    return addresses + texts.compactMap { $0 == inherited ? nil : ListenAddress($0) }
  }
  static let inherited = "systemd"

  /// Where TLS is offered, it is required unless something else is said.
  func apply(to configuration: inout NBDServerConfiguration) throws(ElideError) {
    configuration.maximumConnections = maxConnections
    configuration.maximumConnectionsPerExport = maxConnectionsPerExport ?? .max
    configuration.handshakeTimeout = handshakeTimeout * 1000
    configuration.idleTimeout = idleTimeout * 1000
    let mode = tls ?? (tlsCertificates != nil || tlsPsk != nil ? .require : .off)
    if mode == .off { return }
    do throws(TLSError) {
      configuration.tls = try TLSContext(certificates: tlsCertificates, preSharedKeys: tlsPsk, verifyPeer: tlsVerifyPeer)
    } catch { throw ElideError(.failed, error.description) }
    configuration.requiresTLS = mode == .require
  }
}
